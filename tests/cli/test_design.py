"""``fairstep design`` as a user types it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from fairstep.cli import main

if TYPE_CHECKING:
    from tests.conftest import FakeContest


def test_a_stated_sigma(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["design", "--effect", "0.003", "--sigma", "0.0011", "--tokens", "2.5B", "--json"]) == 0
    design = json.loads(capsys.readouterr().out)
    assert design["deviation"] == pytest.approx(0.0011)
    first, most = map(int, design["seeds"].split(".."))
    assert (first, design["power"] >= 0.8) == (3, True)
    assert design["most_tokens"] == 2 * most * 2.5e9 and design["tokens"] < design["most_tokens"]
    found = [look["found_by_then"] for look in design["looks"]]
    assert found == sorted(found) and found[-1] == design["power"]
    assert main(["design", "--effect", "0.003", "--sigma", "0.0011", "--seeds", f"3..{most - 1}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["power"] < 0.8


def test_several_contestants_need_more(capsys: pytest.CaptureFixture[str]) -> None:
    most = []
    for count in ("1", "4"):
        assert main(["design", "--effect", "1.5", "--sigma", "1", "--contestants", count, "--json"]) == 0
        most.append(int(json.loads(capsys.readouterr().out)["seeds"].split("..")[1]))
    assert most[0] < most[1]


def test_published_repeats(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["design", "--effect", "0.003", "--sigma", "track3", "--correlation", "0"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "sigma 0.0011, 519 degrees of freedom" in said and "|t| needed" in said


def test_the_noise_of_a_store(demo_contest: FakeContest, capsys: pytest.CaptureFixture[str]) -> None:
    for ledger in [demo_contest.ledger]:
        demo_contest.store.write_ledger(ledger)
    assert (
        main(["design", "--effect", "0.05", "--store", str(demo_contest.store.path), "--seeds", "3..6", "--json"]) == 0
    )
    design = json.loads(capsys.readouterr().out)
    assert 0.005 < design["deviation"] < 0.05 and design["most_seconds"] > 0
    assert [look["seeds"] for look in design["looks"]] == [3, 4, 5, 6]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--effect", "0.003"], "give the noise once"),
        (["--effect", "0.003", "--sigma", "soon"], "--sigma must be a positive number"),
        (["--effect", "0", "--sigma", "1"], "--effect must be a difference in nats other than 0"),
        (["--effect", "1", "--sigma", "1", "--seeds", "3.."], "has no end"),
        (["--effect", "1", "--sigma", "1", "--seeds", "1"], "must begin with at least 2"),
        (["--effect", "1", "--sigma", "1", "--power", "2"], "--power must be between"),
        (["--effect", "0.01", "--sigma", "1"], "60 seeds find 0.01 nats with a probability of"),
    ],
)
def test_what_makes_no_design_is_one_sentence(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["design", *arguments]) == 2
    assert words in " ".join(capsys.readouterr().err.split())
