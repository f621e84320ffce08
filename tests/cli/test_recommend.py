"""``fairstep recommend`` as a user types it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from fairstep.cli import main
from fairstep.cli.recommend import bytes_of
from fairstep.cli.shared.options import token_count

if TYPE_CHECKING:
    from tests.conftest import FakeContest


def rows(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert main(["recommend", *arguments, "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_rows_are_flat_and_have_a_reason_for_every_number(capsys: pytest.CaptureFixture[str]) -> None:
    found = rows(capsys, "--params", "350M", "--tokens", "7B", "--batch-tokens", "500k", "--memory", "16GB")
    assert {row["optimizer"] for row in found} >= {"adamw", "muon", "soap", "lion", "ademamix"}
    for row in found:
        assert not any(isinstance(value, dict | list) for value in row.values())
        assert row["low"] <= row["speedup"] <= row["high"]
        assert row["gap_low"] <= row["gap"] <= row["gap_high"]
        assert row["reason"] and row["lr_reason"] and row["memory_reason"] and row["overhead_reason"]
        assert row["against_adamw"] == ("baseline" if row["optimizer"] == "adamw" else row["against_adamw"])
        assert (row["low"] > 1) == (row["against_adamw"] == "faster")
    by = {row["optimizer"]: row for row in found}
    assert by["muon"]["state_bytes"] < by["adamw"]["state_bytes"] < by["soap"]["state_bytes"]
    assert by["lion"]["fits"] is True
    assert by["soap"]["fits"] is False
    assert 0.004 < by["adamw"]["lr"] < 0.008, "between W's 0.008 at 300m and 0.004 at 520m"
    assert by["soap"]["outside"] == ""


def test_outside_the_data_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", "--params", "3B", "--tokens", "60B", "--top", "1"]) == 0
    text = capsys.readouterr().out
    assert "OUTSIDE THE DATA" in text
    assert "matrix parameters" in text
    assert "beyond them" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--params", "350M", "--tokens", "7B", "--batch-tokens", "7B"],
            "(1 step, fewer than 100; tokens a batch 6.89e+03",
        ),
        (
            ["--params", "350M", "--tokens", "1M", "--batch-tokens", "500k"],
            "(2 steps, fewer than 100; Chinchilla ratio",
        ),
        (
            ["--params", "350M", "--tokens", "100M", "--batch-tokens", "500k"],
            "(Chinchilla ratio 70 times below the data)",
        ),
        (
            ["--params", "350M", "--tokens", "7B", "--batch-tokens", "1"],
            "(tokens a batch 1.64e+04 times below the data)",
        ),
        (["--params", "37B", "--tokens", "14800B", "--batch-tokens", "60M"], "(matrix parameters 60 times above"),
    ],
)
def test_no_verdict_where_nobody_measured(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", *arguments, "--top", "1"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("No verdict: nobody measured anything like it (")
    assert words in text.splitlines()[0]
    assert "at 95 %:" not in text
    assert "no rank" in text
    for row in rows(capsys, *arguments):
        assert row["against_adamw"] == ("baseline" if row["optimizer"] == "adamw" else "no verdict")
        assert abs(row["gap"]) < 0.5


def test_nothing_is_recommended_that_does_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    large = ["--params", "70B", "--tokens", "15T", "--batch-tokens", "4M", "--memory", "80GB"]
    assert main(["recommend", *large, "--top", "0"]) == 0
    assert capsys.readouterr().out.startswith("Nothing fits into 80 GB: ")
    assert main(["recommend", "--params", "350M", "--memory", "2GB", "--top", "0"]) == 0
    assert capsys.readouterr().out.startswith("Nothing fits into 2 GB: scion has the smallest peak, 7.46 GB")
    assert main(["recommend", "--params", "350M", "--memory", "8GB", "--top", "0"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert "No optimizer of what fits into 8 GB is faster than adamw at 95 % here" in first
    assert "muon" in first
    assert "mars-adamw" not in first, "it leads, and needs 10.7 GB"


def test_the_coverage_printed_is_of_cells_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", "--params", "350M", "--top", "0"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert (
        "95 % intervals contain 94.4% (a paper left out), 94.2% (a model size left out), 97.3% (a cell left out)."
        in text
    )


@pytest.mark.parametrize(("written", "amount"), [("15T", 15e12), ("15000B", 15e12), ("1.5t", 1.5e12), ("2e3B", 2e12)])
def test_amounts_go_up_to_t(written: str, amount: float) -> None:
    assert token_count(written) == amount
    assert bytes_of("1.5TB") == bytes_of("1500GB") == 1.5e12


def test_own_contests_count(demo_contest: FakeContest, capsys: pytest.CaptureFixture[str]) -> None:
    demo_contest.store.write_ledger(demo_contest.ledger)
    place = ["--params", "213k", "--tokens", "1M", "--batch-tokens", "1024"]
    without = {row["optimizer"]: row for row in rows(capsys, *place)}
    found = {row["optimizer"]: row for row in rows(capsys, *place, "--store", str(demo_contest.store.path))}
    assert found["muon"]["high"] / found["muon"]["low"] < 1.4 < without["muon"]["high"] / without["muon"]["low"]
    assert found["muon"]["against_adamw"] == "faster"
    assert found["muon"]["lr"] == 1.6e-2
    assert found["muon"]["lr_reason"] == "chosen in your contest contest"


def test_ledgers_of_the_same_runs_count_once(demo_contest: FakeContest, capsys: pytest.CaptureFixture[str]) -> None:
    """T-06: with four copies of the ledger SOAP's interval narrowed from [1.18, 1.57] to [1.27, 1.45]."""
    demo_contest.store.write_ledger(demo_contest.ledger)
    place = ["--params", "213k", "--tokens", "1M", "--batch-tokens", "1024", "--store", str(demo_contest.store.path)]
    once = rows(capsys, *place)
    for name in "abcd":
        demo_contest.store.write_ledger(demo_contest.ledger.model_copy(update={"name": name}))
    assert rows(capsys, *place) == once
    assert rows(capsys, *place, str(demo_contest.store.path))[0]["high"] == once[0]["high"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--params", "many"], "--params must be a positive number"),
        (["--params", "1M", "--tokens", "1k", "--batch-tokens", "1M"], "more than the run's"),
        (["--params", "1M", "--memory", "lots"], "--memory must be an amount such as 40GB"),
        (["--params", "1M", "--store", "/nowhere"], "holds no contest"),
    ],
)
def test_bad_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", *arguments]) == 2
    assert message in capsys.readouterr().err
