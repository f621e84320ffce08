"""Paces: what short runs say of longer ones, taken by real workers, and how plans use them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fairstep.cli import main
from fairstep.cli.shared import pace
from fairstep.cost.pace import Pace, evaluated, short, steps_for
from fairstep.data import Corpus
from fairstep.runs import EvaluationSpec, ScheduleSpec, Store
from fairstep.runs.files import json_rows
from fairstep.study import Layout
from fairstep.train import train

PACE = Pace(step=0.5, evaluation=0.001, around=2.0, first=30.0, at_once=2, batch_tokens=2048, load=1.0)

STUDY = """seeds = 1
finalists = 1
[protocol]
name = "grid"
[[cells]]
model = "27k"
steps = [{steps}]
batch_sequences = [16, 32]
[[contestants]]
optimizer = "adamw"
grid.lr = [0.004]
[launcher]
workers = 2
threads = 1
"""


def test_short_runs_of_other_lengths_texts_and_schedules_are_one(tiny: Any) -> None:
    one, other = tiny(), tiny(tokens=8 * 16 * 600, data_seed=3, schedule=ScheduleSpec(warmup_steps=100, kind="wsd"))
    assert short(one, 5).identity == short(other, 5).identity
    assert short(one, 5).steps == 5
    assert short(one, 5).identity == short(tiny(lr=100.0), 5).identity
    assert short(one, 5).identity != short(tiny("muon"), 5).identity
    assert short(one, 5).identity != short(tiny(batch_sequences=4), 5).identity


def test_evaluations_are_those_of_a_real_run(tiny: Any, corpus: Corpus, tmp_path: Path) -> None:
    for steps, every in ((60, 20), (61, 20), (7, 20), (4, 1)):
        spec = tiny(tokens=8 * 16 * steps, evaluation=EvaluationSpec(every_steps=every, tokens=250, final_tokens=1000))
        rows = json_rows((train(spec, Store(tmp_path)).directory / "metrics.jsonl").read_bytes())
        assert evaluated(spec) == 16 * sum(row["windows"] for row in rows if row["kind"] == "evaluation")


def test_a_run_takes_its_steps_its_evaluations_and_what_is_around_them(tiny: Any) -> None:
    spec = tiny(batch_sequences=16, tokens=16 * 16 * 40)
    pace = Pace(step=0.1, evaluation=0.001, around=3.0, first=50.0, at_once=2, batch_tokens=128, load=0.0)
    assert pace.seconds(spec) == pytest.approx(3.0 + 40 * 0.2 + 0.001 * (256 + 992))


def test_steps_are_as_many_as_there_is_time_for() -> None:
    assert (steps_for(1e-6), steps_for(0.1), steps_for(30.0)) == (40, 10, 3)


@pytest.mark.slow
def test_real_workers_take_paces(tiny: Any) -> None:
    taken = pace.taken({"a": (tiny(), 12), "b": (tiny("muon"), 12)}, Layout(workers=2, threads=1))
    assert set(taken) == {"a", "b"}
    for found in taken.values():
        assert found.at_once == 2
        assert found.batch_tokens == 128
        assert 0 < found.step < 10
        assert 0 < found.evaluation < 0.1
        assert 0 <= found.around < 60
    assert taken["a"].first > 0.5  # torch was loaded


@pytest.mark.slow
def test_a_run_that_fails_is_a_sentence(tiny: Any) -> None:
    spec = tiny()
    broken = spec.model_copy(
        update={"optimizer": spec.optimizer.model_copy(update={"hyperparameters": {"speed": 1.0}})}
    )
    with pytest.raises(ValueError, match=r"a short run could not be timed: .*speed.*leave --measure out"):
        pace.taken({"a": (broken, 5)}, Layout(workers=1, threads=1))


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of two runs, in a cache of its own, on a machine whose rate is known."""
    monkeypatch.setenv("FAIRSTEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("fairstep.train.rate.matmul_rate", lambda device, precision: 1e11)
    path = tmp_path / "s.toml"
    path.write_text(STUDY.format(steps=100))
    return path


def timed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every call of what times runs; it does not."""
    calls: list[Any] = []

    def taken(wanted: Any, division: Layout) -> dict[str, Pace]:
        calls.append((wanted, division))
        return dict.fromkeys(wanted, PACE)

    monkeypatch.setattr(pace, "taken", taken)
    return calls


def test_a_study_is_measured_once_and_then_planned_so(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = timed(monkeypatch)
    assert main(["study", "plan", str(study)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "an assumed utilisation of 60%" in said
    assert "--measure times short runs" in said
    assert not calls
    assert main(["study", "plan", str(study), "--measure", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    (wanted, division) = calls.pop()
    assert (len(wanted), division) == (2, Layout(2, 1))
    assert {spec.execution.threads for spec, _ in wanted.values()} == {1}
    for row in measured["runs"]:
        batch = row["batch_tokens"]
        tokens = 9 * 8192 + 131_072
        assert row["seconds_expected"] == pytest.approx(2.0 + 100 * 0.5 * batch / 2048 + 0.001 * tokens)
    runs = measured["all"]["expected"]
    whole = sum(row["seconds_expected"] for row in measured["runs"])
    assert runs["seconds"] == pytest.approx(runs["trials"] / 2 * whole / 2)  # two runs at a time
    study.write_text(STUDY.format(steps=200))  # of another length: the pace is the same
    assert main(["study", "plan", str(study)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "measured on this machine by short runs, 2 at a time, at a load of 1.0" in said
    assert "utilisation" not in said
    assert not calls
    kept = study.parent / "cache" / "paces.json"
    for damaged in ("[1]", '{"a": 1}', '{"a": {"step": 1}}', kept.read_text()[:-9]):
        kept.write_text(damaged)
        assert main(["study", "plan", str(study)]) == 0
        assert "an assumed utilisation of 60%" in " ".join(capsys.readouterr().out.split())
    study.write_text(STUDY.format(steps=200).replace("adamw", "muon"))
    assert main(["study", "plan", str(study)]) == 0
    assert "an assumed utilisation of 60%" in " ".join(capsys.readouterr().out.split())


def test_a_run_is_measured_once_and_then_planned_so(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = timed(monkeypatch)
    command = ["plan", "soap", "--preset", "106k", "--device", "cpu"]
    assert main([*command, "--json", "--measure"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["pace"]["step"], row["seconds_expected"] > row["steps"] * 0.5) == (0.5, True)
    assert main([*command, "--chinchilla", "2"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "measured on this machine by short runs, one at a time" not in said  # the fake says two
    assert "loading and compiling are not (another 30 s)" in said
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["plan", "--measure", "--device", "h100"], "this machine's processor, and the device is h100; leave"),
        (["plan", "--measure", "--devices", "2", "--device", "cpu"], "this is not one process on a processor"),
        (["plan", "--measure", "--preset", "wen/1.2b", "--device", "cpu"], "a step of wen/1.2b would take"),
        (["study", "plan", "STUDY", "--measure", "--device", "h100"], "and the device is h100; leave --measure out"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    arguments: list[str], sentence: str, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(study) if a == "STUDY" else a for a in arguments]) == 2
    assert sentence in capsys.readouterr().err
