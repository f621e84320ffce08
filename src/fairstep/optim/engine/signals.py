"""Signals: what an optimizer may need in a step beside the gradient, and how any training loop supplies it.

    gauss_newton_diagonal   an estimate of the diagonal of the Gauss-Newton matrix of the batch's mean loss    Sophia-G
    hessian_diagonal        an estimate of the diagonal of the Hessian of the batch's mean loss                Sophia-H
    previous_gradient       the gradient of this batch at the weights before the last step                exact MARS
    attention_logits        the largest attention logits of the batch, of each head                       QK-clip
    loss                    the batch's mean loss                                                         ScheduleFree+

A signal belongs to the batch whose gradient the coming step uses. A loop asks before each step, and supplies what is
due by parameter name:

    for signal, names in optimizer.due().items():
        optimizer.supply(signal, {name: tensor for name in names})
    optimizer.step()

The tensors have the shapes of the parameters. The signal attention_logits has vectors instead, with an element for each
head of keys: the largest scale * q k^T of all pairs that attend to each other, of all heads of queries that share the
keys. Such a head has as many rows of the parameter, a query's or a key's, as any other. loss is one number for all:
``optimizer.supply("loss", loss)``, which ``step(closure)`` does by itself.

``fairstep.train.signals`` computes all of them for our models. The optimizer keeps the weights at which the previous
gradient is taken, so that they survive a resume: ``with optimizer.previous_weights():``. A due signal that is missing
is an error before anything is changed. A signal is used in one step and not kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from fairstep.optim.engine.routed import Routed
from fairstep.optim.engine.stacks import Stack
from fairstep.optim.roles import KEY, QUERY
from fairstep.optim.rule import Context, call
from fairstep.optim.spec import did_you_mean

Supplied = dict[str, dict[str, Tensor]]
"""Signal -> parameter name -> its tensor. The name of a number of ``NUMBERS`` is empty."""

NUMBERS = ("loss",)
"""Signals that are one number for all parameters."""
BY_HEAD = ("attention_logits",)
"""Signals with an element for each of the heads that divide a parameter's rows."""


def due(optimizer: Routed) -> dict[str, list[str]]:
    """Signal -> names of the parameters that need it in the coming step."""
    if not optimizer.spec.signals:
        return {}
    optimizer.check_groups()
    names: dict[str, list[str]] = {}
    rules = optimizer.rules
    for group in optimizer.param_groups:
        for name, p in zip(group["param_names"], group["params"], strict=True):
            step = optimizer.state.get(p, {}).get("step", 0) + 1
            for signal in call(rules[group["rule"]].due, Context(group), step):
                names.setdefault(signal, []).append(name)
    return names


def check_takers(optimizer: Routed) -> None:
    """Raise ValueError if a signal that belongs to heads is of no use, because no parameter takes it."""
    for signal in set(optimizer.spec.signals).intersection(BY_HEAD).difference(due(optimizer)):
        raise ValueError(
            f"{optimizer.spec.name} is about queries and keys, and no layer of this model has such a name "
            f"({', '.join(sorted(QUERY | KEY))}); give queries and keys layers of these names, or take an optimizer "
            f"that asks for no {signal}"
        )


def accept(optimizer: Routed, signal: str, values: Mapping[str, Tensor] | Tensor | float) -> dict[str, Tensor]:
    """The values of a signal that is due, checked. Raises ValueError with what is wrong and what would be right."""
    name, signals = optimizer.spec.name, optimizer.spec.signals
    if signal not in signals:
        needs = f"it takes {', '.join(signals)}" if signals else "it takes none"
        raise ValueError(f"{name} takes no signal {signal!r}{did_you_mean(signal, signals)}; {needs}")
    if signal not in due(optimizer):
        raise ValueError(f"{name}: {signal} is not due in the coming step; ask optimizer.due() before each step")
    if signal in NUMBERS:
        return {"": _number(signal, values)}
    if not isinstance(values, Mapping):
        raise ValueError(f"{signal} must be given by parameter name, as in {{name: tensor}}, not as {_kind(values)}")
    parameters = dict(optimizer.named_parameters())
    for name, value in values.items():
        if name not in parameters:
            raise ValueError(f"{signal}: no parameter is named {name!r}{did_you_mean(name, tuple(parameters))}")
        if signal not in BY_HEAD and (not isinstance(value, Tensor) or value.shape != parameters[name].shape):
            raise ValueError(
                f"{signal} of {name} must be a tensor of shape {tuple(parameters[name].shape)}, not {_kind(value)}"
            )
    if signal in BY_HEAD:
        return {name: _by_row(optimizer, signal, name, parameters[name], value) for name, value in values.items()}
    return dict(values)


