"""Corrected weight decay: decay of normalised weights falls with the square of the learning rate.

With eta the learning rate now and eta_0 its peak, for matrices and experts:

    W <- (1 - (eta^2 / eta_0) lambda) W - eta u

Embedding, head, router and vectors have the decoupled W <- (1 - eta lambda) W - eta u.

A. Defazio, "Why Gradients Rapidly Increase Near the End of Training", arXiv 2506.02285: a weight that a normalisation
follows settles where its decay and its step balance, at a gradient norm that grows as sqrt(lambda / eta) when the
schedule lowers eta; with this decay it stays. No state of its own. It is the engine's decay="corrected" under a name of
its own, and warm-up is in eta as well.
"""

from __future__ import annotations

from dataclasses import replace

from fairstep.optim.wrappers.base import Wrapper

CORRECTED_DECAY = Wrapper(
    name="corrected-decay",
    aliases=("corrected-weight-decay",),
    title="corrected weight decay",
    reference="Defazio 2025, https://arxiv.org/abs/2506.02285",
    order=21,
    hyperparameters={},
    wrap=lambda spec: replace(spec, decay="corrected"),
    decides="how weights decay",
)
