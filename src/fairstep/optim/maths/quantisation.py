"""Numbers in 8 bits, block by block: each block of a tensor has one scale, each of its elements one of 256 codes.

The scale is the largest absolute value of a block. A code says which value of a fixed map in [-1, 1] or [0, 1] is the
nearest to element over scale:

``dynamic``, signed: for e = 0, ..., 6 the midpoints of 2^e equal parts of [0.1, 1], times 10^(e - 6), with both signs;
0; and 1. Positive: 2^(e + 1) parts, so that the smallest value beside 0 is 3e-7 (signed: 5e-7). T. Dettmers et al.,
"8-bit Optimizers via Block-wise Quantization", arXiv 2110.02861, in the form of bitsandbytes.

``linear``: k / 127 for k = -127, ..., 127, which is enough where small elements matter less (Muon's momentum), and not
for a second moment, whose small elements become 0. A. Gupta et al., arXiv 2509.23106.

``benchmarks/quantisation.py`` measures the errors. The signed map has 1 and not -1, as published: a block whose largest
element is negative loses 0.7 % of it.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from fairstep.optim._lazy import torch

if TYPE_CHECKING:
    from torch import Tensor
    from torch import device as Device
    from torch import dtype as Dtype

MAPS = ("dynamic", "linear")


@functools.cache
def dynamic_map(signed: bool) -> tuple[float, ...]:
    """The 256 values, ascending."""
    positive = []
    for e in range(7):
        parts = 2 ** (e if signed else e + 1)
        positive += [10.0 ** (e - 6) * (0.1 + 0.9 * (k + 0.5) / parts) for k in range(parts)]
    negative = [-x for x in positive] if signed else []
    return tuple(sorted([*negative, 0.0, *positive, 1.0]))


def quantise(x: Tensor, block: int, kind: str, signed: bool) -> tuple[Tensor, Tensor]:
    """Matrix rows (s, n) as codes (s, blocks, block) in uint8 and scales (s, blocks) in the dtype of x.

    The last block is filled up with zeros.
    """
    s, n = x.shape
    blocks = -(-n // block)
    if missing := blocks * block - n:
        x = torch.nn.functional.pad(x, (0, missing))
    x = x.view(s, blocks, block)
    scale = torch.linalg.vector_norm(x, torch.inf, -1)
    relative = x / scale.clamp(min=torch.finfo(x.dtype).tiny)[..., None]
    if kind == "linear":
        return relative.mul_(127).round_().add_(127).to(torch.uint8), scale
    return _nearest(relative, signed), scale


def _nearest(relative: Tensor, signed: bool) -> Tensor:
    """The codes of the dynamic map's nearest values, in uint8."""
    if relative.dtype != torch.float32:
        return torch.bucketize(relative, _tables(signed, relative.dtype, relative.device)[1]).to(torch.uint8)
    # A search among midpoints takes 40 ns for each element on a CPU. The first 16 bits of a float32 leave no more than
    # two codes to choose from, with one midpoint between them.
    lower, midpoint = _by_first_bits(signed, relative.device)
    bits = (relative.view(torch.int32).reshape(-1) >> 16) & 0xFFFF
    above = relative.reshape(-1) > midpoint.index_select(0, bits)
    return lower.index_select(0, bits).add_(above).view(relative.shape)


@functools.cache
def _by_first_bits(signed: bool, device: Device) -> tuple[Tensor, Tensor]:
    """For the first 16 bits of a float32: the code of the least number with them, and the midpoint above it, or inf."""
    _, middle = _tables(signed, torch.float32, torch.device("cpu"))
    first = (torch.arange(2**16) << 16).to(torch.int32)
    ends = torch.stack((first, first | 0xFFFF)).view(torch.float32)
    lower, upper = (torch.bucketize(x, middle) for x in (ends.amin(0), ends.amax(0)))
    between = torch.where(upper > lower, middle[lower.clamp(max=len(middle) - 1)], torch.inf)
    return lower.to(device, torch.uint8), between.to(device)


def dequantise(codes: Tensor, scale: Tensor, n: int, kind: str, signed: bool) -> Tensor:
    """``quantise`` backwards: (s, n)."""
    if kind == "linear":
        relative = codes.to(scale.dtype).sub_(127).div_(127)
    else:
        values, _ = _tables(signed, scale.dtype, scale.device)
        relative = values.index_select(0, codes.reshape(-1).int()).view(codes.shape)
    return relative.mul_(scale[..., None]).flatten(1)[:, :n]


@functools.cache
def _tables(signed: bool, dtype: Dtype, device: Device) -> tuple[Tensor, Tensor]:
    """(values of the dynamic map, midpoints between them)."""
    values = torch.tensor(dynamic_map(signed), dtype=torch.float64)
    middle = (values[1:] + values[:-1]) / 2
    return values.to(device, dtype), middle.to(device, dtype)
