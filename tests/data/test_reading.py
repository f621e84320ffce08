"""``fairstep.data.batches``: the batches of our own trainer as a plain iterable."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.training import cache, corpus

from fairstep.data import Batches, DataError, batches, validation_windows

__all__ = ["cache", "corpus"]


def test_batches_are_those_of_a_run(corpus: Any) -> None:
    own = Batches(corpus.train(), batch_sequences=4, context=8, seed=3)
    data = batches(corpus, batch_sequences=4, context=8, steps=5, seed=3)
    assert len(data) == 5
    assert data.vocabulary == corpus.vocabulary
    assert all(np.array_equal(batch, own.batch(step)) for step, batch in enumerate(data))
    assert len(list(data)) == 5  # and again from the start
    windows = validation_windows(corpus.validation(), context=8, max_tokens=64)
    assert np.array_equal(data.validation(64), windows)


def test_ranks_share_a_batch_and_a_stopped_run_goes_on(corpus: Any) -> None:
    whole = batches(corpus, batch_sequences=4, context=8, steps=5)
    parts = [list(batches(corpus, batch_sequences=4, context=8, steps=5, start=2, rank=n, world=2)) for n in (0, 1)]
    assert len(parts[0]) == 3
    for step, (first, second) in enumerate(zip(*parts, strict=True), 2):
        assert np.array_equal(np.stack([first, second], axis=1).reshape(4, 9), whole[step])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [({"rank": 2, "world": 2}, "rank 2 of 2"), ({"world": 3}, "cannot share 4"), ({"start": 6}, "batches 6 to 5")],
)
def test_what_cannot_be_is_refused(changes: dict[str, int], sentence: str, corpus: Any) -> None:
    with pytest.raises(DataError, match=sentence):
        batches(corpus, **{"batch_sequences": 4, "context": 8, "steps": 5, **changes})
