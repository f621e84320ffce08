"""Attention of queries, keys and values, and the largest logits of its heads, which QK-clip asks for.

Shapes in comments: B sequences, T positions, H heads, K head size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairstep.model.precision import wide

WATCHED_ROWS = 256
"""Queries whose logits are computed at a time where the kernel does not show them."""


class WatchedAttention(nn.Module):
    """Attention with layers q and k that can say how large its logits became.

    ``largest``: (H,), of all pairs that attend to each other in training since it was last taken; None: nobody watches.
    It is no buffer, because DistributedDataParallel would overwrite it by the first rank's. ``heads``: of queries, of
    which ``shared_by`` neighbours have one head of keys.
    """

    largest: Tensor | None = None
    heads: int
    shared_by = 1
    q: nn.Linear

    def watch(self) -> None:
        self.largest = torch.full((self.heads,), float("-inf"), device=self.q.weight.device)

    def take(self) -> Tensor:
        """(key heads,) the largest logits of all queries that share the keys, to be counted anew from now on."""
        assert self.largest is not None, "watch() comes first"
        found = self.largest.view(-1, self.shared_by).amax(-1)
        self.largest.fill_(float("-inf"))
        return found


def explicit_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float | None = None, largest: Tensor | None = None
) -> Tensor:
    """softmax(scale q k^T + mask) v, written out. mask: (T, T), 0 or -inf; ``scale``: 1 / sqrt(K) if none is given.

    ``largest``: (H,), raised to the largest logits.

    For short contexts on a CPU this beats the flash kernel several times over, whose backward pass is slow with
    few heads; benchmarks/train_throughput.py measures both.
    """
    scores = wide(q @ k.transpose(-1, -2)) * (q.shape[-1] ** -0.5 if scale is None else scale) + mask
    if largest is not None:
        _take_in(largest, scores)
    return torch.softmax(scores, dim=-1).to(v.dtype) @ v


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    causal: bool = True,
    scale: float | None = None,
    largest: Tensor | None = None,
) -> Tensor:
    """Attention of q, k, v: (B, H, T, K). A mask asks for the written-out form. ``largest`` as there."""
    if mask is None:
        if largest is not None:
            _watch_fused(q, k, causal, scale, largest)
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)
    return explicit_attention(q, k, v, mask, scale, largest)


@torch.no_grad()
def _watch_fused(q: Tensor, k: Tensor, causal: bool, scale: float | None, largest: Tensor) -> None:
    """The logits of a kernel that does not show them, once more: half of an attention's products, in blocks of rows."""
    factor = q.shape[-1] ** -0.5 if scale is None else scale
    for start in range(0, q.shape[-2], WATCHED_ROWS):
        rows = q[..., start : start + WATCHED_ROWS, :]
        stop = start + rows.shape[-2] if causal else k.shape[-2]
        scores = wide(rows @ k[..., :stop, :].transpose(-1, -2)) * factor
        if causal:
            later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(start + 1)
            scores = scores.masked_fill(later, float("-inf"))
        _take_in(largest, scores)


@torch.no_grad()
def _take_in(largest: Tensor, scores: Tensor) -> None:
    """Raise (H,) to the largest of (B, H, T, T)."""
    largest.copy_(torch.maximum(largest, scores.detach().amax((0, 2, 3))))
