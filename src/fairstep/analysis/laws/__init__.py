"""Laws of losses and hyperparameters: fitted power laws, the baseline's curve, and trends of speedups.

Fits of numbers belong here, and nothing that knows a contestant, a run or a verdict.
"""

from fairstep.analysis.laws.baseline_curve import BaselineCurve, curve_line
from fairstep.analysis.laws.law import LOSS, Law, Noise, hyperparameter_law, joint_law, loss_law, offset_law
from fairstep.analysis.laws.trend import Trend, ratio_trend, size_trend

__all__ = [
    "LOSS",
    "BaselineCurve",
    "Law",
    "Noise",
    "Trend",
    "curve_line",
    "hyperparameter_law",
    "joint_law",
    "loss_law",
    "offset_law",
    "ratio_trend",
    "size_trend",
]
