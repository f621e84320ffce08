"""Cautious weight decay: only weights that the step shrinks as well are decayed.

    W <- W - lr (u + lambda [u W >= 0] W)          elementwise

L. Chen et al., "Cautious Weight Decay", arXiv 2510.12402, algorithm 1. No state of its own. It is the engine's
decay="cautious" under a name of its own.
"""

from __future__ import annotations

from dataclasses import replace

from fairstep.optim.wrappers.base import Wrapper

CAUTIOUS_DECAY = Wrapper(
    name="cautious-decay",
    aliases=("cwd", "cautious-weight-decay"),
    title="cautious weight decay",
    reference="Chen et al. 2025, https://arxiv.org/abs/2510.12402",
    order=20,
    hyperparameters={},
    wrap=lambda spec: replace(spec, decay="cautious"),
    decides="how weights decay",
)
