"""Which optimizer for my run: forecasts of speedups over AdamW, with hyperparameters, memory and overhead.

Forecasts from measured speedups and the advice that follows belong here. Checks of claims and verdicts are in
``analysis``; printing is the command line's. Never imports torch.
"""

from fairstep.recommend.advice import Setting, advise, hyperparameters_for
from fairstep.recommend.kriging import Forecast, forecast
from fairstep.recommend.points import Point, Target, published_points, store_points
from fairstep.recommend.table import recommendation

__all__ = [
    "Forecast",
    "Point",
    "Setting",
    "Target",
    "advise",
    "forecast",
    "hyperparameters_for",
    "published_points",
    "recommendation",
    "store_points",
]
