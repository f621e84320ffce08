"""State tensors of which a process has a part: where the state of a piece lies in the state of its whole parameter.

The state dict of an optimizer that shares its work (``Engine.share``) has a ``StateShard`` where one process alone has
a whole tensor. torch.distributed.checkpoint writes each rank's shards into a file of its own and fills any other shard
from the saved ones that overlap it, so that the number of processes may change in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NoReturn

import torch
from torch import Tensor

from fairstep.optim.rule import RowSharding
from fairstep.optim.sharding.step_cost import Piece

Box = tuple[Sequence[int], Sequence[int]]
"""(offset, sizes) of a block of a tensor."""


class StateShard(Tensor):
    """The part ``local`` of a state tensor of this size, for one ``piece`` of a parameter.

    ``boxes``: the blocks of the whole tensor that lie one after another in ``local``, which must be contiguous. There
    is no arithmetic on a shard. torch.distributed.checkpoint calls the methods with underscores.
    """

    piece: Piece
    local: Tensor
    boxes: tuple[Box, ...]

    @staticmethod
    def __new__(cls, size: Sequence[int], piece: Piece, local: Tensor, boxes: Iterable[Box]) -> StateShard:
        made: StateShard = Tensor._make_wrapper_subclass(cls, torch.Size(size), dtype=local.dtype, device=local.device)
        made.piece, made.local, made.boxes = piece, local, tuple(boxes)
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, *_: Any, **__: Any) -> NoReturn:  # type: ignore[override]
        raise TypeError(f"{func} was asked of a shard of a tensor, which can only be saved, loaded and copied")

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"StateShard({tuple(self.size())}, {self.piece}, {self.local!r})"

    def copied(self) -> StateShard:
        """A copy in the CPU's memory."""
        return StateShard(self.size(), self.piece, self.local.detach().to("cpu", copy=True), self.boxes)

    def chunks(self) -> Iterator[tuple[torch.Size, Tensor]]:
        """(offset in the whole tensor, view of ``local``) of every block."""
        flat = self.local.detach().view(-1)
        for offset, sizes in self.boxes:
            part, flat = flat[: prod(sizes)], flat[prod(sizes) :]
            yield torch.Size(offset), part.view(*sizes)

    def __create_write_items__(self, fqn: str, _: object) -> list[Any]:
        from torch.distributed.checkpoint.metadata import MetadataIndex, TensorProperties
        from torch.distributed.checkpoint.planner import TensorWriteData, WriteItem, WriteItemType

        return [
            WriteItem(
                MetadataIndex(fqn, chunk.offsets),
                WriteItemType.SHARD,
                tensor_data=TensorWriteData(chunk, TensorProperties(dtype=self.dtype), self.size()),
            )
            for chunk in self.__create_chunk_list__()
        ]

    def __create_chunk_list__(self) -> list[Any]:
        from torch.distributed.checkpoint.metadata import ChunkStorageMetadata

        return [ChunkStorageMetadata(torch.Size(offset), torch.Size(sizes)) for offset, sizes in self.boxes]

    def __get_tensor_shard__(self, index: Any) -> Tensor:
        return next(part for offset, part in self.chunks() if offset == index.offset)


@dataclass(frozen=True)
class ShardLayout:
    """Where the state of a ``piece`` lies in the state of its parameter of this ``shape``.

    The state of an elementwise rule has the parameter's shape, and the state of a piece is flat. Other state has rows,
    of which there may be fewer than the parameter's (one for each block). ``sharding`` names the exceptions.
    """

    piece: Piece
    shape: torch.Size
    elementwise: bool
    sharding: RowSharding

    def cut(self, key: str, whole: Tensor) -> Tensor:
        """The piece's part of a state tensor of the parameter, a view."""
        piece = self.piece
        if self._undivided(key):
            return whole
        if self.elementwise:
            return whole.reshape(-1, *whole.shape[len(self.shape) :])[piece.start : piece.stop]
        dim = self._dimension(key)
        first, last = (edge * whole.shape[dim] // piece.rows for edge in (piece.start, piece.stop))
        return whole.narrow(dim, first, last - first)

    def shard(self, key: str, local: Tensor) -> Tensor:
        """A state tensor of the piece as part of the parameter's; one that is not divided as it is."""
        piece = self.piece
        if self._undivided(key):
            return local
        if self.elementwise:
            tail = local.shape[1:]
            blocks = boxes(self.shape, piece.start, piece.stop)
            with_tail = (((*offset, *(0 for _ in tail)), (*sizes, *tail)) for offset, sizes in blocks)
            return StateShard((*self.shape, *tail), piece, local, with_tail)
        dim = self._dimension(key)
        size, origin = list(local.shape), [0] * local.ndim
        size[dim] = local.shape[dim] * piece.rows // (piece.stop - piece.start)
        origin[dim] = piece.start * size[dim] // piece.rows
        return StateShard(size, piece, local, [(origin, local.shape)])

    def fits(self, key: str, size: Sequence[int]) -> bool:
        """Whether a state tensor of this size can be the parameter's, as far as it is to be divided."""
        if self.elementwise:
            return tuple(size[: len(self.shape)]) == tuple(self.shape)
        if self._undivided(key):
            return True
        dim, piece = self._dimension(key), self.piece
        return len(size) > dim and not any(edge * size[dim] % piece.rows for edge in (piece.start, piece.stop))

    def allocate_like(self, key: str, whole: Tensor) -> Tensor:
        """Memory for the piece's part of a state tensor of this shape and dtype (on the meta device)."""
        return self.shard(key, torch.empty(self.cut(key, whole).shape, dtype=whole.dtype))

    def _undivided(self, key: str) -> bool:
        return self.piece.whole or key in self.sharding.repeated

    def _dimension(self, key: str) -> int:
        return int(key in self.sharding.second)


def boxes(shape: Sequence[int], start: int, stop: int) -> Iterator[Box]:
    """The blocks that elements ``start`` to ``stop`` of a tensor consist of, in their order."""
    if len(shape) == 1:
        yield (start,), (stop - start,)
        return
    inner = prod(shape[1:])
    while start < stop:
        row, within = divmod(start, inner)
        rows = 0 if within else (stop - start) // inner
        if rows:
            yield (row, *(0 for _ in shape[1:])), (rows, *shape[1:])
            start += rows * inner
            continue
        end = min(stop, (row + 1) * inner)
        for offset, sizes in boxes(shape[1:], within, end - row * inner):
            yield (row, *offset), (1, *sizes)
        start = end
