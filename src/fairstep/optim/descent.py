"""One step of one stack: gradients in, rule, weight decay, new weights out.

With u the rule's direction, eta the learning rate of the param group now (times ``Rule.lr_factor``), eta_0 at the
start, and lambda the weight decay:

    decoupled      W <- (1 - eta lambda) W - eta u                 arXiv 1711.05101, as torch and optax scale it
    independent    W <- (1 - (eta / eta_0) lambda) W - eta u       follows the schedule but not the learning rate
    coupled        g <- g + lambda W before the rule sees it       L2 regularisation
    cautious       W <- W - eta (u + lambda [u W >= 0] W)          arXiv 2510.12402

A rule may ask that the first two shrink the weights after the step instead (SOAP does), and may take the step in its
own way (``Rule.move``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fairstep.optim import signals
from fairstep.optim.rule import Rule
from fairstep.optim.rules.adamw import AdamWRule
from fairstep.optim.stacks import Stack


def advance(stacks: Sequence[Stack], supplied: signals.Supplied) -> None:
    """One step of all stacks: gradients in, rule, decay, new weights out."""
    for stack in stacks:
        _advance(stack, supplied)


def _advance(stack: Stack, supplied: signals.Supplied) -> None:
    lr = _lr(stack)
    if _fused(stack, lr):
        return

    def move(grad: Tensor, weights: Tensor, state: dict[str, Any]) -> None:
        _move(stack, weights, state, stack.rule.update(grad, state, weights, stack.hyper, stack.step + 1), lr)

    *_, (_, state) = carry_out(move, stack, supplied)
    stack.advance(state)


def _lr(stack: Stack) -> float:
    return float(stack.group["lr"]) * stack.rule.lr_factor(stack.group)


def _move(stack: Stack, weights: Tensor, state: dict[str, Any], direction: Tensor | None, lr: float) -> None:
    """Weights by a direction of the rule's, in place."""
    rule, group = stack.rule, stack.group
    if direction is not None:
        descend = partial(_descend, direction=direction, lr=lr, group=group, decay_last=rule.decays_after_step)
        rule.move(weights, descend, state, group, stack.step + 1)


def carry_out(
    action: Callable[..., Any],
    stack: Stack,
    supplied: signals.Supplied,
    write: bool = True,
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Call ``action`` for the coming step, block by block: (what it returns, the state with the signals due).

    It gets gradients with coupled weight decay in them, weights, and that state.
    """
    weight_decay = stack.group["weight_decay"] if stack.group["decay"] == "coupled" else 0.0
    given = {signal: stack.gather(supplied[signal]) for signal in stack.rule.due(stack.group, stack.step + 1)}

    whole = {**stack.state, **given}
    for grad, weights, rows in stack.blocks(write):
        state = (
            {**whole} if rows == slice(None) else {n: x[rows] if isinstance(x, Tensor) else x for n, x in whole.items()}
        )
        yield action(grad.add(weights, alpha=weight_decay) if weight_decay else grad, weights, state), state


def _fused(stack: Stack, lr: float) -> bool:
    """Whether the step was taken by a kernel of torch's own, which knows decay proportional to the learning rate."""
    kernel = FUSED.get(type(stack.rule))
    group, weight_decay = stack.group, stack.group["weight_decay"]
    if kernel is None or (weight_decay and group["decay"] not in ("decoupled", "independent")):
        return False
    if group["decay"] == "independent":
        weight_decay /= group["initial_lr"]
    grads: list[Tensor] = [p.grad for p in stack.params]  # type: ignore[misc]
    if not all(x.dtype == stack.dtype and x.is_contiguous() for x in (*stack.params, *grads)):
        return False
    kernel(stack, grads, lr, weight_decay)
    stack.advance(stack.state)
    return True


def _fused_adamw(stack: Stack, grads: list[Tensor], lr: float, weight_decay: float) -> None:
    """W <- (1 - lr lambda) W - lr u of contiguous parameters in the compute dtype, in one pass."""
    state = {name: [member.entry[name] for member in stack.members] for name in ("m", "v")}
    taken = torch.full((), float(stack.step + 1), device=grads[0].device)
    torch._fused_adamw_(
        stack.params,
        grads,
        state["m"],
        state["v"],
        [],
        [taken] * len(grads),
        lr=lr,
        beta1=stack.group["beta1"],
        beta2=stack.group["beta2"],
        weight_decay=weight_decay,
        eps=stack.group["eps"],
        amsgrad=False,
        maximize=False,
    )


FUSED: dict[type[Rule], Callable[[Stack, list[Tensor], float, float], None]] = {AdamWRule: _fused_adamw}
"""Rules, by their exact class, whose whole step torch has as one kernel."""


def _descend(weights: Tensor, *, direction: Tensor, lr: float, group: Mapping[str, Any], decay_last: bool) -> None:
    """W <- W - lr u with the group's weight decay, in place."""
    weight_decay, decay, shrink = group["weight_decay"], group["decay"], 1.0
    if decay == "decoupled":
        shrink = 1 - lr * weight_decay
    elif decay == "independent":
        shrink = 1 - lr / group["initial_lr"] * weight_decay
    elif decay == "cautious" and weight_decay:
        agrees = direction * weights >= 0
        weights.sub_(weights * agrees, alpha=lr * weight_decay)
    if shrink != 1.0 and not decay_last:
        weights.mul_(shrink)
    weights.add_(direction, alpha=-lr)
    if shrink != 1.0 and decay_last:
        weights.mul_(shrink)
