"""Cross-entropy of a head's logits, in memory that does not grow with tokens x vocabulary.

128,000 logits a token, in float32 and with their gradients, would otherwise be the largest tensors of a run by far.
Up to ``LOGITS_AT_ONCE`` the plain way is taken, which fuses better.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairstep.model.config import LOGITS_AT_ONCE

IGNORED = -100
"""Target that does not count."""


def head_loss(x: Tensor, head: nn.Linear, targets: Tensor, z_loss: float = 0.0) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy, plus ``z_loss`` times the mean of logsumexp(logits)^2, over the targets that count.

    x: (B, T, D), targets: (B, T). Returns the loss and, for the record, the mean of the squares (0 without z-loss).
    """
    rows = LOGITS_AT_ONCE // head.out_features
    if targets.numel() > rows:
        gradients = torch.is_grad_enabled() and (x.requires_grad or head.weight.requires_grad)
        return _ChunkedLoss.apply(x.flatten(0, 1), head.weight, targets.flatten(), z_loss, max(1, rows), gradients)
    logits, targets = head(x).float().flatten(0, 1), targets.flatten()
    loss = F.cross_entropy(logits, targets)
    if not z_loss:
        return loss, torch.zeros_like(loss)
    counts = targets != IGNORED
    z = (torch.logsumexp(logits, -1).square() * counts).sum() / counts.sum()
    return loss + z_loss * z, z.detach()


class _ChunkedLoss(torch.autograd.Function):
    """``head_loss``, ``rows`` tokens at a time. The gradients are computed on the way, while a chunk's logits exist,
    so no logits are kept or computed twice. Differentiable once: for second derivatives take ``model.logits``."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, targets: Tensor, z_loss: float, rows: int, gradients: bool
    ) -> tuple[Tensor, Tensor]:
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        wide = torch.promote_types(dtype, torch.float32)
        with torch.autocast(device, enabled=False):
            w = weight.to(dtype)
            count = (targets != IGNORED).sum().to(wide)
            loss, squares = torch.zeros((2,), device=x.device, dtype=wide).unbind()
            x_gradients = []
            w_gradient = torch.zeros_like(weight) if gradients else None
            for part, target in zip(x.split(rows), targets.split(rows), strict=True):
                part = part.to(dtype)
                logits = (part @ w.T).to(wide)
                counts = (target != IGNORED).to(wide)
                place = target.clamp(min=0)[:, None]
                normaliser = torch.logsumexp(logits, -1)
                loss = loss + ((normaliser - logits.gather(1, place)[:, 0]) * counts).sum()
                squares = squares + (normaliser.square() * counts).sum()
                if w_gradient is not None:
                    # d/dlogits of (lse - logit + z lse^2) is softmax (1 + 2 z lse) - onehot, and 0 where nothing counts
                    scale = counts * (1 + 2 * z_loss * normaliser) / count
                    slope = logits.sub_(normaliser[:, None]).exp_().mul_(scale[:, None])
                    slope = slope.scatter_add_(1, place, -(counts / count)[:, None]).to(dtype)
                    x_gradients.append((slope @ w).to(x.dtype))
                    w_gradient += slope.T @ part
            if w_gradient is not None:
                ctx.save_for_backward(torch.cat(x_gradients), w_gradient)
            z = squares / count
            ctx.mark_non_differentiable(z)
            return loss / count + z_loss * z, z

    @staticmethod
    def backward(ctx: Any, slope: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            raise RuntimeError("the chunked loss has no second derivative; take that of model.logits and cross_entropy")
        x_gradient, w_gradient = ctx.saved_tensors
        x_gradient, w_gradient = (slope.to(gradient.dtype) * gradient for gradient in (x_gradient, w_gradient))
        return x_gradient, w_gradient, None, None, None, None
