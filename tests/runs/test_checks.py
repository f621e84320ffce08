"""A store checks itself: what its files say against one another is named, and is not counted."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import FakeContest
from tests.runs.mutations import files, mutate

from fairstep.analysis import AnalysisError, contest_result
from fairstep.cli import main
from fairstep.runs import Run, Store, StoreError
from fairstep.runs.checks import checked_runs, trial_problems


@pytest.fixture
def sealed(fake_contest: FakeContest) -> Store:
    """A small contest as the trainer writes one: with digests."""
    draw = random.Random(5)
    for name, mean in (("adamw", 2.8), ("signum", 2.95)):
        fake_contest.contestant(name, [mean + draw.gauss(0, 0.01) for _ in range(3)], grid=3)
    fake_contest.budgets({0.5: [3.06], 2.0: [2.60]})
    for run in fake_contest.store.runs():
        assert run.summary
        run.write_summary(run.sealed(run.summary))
    fake_contest.store.write_ledger(fake_contest.ledger)
    return fake_contest.store


def outcome(store: Store) -> tuple[str, list[str]]:
    """The result of the store's contest as text, and what is said beside it."""
    try:
        (ledger,) = store.ledgers()
        result = contest_result(ledger, store.runs())
    except (AnalysisError, StoreError, ValueError) as error:
        return "refused", [str(error)]
    notes = result.pop("notes")
    return json.dumps(result, sort_keys=True), notes + [row["reason"] for row in result["contestants"]]


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def run_of(store: Store, contestant: str, phase: str) -> Run:
    (ledger,) = store.ledgers()
    return store.run(next(one.run for one in ledger.trials if (one.contestant, one.phase) == (contestant, phase)))


def silent(store: Store, seeds: range) -> list[str]:
    before, said = outcome(store)
    changed = []
    for seed in seeds:
        path, content, what = mutate(store.path, seed)
        after, words = outcome(store)
        if after != before and words == said:
            changed.append(what)
        path.write_bytes(content)
    assert outcome(store) == (before, said)
    return changed


def test_no_mutation_changes_a_result_in_silence(sealed: Store) -> None:
    assert len(files(sealed.path)) > 30
    assert silent(sealed, range(150)) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"final_loss": -5.0}, "final_loss is -5, below 0"),
        ({"final_loss": 1e308}, "final_loss is 1e+308"),
        ({"final_loss": 9.0}, "not in (0, 8.24]"),
        ({"final_loss": None}, "final_loss is None"),
        ({"tokens": 10_240_000}, "10240000 tokens are not 1000 steps of 1024 tokens"),
        ({"steps": 3, "tokens": 3072}, "done after 3 steps of 1000"),
        ({"step_seconds": -1.0}, "step_seconds is -1, below 0"),
        ({"step_seconds": 0.0}, "step_seconds is 0, not above 0"),
        ({"peak_memory_bytes": 10**30}, "peak_memory_bytes is 1e+30"),
        ({"steps": "many"}, "cannot be read"),
    ],
)
def test_a_summary_that_cannot_be_right_is_named_and_not_counted(
    sealed: Store, changes: dict[str, Any], words: str
) -> None:
    """Also where there is no digest, as in every store written before."""
    run = run_of(sealed, "signum", "final")
    edit(run.directory / "summary.json", **changes, digest="")
    assert (run.summary, run.status) == (None, "unfinished")
    assert words in run.checked.problem
    text, notes = outcome(sealed)
    (row,) = [row for row in json.loads(text)["contestants"] if row["name"] == "signum"]
    assert row["verdict"] == "incomplete"
    assert any(note.startswith("Not counted: ") and run.id in note and words in note for note in notes)


def test_nan_is_no_number_of_seconds(sealed: Store) -> None:
    path = run_of(sealed, "signum", "final").directory / "summary.json"
    path.write_text(path.read_text().replace('"step_seconds": 0.01', '"step_seconds": NaN'))
    assert (
        "step_seconds is nan" in Run(path.parent).checked.problem or "as they were" in Run(path.parent).checked.problem
    )


def test_a_spec_is_the_one_of_its_folder(sealed: Store) -> None:
    for number, change in enumerate(({"clip_norm": 0}, {"optimizer": {"name": "lion", "hyperparameters": {}}})):
        run = run_of(sealed, "signum", ("final", "tune")[number])
        edit(run.directory / "spec.json", **change)
        assert "spec.json of run" in run.checked.problem
        assert any(f"run {run.id} is of another run" in note for note in outcome(sealed)[1])


def test_a_summary_of_another_run_is_noticed(sealed: Store) -> None:
    victim, other = run_of(sealed, "signum", "final"), run_of(sealed, "adamw", "final")
    shutil.copy(other.directory / "summary.json", victim.directory / "summary.json")
    assert f"files of run {victim.id} are not as they were" in victim.checked.problem


def test_a_damaged_file_is_named_and_not_called_unfinished(sealed: Store) -> None:
    run = run_of(sealed, "signum", "final")
    (run.directory / "summary.json").write_text('{"status": "do')
    notes = " ".join(outcome(sealed)[1])
    assert f"summary.json of run {run.id} cannot be read" in notes
    assert "still to finish" not in notes


def test_a_trial_is_its_run(sealed: Store, fake_contest: FakeContest) -> None:
    (ledger,) = sealed.ledgers()
    finals = [trial.run for trial in ledger.trials if (trial.contestant, trial.phase) == ("adamw", "final")]
    swapped = [
        trial.model_copy(update={"run": finals.pop(0)})
        if (trial.contestant, trial.phase) == ("signum", "final")
        else trial
        for trial in ledger.trials
    ]
    sealed.write_ledger(ledger.model_copy(update={"trials": tuple(swapped)}))
    notes = outcome(sealed)[1]
    assert sum("it is of adamw, not of signum" in note for note in notes) >= 3
    other = [trial.model_copy(update={"hyperparameters": {"lr": 0.5}}) for trial in ledger.trials]
    sealed.write_ledger(ledger.model_copy(update={"trials": tuple(other)}))
    assert any("its lr is 0.001, not 0.5" in note for note in outcome(sealed)[1])


