"""Terminals of 60, 80 and 110 columns: no line is wider, and no verdict and no number is cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.cli.test_help import VERBS as ALL
from tests.conftest import FakeContest

from fairstep.cli import main
from fairstep.cli import train as cli_train
from fairstep.cli.shared import screen
from fairstep.cli.shared.tournament import conclude
from fairstep.cli.study import run as study_run
from fairstep.runs import Execution, Store, write_atomic
from fairstep.train import train

VERBS = (
    ("report", "{store}", "--contest", "contest"),
    ("report", "{store}"),
    ("study", "status", "{store}"),
    ("store", "list", "{store}"),
    ("store", "check", "{store}"),
    ("recommend", "--params", "350M", "--tokens", "7B"),
    ("model", "list"),
    ("model", "check", "27k"),
    ("optimizers",),
    ("published", "speedups", "--optimizer", "muon", "--size", "130m"),
    ("published", "models"),
    ("claims", "--paper", "wen"),
    ("study", "replay", "--optimizer", "lion"),
    ("optimizers", "soap"),
    ("published", "results", "--paper", "semenov", "--size", "720m"),
    ("design", "--effect", "0.003", "--sigma", "0.0011", "--contestants", "3"),
    ("plan", "muon", "--preset", "semenov/124m", "--device", "h100"),
    ("study", "plan", "{study}", "--device", "h100"),
)
TRAINING = {
    ("demo",),
    ("compare",),
    ("judge",),
    ("train",),
    ("study", "run"),
    ("export",),
    ("eval",),
    ("store", "verify"),
    ("store", "pack"),
    ("model", "coordinates"),
    ("doctor",),
    *(("data", action) for action in ("prepare", "inspect", "list", "remove")),
}
"""Verbs whose screens are drawn below, or in test_store_pack.py, from runs that are there."""
STUDY = str(Path(__file__).parents[2] / "studies" / "demo.toml")


def test_every_verb_has_a_screen() -> None:
    assert {verb[: len(name)] for verb in VERBS for name in ALL if verb[: len(name)] == name} | TRAINING == set(ALL)


def check(said: str, columns: int, *but: str) -> None:
    """No line of words is wider, but for what is to be pasted, and nothing is cut."""
    assert "…" not in said
    long = [line.rstrip() for line in said.splitlines() if len(line.rstrip()) > columns]
    pasted = ("  optimizer =", "  fairstep ", "report:", *but)
    assert [line for line in long if not line.startswith(pasted) and " " in line.strip()] == []


@pytest.fixture
def two_contests(demo_contest: FakeContest) -> FakeContest:
    demo_contest.store.write_ledger(demo_contest.ledger)
    fewer = [trial for trial in demo_contest.trials if trial.contestant in ("adamw", "muon")]
    other = demo_contest.ledger.model_copy(
        update={"name": "adamw-muon-3902a21c", "contestants": ("adamw", "muon"), "trials": tuple(fewer)}
    )
    demo_contest.store.write_ledger(other)
    return demo_contest


@pytest.mark.parametrize("columns", [60, 80, 110])
@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: " ".join(verb[:2]))
def test_nothing_is_wider_than_the_terminal_or_cut(
    verb: tuple[str, ...],
    columns: int,
    two_contests: FakeContest,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    arguments = [word.format(store=two_contests.store.path, study=STUDY) for word in verb]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    check(said, columns, str(two_contests.store.path)[:10])
    if verb[0] == "report" and "--contest" in verb:
        for word in ("not separable", "faster", "slower", "diverged", "baseline", "2.8"):
            assert word in said


@pytest.mark.parametrize("columns", [60, 80])
def test_screens_of_contests(
    columns: int, two_contests: FakeContest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What demo and compare, and what study run, print at their end."""
    monkeypatch.setenv("COLUMNS", str(columns))
    store = two_contests.store
    conclude(store, two_contests.ledger, store.path / "page.html", seconds=400.0)
    said = capsys.readouterr().out
    check(said, columns)
    assert "This call took 6 min 40 s." in said
    study_run.print_all(store, {"short, 2x": two_contests.ledger}, as_json=False)
    check(capsys.readouterr().out, columns)


