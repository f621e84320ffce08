"""Mixtures: each part in its share, each window once an epoch, whatever the batch; validation sets by name."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairstep.data import Batches, DataError, check_budget, open_corpus, order, prepare, validation_windows
from fairstep.data.batches import Mixed
from fairstep.data.order import Interleaving, Order, permuted, quotas
from fairstep.data.shards import Stream

Texts = Callable[..., str]

shares_of = st.lists(st.floats(0.02, 1.0), min_size=2, max_size=6).map(lambda w: [x / sum(w) for x in w])


@given(shares_of, st.integers(0, 2**40), st.integers(0, 10_000))
@settings(deadline=None, max_examples=40)
def test_slots_of_a_mixture(shares: list[float], seed: int, first: int) -> None:
    """Any slots, asked for in any grouping, belong to the same stream; each stream's numbers run 0, 1, 2, ..."""
    slots = np.arange(first, first + 700)
    parts, numbers = Interleaving(shares, seed).parts(slots)
    for piece in (slots[::-1], slots[100:103]):
        again = Interleaving(shares, seed).parts(piece)
        np.testing.assert_array_equal(again[0], parts[piece - first])
        np.testing.assert_array_equal(again[1], numbers[piece - first])
    whole, order_in = Interleaving(shares, seed).parts(np.arange(3 * 1024))
    for part, share in enumerate(shares):
        np.testing.assert_array_equal(np.sort(order_in[whole == part]), np.arange(np.count_nonzero(whole == part)))
        for end in (1024, 2048, 3072):  # no error adds up from block to block
            assert abs(np.count_nonzero(whole[:end] == part) - share * end) <= len(shares)


@given(shares_of, st.integers(0, 10_000))
def test_quotas_add_up(shares: list[float], count: int) -> None:
    found = quotas(shares, count)
    assert sum(found) == count
    assert min(found) >= 0


def test_w_keeps_its_shares() -> None:
    """W's mixture, 3.8 : 0.25 : 0.055, over 65,536 windows."""
    weights = np.array([3.8, 0.25, 0.055])
    parts, _ = Interleaving(list(weights / weights.sum()), 0).parts(np.arange(2**16))
    assert np.abs(np.bincount(parts) / 2**16 - weights / weights.sum()).max() < 2e-5


def mixture() -> Mixed:
    """Two streams whose tokens tell where they come from."""
    return Mixed([Stream([np.arange(1000)]), Stream([np.arange(5000, 5400)])], [0.75, 0.25])


def test_batches_of_a_mixture_do_not_depend_on_their_size() -> None:
    small = Batches(mixture(), batch_sequences=4, context=10, seed=3)
    large = Batches(mixture(), batch_sequences=32, context=10, seed=3)
    np.testing.assert_array_equal(large.batch(5), np.concatenate([small.batch(step) for step in range(40, 48)]))
    np.testing.assert_array_equal(large.batch(5)[3::4], np.stack([small.batch(step)[3] for step in range(40, 48)]))
    rows = np.concatenate([small.batch(step) for step in range(256)])
    assert (np.diff(rows, axis=1) == 1).all(), "no window runs over from one stream to another"
    assert np.count_nonzero(rows[:, 0] >= 5000) == 256


def test_an_epoch_of_each_part_reads_every_window_once() -> None:
    batches = Batches(mixture(), batch_sequences=8, context=10, seed=1)
    rows = np.concatenate(
        [batches.batch(step) for step in range(24)]
    )  # 192 slots, of which 39 and more are the second's
    starts = np.sort(rows[rows[:, 0] >= 5000][:39, 0])
    assert starts[0] < 5010
    np.testing.assert_array_equal(starts, starts[0] + 10 * np.arange(39))


@given(st.integers(2, 3000), st.integers(0, 2**63))
@settings(deadline=None, max_examples=60)
def test_the_cipher_is_a_permutation(count: int, seed: int) -> None:
    keys = np.random.Philox(np.random.SeedSequence(seed)).random_raw(8)
    found = permuted(np.arange(count), count, keys)
    np.testing.assert_array_equal(np.sort(found), np.arange(count))


