"""Cautious AdamW and Cautious Lion: the cautious update (see ``wrappers.cautious``) around AdamW and Lion.

    W  <- (1 - lr lambda) W - lr s [u g > 0] u          u the direction of AdamW or Lion, s makes up for masked elements

K. Liang et al., "Cautious Optimizers: Improving Training with One Line of Code", arXiv 2411.16085.
Optimizer state: as the optimizer inside.

Differences from other implementations: each optimizer has the scale of its official file by default ("mean" for AdamW,
"count" for Lion; pytorch-optimizer counts always); the two differ by some percent on small tensors and not on large
ones. The official C-AdamW adds eps before bias correction. W divides by the mean plus Adam's eps, without a floor, and
takes the mean over all layers at once, where here every tensor, and every expert, has its own.
"""

from __future__ import annotations

from dataclasses import replace

from fairstep.optim.rules.adamw import ADAMW
from fairstep.optim.rules.lion import LION
from fairstep.optim.spec import Grid, Hyperparameter, Schedule
from fairstep.optim.wrappers.cautious import CAUTIOUS, cautious_scale

_MODULES = (__name__, CAUTIOUS.wrap.__module__)

CAUTIOUS_ADAMW = replace(
    CAUTIOUS.derive(ADAMW),
    name="cautious-adamw",
    class_name="CautiousAdamW",
    aliases=("cautious", "c-adamw", "adamw+cautious"),
    title="Cautious AdamW",
    reference=CAUTIOUS.reference,
    documented_in=_MODULES,
    hyperparameters={
        "lr": Hyperparameter(8e-3, "learning rate", "W, from 130M to 520M", "(0, inf)"),
        "weight_decay": Hyperparameter(0.1, "decoupled weight decay", "W, all scales", "[0, inf)"),
        "beta1": Hyperparameter(0.95, "decay rate of the first moment", "W, 130M; 0.98 above", "[0, 1)"),
        "beta2": Hyperparameter(0.98, "decay rate of the second moment", "W, all scales", "[0, 1)"),
        "eps": ADAMW.hyperparameters["eps"],
        "cautious_scale": cautious_scale("mean"),
    },
    search_space={"lr": Grid.geometric(2e-3, 3, "AdamW's grid: W's best is 8e-3 for both, at 130M and 300M")},
    lr_unit="as AdamW, averaged over a tensor; an element that moves goes further by the factor s",
    schedule=Schedule("cosine", 0.1, 0.0, "cosine to 0 is W's; warm-up as for AdamW"),
)

CAUTIOUS_LION = replace(
    CAUTIOUS.derive(LION),
    name="cautious-lion",
    class_name="CautiousLion",
    aliases=("c-lion", "lion+cautious"),
    title="Cautious Lion",
    reference=CAUTIOUS.reference,
    documented_in=_MODULES,
    hyperparameters={**LION.hyperparameters, "cautious_scale": cautious_scale("count")},
    search_space={"lr": Grid.geometric(1e-3, 3, "Lion's grid: the mean step is the same")},
    lr_unit="change per step of a weight, averaged over a tensor",
)
