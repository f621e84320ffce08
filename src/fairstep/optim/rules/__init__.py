"""One file per optimizer: its equations, its rule and its spec. ``catalogue.registry`` finds every file here.

A rule file may import ``rule``, ``roles``, ``spec``, ``maths``, ``sharding``, ``wrappers``, ``_lazy`` and other rule
files, and nothing else of ours. Importing it must not import torch.
"""