def test_a_large_epoch_is_drawn_without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above MOST_STORED windows: each once an epoch, another order each epoch, and not the streams' own order."""
    monkeypatch.setattr(order, "MOST_STORED", 100)
    windows, context = 997, 8
    starts = Order(windows, context, seed=5).starts(np.arange(2 * windows))
    for epoch in (starts[:windows], starts[windows:]):
        np.testing.assert_array_equal(np.sort(epoch), epoch.min() + context * np.arange(windows))
        assert epoch.min() < context
    places = starts[:windows] // context
    assert abs(np.corrcoef(places, np.arange(windows))[0, 1]) < 0.15
    assert abs(np.corrcoef(places, starts[windows:] // context)[0, 1]) < 0.15
    huge = Order(2**40, context, seed=5).starts(np.arange(1000))
    assert len(np.unique(huge)) == 1000


def test_windows_run_over_shards() -> None:
    whole = np.arange(100, dtype=np.uint16)
    stream = Stream([whole[:7], whole[7:30], whole[30:31], whole[31:]])
    starts = np.array([0, 3, 25, 28, 60, 90])
    np.testing.assert_array_equal(stream.windows(starts, 10), starts[:, None] + np.arange(10))
    np.testing.assert_array_equal(stream[5:40], whole[5:40])
    np.testing.assert_array_equal(np.asarray(stream), whole)
    assert (stream[-1], len(stream)) == (99, 100)


def test_a_mixture_of_corpora(cache: Path, texts: Texts, tmp_path: Path) -> None:
    one, two = texts(60, "one"), texts(40, "two", 1_500)
    extra = texts(5, "extra", 900)
    options = {"vocabulary": 300, "validation": {"extra": extra}}
    corpus = prepare([f"{one}=3", f"{two}=1"], name="mixed", **options)
    assert prepare("mixed").fingerprint == corpus.fingerprint
    assert open_corpus(corpus.fingerprint, 300).further[0][0] == "extra"
    assert [share for _, share in corpus.parts] == [0.75, 0.25]
    sets = corpus.validation_sets()
    assert list(sets) == ["mixed", "one", "two", "extra"]
    windows = {name: validation_windows(tokens, context=16, max_tokens=2_000) for name, tokens in sets.items()}
    own = windows["mixed"]
    share = round(0.25 * len(own))
    np.testing.assert_array_equal(own[: len(own) - share], windows["one"][: len(own) - share])
    np.testing.assert_array_equal(own[len(own) - share :], windows["two"][:share])
    assert corpus.further[0][1].train_tokens == 0, "a further set is for validation as a whole"
    assert corpus.further[0][1].documents == 5
    assert Batches(corpus.train(), batch_sequences=8, context=16, seed=0).batch(3).shape == (8, 17)
    assert prepare([f"{one}=3", f"{two}=2"], **options).fingerprint != corpus.fingerprint
    parts = corpus.parts
    epochs = check_budget(corpus, 20_000, 16, 160)
    assert epochs == pytest.approx(max(20_000 * s / p.train_tokens for p, s in parts), rel=0.02)
    with pytest.raises(DataError, match=r"times, and at most 0\.1 are allowed"):
        check_budget(corpus, 20_000, 16, 160, max_epochs=0.1)


def test_a_single_corpus_with_further_sets_reads_like_itself(cache: Path, texts: Texts) -> None:
    source, extra = texts(40), texts(5, "extra", 900)
    plain = prepare(source, vocabulary=300)
    more = prepare(source, vocabulary=300, validation={"extra": extra})
    assert list(more.validation_sets()) == ["texts", "extra"]
    batches = [Batches(c.train(), batch_sequences=4, context=16, seed=0).batch(7) for c in (plain, more)]
    np.testing.assert_array_equal(*batches)
    assert more.bytes_per_token == pytest.approx(plain.bytes_per_token)


def test_mixtures_that_do_not_go_together(cache: Path, texts: Texts) -> None:
    one, two = texts(30, "one"), texts(30, "two", 1_500)
    prepare(one, vocabulary=300, name="small")
    prepare(two, vocabulary=350, name="large")
    for sources, message in (
        ([f"{one}=1", two], "has no weight, but others have"),
        ([f"{one}=0", f"{two}=1"], "must be a positive number"),
        (["small=1", "large=1"], "the corpus two was prepared with another tokenizer|large.* another tokenizer"),
        (["small=1", "small=2"], "two parts or validation sets are called"),
        (["small=1", "nothing=2"], "nothing does not exist: check the path, or name a prepared corpus: large, small"),
    ):
        with pytest.raises(DataError, match=message):
            prepare(sources, vocabulary=300)
