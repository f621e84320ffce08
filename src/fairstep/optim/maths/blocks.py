"""Matrices in blocks, for rules with a preconditioner per matrix.

W cuts matrices into blocks of block_size x block_size and treats each block as a matrix, so that factors stay small. A
side that the rule does not precondition is not cut. The rest at the end of a side makes smaller blocks (W fills them up
with zeros). This file does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from fairstep.optim._lazy import torch
from fairstep.optim.rule import Context, RowSharding, Rule, State, call
from fairstep.optim.sharding import row_sums
from fairstep.optim.spec import Hyperparameter

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Region:
    """``count`` = (down, across) blocks of one ``shape`` from ``corner`` on."""

    corner: tuple[int, int]
    count: tuple[int, int]
    shape: tuple[int, int]

    @property
    def blocks(self) -> int:
        return prod(self.count)

    def of(self, x: Tensor) -> Tensor:
        """The part of (s, o, i) matrices as (s, down, rows, across, columns), a view."""
        (top, left), (down, across), (rows, columns) = self.corner, self.count, self.shape
        part = x[:, top : top + down * rows, left : left + across * columns]
        return part.unflatten(-1, (across, columns)).unflatten(-3, (down, rows))

    def split(self, x: Tensor) -> Tensor:
        """The blocks of (s, o, i) matrices as (s blocks, rows, columns)."""
        return self.of(x).transpose(2, 3).reshape(-1, *self.shape)

    def join(self, blocks: Tensor, into: Tensor) -> None:
        """``split`` backwards."""
        self.of(into).copy_(blocks.view(-1, *self.count, *self.shape).transpose(2, 3))


class BlockRule(Rule):
    """A rule that may handle each matrix in blocks, of which each has the ``..._matrix`` methods of a subclass.

    These take the arguments of the methods that they are called by, for one kind of blocks. The state of region k is
    the state of the blocks, under their names with ".k" behind them and with blocks as its first dimension.
    ``divided``: names of the state that has the rows of the matrix.
    """

    divided: tuple[str, ...] = ()
    methods = (
        *Rule.methods,
        *("cut_sides", "init_matrix", "update_matrix", "row_sharding_matrix"),
        *("state_floats_matrix", "product_flops_matrix", "decomposition_flops_matrix"),
    )

    def cut_sides(self, o: int, i: int, *_: Any, **hyper: Any) -> tuple[bool, bool]:
        """(rows, columns): whether the side of an o x i matrix may be cut. A side with a diagonal factor may not."""
        raise NotImplementedError

    def init_matrix(self, param: Tensor, *_: Any, **hyper: Any) -> dict[str, Tensor]:
        raise NotImplementedError

    def update_matrix(
        self, grad: Tensor, state: State, param: Tensor, step: int, *_: Any, **hyper: Any
    ) -> Tensor | None:
        raise NotImplementedError

    def row_sharding_matrix(self, o: int, i: int, *_: Any, **hyper: Any) -> RowSharding | None:
        return None

    def state_floats_matrix(self, o: int, i: int, *_: Any, **hyper: Any) -> int:
        raise NotImplementedError

    def product_flops_matrix(self, o: int, i: int, *_: Any, **hyper: Any) -> float:
        return 0.0

    def decomposition_flops_matrix(self, o: int, i: int, *_: Any, **hyper: Any) -> float:
        return 0.0

    def regions(self, o: int, i: int, block_size: int, context: Context) -> list[Region]:
        """The blocks of an o x i matrix, up to four kinds; none if it is not cut."""
        if not block_size:
            return []
        cut_sides = call(self.cut_sides, context, row_sums.row_count(o, context.rows), i)
        sides = [_along(n, block_size if cut else n) for n, cut in zip((o, i), cut_sides, strict=True)]
        return [
            Region((top, left), (down, across), (rows, columns))
            for top, down, rows in sides[0]
            for left, across, columns in sides[1]
        ]

    def init(self, param: Tensor, *, block_size: int, context: Context) -> dict[str, Tensor]:
        regions = self.regions(param.shape[-2], param.shape[-1], block_size, context)
        if not regions:
            return call(self.init_matrix, context, param)
        context = self._of_block(param, context)
        return {
            f"{name}.{k}": value.unflatten(0, (-1, region.blocks))
            for k, region in enumerate(regions)
            for name, value in call(self.init_matrix, context, region.split(param)).items()
        }

    def update(
        self, grad: Tensor, state: State, param: Tensor, step: int, *, block_size: int, context: Context
    ) -> Tensor | None:
        regions = self.regions(grad.shape[-2], grad.shape[-1], block_size, context)
        if not regions:
            return call(self.update_matrix, context, grad, state, param, step)
        context = self._of_block(grad, context)
        direction: Tensor | None = torch.empty_like(grad)
        for k, region in enumerate(regions):
            part = {name.removesuffix(f".{k}"): x.flatten(0, 1) for name, x in state.items() if name.endswith(f".{k}")}
            blocks = call(self.update_matrix, context, region.split(grad), part, region.split(param), step)
            if blocks is None:  # of every region alike: a call that only initialises
                direction = None
            elif direction is not None:
                region.join(blocks, direction)
        return direction

    def state_floats(self, o: int, i: int, *, block_size: int, context: Context) -> int:
        return int(self._sum(self.state_floats_matrix, o, i, block_size, context))

    def product_flops(self, o: int, i: int, *, block_size: int, context: Context) -> float:
        return self._sum(self.product_flops_matrix, o, i, block_size, context)

    def decomposition_flops(self, o: int, i: int, *, block_size: int, context: Context) -> float:
        return self._sum(self.decomposition_flops_matrix, o, i, block_size, context)

    def _sum(self, method: Callable[..., float], o: int, i: int, block_size: int, context: Context) -> float:
        regions = self.regions(o, i, block_size, context) or [Region((0, 0), (1, 1), (o, i))]
        return sum(region.blocks * call(method, context, *region.shape) for region in regions)

    def row_sharding(self, o: int, i: int, *, block_size: int, context: Context) -> RowSharding | None:
        """Blocks of columns as matrices are; others between blocks, if no shorter ones are left over below."""
        regions = self.regions(o, i, block_size, context)
        if not regions:
            return call(self.row_sharding_matrix, context, o, i)
        if call(self.cut_sides, context, o, i)[0]:
            return RowSharding(block_size) if o % block_size == 0 else None
        shardings = [call(self.row_sharding_matrix, context, *region.shape) for region in regions]
        parts = [(region.blocks, part) for region, part in zip(regions, shardings, strict=True) if part]
        if len(parts) < len(regions):
            return None
        return RowSharding(
            repeated=tuple(f"{name}.{k}" for k, (_, part) in enumerate(parts) for name in part.repeated),
            second=tuple(f"{name}.{k}" for k, _ in enumerate(parts) for name in self.divided),
            state=sum(blocks * part.state for blocks, part in parts),
            cost=sum(blocks * part.cost for blocks, part in parts),
            sums=sum(blocks * part.sums for blocks, part in parts),
        )

    def _of_block(self, x: Tensor, context: Context) -> Context:
        """No rank has a part of a block whose rows were cut."""
        cut = call(self.cut_sides, context, row_sums.row_count(x.shape[-2], context.rows), x.shape[-1])[0]
        return Context(context.group) if cut else context


def _along(n: int, size: int) -> list[tuple[int, int, int]]:
    """(start, blocks, length of each) along one side: the whole blocks, then what is left."""
    whole, rest = divmod(n, size)
    return [(0, whole, size)] * (whole > 0) + [(n - rest, 1, rest)] * (rest > 0)


RETIRED = {"refresh": "together"}
"""Earlier versions could spread the refreshes of a stack's matrices over steps."""

BLOCK_SIZE = Hyperparameter(
    0, "longest side of a block that is handled as a matrix of its own; 0: whole matrices", "W: 256 or 512", "[0, inf)"
)
