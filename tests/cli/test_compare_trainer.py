"""``fairstep compare --trainer``: names, a trainer in a file, and the verdict of the same study."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.external.test_study import STUDY, written

from fairstep.analysis import contest_result
from fairstep.cli import main
from fairstep.runs import CommandSpec, Store

pytestmark = pytest.mark.slow

BARE = STUDY[STUDY.index("[trainer]") : STUDY.index("[[contestants]]")]
RATES = ["--space", "lr=0.01,0.02,0.04"]


def compared(file: Path, store: Path, *more: str) -> int:
    return main(["compare", *more, "--trainer", str(file), "--store", str(store)])


def bare(folder: Path) -> Path:
    """A file with a trainer and a cell alone."""
    written(folder, BARE).rename(folder / "trainer.toml")
    return folder / "trainer.toml"


def test_names_in_somebody_elses_trainer_end_in_a_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = bare(tmp_path / "mine")
    assert compared(file, tmp_path / "store", "adamw", "muon", *RATES) == 0
    said = capsys.readouterr().out
    assert said.startswith("muon (")
    assert "is faster than adamw" in said
    assert (tmp_path / "store" / "report.html").stat().st_size > 10_000
    runs = len(Store(tmp_path / "store").runs())
    assert compared(file, tmp_path / "store", "adamw", "muon", *RATES, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["name"]: row["verdict"] for row in found["contestants"]} == {"muon": "faster", "adamw": "baseline"}
    assert len(Store(tmp_path / "store").runs()) == runs
    (ledger,) = Store(tmp_path / "store").ledgers()
    assert ledger.looks


def test_the_saved_study_file_finds_the_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, store = written(tmp_path / "mine"), tmp_path / "store"
    given = ["muon", "adamw", "--seeds", "3", "--budgets", "0.5", "--save", str(file.parent / "saved.toml")]
    assert compared(file, store, *given) == 0
    before = {run.id for run in Store(store).runs()}
    capsys.readouterr()
    assert main(["study", "run", str(file.parent / "saved.toml"), "--store", str(store), "--json"]) == 0
    assert {row["contestant"] for row in json.loads(capsys.readouterr().out)} == {"adamw", "muon"}
    assert {run.id for run in Store(store).runs()} == before
    results = [contest_result(ledger, Store(store).runs()) for ledger in Store(store).ledgers()]
    assert len({json.dumps(result["contestants"], default=str) for result in results}) == 1


def test_contestants_of_the_file_keep_what_it_says_of_them(tmp_path: Path) -> None:
    text = STUDY.rpartition("name = ")[0] + 'name = "muon, b=1"\narguments = ["--nesterov"]\n'
    file = written(tmp_path / "mine", text + 'set = { optimizer = "muon", lr = 0.02 }\n')
    given = ["adamw", "muon, b=1", "other=muon", "--set", "other.lr=0.02", "--set", "adamw.lr=0.02"]
    given += ["--seeds", "2", "--budgets"]
    assert compared(file, tmp_path / "store", *given) == 0
    specs = [run.spec for run in Store(tmp_path / "store").runs()]
    assert {(str(one.settings["optimizer"]), one.arguments) for one in specs if isinstance(one, CommandSpec)} == {
        ("adamw", ()),
        ("muon", ("--nesterov",)),
        ("muon", ()),
    }


def test_learning_rates_of_fairstep_are_a_start_and_are_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = bare(tmp_path / "mine")
    assert compared(file, tmp_path / "store", "adamw", "lion", "--seeds", "2", "--budgets", "--no-refine") == 0
    assert "adamw: its learning rates are 0.002 0.004 0.008" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["adamw"], "compare needs two or more contestants, not adamw"),
        (["adamw", "adamw"], "adamw is named twice"),
        (["adamw", "mine"], "nothing says which learning rates of mine are tried; write --space mine.lr="),
        (["adamw", "muon", "--preset", "27k"], "--model is of fairstep's own trainer"),
        (["adamw", "muon", "--set", "muon.beta=3"], "beta of muon is used nowhere in the command"),
        (["adamw", "muon", "--set", "lion.beta=3"], "--set takes CONTESTANT.NAME=VALUE with one of adamw, muon"),
        (["adamw", "muon", "--space", "lion.lr=1,2"], "is for lion, which does not compete; there are adamw, muon"),
        (["adamw", "muon", "--space", "muon.beta=1,2"], "different numbers of configurations (adamw 3, muon 6)"),
        (["adamw", "muon", "--space", "lr=0,1"], "the learning rates of adamw must be numbers above 0, not [0, 1]"),
        (["adamw", "muon", "--space", "lr=a,b"], "must be numbers above 0, not ['a', 'b']"),
        (["adamw", "muon", "--baseline", "sgd"], "the baseline 'sgd' is no contestant"),
        (["adamw", "muon", "--save", "elsewhere.toml"], "--save must be beside"),
    ],
)
def test_what_is_wrong_is_a_sentence(
    arguments: list[str], sentence: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert compared(bare(tmp_path / "mine"), tmp_path / "store", *arguments) == 2
    said = capfd.readouterr().err
    assert sentence in said
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("[trainer]", "[trainr]", "unknown key 'trainr'"),
        ("steps = 40", "steps = [40, 80]", "describes 2 cells, and compare is of one"),
        ("steps = 40", "", "the length of its runs is missing"),
        ('"{optimizer}", ', "", "optimizer of adamw is used nowhere in the command"),
    ],
)
def test_a_file_that_is_no_trainer_is_refused(
    old: str, new: str, sentence: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = bare(tmp_path / "mine")
    file.write_text(file.read_text().replace(old, new))
    assert compared(file, tmp_path / "store", "adamw", "muon") == 2
    assert sentence in capfd.readouterr().err
