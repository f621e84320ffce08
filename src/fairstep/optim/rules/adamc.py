"""AdamC: AdamW with corrected weight decay (see ``wrappers.corrected_decay``).

With u AdamW's direction, eta the learning rate now and eta_0 its peak:

    W <- (1 - (eta^2 / eta_0) lambda) W - eta u        matrices and experts, which a normalisation follows
    W <- (1 - eta lambda) W - eta u                    the head and routers; embedding and vectors without decay

A. Defazio, "Why Gradients Rapidly Increase Near the End of Training", arXiv 2506.02285.
Optimizer state: 2 floats per parameter.

Differences from other implementations: roles say which weights are normalised; pytorch-optimizer asks for a flag of the
param group, and heavyball takes all parameters for normalised.
"""

from __future__ import annotations

from dataclasses import replace

from fairstep.optim.rules.adamw import ADAMW
from fairstep.optim.wrappers.corrected_decay import CORRECTED_DECAY

ADAMC = replace(
    CORRECTED_DECAY.derive(ADAMW),
    name="adamc",
    class_name="AdamC",
    aliases=("adamw+corrected-decay",),
    title="AdamC",
    reference=CORRECTED_DECAY.reference,
    documented_in=(__name__,),
)
