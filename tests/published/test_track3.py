"""The track's runs against its own table: what it prints comes out, and what does not is named."""

from __future__ import annotations

from collections import Counter
from decimal import ROUND_HALF_UP, Decimal
from statistics import median

import polars as pl

from fairstep.published import track3

OTHERWISE = {6: "3.278929", 8: "3.277977", 17: "3.278845"}
"""Results whose logs give another mean than the table prints (3.2788, 3.2778, 3.2789): the exact mean of the logs."""


def test_printed_means_and_runs_come_out_of_the_runs() -> None:
    exact = {
        number: sum(Decimal(repr(loss)) for loss in losses) / len(losses) for number, losses in track3.losses().items()
    }
    differing = {}
    for row in track3.results().iter_rows(named=True):
        number = row["number"]
        assert len(track3.losses()[number]) == row["printed_runs"], number
        if str(exact[number].quantize(Decimal("0.0001"), ROUND_HALF_UP)) != row["printed_mean"]:
            differing[number] = str(exact[number].normalize())
    assert differing == OTHERWISE
    assert set(track3.PRINTED_OTHERWISE) == set(OTHERWISE)


def test_what_the_logs_of_other_means_give() -> None:
    """The first k runs of result 6, and the ends of result 8's, whose step that counts is 25 earlier."""
    sixth = track3.losses()[6]
    means = [sum(sixth[:count]) / count for count in range(2, 21)]
    assert not any(3.27875 <= value < 3.27885 for value in (*means, median(sixth)))
    ends = track3.runs().filter(pl.col("result") == 8)["final_loss"]
    assert round(sum(ends) / len(ends), 4) == 3.2773


def test_no_run_left_out_explains_a_printed_mean_that_others_do_not() -> None:
    """Result 8's mean is an earlier printed 3.27798; 17's is its README's 3.27885; 6's would need a run left out."""
    means = {number: sum(track3.losses()[number]) / len(track3.losses()[number]) for number in OTHERWISE}
    assert round(means[8], 5) == 3.27798
    assert round(means[17] + 1e-9, 5) == 3.27885
    sixth = sorted(track3.losses()[6])
    without = [(sum(sixth) - one) / 19 for one in sixth]
    assert [round(mean, 4) == 3.2788 for mean in without] == [False] * 17 + [True] * 3


def test_every_run_is_there_once() -> None:
    runs = track3.runs()
    assert runs.height == 572
    assert runs["log"].is_unique().all()
    assert runs["final_loss"].is_between(3.27, 3.30).all()
    assert (runs["last_step"] <= runs["planned_steps"]).all()
    of_results = runs.filter(pl.col("result").is_not_null())
    assert of_results["loss"].null_count() == 0 and of_results["result"].n_unique() == 46
    assert runs.filter(pl.col("result").is_null())["loss"].null_count() == runs.height - of_results.height


def test_the_counted_step_is_no_later_than_the_end() -> None:
    steps = dict(track3.results().select("number", "steps").iter_rows())
    for result, last in track3.runs().select("result", "last_step").drop_nulls().iter_rows():
        assert 0 <= last - steps[result] <= 275, result
    ends = track3.runs().filter((pl.col("result") == 11) | (pl.col("result") == 36))
    assert (ends["final_loss"] == ends["loss"]).all(), "results that count their last step"


def test_no_run_is_in_a_group_twice() -> None:
    """A copied log has the same last loss. Two of 30 losses of five decimals may agree by chance."""
    agreeing = {key: sum(count - 1 for count in Counter(losses).values()) for key, losses in track3.repeats().items()}
    assert max(agreeing.values()) <= 2, agreeing
    assert len(agreeing) == 46


def test_records_fall_and_never_rise() -> None:
    records = track3.results().filter(pl.col("record"))
    assert records.height == 20
    assert (records["steps"].diff().drop_nulls() < 0).all()
    standing = float("inf")
    for row in track3.results().iter_rows(named=True):
        assert not (row["steps"] < standing and not row["record"]) or row["number"] == 8, "8 was filed after 9"
        standing = min(standing, row["steps"]) if row["record"] else standing
