"""Cross-entropy of a head's logits, in memory that does not grow with tokens x vocabulary.

With 128,000 logits a token, in float32 and with their gradients, the logits would be by far the largest tensors of a
run. Up to ``LOGITS_AT_ONCE`` logits the loss is computed in one piece, which fuses better.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairstep.model.config import LOGITS_AT_ONCE
from fairstep.model.precision import wide

IGNORED = -100
"""Target that does not count."""


def head_loss(x: Tensor, head: nn.Linear, targets: Tensor, z_loss: float = 0.0) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy, plus ``z_loss`` times the mean of logsumexp(logits)^2, over the targets that count.

    x: (B, T, D), targets: (B, T). Returns the loss and, for the record, the mean of the squares (0 without z-loss).
    """
    rows = LOGITS_AT_ONCE // head.out_features
    if targets.numel() > rows:
        gradients = torch.is_grad_enabled() and (x.requires_grad or head.weight.requires_grad)
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else head.weight.dtype
        rows = max(1, rows)
        loss, z, *_ = _chunked(x.flatten(0, 1), head.weight, targets.flatten(), z_loss, rows, gradients, dtype)
        return loss, z.detach()
    logits, targets = wide(head(x)).flatten(0, 1), targets.flatten()
    loss = F.cross_entropy(logits, targets)
    if not z_loss:
        return loss, torch.zeros_like(loss)
    counts = targets != IGNORED
    z = (torch.logsumexp(logits, -1).square() * counts).sum() / counts.sum()
    return loss + z_loss * z, z.detach()


@torch.library.custom_op("fairstep::chunked_loss", mutates_args=())
def _chunked(
    x: Tensor, weight: Tensor, targets: Tensor, z_loss: float, rows: int, gradients: bool, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``head_loss`` of x (N, D) and targets (N), ``rows`` tokens at a time: loss, z, and the gradients of x and weight.

    The gradients are computed on the way, while a chunk's logits exist, so no logits are kept or computed twice.
    ``dtype``: precision of the products. The operation is opaque to torch.compile, which would unroll the chunks.
    """
    wide = torch.promote_types(dtype, torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        w = weight.to(dtype)
        count = (targets != IGNORED).sum().to(wide)
        loss, squares = torch.zeros((2,), device=x.device, dtype=wide).unbind()
        x_gradient = torch.empty_like(x) if gradients else x.new_empty(0)
        w_gradient = torch.zeros_like(weight) if gradients else weight.new_empty(0)
        for start in range(0, len(targets), rows):
            part, target = x[start : start + rows].to(dtype), targets[start : start + rows]
            logits = (part @ w.T).to(wide)
            counts = (target != IGNORED).to(wide)
            place = target.clamp(min=0)[:, None]
            normaliser = torch.logsumexp(logits, -1)
            loss = loss + ((normaliser - logits.gather(1, place)[:, 0]) * counts).sum()
            squares = squares + (normaliser.square() * counts).sum()
            if gradients:
                # d/dlogits of (lse - logit + z lse^2) is softmax (1 + 2 z lse) - onehot, and 0 where nothing counts
                scale = counts * (1 + 2 * z_loss * normaliser) / count
                slope = logits.sub_(normaliser[:, None]).exp_().mul_(scale[:, None])
                slope = slope.scatter_add_(1, place, -(counts / count)[:, None]).to(dtype)
                x_gradient[start : start + rows] = slope @ w
                w_gradient += slope.T @ part
        z = squares / count
        return loss / count + z_loss * z, z, x_gradient, w_gradient


@_chunked.register_fake
def _(
    x: Tensor, weight: Tensor, targets: Tensor, z_loss: float, rows: int, gradients: bool, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    wide = torch.promote_types(dtype, torch.float32)
    loss, z = (x.new_empty((), dtype=wide) for _ in range(2))
    return (
        loss,
        z,
        torch.empty_like(x) if gradients else x.new_empty(0),
        torch.empty_like(weight) if gradients else weight.new_empty(0),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*output[2:])


def _backward(ctx: Any, slope: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise RuntimeError("the chunked loss has no second derivative; differentiate cross_entropy of model.logits")
    x_gradient, w_gradient = (slope.to(gradient.dtype) * gradient for gradient in ctx.saved_tensors)
    return x_gradient, w_gradient, None, None, None, None, None


_chunked.register_autograd(_backward, setup_context=_save)
