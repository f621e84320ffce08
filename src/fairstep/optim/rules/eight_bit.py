"""8-bit AdamW and 8-bit Muon: AdamW and Muon whose moments are kept in 8 bits (see ``wrappers.eight_bit``).

Differences from other implementations: see there. 8-bit Muon has the blocks of 2048 elements and the linear map of its
paper, which took D-Muon's scale; ``d-muon+8bit`` is that, with the wrapper's own defaults.
"""

from __future__ import annotations

from dataclasses import replace

from fairstep.optim.rules.adamw import ADAMW
from fairstep.optim.rules.muon import MUON
from fairstep.optim.wrappers.eight_bit import EIGHT_BIT, SETTINGS

_MODULES = (__name__, EIGHT_BIT.wrap.__module__)
_MUON = "arXiv 2509.23106"

ADAMW_8BIT = replace(
    EIGHT_BIT.derive(ADAMW),
    name="adamw-8bit",
    class_name="AdamW8bit",
    aliases=("adamw+8bit", "adam8bit"),
    title="8-bit AdamW",
    reference=EIGHT_BIT.reference,
    documented_in=_MODULES,
)

MUON_8BIT = replace(
    EIGHT_BIT.derive(MUON),
    name="muon-8bit",
    class_name="Muon8bit",
    aliases=("muon+8bit",),
    title="8-bit Muon",
    reference=f"Gupta et al. 2025, https://arxiv.org/abs/{_MUON.removeprefix('arXiv ')}",
    documented_in=_MODULES,
    hyperparameters={
        **EIGHT_BIT.derive(MUON).hyperparameters,
        "state_block": replace(SETTINGS["state_block"], default=2048, source=_MUON),
        "state_map": replace(SETTINGS["state_map"], default="linear", source=_MUON),
    },
)
