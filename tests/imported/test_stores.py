"""A store, and a frame made of one, give the verdict that the report gives, to the last digit."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.conftest import FakeContest

import fairstep
from fairstep.analysis import Trials, contest_result
from fairstep.runs import Design
from fairstep.runs.table import trial_table


def contest(fake: FakeContest, design: Design | None) -> FakeContest:
    """Finals from the first look to the last, with a baseline at other lengths."""
    fake.design = design
    fake.contestant("adamw", [2.80, 2.83, 2.79, 2.81, 2.84], lr=8e-3)
    fake.contestant("muon", [2.64, 2.66, 2.65, 2.66, 2.67], lr=1.6e-2)
    fake.contestant("lion", [2.79, 2.84, 2.78, 2.82, 2.83], lr=1e-3)
    fake.contestant("wild", [2.9, None, 2.95, 3.0, 3.0], lr=0.1)
    fake.budgets({0.5: [3.06], 2.0: [2.60, 2.61]}, lr=8e-3)
    fake.store.write_ledger(fake.ledger)
    return fake


@pytest.mark.parametrize("design", [None, Design(first=5, most=5), Design(first=3, most=8, family=5)], ids=str)
@pytest.mark.parametrize("form", ["store", "polars", "pandas", "csv", "parquet"])
def test_the_same_verdict_to_the_last_digit(
    fake_contest: FakeContest, design: Design | None, form: str, tmp_path: Path
) -> None:
    contest(fake_contest, design)
    ledger, runs = fake_contest.ledger, fake_contest.store.runs()
    expected = contest_result(Trials.read(ledger, runs))
    frame = trial_table(ledger, runs)
    given: Any = fake_contest.store.path if form == "store" else frame
    if form == "pandas":
        pandas = pytest.importorskip("pandas")
        given = pandas.DataFrame(frame.to_dict(as_series=False))
    elif form in ("csv", "parquet"):
        given = tmp_path / f"trials.{form}"
        getattr(frame, f"write_{form}")(given)
    judged = fairstep.judge(given, "adamw")
    assert judged.grade == ("A" if form == "store" else "B")
    rows = {row["name"]: row for row in judged.result["contestants"]}
    for row in expected["contestants"]:
        assert {key: rows[row["name"]][key] for key in row} == row
    assert judged.result["curve"] == expected["curve"]


@pytest.mark.parametrize("said", ["has no digest, so nothing shows", "was changed after it was written"])
def test_a_ledger_that_nothing_vouches_for_counts_as_a_table(fake_contest: FakeContest, said: str) -> None:
    """Anyone could have taken the trials out that are missing."""
    contest(fake_contest, None)
    (path,) = fake_contest.store.ledger_paths()
    values = json.loads(path.read_bytes())
    values["trials"] = [one for one in values["trials"] if (one["contestant"], one["phase"]) != ("lion", "tune")]
    if "no digest" in said:
        del values["digest"]
    path.write_text(json.dumps(values))
    judged = fairstep.judge(fake_contest.store.path, "adamw")
    assert dict(judged.source.grades) == {"adamw": "B", "muon": "B", "lion": "C", "wild": "B"}
    assert judged.grade == "C"
    assert any(said in note for note in judged.notes)


def test_losses_alone_give_the_same_paired_test(fake_contest: FakeContest) -> None:
    """Without phases the search is told from the finals by its seed."""
    contest(fake_contest, Design(first=5, most=5))
    frame = trial_table(fake_contest.ledger, fake_contest.store.runs()).filter(
        pl.col("contestant").is_in(["adamw", "muon", "lion"])
    )
    expected = {row.name: row for row in fairstep.judge(frame, "adamw")}
    plain = frame.filter(pl.col("phase") != "budget").select(
        pl.col("contestant").alias("optimizer"),
        pl.col("final_loss").fill_null(math.nan).alias("val_loss"),
        pl.col("init_seed").alias("seed"),
        "lr",
        "tokens",
    )
    # A diverged trial ended early, which is no length.
    judged = fairstep.judge(plain, "adamw")
    assert judged.grade == "B"
    for verdict in judged:
        other = expected[verdict.name]
        for key in ("loss", "difference", "difference_low", "difference_high", "probability", "choice_error"):
            assert getattr(verdict, key) == getattr(other, key) or math.isnan(getattr(other, key)), key
        assert (verdict.verdict, verdict.trials, verdict.lr) == (other.verdict, other.trials, other.lr)


def test_a_store_is_judged_by_its_own_baseline_and_alone(fake_contest: FakeContest, tmp_path: Path) -> None:
    contest(fake_contest, None)
    with pytest.raises(ValueError, match="has the baseline adamw, which was declared before its runs, not muon"):
        fairstep.judge(fake_contest.store.path, "muon")
    (tmp_path / "a.csv").write_text("optimizer,loss\nadamw,1\n")
    with pytest.raises(ValueError, match="is judged alone"):
        fairstep.judge([fake_contest.store.path, tmp_path / "a.csv"], "adamw")


@pytest.mark.parametrize("own", [False, True], ids=["table", "trials"])
def test_a_loss_whose_square_overflows_is_refused(own: bool) -> None:
    """It ended in warnings of numpy and "this is a bug"."""
    losses = [3.0, 3.1, 3.0, 3.2, 1e160, 3.1, 3.2, 3.0]
    rows: dict[str, list[Any]] = {"optimizer": ["adamw"] * 4 + ["muon"] * 4, "seed": [1, 2, 3, 4] * 2, "loss": losses}
    if own:
        rows = {"contestant": rows["optimizer"], "seed": rows["seed"], "final_loss": losses}
        rows |= {"phase": ["final"] * 8, "tokens": [1000] * 8, "varied": ["{}"] * 8}
    with pytest.raises(
        ValueError, match=r"row 5.*so not above 1e\+100, and is 1e\+160 \(a run that diverged has nan\)"
    ):
        fairstep.judge(pl.DataFrame(rows), "adamw")
    losses[4] = 1e30
    assert fairstep.judge(pl.DataFrame(rows | ({"final_loss": losses} if own else {"loss": losses})), "adamw")
