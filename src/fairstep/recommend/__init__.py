"""Which optimizer for my run: forecasts of speedups over AdamW, with hyperparameters, memory and overhead.

Forecasts from measured speedups and the advice that follows belong here. Checks of claims and verdicts are in
``analysis``; printing is the command line's. Never imports torch.
"""

from fairstep.recommend.points import Target
from fairstep.recommend.table import recommendation

__all__ = ["Target", "recommendation"]
