"""Signals: what an optimizer may need in a step beside the gradient, and how any training loop supplies it.

    gauss_newton_diagonal   an estimate of the diagonal of the Gauss-Newton matrix of the batch's mean loss    Sophia-G
    hessian_diagonal        an estimate of the diagonal of the Hessian of the batch's mean loss                Sophia-H
    previous_gradient       the gradient of this batch at the weights before the last step                exact MARS

A signal belongs to the batch whose gradient the coming step uses, and has the shapes of the parameters. A loop asks
before each step, and supplies what is due by parameter name:

    for signal, names in optimizer.due().items():
        optimizer.supply(signal, {name: tensor for name in names})
    optimizer.step()

``fairstep.train.signals`` computes all three for our models. The optimizer keeps the weights at which the previous
gradient is taken, so that they survive a resume: ``with optimizer.previous_weights():``. A due signal that is missing
is an error before anything is changed. A signal is used in one step and not kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from fairstep.optim.engine.routed import Routed
from fairstep.optim.engine.stacks import Stack
from fairstep.optim.rule import Context, call
from fairstep.optim.spec import nearest

Supplied = dict[str, dict[str, Tensor]]
"""Signal -> parameter name -> its tensor."""


def due(optimizer: Routed) -> dict[str, list[str]]:
    """Signal -> names of the parameters that need it in the coming step."""
    if not optimizer.spec.signals:
        return {}
    names: dict[str, list[str]] = {}
    rules = optimizer.rules
    for group in optimizer.param_groups:
        for name, p in zip(group["param_names"], group["params"], strict=True):
            step = optimizer.state.get(p, {}).get("step", 0) + 1
            for signal in call(rules[group["rule"]].due, Context(group), step):
                names.setdefault(signal, []).append(name)
    return names


def accept(optimizer: Routed, signal: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The values of a signal that is due, checked. Raises ValueError with what is wrong and what would be right."""
    name, signals = optimizer.spec.name, optimizer.spec.signals
    if signal not in signals:
        needs = f"it takes {', '.join(signals)}" if signals else "it takes none"
        raise ValueError(f"{name} takes no signal {signal!r}{nearest(signal, signals)}; {needs}")
    if signal not in due(optimizer):
        raise ValueError(f"{name}: {signal} is not due in the coming step; ask optimizer.due() before each step")
    parameters = dict(optimizer.named_parameters())
    for name, value in values.items():
        if name not in parameters:
            raise ValueError(f"{signal}: no parameter is named {name!r}{nearest(name, tuple(parameters))}")
        if not isinstance(value, Tensor) or value.shape != parameters[name].shape:
            given = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"{signal} of {name} must be a tensor of shape {tuple(parameters[name].shape)}, not {given}"
            )
    return dict(values)


def check(optimizer: str, stacks: Sequence[Stack], supplied: Supplied) -> None:
    """Raise ValueError with the ``optimizer``'s name unless every stack has the signals that its coming step needs."""
    for stack in stacks:
        step = stack.step + 1
        for signal in call(stack.rule.due, stack.context, step):
            for member in stack.members:
                if member.name not in supplied.get(signal, {}):
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
