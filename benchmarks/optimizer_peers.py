"""The packages that our optimizers' steps are timed against, with the settings that make both do the same work.

Every peer is a function from a parameter set to the optimizers that handle it, one step of each being one step. Where
a package has several ways (torch's for-loop, foreach and fused), each is a peer, so that the fastest counts.
Extra: oracles.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

LR, BETAS = 1e-3, (0.9, 0.95)
Optimizers = list[torch.optim.Optimizer]


@dataclass(frozen=True)
class Parameters:
    """One copy of a set: hidden matrices, and the rest (embedding, head, vectors), by name."""

    matrices: dict[str, nn.Parameter]
    rest: dict[str, nn.Parameter]

    @property
    def named(self) -> dict[str, nn.Parameter]:
        return {**self.matrices, **self.rest}

    @property
    def all(self) -> list[nn.Parameter]:
        return [*self.matrices.values(), *self.rest.values()]


@dataclass(frozen=True)
class Peer:
    label: str
    make: Callable[[Parameters], Optimizers]
    matrices_only: bool = False


@dataclass(frozen=True)
class Contest:
    """Our settings, the peers', and ``steps`` in a block: one period of what is not done in every step."""

    peers: list[Peer]
    hyper: dict[str, Any] = field(default_factory=dict)
    steps: int = 1


def plain(label: str, module: str, name: str, **settings: Any) -> Peer:
    """A class that takes all parameters alike."""

    def make(p: Parameters) -> Optimizers:
        optimizer = getattr(importlib.import_module(module), name)(p.all, **{"lr": LR, "weight_decay": 0.1, **settings})
        if hasattr(optimizer, "train"):
            optimizer.train()
        return [optimizer]

    return Peer(label, make)


def with_adamw(label: str, module: str, name: str, **settings: Any) -> Peer:
    """A class for matrices, and torch's fused AdamW for the rest."""

    def make(p: Parameters) -> Optimizers:
        first = getattr(importlib.import_module(module), name)(
            list(p.matrices.values()), **{"lr": LR, "weight_decay": 0.1, **settings}
        )
        return [first, *adamw_of(p.rest.values())]

    return Peer(label, make)


def adamw_of(parameters: Iterable[nn.Parameter]) -> Optimizers:
    rest = list(parameters)
    return [torch.optim.AdamW(rest, lr=LR, betas=BETAS, weight_decay=0.1, fused=True)] if rest else []


def muon_groups(label: str, name: str, **settings: Any) -> Peer:
    """pytorch-optimizer's, which take matrices and the rest as groups."""

    def make(p: Parameters) -> Optimizers:
        import pytorch_optimizer

        groups = [{"params": list(p.matrices.values()), "use_muon": True}]
        if p.rest:
            groups.append({"params": list(p.rest.values()), "use_muon": False})
        adamw = {"adamw_lr": LR, "adamw_betas": BETAS, "adamw_wd": 0.1}
        return [getattr(pytorch_optimizer, name)(groups, lr=LR, weight_decay=0.1, **adamw, **settings)]

    return Peer(label, make)


