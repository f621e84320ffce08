"""Batches for anybody's trainer: the very batches that ``fairstep.train`` sees, as a plain iterable of arrays."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairstep.data.batches import Batches, validation_windows
from fairstep.data.corpus import Corpus
from fairstep.data.errors import DataError
from fairstep.data.preparation import prepare


@dataclass(frozen=True)
class TextBatches:
    """Batches ``start`` to ``steps`` of a corpus, and its validation windows. Iterating begins at ``start`` each time.

    ``batches[step]`` is one of them. With several processes, each has the rows ``rank::world`` of every batch.
    """

    corpus: Corpus
    batch_sequences: int
    context: int
    seed: int = 0
    steps: int = 0
    start: int = 0
    rank: int = 0
    world: int = 1
    _batches: Batches = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world or self.batch_sequences % self.world:
            raise DataError(
                f"rank {self.rank} of {self.world} processes cannot share {self.batch_sequences} sequences: ranks go "
                "from 0 to world - 1, and world divides batch_sequences"
            )
        if not 0 <= self.start <= self.steps:
            raise DataError(f"batches {self.start} to {self.steps}: start must be between 0 and steps")
        all_of_them = Batches(
            self.corpus.train(), batch_sequences=self.batch_sequences, context=self.context, seed=self.seed
        )
        object.__setattr__(self, "_batches", all_of_them)

    @property
    def vocabulary(self) -> int:
        """Number of different tokens."""
        return self.corpus.vocabulary

    def __len__(self) -> int:
        return self.steps - self.start

    def __getitem__(self, step: int) -> NDArray[np.int64]:
        """int64, (batch_sequences / world, context + 1): inputs are [:, :-1], targets [:, 1:]. A function of seed and
        step alone."""
        return self._batches.batch(step)[self.rank :: self.world]

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        return (self[step] for step in range(self.start, self.steps))

    def validation(self, tokens: int = 131_072) -> NDArray[np.int64]:
        """int64, (n, context + 1): the windows of the final evaluation, with at most so many targets."""
        return validation_windows(self.corpus.validation(), context=self.context, max_tokens=tokens)


def batches(
    source: str | Sequence[str] | Corpus | None = None,
    *,
    batch_sequences: int,
    context: int,
    steps: int,
    seed: int = 0,
    start: int = 0,
    rank: int = 0,
    world: int = 1,
    **preparation: Any,
) -> TextBatches:
    """The batches that a run of fairstep's own trainer sees on this text with ``data_seed=seed``.

        for batch in fairstep.data.batches("texts/*.txt", batch_sequences=16, context=64, steps=1000, seed=0):
            inputs, targets = batch[:, :-1], batch[:, 1:]  # int64 arrays; torch.from_numpy takes them

    ``source`` is what ``prepare`` takes (default: Python's standard library), with ``vocabulary``, ``tokenizer`` and
    its other options, or a corpus that is prepared already. ``start`` goes on with a run that was stopped. Raises
    DataError.
    """
    corpus = source if isinstance(source, Corpus) else prepare(source, **preparation)
    return TextBatches(corpus, batch_sequences, context, seed, steps, start, rank, world)
