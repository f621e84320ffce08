"""What is wrong with a model, before any compute is spent on it: roles, first loss, gradients, causality, repetition.

The checks run on the model as a run would build it, on a CPU, with random tokens and new weights of seed 0. They serve
our own models too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from fairstep.model.factory import AnyModel, build
from fairstep.model.facts import block_of
from fairstep.optim.catalogue.paths import said
from fairstep.optim.doctor import Finding
from fairstep.optim.engine.evident_roles import HEAD_NAMES
from fairstep.optim.engine.named_parameters import named_parameters
from fairstep.optim.engine.routing import assign
from fairstep.optim.roles import Named
from fairstep.runs import AnyModelSpec

SEQUENCES = 2
FAR = 1.0
"""Nats from ln(vocabulary) at which a first loss is said to be unusual: some models begin with large logits."""


@dataclass(frozen=True)
class Route:
    """A parameter, or one of each of ``count`` blocks, with its role; ``doubt``: why the role may be another one."""

    name: str
    shape: tuple[int, ...]
    role: str
    count: int = 1
    doubt: str = ""


def routes(model: AnyModel) -> list[Route]:
    """The routing table in the order of the parameters, blocks that are alike in one row. Raises ValueError for a
    parameter without an evident role."""
    items = named_parameters(model.network)
    assigned = assign(items, model.roles)
    said_roles = model.roles is not None
    names = _names(model.network)
    rows = []
    for item in items:
        role = assigned[item.name]
        doubt = "" if said_roles else _doubt(item, role, names[id(item.tensor)])
        block = block_of(item.name)
        general = f"{block.rpartition('.')[0]}.*{item.name.removeprefix(block)}" if block else item.name
        rows.append(Route(general, tuple(item.tensor.shape), role, 1, doubt))
    alike = {row: sum(other == row for other in rows) for row in dict.fromkeys(rows)}
    return [Route(row.name, row.shape, row.role, count, row.doubt) for row, count in alike.items()]


def _names(network: nn.Module) -> dict[int, list[str]]:
    """All names of each parameter; a tied one has several."""
    named = sorted(
        ((id(p), name) for name, p in network.named_parameters(remove_duplicate=False)), key=lambda pair: pair[0]
    )
    return {key: [name for _, name in pairs] for key, pairs in groupby(named, key=lambda pair: pair[0])}


def _doubt(item: Named, role: str, names: list[str]) -> str:
    layer = item.name.removesuffix(".weight").rpartition(".")[2]
    if len(names) > 1:
        return f"tied: {' and '.join(names)} are one"
    if role == "head" and layer not in HEAD_NAMES:
        return "taken for the head by its shape or place, not its name"
    if role == "matrix" and item.tensor.ndim > 2:
        return "flattened to rows x rest"
    if role == "matrix" and not block_of(item.name):
        return "outside the blocks, and neither embedding nor head"
    if role in ("matrix", "embedding") and not isinstance(item.layer, nn.Linear | nn.Embedding | nn.Conv1d):
        return f"by its shape and name; it is no nn.Linear, but in {type(item.layer).__name__}"
    return ""


class Failed(Exception):
    """A check did not pass; what is wrong and what to do, in one sentence."""


class Skipped(Exception):
    """A check makes no sense for this model."""


class Subject:
    """A model with seed 0 in training mode, and two sequences of random tokens with their targets."""

    def __init__(self, spec: AnyModelSpec) -> None:
        self.spec = spec
        self.model = self.fresh()
        draw = torch.Generator().manual_seed(0)
        windows = torch.randint(spec.vocabulary, (SEQUENCES, spec.context + 1), generator=draw)
        self.tokens, self.targets = windows[:, :-1].contiguous(), windows[:, 1:].contiguous()

    def fresh(self) -> AnyModel:
        torch.manual_seed(0)
        return build(self.spec)

    def loss(self, model: AnyModel) -> Tensor:
        torch.manual_seed(1)
        return model(self.tokens, self.targets)


def _first_loss(subject: Subject) -> str:
    loss, uniform = subject.loss(subject.model).item(), math.log(subject.spec.vocabulary)
    if not math.isfinite(loss):
        raise Failed(f"the first loss is {loss}")
    if loss <= 0:
        raise Failed(f"the first loss is {loss:g}; a cross-entropy is above 0: does the loss have another sign?")
    far = abs(loss - uniform) > FAR
    much = "; that is far from it, so the first steps go into the size of the logits" if far else ""
    return f"{loss:.4f} nats, and ln({subject.spec.vocabulary}) is {uniform:.4f}{much}"


def _gradients(subject: Subject) -> str:
    model = subject.fresh()
    subject.loss(model).backward()
    trained = {name: p for name, p in model.network.named_parameters() if p.requires_grad}
    none = [name for name, p in trained.items() if p.grad is None]
    if none:
        raise Failed(f"{_listed(none)} get no gradient: leave them out, or freeze them (requires_grad = False)")
    odd = [name for name, p in trained.items() if p.grad is not None and not bool(p.grad.isfinite().all())]
    if odd:
        raise Failed(f"the gradient of {_listed(odd)} is not finite")
    zero = [name for name, p in trained.items() if p.grad is not None and not bool(p.grad.any())]
    return f"the gradient of {_listed(zero)} is 0 at the start" if zero else ""


def _repeats(subject: Subject) -> str:
    one, other = subject.fresh(), subject.fresh()
    different = [
        name
        for (name, p), (_, q) in zip(one.network.named_parameters(), other.network.named_parameters(), strict=True)
        if not torch.equal(p, q)
    ]
    if different:
        raise Failed(
            f"the first weights of {_listed(different)} differ although the seed is the same; draw them from "
            "torch's global generator"
        )
    losses = [subject.loss(model).item() for model in (one, other)]
    if losses[0] != losses[1]:
        raise Failed(f"the same weights, tokens and seed give the losses {losses[0]!r} and {losses[1]!r}")
    torch.manual_seed(2)
    drawn = subject.fresh()
    torch.manual_seed(2)
    again = drawn(subject.tokens, subject.targets).item()
    return "" if again == losses[0] else "training draws random numbers (dropout), which a resumed run repeats"


def _evaluates(subject: Subject) -> str:
    model = subject.fresh().eval()
    with torch.no_grad():
        one = model(subject.tokens, subject.targets).item()
        torch.manual_seed(3)
        other = model(subject.tokens, subject.targets).item()
    if one != other:
        raise Failed(f"in evaluation mode the same tokens give the losses {one!r} and {other!r}; honour self.training")
    return ""


def _looks_ahead(subject: Subject) -> str:
    if subject.spec.masked:
        raise Skipped("it is trained on masked tokens")
    place = subject.spec.context // 2
    change = _change(subject, np.s_[:, place:], np.s_[:, :place])
    if change > 1e-5:
        raise Failed(f"logits change by {change:.1e} when only later tokens do: it sees what it shall predict")
    return ""


def _mixes(subject: Subject) -> str:
    change = _change(subject, np.s_[1:], np.s_[:1])
    if change > 1e-5:
        raise Failed(f"logits of a sequence change by {change:.1e} with the other sequences of its batch")
    return ""


def _change(subject: Subject, changed: Any, seen: Any) -> float:
    """By how much logits change at most at some places when the tokens at others do."""
    model, other = subject.fresh().eval(), subject.tokens.clone()
    other[changed] = (other[changed] + 1) % subject.spec.vocabulary
    try:
        with torch.no_grad():
            before, after = (model.logits(tokens)[seen] for tokens in (subject.tokens, other))
    except ValueError:
        raise Skipped("it gives a loss and no logits") from None
    return (before - after).abs().max().item()


def _state(subject: Subject) -> str:
    model = subject.fresh()
    network = model.network
    saved = network.state_dict().keys()
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    subject.loss(model).backward()
    changed = [name for name, buffer in network.named_buffers() if not torch.equal(buffer, before[name])]
    lost = [name for name in changed if name not in saved and not name.startswith("measured")]
    if lost:
        raise Failed(f"training changes {_listed(lost)}, which no checkpoint has; register with persistent=True")
    kept = [name for name in changed if name in saved]
    return f"training changes {_listed(kept)}; checkpoints have it" if kept else ""


def _precision(subject: Subject) -> str:
    narrow = [name for name, p in subject.model.network.named_parameters() if p.dtype != torch.float32]
    if narrow:
        raise Failed(f"{_listed(narrow)} are not float32; let the run's precision narrow the arithmetic")
    return ""


CHECKS: dict[str, tuple[str, Callable[[Subject], str]]] = {
    "first_loss": ("the first loss is about ln(vocabulary)", _first_loss),
    "gradients": ("every parameter gets a gradient", _gradients),
    "repeats": ("the same seed gives the same weights and loss", _repeats),
    "evaluates": ("an evaluation draws nothing", _evaluates),
    "causal": ("no token sees later ones", _looks_ahead),
    "sequences": ("no sequence sees the others of its batch", _mixes),
    "state": ("what training changes is in checkpoints", _state),
    "precision": ("weights are float32", _precision),
}


def examine(spec: AnyModelSpec) -> Iterator[Finding]:
    """The findings, as they come. Raises SpecError for a model that cannot be built or called."""
    subject = Subject(spec)
    for name, (title, check) in CHECKS.items():
        status: Literal["passed", "failed", "skipped"] = "passed"
        try:
            message = check(subject)
        except Skipped as reason:
            status, message = "skipped", str(reason)
        except Failed as reason:
            status, message = "failed", str(reason)
        except Exception as error:  # somebody else's code
            status, message = "failed", f"it raises {said(error)}"
        yield Finding(name, title, status, True, message)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
