"""Batches are a pure function of (seed, step), and an epoch reads every window once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairstep.data import Batches, DataError, validation_windows
from fairstep.data.batches import windows_per_epoch

# Each token is its own position, so a window tells where it was cut.
sizes = st.fixed_dictionaries(
    {"batch_sequences": st.integers(1, 9), "context": st.integers(1, 16), "seed": st.integers(0, 2**40)}
)


def stream(length: int) -> np.ndarray:
    return np.arange(length, dtype=np.uint16)


@given(sizes, st.integers(32, 2_000), st.lists(st.integers(0, 400), min_size=1, max_size=6))
@settings(deadline=None, max_examples=80)
def test_a_batch_depends_on_nothing_but_seed_and_step(sizes: dict, length: int, steps: list[int]) -> None:
    one = Batches(stream(length), **sizes)
    for step in steps:  # in any order, on an object with a past and on a fresh one
        batch = one.batch(step)
        assert batch.shape == (sizes["batch_sequences"], sizes["context"] + 1)
        assert batch.dtype == np.int64
        np.testing.assert_array_equal(batch, Batches(stream(length), **sizes).batch(step))


@given(sizes, st.integers(32, 2_000), st.integers(0, 3))
@settings(deadline=None, max_examples=80)
def test_an_epoch_reads_every_window_once(sizes: dict, length: int, epoch: int) -> None:
    batches = Batches(stream(length), **sizes)
    context, windows = sizes["context"], windows_per_epoch(length, sizes["context"])
    steps = range(epoch * windows // sizes["batch_sequences"], (epoch + 1) * windows // sizes["batch_sequences"] + 1)
    rows = np.concatenate([batches.batch(step) for step in steps])
    first = epoch * windows - steps[0] * sizes["batch_sequences"]
    rows = rows[first : first + windows]

    assert (np.diff(rows, axis=1) == 1).all(), "windows are consecutive tokens"
    starts = np.sort(rows[:, 0])
    offset = starts[0]
    assert offset < context
    np.testing.assert_array_equal(starts, offset + context * np.arange(windows))


@given(sizes, st.integers(32, 500), st.integers(1, 5))
@settings(deadline=None, max_examples=40)
def test_larger_batches_hold_the_smaller_ones(sizes: dict, length: int, times: int) -> None:
    """The order of windows does not depend on the batch size."""
    small = Batches(stream(length), **sizes)
    large = Batches(stream(length), **(sizes | {"batch_sequences": times * sizes["batch_sequences"]}))
    expected = np.concatenate([small.batch(step) for step in range(times, 2 * times)])
    np.testing.assert_array_equal(large.batch(1), expected)


def test_seeds_and_epochs_differ() -> None:
    tokens = stream(4_000)
    one = Batches(tokens, batch_sequences=50, context=16, seed=0)
    other = Batches(tokens, batch_sequences=50, context=16, seed=1)
    assert not np.array_equal(one.batch(0), other.batch(0))
    epochs = [np.concatenate([one.batch(step) for step in range(e * 5, e * 5 + 5)]) for e in range(2)]
    assert windows_per_epoch(4_000, 16) == 249
    assert not np.array_equal(epochs[0], epochs[1])


def test_the_order_is_the_same_for_ever() -> None:
    """Published runs name a seed: this order may not change with NumPy or with us."""
    batches = Batches(stream(100), batch_sequences=3, context=10, seed=7)
    assert batches.batch(0)[:, 0].tolist() == [70, 30, 20]
    assert batches.batch(5)[:, 0].tolist() == [28, 18, 48]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": 60}, "100 training tokens are too few for a context of 60: at least 120 are needed"),
        ({"context": 0}, "context is 0: it must be at least 1"),
        ({"batch_sequences": -1}, "batch_sequences is -1: it must be at least 1"),
        ({"seed": -3}, "seed is -3: it must be at least 0"),
    ],
)
def test_impossible_batches_are_refused(change: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Batches(stream(100), **({"batch_sequences": 2, "context": 10, "seed": 0} | change))


@given(st.integers(2, 600), st.integers(1, 40), st.integers(1, 700))
@settings(deadline=None, max_examples=80)
def test_validation_predicts_each_token_once(length: int, context: int, max_tokens: int) -> None:
    if min(length - 1, max_tokens) < context:
        with pytest.raises(DataError, match="no validation window"):
            validation_windows(stream(length), context=context, max_tokens=max_tokens)
        return
    windows = validation_windows(stream(length), context=context, max_tokens=max_tokens)
    targets = windows[:, 1:].ravel()
    np.testing.assert_array_equal(targets, np.arange(1, len(targets) + 1))
    assert max_tokens - context < len(targets) <= max_tokens or length - 1 - context < len(targets)
    assert windows.dtype == np.int64
