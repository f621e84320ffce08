"""MuonClip: D-Muon without Nesterov (see ``muon``), and QK-clip (see ``wrappers.qk_clip``) after every step.

Matrices (o x i):

    m <- mu m + (1 - mu) g
    W <- (1 - lr lambda) W - lr 0.2 sqrt(max(o, i)) newton_schulz(m)
    W_q, W_k of heads whose attention logits exceed tau are scaled down

Embedding, head and vectors: AdamW (see ``adamw``) with learning rate lr * adam_lr_ratio and its own betas.

Kimi Team, "Kimi K2: Open Agentic Intelligence", arXiv 2507.20534. Optimizer state: 1 float per matrix element, 2 per
element of the rest.

Differences from other implementations: pytorch-optimizer divides the rows of keys that queries share by the number of
query heads, and so scales half a head.
"""

from __future__ import annotations

from dataclasses import replace

from fairstep.optim.rules.muon import D_MUON
from fairstep.optim.wrappers.qk_clip import QK_CLIP

_OWN = QK_CLIP.derive(D_MUON).hyperparameters
_PAPER = "arXiv 2507.20534"

MUONCLIP = replace(
    QK_CLIP.derive(D_MUON),
    name="muonclip",
    class_name="MuonClip",
    aliases=("d-muon+qk-clip", "kimi-muon"),
    title="MuonClip",
    reference=QK_CLIP.reference,
    documented_in=(__name__, QK_CLIP.wrap.__module__),
    hyperparameters={
        **_OWN,
        "lr": replace(_OWN["lr"], source="as d-muon"),
        "momentum": replace(_OWN["momentum"], source=_PAPER),
        "nesterov": replace(_OWN["nesterov"], default=False, source=_PAPER),
    },
)
