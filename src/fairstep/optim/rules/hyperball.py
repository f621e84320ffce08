"""AdamH and MuonH: hyperball (see ``wrappers.hyperball``) around AdamW and around Muon.

With R = |W_0| the norm of a hidden matrix at the start, u AdamW's or Muon's direction, and N(x) = x / |x|:

    W <- R N(W - lr R N(u))

Everything but hidden matrices: AdamW (see ``adamw``).

K. Wen et al., "Fantastic Pretraining Optimizers and Where to Find Them II: Hyperball Optimization", arXiv 2606.16899.
Optimizer state: as AdamW and Muon, and 1 float per hidden matrix.

Differences from other implementations: see hyperball.
"""

from __future__ import annotations

from dataclasses import replace

from fairstep.optim.rules.adamw import ADAMW
from fairstep.optim.rules.muon import MUON
from fairstep.optim.wrappers.hyperball import HYPERBALL

_MODULES = (__name__, HYPERBALL.wrap.__module__)

ADAMH = replace(
    HYPERBALL.derive(ADAMW),
    name="adamh",
    class_name="AdamH",
    aliases=("adamw+hyperball", "adam-hyperball"),
    title="AdamH",
    reference=HYPERBALL.reference,
    documented_in=_MODULES,
)

MUONH = replace(
    HYPERBALL.derive(MUON),
    name="muonh",
    class_name="MuonH",
    aliases=("muon+hyperball", "muon-hyperball"),
    title="MuonH",
    reference=HYPERBALL.reference,
    documented_in=_MODULES,
)
