"""What the rest of the house knows about an optimizer: its spec, hyperparameters, search spaces and published tunings.

Nothing here imports torch. What may not go in: mathematics (``rules``) and lists of optimizers (``catalogue``).
"""

from fairstep.optim.spec.hyperparameter import Grid, Hyperparameter, as_float, did_you_mean, inside
from fairstep.optim.spec.optimizer_spec import DECAYS, Decay, OptimizerSpec, Schedule, UnknownOptimizerError
from fairstep.optim.spec.part import Part
from fairstep.optim.spec.tunings import Paper, Sourced, Tuning

__all__ = [
    "DECAYS",
    "Decay",
    "Grid",
    "Hyperparameter",
    "OptimizerSpec",
    "Paper",
    "Part",
    "Schedule",
    "Sourced",
    "Tuning",
    "UnknownOptimizerError",
    "as_float",
    "did_you_mean",
    "inside",
]
