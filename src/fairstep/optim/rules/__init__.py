"""One file per optimizer: its equations, its rule and its spec. Every file here is found by ``registry``.

A rule file may import ``rule``, ``spec``, ``_lazy``, ``newton_schulz``, ``blocks`` and other rule files, and nothing
else of ours. It must not import torch when it is imported.
"""
