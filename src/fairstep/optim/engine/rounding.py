"""Stochastic rounding of new weights to bfloat16, in the manner of P. Zamirai et al., arXiv 2010.06192, section 3.

A bfloat16 weight has 8 bits. Rounded to nearest, a step below 2^-9 of a weight is lost, each time. Rounded up with a
probability that is the distance to the value below, it is kept on average.

The random numbers depend on the optimizer's step and the names of parameters, not on torch's generator: a resumed run
and every replica of data-parallel training round alike. Pieces of a parameter on several ranks have different numbers.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

Rounding = Literal["nearest", "stochastic"]
ROUNDINGS: tuple[Rounding, ...] = get_args(Rounding)
_DROPPED = 16  # bits of a float32 that a bfloat16 has not
_ODD = 2_654_435_761  # 2^32 over the golden ratio: neighbouring steps get seeds that are far apart


def round_stochastically_(weights: Tensor, step: int, start: int = 0, stream: int = 0) -> None:
    """Round float32 ``weights`` in place to values of bfloat16. Those that are one, and infinities, stay as they are.

    ``step``, ``stream`` (of these parameters) and ``start`` (the first row of a piece) decide the random numbers.
    """
    seed = (step * _ODD + stream + start) % 2**32  # torch's generator on a CPU reads no more bits
    generator = torch.Generator(weights.device).manual_seed(seed)
    bits = weights.view(torch.int32)
    noise = torch.empty_like(bits).random_(0, 1 << _DROPPED, generator=generator)
    bits.add_(noise).bitwise_and_(-1 << _DROPPED)