@pytest.mark.parametrize("columns", [60, 80])
def test_screens_of_a_store_that_is_refused(
    columns: int, two_contests: FakeContest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its runs have no digests, because nothing trained them."""
    monkeypatch.setenv("COLUMNS", str(columns))
    store = str(two_contests.store.path)
    assert main(["store", "verify", store]) == 1
    check(capsys.readouterr().out, columns, store[:10])


@pytest.mark.parametrize("columns", [60, 80])
def test_screens_of_coordinates(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    small = ["--optimizers", "adamw", "--widths", "16", "32", "--seeds", "1", "--steps", "1", "--context", "8"]
    assert main(["model", "coordinates", *small, "--sequences", "1"]) == 0
    said = capsys.readouterr().out
    assert "logits" in said
    check(said, columns)


@pytest.mark.parametrize("columns", [60, 80])
def test_screens_of_downstream_scores(
    columns: int, tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their table, of scores as lm-eval gives them."""
    monkeypatch.setenv("COLUMNS", str(columns))
    task = {"acc,none": 0.61234567, "acc_stderr,none": 0.0123, "acc_norm,none": 0.5, "samples": 1838}
    task["falling"] = []
    monkeypatch.setattr("fairstep.train.downstream.score", lambda run, tasks, **kind: dict.fromkeys(tasks, task))
    spec = tiny(tokens=8 * 16 * 4)
    run = Store(tmp_path / "store").run(spec)
    write_atomic(run.directory / "spec.json", spec.to_json())
    tasks = ["leaderboard_mmlu_pro_high_school", "piqa"]
    assert main(["eval", run.id, "--store", str(tmp_path / "store"), "--tasks", *tasks]) == 0
    said = capsys.readouterr().out
    assert "0.6123" in said and tasks[0] in said
    check(said, columns)


@pytest.mark.parametrize("columns", [60, 80])
def test_screens_of_a_contests_scores(
    columns: int, fake_contest: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every final run is scored once, and the pairs of seeds are compared. A perplexity is better when it is lower."""
    monkeypatch.setenv("COLUMNS", str(columns))
    for name, losses in {"adamw": [3.0, 3.1, 3.2], "muon": [2.7, 2.791, 2.88]}.items():
        fake_contest.contestant(name, losses)
    fake_contest.store.write_ledger(fake_contest.ledger)
    scored = []

    def score(run: Any, tasks: Any, **kind: Any) -> dict[str, Any]:
        scored.append(run.id)
        loss = run.summary.final_loss
        task = {"acc,none": 1 - loss / 10, "word_perplexity,none": 100 * loss, "word_perplexity_stderr,none": 1.0}
        return {key: {**task, "samples": 7, "falling": ["word_perplexity"]} for key in tasks}

    monkeypatch.setattr("fairstep.train.downstream.score", score)
    command = ["eval", "--contest", "contest", "--store", str(fake_contest.store.path), "--tasks", "which_follows"]
    assert main(command) == 0
    said = capsys.readouterr()
    assert len(scored) == len(set(scored)) == 6
    assert "+0.0310 [" in said.out and "-30.9667 [" in said.out and "transfers" in said.out
    assert "6 of 6: muon, seed 3: which_follows acc 0.7120" in said.err
    check(said.out, columns)
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["tasks"]["which_follows acc"]["contestants"]["muon"]["difference"] == pytest.approx(0.03097, abs=1e-4)
    assert told["tasks"]["which_follows acc"]["contestants"]["adamw"]["low"] is None
    assert set(told["runs"]) == set(scored)


def test_scores_are_of_a_run_or_of_a_contest(fake_contest: Any, capsys: pytest.CaptureFixture[str]) -> None:
    fake_contest.contestant("adamw", [])
    fake_contest.store.write_ledger(fake_contest.ledger)
    store = ["--store", str(fake_contest.store.path), "--tasks", "piqa"]
    for words, sentence in (
        ([], "eval takes a run, or --contest with the name of a contest"),
        (["a1", "--contest", "contest"], "eval takes a run, or --contest with the name of a contest"),
        (["--contest", "other"], "holds no contest 'other'"),
        (["--contest", "contest"], "no final run of contest is done"),
    ):
        assert main(["eval", *words, *store]) == 2
        assert sentence in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("columns", [60, 80])
def test_screens_of_one_run(
    columns: int, tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    spec = tiny(tokens=8 * 16 * 4, execution=Execution(threads=1, compile=False, save_weights=True))
    run = train(spec, Store(tmp_path / "store"))
    here = str(tmp_path)
    cli_train.report(run, "adamw", as_json=False)
    assert main(["export", str(run.directory), "--out", here + "/model"]) == 0
    check(capsys.readouterr().out.replace(here, ""), columns)


@pytest.mark.parametrize("columns", [60, 80])
def test_screens_of_corpora_and_of_the_doctor(
    columns: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FAIRSTEP_CACHE", str(tmp_path / "cache"))
    text = tmp_path / "text.txt"
    text.write_text("<|endoftext|>".join(f"document {n} says {n * n} and nothing else " * 9 for n in range(300)))
    for arguments in (
        ["data", "prepare", str(text), "--tokenizer", "bytes", "--name", "mine"],
        ["data", "inspect", "mine"],
        ["data", "list"],
        ["data", "remove", "mine"],
        ["doctor", "adamw"],
    ):
        assert main(arguments) == 0, arguments
        check(capsys.readouterr().out, columns, str(tmp_path), "mine: ", "sample of")


@pytest.mark.parametrize("columns", [60, 80])
def test_screens_of_judged_runs(
    columns: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    losses = {"adamw": (3.1, 3.12, 3.11), "mine": (3.0, 3.03, 3.01)}
    rows = [f"{name},{seed},1000000,{loss}" for name, those in losses.items() for seed, loss in enumerate(those)]
    (tmp_path / "runs.csv").write_text("\n".join(["contestant,seed,tokens,final_loss", *rows]) + "\n")
    monkeypatch.chdir(tmp_path)
    assert main(["judge", "runs.csv", "--baseline", "adamw"]) == 0
    check(capsys.readouterr().out, columns)


def test_columns_are_dropped_before_rows_become_blocks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [["adamw", "1.00x", "baseline", "12 ms"], ["my.long.package:Muon", "1.36x [1.21, 1.62]", "faster", "9 ms"]]
    header = ["contestant", "speedup", "verdict", "step time"]
    monkeypatch.setenv("COLUMNS", "60")
    screen.print_table("", header, rows, drop=("step time",))
    said = capsys.readouterr().out
    assert "12 ms" not in said
    assert "Not shown for want of room: step time." in said
    assert "1.36x [1.21, 1.62]" in said
    monkeypatch.setenv("COLUMNS", "32")
    screen.print_table("", header, rows, drop=("step time",))
    assert "my.long.package:Muon\n  speedup     1.36x [1.21, 1.62]\n  verdict     faster" in capsys.readouterr().out
