"""In which order windows are read: permutations, and the interleaving of a mixture.

An epoch visits every window once, in an order drawn for that epoch, and cuts at an offset drawn for that epoch, so that
a second epoch does not repeat the first one's windows. Epochs are laid end to end.

Everything is a pure function of the seed and the slot. Orders, offsets and keys come from the raw output of a Philox
generator, which NumPy promises to keep; it makes no such promise for `Generator.permutation`.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int64]

MOST_STORED = 2**24  # windows whose order is drawn and kept (128 MB); more are permuted by a cipher, without memory
_BLOCK = 1024  # slots of an interleaving that are shuffled together
_ROUNDS = 8


class Order:
    """Where the windows of one stream start; `part` tells the streams of a mixture apart."""

    def __init__(self, windows: int, context: int, seed: int, part: int | None = None) -> None:
        self._windows, self._context = windows, context
        self._key = (seed,) if part is None else (seed, part)
        self._epoch = -1  # the epoch whose order is kept
        self._order: Places = np.empty(0, dtype=np.int64)

    def starts(self, slots: Places) -> Places:
        """The first token of the window at each slot."""
        epochs, places = np.divmod(slots, self._windows)
        starts = np.empty(len(slots), dtype=np.int64)
        for epoch in np.unique(epochs):
            rows = epochs == epoch
            starts[rows] = self._starts_of(int(epoch), places[rows])
        return starts

    def _starts_of(self, epoch: int, places: Places) -> Places:
        seed, *part = self._key
        generator = np.random.Philox(np.random.SeedSequence((seed, epoch, *part)))
        offset = int(generator.random_raw(1)[0]) % self._context
        if self._windows > MOST_STORED:
            return permuted(places, self._windows, generator.random_raw(_ROUNDS)) * self._context + offset
        if epoch != self._epoch:
            self._order = np.argsort(generator.random_raw(self._windows), kind="stable")
            self._epoch = epoch
        return self._order[places] * self._context + offset


def permuted(places: Places, count: int, keys: NDArray[np.uint64]) -> Places:
    """Where each of some places goes under a permutation of range(count) that is given by its keys.

    A Feistel network on the smallest even number of bits that holds `count`, applied again to what falls outside
    (Black and Rogaway, Ciphers with Arbitrary Finite Domains, 2002), with the mixing function of SplitMix64.
    """
    half = np.uint64(max(1, -(-(count - 1).bit_length() // 2)))
    mask = np.uint64((1 << int(half)) - 1)
    found = places.astype(np.uint64)
    outside = np.ones(len(found), dtype=bool)
    while outside.any():
        left, right = found[outside] >> half, found[outside] & mask
        for key in keys:
            left, right = right, left ^ (_mixed(right + key) & mask)
        found[outside] = (left << half) | right
        outside = found >= count
    return found.astype(np.int64)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class Interleaving:
    """Which stream of a mixture each slot belongs to, without chance in the numbers.

    Slots come in blocks, in which every stream has its share up to rounding (over all blocks together too, so that no
    error adds up), in an order drawn for that block.
    """

    def __init__(self, shares: Sequence[float], seed: int) -> None:
        self._shares, self._seed = list(shares), seed

    def parts(self, slots: Places) -> tuple[Places, Places]:
        """The stream of each slot, and the slot's number within its stream."""
        blocks, places = np.divmod(slots, _BLOCK)
        parts, numbers = np.empty((2, len(slots)), dtype=np.int64)
        for block in np.unique(blocks):
            rows = np.flatnonzero(blocks == block)
            members, counts = self._block(int(block))
            parts[rows], numbers[rows] = members[places[rows]], counts[places[rows]]
        return parts, numbers

    def _block(self, block: int) -> tuple[Places, Places]:
        before, after = (np.array(quotas(self._shares, place * _BLOCK)) for place in (block, block + 1))
        generator = np.random.Philox(np.random.SeedSequence((self._seed, block, 0)))
        members = np.repeat(np.arange(len(before)), after - before)
        members = members[np.argsort(generator.random_raw(_BLOCK), kind="stable")]
        numbers = np.empty(_BLOCK, dtype=np.int64)
        for part, (first, last) in enumerate(zip(before, after, strict=True)):
            numbers[members == part] = np.arange(first, last)
        return members, numbers


def quotas(shares: Sequence[float], count: int) -> list[int]:
    """How many of the first `count` slots each stream has: its share rounded, and the rest for the largest one.

    The numbers of all streams grow with `count`, block by block, as long as there are no more than 32 streams.
    """
    largest = max(range(len(shares)), key=lambda part: shares[part])
    found, rest = [0] * len(shares), count
    for part, share in enumerate(shares):
        if part != largest:
            found[part] = min(int(share * count + 0.5), rest)
            rest -= found[part]
    found[largest] = rest
    return found
