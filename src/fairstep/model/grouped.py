"""A linear map per group of rows: rows[start_e : end_e] @ weight[e]^T for every expert e, in one operation.

float32 and bf16 use torch's grouped matrix product. Another dtype (float64, for checks) is padded to groups of one size
and multiplied as a batch. The operation is opaque to torch.compile, whose own version takes bf16 alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

GROUPED = (torch.float32, torch.bfloat16, torch.float16)


def grouped_linear(rows: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """rows: (R, I), sorted by group. weight: (E, O, I). ends: (E,) int32, the row behind each group's last; the last
    of them is R. Returns (R, O). Follows autocast."""
    device = rows.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        rows, weight = rows.to(dtype), weight.to(dtype)
    return _linear(rows, weight, ends)


@torch.library.custom_op("fairstep::grouped_linear", mutates_args=())
def _linear(rows: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    if rows.dtype in GROUPED:
        return F.grouped_mm(rows.contiguous(), weight.transpose(1, 2), offs=ends)
    padded, place = _pad(rows, ends)
    return torch.bmm(padded, weight.transpose(1, 2)).flatten(0, 1)[place]


@_linear.register_fake
def _(rows: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    return rows.new_empty(rows.shape[0], weight.shape[1])


@torch.library.custom_op("fairstep::grouped_outer", mutates_args=())
def _outer(slopes: Tensor, rows: Tensor, ends: Tensor) -> Tensor:
    """(E, O, I): the sum of slope x row over each group; slopes: (R, O), rows: (R, I)."""
    if rows.dtype in GROUPED:
        return F.grouped_mm(slopes.contiguous().T, rows.contiguous(), offs=ends)
    return torch.bmm(_pad(slopes, ends)[0].transpose(1, 2), _pad(rows, ends)[0])


@_outer.register_fake
def _(slopes: Tensor, rows: Tensor, ends: Tensor) -> Tensor:
    return rows.new_empty(ends.shape[0], slopes.shape[1], rows.shape[1])


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, slopes: Tensor) -> tuple[Tensor, Tensor, None]:
    rows, weight, ends = ctx.saved_tensors
    return _linear(slopes, weight.transpose(1, 2), ends), _outer(slopes, rows, ends), None


_linear.register_autograd(_backward, setup_context=_save)


def _pad(rows: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
    """Groups as one batch (E, largest, I), zeros behind each; and each row's place in its first two dimensions."""
    sizes = ends.diff(prepend=ends.new_zeros(1))
    largest = int(sizes.max())
    group = torch.repeat_interleave(sizes)
    place = group * largest + torch.arange(len(rows), device=rows.device) - (ends - sizes)[group]
    padded = rows.new_zeros(len(ends) * largest, rows.shape[1])
    return padded.index_copy(0, place, rows).unflatten(0, (len(ends), largest)), place