def test_a_ledger_that_was_changed_says_so(sealed: Store, capsys: pytest.CaptureFixture[str]) -> None:
    path = sealed.ledgers_folder / "contest.json"
    value = json.loads(path.read_text())
    value["trials"] = [one for one in value["trials"] if (one["contestant"], one["phase"]) != ("adamw", "tune")]
    path.write_text(json.dumps(value))
    assert any("The ledger contest was changed after it was written" in note for note in outcome(sealed)[1])
    assert main(["study", "status", str(sealed.path)]) == 0
    assert "was changed after it was written" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "value"), [("tokens", 10_240_000), ("tokens", 0), ("parameters", -5), ("steps", 10**400), ("model", "27k")]
)
def test_a_cell_is_the_one_of_its_runs(sealed: Store, name: str, value: Any) -> None:
    (ledger,) = sealed.ledgers()
    sealed.write_ledger(ledger.model_copy(update={"cell": ledger.cell.model_copy(update={name: value})}))
    assert any(f"a cell with {name} " in note or "cell" in note for note in outcome(sealed)[1])


def test_the_store_check_tells_all(sealed: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "check", str(sealed.path)]) == 0
    assert "No problem" in capsys.readouterr().out
    run = run_of(sealed, "signum", "final")
    edit(run.directory / "summary.json", final_loss=2.0)
    assert main(["store", "check", str(sealed.path), "--json"]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert [run.id in line for line in facts["problems"]] == [True]
    assert main(["store", "check", str(sealed.path / "nothing")]) == 2


def test_the_store_check_goes_on_beyond_a_curve_that_is_no_file(
    sealed: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a store without digests, whose curves nothing else reads."""
    first, second = list(sealed.runs())[:2]
    for run in (first, second):
        edit(run.directory / "summary.json", digest="")
        (run.directory / "metrics.jsonl").unlink(missing_ok=True)
        (run.directory / "metrics.jsonl").mkdir()
    assert main(["store", "check", str(sealed.path), "--json"]) == 1
    problems = json.loads(capsys.readouterr().out)["problems"]
    for run in (first, second):
        assert f"metrics.jsonl of run {run.id} cannot be read (this is no regular file)." in problems


@pytest.mark.parametrize("name", ["env.json", "timings.jsonl", "metrics.jsonl"])
def test_a_file_that_cannot_be_read_is_named_and_the_contest_is_reported(
    name: str, sealed: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a run that was written before digests, whose curve is no evidence."""
    victim = run_of(sealed, "signum", "final")
    edit(victim.directory / "summary.json", digest="")
    before = json.loads(outcome(sealed)[0])["contestants"]
    (victim.directory / name).unlink(missing_ok=True)
    (victim.directory / name).mkdir()
    said = f"{name} of run {victim.id} cannot be read (this is no regular file)."
    result, notes = outcome(sealed)
    assert said in notes
    assert [one["difference"] for one in json.loads(result)["contestants"]] == [one["difference"] for one in before]
    assert main(["report", str(sealed.path)]) == 0
    assert victim.id in capsys.readouterr().out
    assert main(["store", "check", str(sealed.path), "--json"]) == 1
    assert said in json.loads(capsys.readouterr().out)["problems"]


def test_hidden_names_are_skipped(sealed: Store) -> None:
    (sealed.ledgers_folder / "._contest.json").write_bytes(b"\0\5\26\7")
    (sealed.runs_folder / "._x").mkdir()
    (sealed.runs_folder / "._x" / "spec.json").write_text("{")
    assert len(sealed.ledgers()) == 1
    assert all(not run.id.startswith(".") for run in sealed.runs())


@pytest.mark.parametrize("rule", ["law", "hyperp"])
def test_a_rule_of_length_changes_the_rates_of_all_runs_alike(fake_contest: FakeContest, rule: str) -> None:
    """The ledger has the base's learning rates. A run whose rate is not by the factor of the others is named."""
    for name in ("adamw", "signum"):
        fake_contest.contestant(name, [2.8, 2.81, 2.79], lr=1e-3, grid=3)
    fake_contest.budgets({0.5: [3.06], 2.0: [2.60]})
    ledger, runs = fake_contest.ledger, list(fake_contest.store.runs())
    factor = {run.id: (run.own_spec.tokens / fake_contest.tokens * 4) ** -0.32 for run in runs}
    trials = [
        trial.model_copy(update={"hyperparameters": {"lr": float(trial.hyperparameters["lr"]) / factor[trial.run]}})
        for trial in ledger.trials
    ]
    cell = ledger.cell.model_copy(update={"transfer": rule})
    ledger = ledger.model_copy(update={"trials": tuple(trials), "cell": cell, "choices": {}})
    checked = checked_runs(ledger, runs)
    assert not any(trial_problems(ledger, checked))
    without = ledger.model_copy(update={"cell": cell.model_copy(update={"transfer": "mup"})})
    assert all(trial_problems(without, checked)), "no other rule has such a factor"
    trials[1] = trials[1].model_copy(update={"hyperparameters": {"lr": 2e-3}})
    problems = trial_problems(ledger.model_copy(update={"trials": tuple(trials)}), checked)
    assert "as others of its length have it" in problems[1] and not any((problems[0], *problems[2:]))
