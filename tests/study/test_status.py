"""What ``fairstep study status`` says of a store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.study.test_runner import Pretender, carried

from fairstep.cli import main
from fairstep.runs import Store


def test_status_prints_certificates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    carried(Store(tmp_path).writable(), Pretender())
    assert main(["study", "status", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    for words in (
        "16 of 16 trials",
        "adamw: ",
        "muon: ",
        "configuration    lr=0.002",
        "best move",
        "4 trials, 3 fresh runs",
    ):
        assert words in said
    assert main(["study", "status", str(tmp_path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["contestant"] for row in rows] == ["adamw", "muon"]
    assert rows[0]["configuration"] == {"lr": 0.002}
    assert rows[0]["coordinates"][0]["tried"] == [0.001, 0.004, 0.008]
    assert rows[0]["trials_done"] == rows[0]["trials_known"] == 16


def test_a_store_without_ledgers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "status", str(tmp_path)]) == 2
    assert "has no ledger; name the folder that a contest was run in" in capsys.readouterr().err