def in_form(signal: str, tensors: Mapping[str, Tensor]) -> Any:
    """Made-up tensors of the parameters' shapes as what a signal asks for: one positive number, one head each, or
    themselves. For whoever tries an optimizer without a model."""
    if signal in NUMBERS:
        return torch.stack([x.double().abs().mean() for x in tensors.values()]).mean()
    return {name: x.reshape(-1)[:1] for name, x in tensors.items()} if signal in BY_HEAD else dict(tensors)


def _number(signal: str, value: Any) -> Tensor:
    number = value.detach() if isinstance(value, Tensor) else value
    if (
        isinstance(number, bool)
        or not isinstance(number, Real | Tensor)
        or (isinstance(number, Tensor) and number.numel() != 1)
    ):
        raise ValueError(f"{signal} must be one number, not {_kind(value)}")
    return torch.tensor(float(number), dtype=torch.float64)


def _by_row(optimizer: Routed, signal: str, name: str, parameter: Tensor, value: Any) -> Tensor:
    """A head's number at each of its elements, as a view without memory of its own."""
    shape = optimizer.seen_shape(name, parameter.shape)
    rows, heads = shape[0], value.numel() if isinstance(value, Tensor) and value.ndim == 1 else 0
    if not heads or rows % heads:
        raise ValueError(
            f"{signal} of {name} must be a vector with a number for each head, of which each has as many of its {rows} "
            f"rows; not {_kind(value)}"
        )
    by_row = value.detach().repeat_interleave(rows // heads).reshape(-1, *[1] * (len(shape) - 1))
    return optimizer.oriented(name, by_row.expand(*shape))


def _kind(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__


def check(optimizer: str, stacks: Sequence[Stack], supplied: Supplied) -> None:
    """Raise ValueError with the ``optimizer``'s name unless every stack has the signals that its coming step needs."""
    for stack in stacks:
        step = stack.step + 1
        for signal in call(stack.rule.due, stack.context, step):
            given = supplied.get(signal, {})
            if signal in NUMBERS and not given:
                raise ValueError(
                    f"{optimizer} needs the signal {signal} in step {step}; before step(), call "
                    f"optimizer.supply({signal!r}, number)"
                )
            for member in stack.members if signal not in NUMBERS else ():
                if member.name not in given:
                    raise ValueError(
                        f"{optimizer} needs the signal {signal} of {member.name} in step {step}; "
                        f"before step(), call optimizer.supply({signal!r}, {{name: tensor}}) for the parameters in "
                        "optimizer.due() (fairstep.train.signals computes it)"
                    )


@contextmanager
def previous_weights(optimizer: Routed) -> Iterator[None]:
    """Every parameter at its weights before its last step, if its rule keeps them; at the end all are as before."""
    ownership = optimizer.ownership
    if ownership:
        ownership.fetch(gradients=False)
    members = [member for _, member in optimizer.members() if "previous" in member.entry]
    oriented = [(member.oriented(member.tensor.detach()), member.entry["previous"]) for member in members]
    kept = [(p, previous.view(p.shape)) for p, previous in oriented]
    now = [p.detach().clone() for p, _ in kept]
    with torch.no_grad():
        for p, previous in kept:
            p.copy_(previous)
        if ownership:
            ownership.collect()
    try:
        yield
    finally:
        with torch.no_grad():
            for (p, _), present in zip(kept, now, strict=True):
                p.copy_(present)
            if ownership:
                ownership.collect()
