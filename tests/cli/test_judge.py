"""``fairstep judge`` as a user types it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks import judge_time
from tests.docs.test_docs import module
from tests.imported.losses import csv, finals

import fairstep
from fairstep.analysis import contest_result
from fairstep.cli import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def results(tmp_path: Path) -> str:
    path = tmp_path / "results.csv"
    finals().write_csv(path)
    return str(path)


def test_the_table(results: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "verdict.html"
    assert main(["judge", results, "--baseline", "adamw", "--rule", "track3", "--report", str(page)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("muon is faster than adamw.\n")
    assert "Evidence C: finished runs alone" in said and "does not pass 3.28" in said
    assert "loss: val_loss; seed: seed; step: step" in said and f"report: {page}" in said
    assert "muon is faster than adamw" in page.read_text(encoding="utf-8")


def test_json_has_the_keys_of_compare_and_the_grade(results: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judge", results, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    judged = fairstep.judge(results)
    assert printed == json.loads(json.dumps(judged.result))
    like_compare = contest_result(judged.source.trials)
    assert set(printed) >= {*like_compare, "grade", "unit", "understood", "not_checked"}
    for row, theirs in zip(printed["contestants"], like_compare["contestants"], strict=True):
        assert set(row) >= {*theirs, "grade", "edges", "rules"}
    recorded = json.loads((ROOT / "docs" / "reference" / "json" / "compare.json").read_text())["printed"]
    assert set(printed) >= set(recorded) - {"report"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name the files or folders with the runs"),
        (["nowhere.csv"], "nowhere.csv does not exist"),
        (["{results}", "--baseline", "adam"], "did you mean adamw?"),
        (["{results}", "--format", "excel"], "--format takes modded_nanogpt, stores,"),
        (["{results}", "--seeds", "8..3"], "write 3..8"),
        (["{results}", "--at", "muon"], "--at takes a step, or NAME=STEP"),
        (["{results}", "--contestant", "optimizer,sed"], "did you mean seed?"),
    ],
)
def test_wrong_input(arguments: list[str], said: str, results: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judge", *(argument.format(results=results) for argument in arguments)]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_the_verdict_is_printed_where_the_page_has_no_room(
    results: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("fairstep.report.page.write_atomic", full)
    assert main(["judge", results, "--report", str(tmp_path / "page.html")]) == 2
    shown = capsys.readouterr()
    assert "is faster than adamw" in shown.out and "the disk is full" in shown.err


def test_hostile_names_steer_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "optimizer,loss\n" + "".join(f"adamw,{3 + i / 9}\n\x1b[2J[bold]x,{2 + i / 9}\n" for i in range(3))
    assert main(["judge", str(csv(tmp_path, text))]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said and "\\x1b[2J[bold]x" in said


def test_the_page_shows_what_the_command_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Written by tools/judge_example.py."""
    monkeypatch.setenv("COLUMNS", "118")
    example = module(ROOT / "tools" / "judge_example.py")
    assert example.block() in (ROOT / "docs" / "howto" / "my-runs.md").read_text(encoding="utf-8")


def test_importing_fairstep_loads_nothing() -> None:
    code = "import sys, fairstep; sys.exit(any(name in sys.modules for name in ('polars', 'numpy', 'torch', 'tyro')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'jugde'"):
        fairstep.jugde  # noqa: B018


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "pairs", "trials"), [("evaluations", 250, 0), ("runs", 499, 4501)])
def test_a_hundred_thousand_rows(tmp_path: Path, kind: str, pairs: int, trials: int) -> None:
    """The memory is the whole process's. The benchmark prints what it takes."""
    path = tmp_path / "results.csv"
    judge_time.table(kind).write_csv(path)
    _, *found, megabytes = judge_time.judged(path)
    assert found == [pairs, trials] and megabytes < 500
