"""``fairstep claims``: flat rows, one claim in full, and sentences for bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fairstep.cli import main

if TYPE_CHECKING:
    from tests.conftest import FakeContest

COLUMNS = {"id", "paper", "statement", "source", "verdict", "evidence"}


def test_rows_are_flat(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claims", "--paper", "semenov", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 30
    for row in rows:
        assert row.keys() >= COLUMNS
        assert all(isinstance(value, str | bool) for value in row.values())


def test_one_claim_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claims", "f14", "W1"]) == 0
    out = capsys.readouterr().out
    assert "W1 (published: wen): holds" in out
    assert "F14 (published: semenov): holds" in out
    assert "+0.0344 [+0.0330, +0.0358]" in out


def test_the_table_ends_with_a_count(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claims", "--paper", "semenov"]) == 0
    assert "are inconclusive. `fairstep claims ID`" in capsys.readouterr().out.replace("\n", " ")


def test_a_store_shows_what_it_has_a_number_on(
    demo_contest: FakeContest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    demo_contest.store.write_ledger(demo_contest.ledger)
    store = str(demo_contest.store.path)
    assert main(["claims", "--paper", "both", "--store", store, "--json"]) == 0
    rows = [row for row in json.loads(capsys.readouterr().out) if row["data"] == store]
    silent = [row["id"] for row in rows if not row["answered"]]
    assert main(["claims", "--paper", "both", "--store", store]) == 0
    out = capsys.readouterr().out
    lines = [line.split()[0] for line in out.splitlines() if line[:1] in ("W", "F")]
    assert all(lines.count(row["id"]) == (2 if row["answered"] else 1) for row in rows)
    assert f"has no number on {len(silent)} further claims" in " ".join(out.split()) and 0 < len(silent) < len(rows)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["F99"], "no claim 'F99'"), (["--store", "nowhere"], "nowhere holds no contest")],
)
def test_bad_input(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["claims", *arguments]) == 2
    assert words in capsys.readouterr().err
