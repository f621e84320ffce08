"""Which tokens a step sees: a pure function of (seed, step).

The stream of tokens is cut into windows of `context` tokens and one more, the last target. Windows are read in the
order of `fairstep.data.order`. The batch at step t takes the slots [t * B, (t + 1) * B) of that order. Micro-batches,
the number of processes and previous calls do not enter: a resumed or re-sharded run sees the same batches. A rank takes
its rows of the batch: ``batch(step)[rank::world]`` or any other share.

A *mixture* is several streams. Each has a share of the slots and its own order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairstep.data.errors import DataError
from fairstep.data.order import Interleaving, Order, quotas
from fairstep.data.shards import Stream


@dataclass(frozen=True)
class Mixed:
    """Several streams and the share of each, which add up to 1."""

    streams: Sequence[Stream]
    shares: Sequence[float]


Tokens = NDArray[Any] | Stream | Mixed


class Batches:
    """Training batches from a stream of tokens, or from a mixture, sampled without replacement in each epoch."""

    def __init__(self, tokens: Tokens, *, batch_sequences: int, context: int, seed: int) -> None:
        for name, value, least in (
            ("batch_sequences", batch_sequences, 1),
            ("context", context, 1),
            ("seed", seed, 0),
        ):
            if value < least:
                raise DataError(f"{name} is {value}: it must be at least {least}")
        self._streams, shares = _streams(tokens)
        counts = [windows_per_epoch(len(stream), context) for stream in self._streams]
        for stream, count in zip(self._streams, counts, strict=True):
            if count < 1:
                raise DataError(
                    f"{len(stream):,} training tokens are too few for a context of {context:,}: "
                    f"at least {2 * context:,} are needed"
                )
        mixed = len(counts) > 1
        self._orders = [
            Order(count, context, seed, part=part + 1 if mixed else None) for part, count in enumerate(counts)
        ]
        self._interleaving = Interleaving(shares, seed) if mixed else None
        self._batch_sequences = batch_sequences
        self._context = context

    def batch(self, step: int) -> NDArray[np.int64]:
        """The batch at `step`, of shape (batch_sequences, context + 1): inputs are [:, :-1], targets [:, 1:]."""
        slots = np.arange(step * self._batch_sequences, (step + 1) * self._batch_sequences)
        if self._interleaving is None:
            return self._streams[0].windows(self._orders[0].starts(slots), self._context + 1)
        parts, places = self._interleaving.parts(slots)
        found = np.empty((len(slots), self._context + 1), dtype=np.int64)
        for part in np.unique(parts):
            rows = np.flatnonzero(parts == part)
            starts = self._orders[part].starts(places[rows])
            found[rows] = self._streams[part].windows(starts, self._context + 1)
        return found


def windows_per_epoch(tokens: int, context: int) -> int:
    """Windows that fit `tokens` at every offset below `context`."""
    return tokens // context - 1


def validation_windows(tokens: Tokens, *, context: int, max_tokens: int) -> NDArray[np.int64]:
    """The first non-overlapping windows with at most `max_tokens` targets, of shape (n, context + 1).

    A fixed set: it depends on no batch size, seed or memory. Windows share one token with the next, which is the
    last target of the one and the first input of the other, so every token is predicted once. Of a mixture, every
    stream gives the first windows of its share, as many as all shares allow.
    """
    streams, shares = _streams(tokens)
    available = [(len(stream) - 1) // context for stream in streams]
    count = max_tokens // context
    while count > 0 and any(wanted > most for wanted, most in zip(quotas(shares, count), available, strict=True)):
        most_by_one = min(int(most / share) + 1 for most, share in zip(available, shares, strict=True))
        count = min(count - 1, most_by_one)
    if count < 1:
        raise DataError(
            f"no validation window of {context:,} tokens fits: there are {min(map(len, streams)):,} validation tokens "
            f"and the evaluation may use {max_tokens:,}; both must be larger than the context"
        )
    parts = zip(streams, quotas(shares, count), strict=True)
    return np.concatenate([stream.windows(np.arange(wanted) * context, context + 1) for stream, wanted in parts])


def _streams(tokens: Tokens) -> tuple[list[Stream], list[float]]:
    if isinstance(tokens, Mixed):
        return list(tokens.streams), list(tokens.shares)
    return [tokens if isinstance(tokens, Stream) else Stream([tokens])], [1.0]
