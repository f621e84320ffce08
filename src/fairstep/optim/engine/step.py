"""One step of all stacks: gradients in, rule, weight decay, new weights out.

With u the rule's direction, eta the learning rate of the param group now (times ``Rule.lr_factor``), eta_0 its peak,
and lambda the weight decay:

    decoupled      W <- (1 - eta lambda) W - eta u                 arXiv 1711.05101, as torch and optax scale it
    independent    W <- (1 - (eta / eta_0) lambda) W - eta u       follows the schedule but not the learning rate
    coupled        g <- g + lambda W before the rule sees it       L2 regularisation
    cautious       W <- W - eta (u + lambda [u W >= 0] W)          arXiv 2510.12402
    corrected      W <- (1 - (eta^2 / eta_0) lambda) W - eta u     arXiv 2506.02285, of matrices and experts

Corrected decay is for weights that a normalisation follows; parameters with another role have the decoupled one
(``roles.NORMALISED``). A rule may ask that the decay which shrinks all weights alike comes after the step instead
(SOAP does), and may take the step in its own way (``Rule.move``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fairstep.optim.engine.signals import NUMBERS, Supplied
from fairstep.optim.engine.stacks import Stack
from fairstep.optim.rule import Context, Rule, call
from fairstep.optim.rules.adamw import AdamWRule


def advance(stacks: Sequence[Stack], supplied: Supplied) -> None:
    """Take one step of every stack. An autocast around the step is of the model's products, not of the rules'."""
    for stack in stacks:
        rule, context, step = stack.rule, stack.context, stack.step + 1
        factor, device = call(rule.lr_factor, context), stack.params[0].device.type
        known = device != "meta"  # torch has no autocast there, and does not answer
        with torch.autocast(device, enabled=False) if known and torch.is_autocast_enabled(device) else nullcontext():
            if not _step_by_kernel(stack, factor):
                for grad, weights, state in blocks(stack, supplied):
                    direction = call(rule.update, context, grad, state, weights, step)
                    if direction is not None:
                        call(rule.move, context, weights, partial(_descend, stack, direction, factor), state, step)
                    stack.record_numbers(state)
        stack.count_step()


def blocks(stack: Stack, supplied: Supplied, write: bool = True) -> Iterator[tuple[Tensor, Tensor, dict[str, Any]]]:
    """(gradients with coupled weight decay in them, weights, state with the signals due) for the coming step.

    Block by block of the stack's rows. With ``write``, changes of the weights are changes of the parameters.
    """
    weight_decay = stack.group["weight_decay"] if stack.group["decay"] == "coupled" else 0.0
    due = call(stack.rule.due, stack.context, stack.step + 1)
    tensors = {signal: stack.gather(supplied[signal]) for signal in due if signal not in NUMBERS}
    whole = {**stack.state, **tensors}
    for grad, weights, rows in stack.blocks(write):
        state = {name: x[rows] if isinstance(x, Tensor) else x for name, x in whole.items()}
        yield grad.add(weights, alpha=weight_decay) if weight_decay else grad, weights, state


def _descend(stack: Stack, direction: Tensor, factor: float, weights: Tensor) -> None:
    """W <- W - lr u with the weight decay, of each param group, in place."""
    if len(stack.parts) == 1:  # the rows may be a block of it
        _descend_part(stack.rule, stack.group, direction, factor, weights)
        return
    rows = [part.rows for part in stack.parts]
    for part, mine, its_direction in zip(stack.parts, weights.split(rows), direction.split(rows), strict=True):
        _descend_part(stack.rule, part.group, its_direction, factor, mine)


def _descend_part(rule: Rule, group: dict[str, Any], direction: Tensor, factor: float, weights: Tensor) -> None:
    lr, weight_decay, decay, shrink = float(group["lr"]) * factor, group["weight_decay"], group["decay"], 1.0
    if decay == "decoupled":
        shrink = 1 - lr * weight_decay
    elif decay == "independent":
        shrink = 1 - lr / Context(group).peak_lr * weight_decay
    elif decay == "corrected":
        shrink = 1 - lr * _share_of_peak(group) * weight_decay
    elif decay == "cautious" and weight_decay:
        agrees = direction * weights >= 0
        weights.sub_(weights * agrees, alpha=lr * weight_decay)
    if shrink != 1.0 and not rule.decays_after_step:
        weights.mul_(shrink)
    weights.add_(direction, alpha=-lr)
    if shrink != 1.0 and rule.decays_after_step:
        weights.mul_(shrink)


def _share_of_peak(group: dict[str, Any]) -> float:
    """eta / eta_0: where in its schedule a param group is."""
    return float(group["lr"]) / Context(group).peak_lr


def _step_by_kernel(stack: Stack, factor: float) -> bool:
    """Whether the step was taken by a kernel of torch's own, which knows decay proportional to the learning rate."""
    kernel = FUSED.get(type(stack.rule))
    if kernel is None:
        return False
    proportional = stack.group["decay"] in ("decoupled", "independent", "corrected")
    if not proportional and any(group["weight_decay"] for group, _, _ in stack.parts):
        return False
    grads: list[Tensor] = [p.grad for p in stack.params]  # type: ignore[misc]
    if not all(x.dtype == stack.dtype and x.is_contiguous() for x in (*stack.params, *grads)):
        return False
    kernel(stack, grads, factor)
    return True


def _fused_adamw(stack: Stack, grads: list[Tensor], factor: float) -> None:
    """W <- (1 - lr lambda) W - lr u of contiguous parameters in the compute dtype, in one pass over memory."""
    m, v = ([member.entry[name] for member in stack.members] for name in ("m", "v"))
    steps = [torch.full((), float(stack.step + 1), device=grads[0].device)] * len(grads)
    lists: tuple[list[Tensor], ...] = (stack.params, grads, m, v, [], steps)
    for group, _, mine in stack.parts:
        weight_decay = group["weight_decay"]
        if group["decay"] == "independent":
            weight_decay /= Context(group).peak_lr
        elif group["decay"] == "corrected":
            weight_decay *= _share_of_peak(group)
        torch._fused_adamw_(
            *(lists if len(stack.parts) == 1 else [one[mine] for one in lists]),
            lr=float(group["lr"]) * factor,
            beta1=group["beta1"],
            beta2=group["beta2"],
            weight_decay=weight_decay,
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )


FUSED: dict[type[Rule], Callable[[Stack, list[Tensor], float], None]] = {AdamWRule: _fused_adamw}
"""Rules, by their exact class, whose whole step torch has as one kernel."""
