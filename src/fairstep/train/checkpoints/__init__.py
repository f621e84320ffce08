"""Checkpoints of one run: what is in them, how their files are written and read, and which of them is taken up.

``content`` and ``files`` know nothing of one another; ``checkpoint`` keeps the newest few. When a checkpoint is due is
``train.loop``'s decision.
"""
