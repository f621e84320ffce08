"""Several processes that train one run: who they are, and how they share gradients, weights and the optimizer's work.

Floors: ``world`` (ranks, sums, messages), ``exchange`` (one process and ddp), ``sharded`` and ``fsdp`` (divided work),
``choose`` (from a mode's name). What a step is, and what a checkpoint holds, does not belong here.
"""
