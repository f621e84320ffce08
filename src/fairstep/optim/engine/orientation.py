"""How a rule sees a weight that is stored otherwise than as output x input, or as experts x output x input.

Everything here is a view: what a rule does to what it sees is done to the parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fairstep.optim.roles import Named, Role

IN_BY_OUT = {"GptOssExperts", "Llama4TextExperts", "AriaExperts"}
"""Classes of Transformers that store experts as (experts, in, out); newer ones say so themselves, as is_transposed."""
FLAT_EXPERTS = {"DbrxExpertGLU": ("moe_num_experts", ("w2",))}
"""Classes of Transformers that store all experts one under another, as one matrix: the attribute that says how many
they are, and the weights of which each expert's matrix is input x output."""


class Orientation(NamedTuple):
    """``experts``: how many matrices lie one under another in two dimensions; 0: none. ``in_by_out``: whether a matrix
    has its inputs before its outputs."""

    experts: int = 0
    in_by_out: bool = False
    first: int = 0
    """The first of a matrix's two dimensions, after the one of experts if there is one."""

    def seen(self, stored: Tensor) -> Tensor:
        """A tensor of the parameter's shape as the parameter's rule sees it."""
        apart = stored.unflatten(0, (self.experts, -1)) if self.experts else stored
        return apart.transpose(self.first, self.first + 1) if self.in_by_out else apart

    def shape(self, stored: Sequence[int]) -> tuple[int, ...]:
        """The shape that the rule sees."""
        return tuple(self.seen(torch.empty(stored, device="meta")).shape)


AS_STORED = Orientation()


def orientation(item: Named, role: Role) -> Orientation:
    """Of Transformers' Conv1D (GPT-2), of torch's transposed convolutions (in, out, kernel), and of some experts."""
    layer: Any = item.layer
    names = {kind.__name__ for kind in type(layer).__mro__}  # FSDP2 derives a class from a layer's
    if role == "expert":
        turned = not names.isdisjoint(IN_BY_OUT) or getattr(layer, "is_transposed", False) is True
        if experts := flat_experts(item):
            turned = any(item.path[-1] in FLAT_EXPERTS[name][1] for name in names & FLAT_EXPERTS.keys())
        return Orientation(experts, turned, 1) if experts or turned else AS_STORED
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        turned = role == "matrix" and item.tensor.ndim > 2
    else:
        turned = "Conv1D" in names and item.tensor.ndim == 2 and getattr(layer, "nf", None) == item.tensor.shape[1]
    return Orientation(in_by_out=True) if turned else AS_STORED


def flat_experts(item: Named) -> int:
    """How many experts lie one under another in a weight with two dimensions, as its layer says; 0: it says nothing."""
    if item.tensor.ndim != 2:
        return 0
    for kind in type(item.layer).__mro__:
        if kind.__name__ in FLAT_EXPERTS:
            count = getattr(item.layer, FLAT_EXPERTS[kind.__name__][0], 0)
            return count if count and len(item.tensor) % count == 0 else 0
    return 0
