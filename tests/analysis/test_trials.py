"""Trials: made of anyone's rows, refused with one sentence, and everything in them computed once."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from fairstep.analysis import AnalysisError, Trials, contest_result, headline, verdicts
from fairstep.report import write_report
from fairstep.runs import Design, RunSpec, Summary
from fairstep.runs.table import trial_table

if TYPE_CHECKING:
    from tests.conftest import FakeContest

ADAMW, MUON = (2.80, 2.81, 2.79), (2.70, 2.712, 2.69)


def plain(**more: Any) -> list[dict[str, Any]]:
    """The least that a contest needs: finals of two contestants and one other budget of the baseline."""
    rows: list[dict[str, Any]] = [
        {"contestant": name, "phase": "final", "seed": seed, "tokens": 1000, "final_loss": loss}
        for name, losses in (("adamw", ADAMW), ("muon", MUON))
        for seed, loss in enumerate(losses)
    ]
    rows.append({"contestant": "adamw", "phase": "budget", "seed": 0, "tokens": 2000, "final_loss": 2.6})
    return [row | more for row in rows]


def test_five_columns_are_enough_and_what_they_cannot_show_is_said() -> None:
    result = contest_result(Trials.from_rows(plain(), "adamw"))
    muon, adamw = result["contestants"]
    assert (muon["name"], muon["verdict"], adamw["verdict"]) == ("muon", "faster", "baseline")
    assert muon["difference"] == pytest.approx(sum(a - m for a, m in zip(ADAMW, MUON, strict=True)) / 3)
    assert 1 < muon["speedup_low"] < muon["speedup"] < muon["speedup_high"]
    assert (muon["step_seconds"], muon["time_speedup"], muon["state_bytes"], muon["lr"]) == (None, None, None, None)
    assert headline(result).startswith("muon (")
    notes = [note for note in result["notes"] if note.startswith("Not checked")]
    assert [note.partition(" column ")[2].partition(":")[0] for note in notes] == ["workload", "hyperparameters"]
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_a_search_without_run_identities_cannot_be_told_from_the_finals() -> None:
    rows = [*plain(), {"contestant": "muon", "phase": "tune", "seed": None, "tokens": 1000, "final_loss": 2.65}]
    notes = contest_result(Trials.from_rows(rows, "adamw"))["notes"]
    assert any("no column run" in note for note in notes)


def test_a_table_gives_the_verdicts_of_its_rows() -> None:
    rows = plain()
    table = [verdict.row() for verdict in verdicts(pl.DataFrame(rows), "adamw")]
    assert table == [verdict.row() for verdict in verdicts(rows, "adamw")]


def test_a_stores_table_gives_the_verdicts_of_the_store(demo_contest: FakeContest) -> None:
    demo_contest.design = Design(first=3, most=3)
    ledger, runs = demo_contest.ledger, demo_contest.store.runs()
    trials = Trials.read(ledger, runs)
    table = verdicts(trial_table(ledger, runs), ledger.baseline, ledger.contestants)
    for one, other in zip(table, verdicts(trials), strict=True):
        assert one.row() == other.row()
    assert trials.unchecked == ()


def test_optional_columns_are_checked_where_they_are_given() -> None:
    rows = plain(workload={"data": "a", "batch": 8})
    rows[-2]["workload"] = {"data": "b", "batch": 8}
    with pytest.raises(AnalysisError, match=r"differ in data \(a in row 1, b in row 6\)"):
        verdicts(rows, "adamw")
    rows = plain(hyperparameters={"lr": 1e-3})
    rows[0]["hyperparameters"] = {"lr": 2e-3}
    with pytest.raises(AnalysisError, match="final runs of 'adamw' have different hyperparameters"):
        verdicts(rows, "adamw")
    rows = plain()
    rows[1]["tokens"] = 1001
    with pytest.raises(AnalysisError, match=r"differ in tokens \(1000 in row 1, 1001 in row 2\)"):
        verdicts(rows, "adamw")


@pytest.mark.parametrize(
    ("loss", "verdict"), [(float("nan"), "diverged"), (float("inf"), "diverged"), (None, "incomplete")]
)
def test_without_a_status_the_loss_decides_it(loss: float | None, verdict: str) -> None:
    rows = plain()
    rows[3]["final_loss"] = loss
    assert {row.name: row.verdict for row in verdicts(rows, "adamw")}["muon"] == verdict


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"phase": "test"}, "row 1: the phase must be short, tune, final or budget, not 'test'"),
        ({"final_loss": "low"}, "row 1: final_loss must be a number in nats per token or missing, not 'low'"),
        ({"tokens": 0}, "row 1: tokens must be a whole number of at least 1, not 0"),
        ({"tokens": float("nan")}, "row 1: tokens must be a whole number of at least 1, not nan"),
        ({"seed": None}, "row 1: init_seed must be a whole number of at least 0, not None"),
        ({"seed": 1}, "row 2: adamw has another final run with the seeds (1, 1); each seed counts once"),
        ({"status": "ok"}, "row 1: the status must be done, diverged, failed or unfinished, not 'ok'"),
        ({"status": "done", "final_loss": None}, "row 1: a run that is done needs a finite final_loss, not None"),
        ({"hyperparameters": "lr=3"}, "row 1: hyperparameters must be a JSON object, not 'lr=3'"),
    ],
)
def test_a_bad_value_is_refused_with_its_row(change: dict[str, Any], message: str) -> None:
    rows = plain()
    rows[0] |= change
    with pytest.raises(AnalysisError) as caught:
        Trials.from_rows(rows, "adamw")
    assert str(caught.value) == message


@pytest.mark.parametrize(("column", "named"), [("final_loss", "final_loss"), ("seed", "seed"), ("phase", "phase")])
def test_a_missing_column_is_named(column: str, named: str) -> None:
    rows = [{key: value for key, value in row.items() if key != column} for row in plain()]
    with pytest.raises(AnalysisError, match=f"; {named} is missing from contestant"):
        Trials.from_rows(rows, "adamw")


@pytest.mark.parametrize(
    ("values", "said"), [((0.1, 0.2, 0.3), []), ((0.2, 0.3), ["In no interval is the choice of weight_decay (adamw):"])]
)
def test_a_choice_without_a_loss_on_both_sides_is_said_to_be_in_no_interval(
    values: tuple[float, ...], said: list[str]
) -> None:
    chosen = {"lr": 0.2, "weight_decay": 0.2}
    tried = [chosen | {"lr": lr} for lr in (0.1, 0.2, 0.4)] + [chosen | {"weight_decay": one} for one in values]
    search = [
        {
            "contestant": "adamw",
            "phase": "tune",
            "seed": 9,
            "tokens": 1000,
            "final_loss": 3.0 + abs(sum(one.values()) - 0.4),
        }
        | {"run": f"tune-{json.dumps(one)}", "varied": json.dumps(one)}
        for one in tried
    ]
    notes = contest_result(Trials.from_rows([*plain(hyperparameters=chosen), *search], "adamw"))["notes"]
    found = [note for note in notes if note.startswith("In no interval")]
    assert [note.split(" the search")[0] for note in found] == said


def test_init_and_data_seed_make_pairs_of_their_own() -> None:
    rows = [row | {"init_seed": row["seed"], "data_seed": 7} for row in plain()]
    assert set(Trials.from_rows(rows, "adamw")["muon"].losses) == {(0, 7), (1, 7), (2, 7)}


def test_the_evaluation_at_the_end_is_no_point_of_a_curve(demo_contest: FakeContest) -> None:
    trials = Trials.read(demo_contest.ledger, demo_contest.store.runs())
    for name, curves in trials.evaluations.items():
        for curve, loss in zip(curves, trials[name].losses.values(), strict=False):
            if curve.status == "done":
                assert curve.points[-1] == (demo_contest.tokens, pytest.approx(loss)), "not 0.4 nats above it"


def test_a_contest_is_judged_and_shown_with_each_file_parsed_once(
    demo_contest: FakeContest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: Counter[tuple[str, bytes]] = Counter()
    of_spec, of_summary = RunSpec.from_json, Summary.model_validate_json

    def spec(data: Any) -> RunSpec:
        parsed["spec", bytes(data)] += 1
        return of_spec(data)

    def summary(data: Any, **options: Any) -> Summary:
        parsed["summary", bytes(data)] += 1
        return of_summary(data, **options)

    monkeypatch.setattr(RunSpec, "from_json", spec)
    monkeypatch.setattr(Summary, "model_validate_json", summary)
    demo_contest.budgets({4.0: [2.45]}, lr=8e-3)
    trials = Trials.read(demo_contest.ledger, demo_contest.store.runs())
    contest_result(trials)
    write_report(demo_contest.store, demo_contest.ledger, tmp_path / "report.html", trials)
    runs = demo_contest.store.runs()
    files = {
        kind: Counter((run.directory / f"{kind}.json").read_bytes() for run in runs) for kind in ("spec", "summary")
    }
    assert {data: count for (kind, data), count in parsed.items() if kind == "spec"} == files["spec"]
    assert {data: count for (kind, data), count in parsed.items() if kind == "summary"} == files["summary"]


def test_the_law_of_the_baseline_is_fitted_once(demo_contest: FakeContest, monkeypatch: pytest.MonkeyPatch) -> None:
    from fairstep.analysis import trials as module

    fits = []
    fit = module.loss_law
    monkeypatch.setattr(module, "loss_law", lambda *a: fits.append(a) or fit(*a))
    trials = Trials.read(demo_contest.ledger, demo_contest.store.runs())
    first, second = contest_result(trials), contest_result(trials)
    assert first == second
    assert len(fits) == 1
