"""Terminals of 60, 80 and 110 columns: no line is wider, and no verdict and no number is cut."""

from __future__ import annotations

import pytest
from tests.conftest import FakeContest

from fairstep.cli import main
from fairstep.cli.shared import screen

VERBS = (
    ("report", "{store}", "--contest", "contest"),
    ("report", "{store}"),
    ("study", "status", "{store}"),
    ("store", "list", "{store}"),
    ("store", "check", "{store}"),
    ("recommend", "--params", "350M", "--tokens", "7B"),
    ("optimizers",),
    ("published", "speedups", "--optimizer", "muon", "--size", "130m"),
    ("published", "models"),
    ("claims", "--paper", "wen"),
    ("study", "replay", "--optimizer", "lion"),
)


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
    arguments = [word.format(store=two_contests.store.path) for word in verb]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "…" not in said
    long = [line.rstrip() for line in said.splitlines() if len(line.rstrip()) > columns]
    pasted = ("  optimizer =", "  fairstep ", "report:", str(two_contests.store.path)[:10])
    assert [line for line in long if not line.startswith(pasted) and " " in line.strip()] == []
    if verb[0] == "report" and "--contest" in verb:
        for word in ("not separable", "faster", "slower", "diverged", "baseline", "2.8"):
            assert word in said


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
