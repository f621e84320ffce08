"""Matrices in blocks: what rules with a preconditioner per matrix share.

W cuts matrices into blocks of block_size x block_size and treats each as a matrix of its own, so that factors stay
small. A side that the rule does not precondition is not cut. What is left over at the end of a side makes smaller
blocks (W fills them up with zeros). This file does not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from fairstep.optim import across
from fairstep.optim._lazy import torch
from fairstep.optim.rule import Apart, Hyper, Rule
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
    """A rule that may handle each matrix in blocks: subclasses have ``cut_sides`` and the methods ``..._matrix``.

    Block k's state is the matrix's, under the names with ".k" behind them and with blocks as its first dimension.
    ``divided``: names of the state that has the rows of the matrix.
    """

    divided: tuple[str, ...] = ()

    def cut_sides(self, o: int, i: int, hyper: Hyper) -> tuple[bool, bool]:
        """Which sides of an o x i matrix may be cut: those with a factor that is not diagonal."""
        raise NotImplementedError

    def init_matrix(self, param: Tensor, hyper: Hyper) -> dict[str, Tensor]:
        raise NotImplementedError

    def update_matrix(
        self, grad: Tensor, state: dict[str, Any], param: Tensor, hyper: Hyper, step: int
    ) -> Tensor | None:
        raise NotImplementedError

    def state_floats_matrix(self, o: int, i: int, hyper: Hyper) -> int:
        raise NotImplementedError

    def flops_matrix(self, o: int, i: int, hyper: Hyper) -> float:
        raise NotImplementedError

    def product_flops_matrix(self, o: int, i: int, hyper: Hyper) -> float:
        return 0.0

    def decomposition_flops_matrix(self, o: int, i: int, hyper: Hyper) -> float:
        return 0.0

    def rows_apart_matrix(self, o: int, i: int, hyper: Hyper) -> Apart | None:
        return None

    def regions(self, o: int, i: int, hyper: Hyper) -> list[Region]:
        """The blocks of an o x i matrix, up to four kinds; none if it is not cut."""
        size = hyper["block_size"]
        if not size:
            return []
        cut_sides = self.cut_sides(across.rows(o, hyper), i, hyper)
        sides = [_along(n, size if cut else n) for n, cut in zip((o, i), cut_sides, strict=True)]
        return [
            Region((top, left), (down, across), (rows, columns))
            for top, down, rows in sides[0]
            for left, across, columns in sides[1]
        ]

    def init(self, param: Tensor, hyper: Hyper) -> dict[str, Tensor]:
        regions = self.regions(param.shape[-2], param.shape[-1], hyper)
        if not regions:
            return self.init_matrix(param, hyper)
        return {
            f"{name}.{k}": value.unflatten(0, (-1, region.blocks))
            for k, region in enumerate(regions)
            for name, value in self.init_matrix(region.split(param), self._of_block(param, hyper)).items()
        }

    def update(self, grad: Tensor, state: dict[str, Any], param: Tensor, hyper: Hyper, step: int) -> Tensor | None:
        regions = self.regions(grad.shape[-2], grad.shape[-1], hyper)
        if not regions:
            return self.update_matrix(grad, state, param, hyper, step)
        direction: Tensor | None = torch.empty_like(grad)
        for k, region in enumerate(regions):
            own = {name.removesuffix(f".{k}"): x.flatten(0, 1) for name, x in state.items() if name.endswith(f".{k}")}
            settings = self._of_block(grad, hyper)
            blocks = self.update_matrix(region.split(grad), own, region.split(param), settings, step)
            if blocks is None:  # of every region alike: a call that only initialises
                direction = None
            elif direction is not None:
                region.join(blocks, direction)
        return direction

    def state_floats(self, o: int, i: int, hyper: Hyper) -> int:
        regions = self.regions(o, i, hyper) or [Region((0, 0), (1, 1), (o, i))]
        return sum(region.blocks * self.state_floats_matrix(*region.shape, hyper) for region in regions)

    def flops(self, o: int, i: int, hyper: Hyper) -> float:
        regions = self.regions(o, i, hyper) or [Region((0, 0), (1, 1), (o, i))]
        return sum(region.blocks * self.flops_matrix(*region.shape, hyper) for region in regions)

    def product_flops(self, o: int, i: int, hyper: Hyper) -> float:
        regions = self.regions(o, i, hyper) or [Region((0, 0), (1, 1), (o, i))]
        return sum(region.blocks * self.product_flops_matrix(*region.shape, hyper) for region in regions)

    def decomposition_flops(self, o: int, i: int, hyper: Hyper) -> float:
        regions = self.regions(o, i, hyper) or [Region((0, 0), (1, 1), (o, i))]
        return sum(region.blocks * self.decomposition_flops_matrix(*region.shape, hyper) for region in regions)

    def rows_apart(self, o: int, i: int, hyper: Hyper) -> Apart | None:
        """Blocks of columns as matrices are; others between blocks, if no shorter ones are left over below."""
        regions = self.regions(o, i, hyper)
        if not regions:
            return self.rows_apart_matrix(o, i, hyper)
        if self.cut_sides(o, i, hyper)[0]:
            size = hyper["block_size"]
            return Apart(size) if o % size == 0 else None
        own = [(region.blocks, self.rows_apart_matrix(*region.shape, hyper)) for region in regions]
        found = [(blocks, apart) for blocks, apart in own if apart]
        if len(found) < len(own):
            return None
        return Apart(
            repeated=tuple(f"{name}.{k}" for k, (_, apart) in enumerate(found) for name in apart.repeated),
            second=tuple(f"{name}.{k}" for k, (_, apart) in enumerate(found) for name in self.divided),
            state=sum(blocks * apart.state for blocks, apart in found),
            cost=sum(blocks * apart.cost for blocks, apart in found),
            sums=sum(blocks * apart.sums for blocks, apart in found),
        )

    def _of_block(self, x: Tensor, hyper: Hyper) -> dict[str, Any]:
        """No rank has a part of a block whose rows were cut."""
        cut = self.cut_sides(across.rows(x.shape[-2], hyper), x.shape[-1], hyper)[0]
        return {name: value for name, value in hyper.items() if name != "across_ranks" or not cut}


def _along(n: int, size: int) -> list[tuple[int, int, int]]:
    """(start, blocks, length of each) along one side: the whole blocks, then what is left."""
    whole, rest = divmod(n, size)
    return [(0, whole, size)] * (whole > 0) + [(n - rest, 1, rest)] * (rest > 0)


RETIRED = {"refresh": "together"}
"""Refreshes of a stack's matrices could be spread over steps once."""

BLOCK_SIZE = Hyperparameter(
    0, "longest side of a block that is handled as a matrix of its own; 0: whole matrices", "W: 256 or 512", "[0, inf)"
)
