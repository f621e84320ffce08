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

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor

from fairstep.optim import signals
from fairstep.optim.stacks import Stack


def advance(stack: Stack, supplied: signals.Supplied) -> None:
    """One step of one stack: gradients in, rule, decay, new weights out."""
    group = stack.group
    grad, weights, own = inputs(stack, supplied)
    step = stack.advance()
    direction = stack.rule.update(grad, own, weights, stack.hyper, step)
    if direction is None:
        return
    lr = float(group["lr"]) * stack.rule.lr_factor(group)
    descend = partial(_descend, direction=direction, lr=lr, group=group, decay_last=stack.rule.decays_after_step)
    stack.rule.move(weights, descend, stack.state, group, step)
    stack.record_numbers()
    stack.write_back(weights)


def inputs(stack: Stack, supplied: signals.Supplied) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """For the coming step: gradient, with coupled weight decay in it, weights, and the state with the signals due."""
    grad, weights, weight_decay = stack.gradients(), stack.weights(), stack.group["weight_decay"]
    if stack.group["decay"] == "coupled" and weight_decay:
        grad = grad.add(weights, alpha=weight_decay)
    given = {signal: stack.gather(supplied[signal]) for signal in stack.rule.due(stack.group, stack.step + 1)}
    return grad, weights, {**stack.state, **given} if given else stack.state


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
