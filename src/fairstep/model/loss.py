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
from fairstep.model.precision import product_dtype, wide

IGNORED = -100
"""Target that does not count."""


def capped(logits: Tensor, cap: float) -> Tensor:
    """c z / sqrt(z^2 + c^2): logits z between -c and c, almost unchanged where they are small. 0: no cap."""
    return cap * logits * torch.rsqrt(logits.square() + cap**2) if cap else logits


def head_loss(
    x: Tensor, head: nn.Linear, targets: Tensor, z_loss: float = 0.0, cap: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy, plus ``z_loss`` times the mean of logsumexp(logits)^2, over the targets that count.

    x: (B, T, D), targets: (B, T), ``cap``: see ``capped``. Returns the loss and, for the record, the mean of the
    squares (0 without z-loss).
    """
    rows = LOGITS_AT_ONCE // head.out_features
    if targets.numel() > rows:
        gradients = torch.is_grad_enabled() and (x.requires_grad or head.weight.requires_grad)
        dtype, rows = product_dtype(x, head.weight), max(1, rows)
        flat = x.flatten(0, 1), head.weight, head.bias, targets.flatten()
        loss, z, *_ = _chunked(*flat, z_loss, cap, rows, gradients, dtype)
        return loss, z.detach()
    logits, targets = capped(wide(head(x)), cap).flatten(0, 1), targets.flatten()
    loss = F.cross_entropy(logits, targets)
    if not z_loss:
        return loss, torch.zeros_like(loss)
    counts = targets != IGNORED
    z = (torch.logsumexp(logits, -1).square() * counts).sum() / counts.sum()
    return loss + z_loss * z, z.detach()


@torch.library.custom_op("fairstep::chunked_loss", mutates_args=())
def _chunked(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    z_loss: float,
    cap: float,
    rows: int,
    gradients: bool,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """``head_loss`` of x (N, D) and targets (N), ``rows`` tokens at a time: loss, z, and the gradients of x, weight and
    bias.

    The gradients are computed on the way, while a chunk's logits exist, so no logits are kept or computed twice.
    ``dtype``: precision of the products. The operation is opaque to torch.compile, which would unroll the chunks.
    """
    wide = torch.promote_types(dtype, torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        w, b = weight.to(dtype), None if bias is None else bias.to(dtype)
        count = (targets != IGNORED).sum().to(wide)
        loss, squares = torch.zeros((2,), device=x.device, dtype=wide).unbind()
        x_gradient = torch.empty_like(x) if gradients else x.new_empty(0)
        w_gradient = torch.zeros_like(weight) if gradients else weight.new_empty(0)
        b_gradient = torch.zeros_like(bias) if gradients and bias is not None else weight.new_empty(0)
        for start in range(0, len(targets), rows):
            part, target = x[start : start + rows].to(dtype), targets[start : start + rows]
            logits = (part @ w.T if b is None else F.linear(part, w, b)).to(wide)
            if cap:
                shrink = logits.square().add_(cap**2).rsqrt_().mul_(cap)
                logits = logits.mul_(shrink)
            counts = (target != IGNORED).to(wide)
            place = target.clamp(min=0)[:, None]
            normaliser = torch.logsumexp(logits, -1)
            loss = loss + ((normaliser - logits.gather(1, place)[:, 0]) * counts).sum()
            squares = squares + (normaliser.square() * counts).sum()
            if gradients:
                # d/dlogits of (lse - logit + z lse^2) is softmax (1 + 2 z lse) - onehot, and 0 where nothing counts
                scale = counts * (1 + 2 * z_loss * normaliser) / count
                slope = logits.sub_(normaliser[:, None]).exp_().mul_(scale[:, None])
                slope = slope.scatter_add_(1, place, -(counts / count)[:, None])
                if cap:
                    slope = slope.mul_(shrink.pow_(3))  # d/dz of c z / sqrt(z^2 + c^2) is (c / sqrt(z^2 + c^2))^3
                slope = slope.to(dtype)
                x_gradient[start : start + rows] = slope @ w
                w_gradient += slope.T @ part
                if b is not None:
                    b_gradient += slope.sum(0)
        z = squares / count
        return loss / count + z_loss * z, z, x_gradient, w_gradient, b_gradient


@_chunked.register_fake
def _(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    z_loss: float,
    cap: float,
    rows: int,
    gradients: bool,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    wide = torch.promote_types(dtype, torch.float32)
    loss, z = (x.new_empty((), dtype=wide) for _ in range(2))
    return (
        loss,
        z,
        torch.empty_like(x) if gradients else x.new_empty(0),
        torch.empty_like(weight) if gradients else weight.new_empty(0),
        torch.empty_like(bias) if gradients and bias is not None else weight.new_empty(0),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.has_bias = inputs[2] is not None
    ctx.save_for_backward(*output[2:])


def _backward(ctx: Any, slope: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise RuntimeError("the chunked loss has no second derivative; differentiate cross_entropy of model.logits")
    x_gradient, w_gradient, b_gradient = (slope.to(gradient.dtype) * gradient for gradient in ctx.saved_tensors)
    return x_gradient, w_gradient, b_gradient if ctx.has_bias else None, None, None, None, None, None, None


_chunked.register_autograd(_backward, setup_context=_save)