def muonclip(p: Parameters) -> Optimizers:
    """pytorch-optimizer's, whose heads are clipped where queries and keys are groups of their own. Logits of 1, as ours
    gets them, clip nothing."""
    import pytorch_optimizer

    sides = {"q": "query", "k": "key"}
    groups: list[dict[str, Any]] = [{"params": list(p.rest.values()), "use_muon": False}] if p.rest else []
    others, logits = [], {}
    for name, w in p.matrices.items():
        block, side = name.removesuffix(".weight").rsplit(".", 1)
        if side in sides:
            groups.append({"params": [w], "use_muon": True, "attention_name": block, "qk_clip": sides[side]})
            logits[block] = torch.ones(w.shape[0] // 32, device=w.device)
        else:
            others.append(w)
    groups.append({"params": others, "use_muon": True})
    optimizer = pytorch_optimizer.MuonClip(
        groups, lr=LR, weight_decay=0.1, adamw_lr=LR, adamw_betas=BETAS, adamw_wd=0.1
    )
    optimizer.step = functools.partial(optimizer.step, attention_max_logits=logits)
    return [optimizer]


def scion(p: Parameters) -> Optimizers:
    import pytorch_optimizer
    from pytorch_optimizer.optimizer.scion import LMONorm

    groups = [{"params": list(p.matrices.values()), "norm_type": LMONorm.SPECTRAL, "scale": 1.0}]
    wide = [w for w in p.rest.values() if w.ndim == 2]
    thin = [w for w in p.rest.values() if w.ndim == 1]
    groups += [{"params": wide, "norm_type": LMONorm.SIGN, "scale": 60.0}] if wide else []
    groups += [{"params": thin, "norm_type": LMONorm.BIAS, "scale": 0.2}] if thin else []
    return [pytorch_optimizer.SCION(groups, lr=LR, momentum=0.1, constraint=True)]


def adam_mini(p: Parameters) -> Optimizers:
    import adam_mini

    def renamed(name: str) -> str:
        for ours, theirs in (("embedding", "embed"), ("head", "lm_head"), (".q.", ".q_proj."), (".k.", ".k_proj.")):
            name = name.replace(ours, theirs)
        return name.replace(".v.", ".v_proj.").replace(".o.", ".o_proj.").replace(".gate", ".mlp.gate")

    width = min(min(w.shape) for w in p.matrices.values())
    settings = {"betas": BETAS, "weight_decay": 0.1, "dim": width, "n_heads": width // 32, "verbose": False}
    return [adam_mini.Adam_mini([(renamed(n), w) for n, w in p.named.items()], lr=LR, **settings)]


PO, HB, TORCH = "pytorch_optimizer", "heavyball", "torch.optim"
SOAP = {"betas": (0.95, 0.95), "shampoo_beta": 0.95, "precondition_frequency": 10}

CONTESTS: dict[str, Contest] = {
    "adamw": Contest(
        [
            plain("torch fused", TORCH, "AdamW", betas=BETAS, fused=True),
            plain("torch foreach", TORCH, "AdamW", betas=BETAS, foreach=True),
            plain("torch", TORCH, "AdamW", betas=BETAS, foreach=False),
            plain("pytorch-optimizer", PO, "AdamW", betas=BETAS),
            plain("optimi", "optimi", "AdamW", betas=BETAS),
            plain("heavyball", HB, "AdamW", betas=BETAS),
        ]
    ),
    "adamc": Contest(
        [
            plain("pytorch-optimizer", PO, "AdamC", betas=BETAS, weight_decouple=True),
            plain("heavyball", HB, "AdamC", betas=BETAS, max_lr=LR),
        ]
    ),
    "nadamw": Contest(
        [
            plain("torch NAdam", TORCH, "NAdam", betas=BETAS, decoupled_weight_decay=True),
            plain("torch NAdam foreach", TORCH, "NAdam", betas=BETAS, decoupled_weight_decay=True, foreach=True),
            plain("heavyball", HB, "NAdam", betas=BETAS),
        ],
        {"form": "dozat"},
    ),
    "adopt": Contest(
        [
            plain("torch-adopt", "adopt", "ADOPT", betas=BETAS, decouple=True),
            plain("torch-adopt foreach", "adopt", "ADOPT", betas=BETAS, decouple=True, foreach=True),
            plain("pytorch-optimizer", PO, "ADOPT", betas=BETAS, weight_decouple=True),
            plain("heavyball", HB, "ADOPT", betas=BETAS),
        ]
    ),
    "ademamix": Contest(
        [
            plain("pytorch-optimizer", PO, "AdEMAMix", betas=(0.9, 0.999, 0.9999), alpha=8.0),
            plain("heavyball", HB, "AdEMAMix", betas=(0.9, 0.999, 0.9999), alpha=8.0),
        ]
    ),
    "lion": Contest(
        [
            plain("lion-pytorch", "lion_pytorch", "Lion", betas=(0.9, 0.99)),
            plain("pytorch-optimizer", PO, "Lion", betas=(0.9, 0.99)),
            plain("optimi", "optimi", "Lion", betas=(0.9, 0.99)),
        ]
    ),
    "signum": Contest([plain("pytorch-optimizer", PO, "SignSGD", momentum=0.9)], {"nesterov": False}),
    "cautious-adamw": Contest(
        [
            plain("heavyball", HB, "AdamW", betas=BETAS, caution=True),
        ]
    ),
    "cautious-lion": Contest(
        [
            plain("pytorch-optimizer", PO, "Lion", betas=(0.9, 0.99), cautious=True),
        ]
    ),
    "sophia-g": Contest([plain("sophia-opt", "sophia_opt", "SophiaG")], {"interval": 10**6}),
    "prodigy": Contest(
        [
            plain("prodigyopt", "prodigyopt", "Prodigy", lr=1.0, use_bias_correction=True),
            plain("pytorch-optimizer", PO, "Prodigy", lr=1.0, bias_correction=True),
        ],
        {"lr": 1.0},
    ),
    "schedule-free-adamw": Contest(
        [
            plain("schedulefree", "schedulefree", "AdamWScheduleFree", betas=BETAS),
            plain("schedulefree for-loop", "schedulefree", "AdamWScheduleFree", betas=BETAS, foreach=False),
            plain("pytorch-optimizer", PO, "ScheduleFreeAdamW", betas=BETAS),
            plain("heavyball", HB, "SFAdamW", betas=BETAS),
        ]
    ),
    "adam-mini": Contest([Peer("adam-mini", adam_mini)], {"head_size": 32}),
    "mars-adamw": Contest([plain("pytorch-optimizer", PO, "MARS", mars_type="adamw")]),
    "mars-lion": Contest([plain("pytorch-optimizer", PO, "MARS", mars_type="lion")]),
    "mars-shampoo": Contest([plain("pytorch-optimizer", PO, "MARS", mars_type="shampoo")]),
    "muon": Contest(
        [
            with_adamw("torch", TORCH, "Muon", momentum=0.95, adjust_lr_fn="original"),
            with_adamw("muon-optimizer", "muon", "SingleDeviceMuon", momentum=0.95),
            muon_groups("pytorch-optimizer", "Muon"),
        ]
    ),
    "d-muon": Contest(
        [
            with_adamw("torch", TORCH, "Muon", momentum=0.95, adjust_lr_fn="match_rms_adamw"),
            muon_groups("pytorch-optimizer", "Muon", use_adjusted_lr=True),
        ]
    ),
    "muonclip": Contest([Peer("pytorch-optimizer", muonclip)]),
    "adamuon": Contest(
        [
            muon_groups("pytorch-optimizer, no sign", "AdaMuon"),
            muon_groups("pytorch-optimizer foreach, no sign", "AdaMuon", foreach=True),
        ]
    ),
    "normuon": Contest([muon_groups("pytorch-optimizer", "NorMuon")]),
    "scion": Contest([Peer("pytorch-optimizer", scion)]),
    "soap": Contest(
        [
            plain("pytorch-optimizer", PO, "SOAP", **SOAP),
            plain("heavyball", HB, "SOAP", merge_dims=False, **SOAP),
        ],
        steps=10,
    ),
    "kl-soap": Contest([plain("heavyball", HB, "KLSOAP", merge_dims=False, **SOAP)], steps=10),
    "kl-shampoo": Contest([plain("heavyball", HB, "KLShampoo", merge_dims=False, **SOAP)], steps=10),
    "kron": Contest(
        [
            plain("kron-torch", "kron_torch", "Kron"),
            plain("pytorch-optimizer", PO, "Kron"),
            plain("heavyball", HB, "PSGDKron"),
        ]
    ),
}
"""By our optimizer's name. All others are without a peer that can be installed here."""
