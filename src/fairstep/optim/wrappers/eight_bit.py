"""8-bit state: the moments of matrices are kept in 8 bits, in blocks with one scale each (see ``maths.quantisation``).

    m, v    = dequantised state
    u, m, v = a step of the rule inside, in the dtype of the arithmetic
    state   = quantised m, v;   W <- W - lr u with the u of the exact new moments

Blocks of state_block elements run over a flattened matrix (an expert). state_map is the map of moments with a sign; a
second moment has the dynamic map in any case, because the linear one makes its small elements 0. Matrices with fewer
than state_min_elements elements, vectors, embeddings, and the AdamW beside Muon stay as they are.

T. Dettmers et al., "8-bit Optimizers via Block-wise Quantization", arXiv 2110.02861; for Muon A. Gupta et al., arXiv
2509.23106. Optimizer state: a quarter of the rule's, and 1 float per block and moment.

Differences from other implementations: bitsandbytes decays after the step on CUDA, adds eps to the uncorrected root,
and moves a code of m whose sign is not m's by one. A matrix is stepped by one rank as a whole, because a boundary
within a block would change the result. Stochastic rounding of codes is in neither.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fairstep.optim._lazy import torch
from fairstep.optim.maths.quantisation import MAPS, dequantise, quantise
from fairstep.optim.rule import Context, Rule, call
from fairstep.optim.spec import Hyperparameter, OptimizerSpec, UnknownOptimizerError
from fairstep.optim.wrappers.base import WrappedRule, Wrapper, wrap_parts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

PIECE = 2**18
"""Elements of a matrix that an elementwise rule steps at a time: what is dequantised takes no more memory."""
FLOATS = ("embedding", "vector")
"""Roles whose state is left alone."""


class EightBitRule(WrappedRule):
    suffix = "8bit"
    flops_per_element = 8
    elementwise = False  # blocks are of one matrix

    def __init__(self, inner: Rule) -> None:
        super().__init__(inner)
        self.signed = {name: sign == "signed" for name, sign in inner.eight_bit}
        kept = len(self.signed)
        self.state_formula = f"{kept if kept > 1 else ''} N (1/4 + 1/state_block)".strip()

    def init(self, param: Tensor, *, state_block: int, state_min_elements: int, context: Context) -> dict[str, Any]:
        state = call(self.inner.init, context, param)
        n = param.shape[-2] * param.shape[-1]
        if n < state_min_elements:
            return state
        for name in self.signed:
            del state[name]
            blocks = len(param), -(-n // state_block)
            state[name + "_codes"] = torch.zeros(*blocks, state_block, dtype=torch.uint8, device=param.device)
            state[name + "_scale"] = param.new_zeros(blocks)
        return state

    def update(
        self,
        grad: Tensor,
        state: dict[str, Any],
        param: Tensor,
        step: int,
        *,
        state_block: int,
        state_map: str,
        context: Context,
    ) -> Tensor | None:
        if not any(name + "_codes" in state for name in self.signed):
            return call(self.inner.update, context, grad, state, param, step)
        maps = {name: (state_map if signed else "dynamic", signed) for name, signed in self.signed.items()}
        direction = grad.new_empty(grad.shape)
        flat_grad, flat_param, flat_direction = (x.reshape(len(x), -1) for x in (grad, param, direction))
        for elements, blocks in self._pieces(flat_grad.shape[1], state_block):
            part, weights = flat_grad[:, elements], flat_param[:, elements]
            shape = part.shape if self.inner.elementwise else grad.shape
            kept = dict(state)
            for name, kind in maps.items():
                codes, scale = state[name + "_codes"][:, blocks], state[name + "_scale"][:, blocks]
                kept[name] = dequantise(codes, scale, part.shape[1], *kind).reshape(shape)
            u = call(self.inner.update, context, part.reshape(shape), kept, weights.reshape(shape), step)
            assert u is not None, "a rule of moments steps from its first call on"
            flat_direction[:, elements] = u.reshape(part.shape)
            for name, kind in maps.items():
                codes, scale = quantise(kept[name].reshape(part.shape), state_block, *kind)
                state[name + "_codes"][:, blocks] = codes
                state[name + "_scale"][:, blocks] = scale
        return direction

    def _pieces(self, n: int, block: int) -> Iterator[tuple[slice, slice]]:
        """(elements, blocks) to step at a time."""
        length = max(PIECE // block, 1) * block if self.inner.elementwise else n
        for start in range(0, n, length):
            stop = min(start + length, n)
            yield slice(start, stop), slice(start // block, -(-stop // block))

    def state_floats(self, o: int, i: int, *, context: Context) -> int:
        whole, block = call(self.inner.state_floats, context, o, i), context.group["state_block"]
        if o * i < context.group["state_min_elements"]:
            return whole
        blocks = -(-o * i // block)
        return whole - len(self.signed) * (o * i - blocks - -(-blocks * block // 4))


def eight_bit(spec: OptimizerSpec) -> OptimizerSpec:
    """Raises UnknownOptimizerError if the rule of the matrices keeps something else than moments."""
    (part,) = (part for part in spec.parts if "matrix" in part.roles)
    if not part.rule.eight_bit:
        raise UnknownOptimizerError(
            f"{spec.name} has no 8-bit state, because its matrices keep other state than moments that bear rounding; "
            "adamw, lion, signum, muon and d-muon have it"
        )
    roles = [role for role in part.roles if role not in FLOATS]
    return replace(spec, parts=wrap_parts(spec, EightBitRule, roles))


_PAPER = "arXiv 2110.02861"
SETTINGS = {
    "state_block": Hyperparameter(256, "elements that share a scale", "bitsandbytes", "[4, inf)"),
    "state_map": Hyperparameter("dynamic", "map of moments with a sign", _PAPER, MAPS),
    "state_min_elements": Hyperparameter(
        4096, "smallest matrix whose state is in 8 bits, in elements", "bitsandbytes", "[1, inf)"
    ),
}

EIGHT_BIT = Wrapper(
    name="8bit",
    aliases=("eight-bit",),
    title="8-bit state",
    reference=f"Dettmers et al. 2021, https://arxiv.org/abs/{_PAPER.removeprefix('arXiv ')}",
    order=5,
    hyperparameters=SETTINGS,
    wrap=eight_bit,
)
