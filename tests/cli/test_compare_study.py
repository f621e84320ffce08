"""``compare`` as a study of one cell: what names its ledger, and the study file that ``--save`` writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.study.simulate import SimulatedLauncher

from fairstep.cli import main
from fairstep.cli.compare import CompareOptions, baseline_of, contestant_tables, save, study_of
from fairstep.cli.shared import options, texts
from fairstep.data import Corpus
from fairstep.report.contest_sections import cell_words
from fairstep.runs import Ledger, Machine, Store
from fairstep.runs.differences import distinct
from fairstep.study import carry_out
from fairstep.study.file.cells import Text
from fairstep.study.file.study import Study, read

SGD = "torch.optim:SGD"
CONTESTS = {
    "plain": ["adamw", "lion"],
    "spaces": ["adamw", SGD, "lion", "--space", "lr=1e-3,4e-3,16e-3", "--space", "adamw.lr=1e-3,3e-3"],
    "settings": ["adamw", "torch.optim:Adam", "--set", "torch.optim:Adam.betas=[0.8,0.9]", "--set", "adamw.beta2=0.98"],
    "several": ["muon", "soap", "--space", "muon.weight_decay=0,0.1", "--space", "soap.weight_decay=0,0.1"],
    "course": ["adamw", "lion", "--schedule", "wsd", "--budgets", "0.25", "--seeds", "4", "--precision", "bf16"],
}


@pytest.fixture
def text(corpus: Corpus) -> list[str]:
    folder = corpus.directory.parent.parent.parent
    return ["--data", str(folder / "*.txt"), "--vocabulary", "300", "--tokens", "20k"]


def described(*arguments: str) -> tuple[Study, dict[str, Text]]:
    parsed = options.parse(CompareOptions, "compare", list(arguments))
    contestants = contestant_tables(parsed)
    return study_of(parsed, contestants, baseline_of(parsed, [str(one.optimizer) for one in contestants]))


def ledgers(study: Study, read_texts: dict[str, Text], threads: int = 0) -> dict[str, Ledger]:
    return study.ledgers(study.contest(read_texts, threads), "")


def carried(study: Study, read_texts: dict[str, Text], store: Store, threads: int = 1) -> tuple[Ledger, int]:
    """The contest on losses of a formula: its ledger, and how many runs were started."""
    launcher = SimulatedLauncher(lambda spec: 3 + spec.optimizer.hyperparameters["lr"], failures=0, hangs=0)  # type: ignore[operator]
    contest = study.contest(read_texts, threads)
    (ledger,) = carry_out(contest, ledgers(study, read_texts, threads), store, launcher).values()
    return ledger, launcher.started.total()


@pytest.mark.parametrize("name", CONTESTS)
def test_a_saved_study_is_the_contest(name: str, text: list[str], tmp_path: Path) -> None:
    """The same ledger and the same runs, also where grids grow: the file's study has nothing left to do."""
    study, read_texts = described(*CONTESTS[name], *text)
    save(study, tmp_path / "saved.toml")
    again = read(tmp_path / "saved.toml")
    assert again.table == study.table
    assert texts.texts_of(again) == read_texts
    store = Store(tmp_path / "store").writable()
    ledger, started = carried(study, read_texts, store)
    repeated, more = carried(again, read_texts, store, threads=2)
    assert (started > 10, more) == (True, 0)
    assert (repeated.name, repeated.cell, repeated.baseline) == (ledger.name, ledger.cell, ledger.baseline)
    assert (repeated.choices, repeated.certificates) == (ledger.choices, ledger.certificates)
    assert sorted(map(repr, repeated.trials)) == sorted(map(repr, ledger.trials))
    assert len(store.ledgers()) == 1
    assert ":" not in ledger.name and ledger.name.startswith(study.name.replace(":", "_"))


def test_where_and_how_a_contest_runs_does_not_name_its_ledger(
    text: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def name(*more: str) -> str:
        study, read_texts = described("adamw", "lion", *text, *more)
        (ledger,) = ledgers(study, read_texts).values()
        return ledger.name

    here = name("--precision", "float32")
    for more in (["--threads", "1"], ["--threads", "2"], ["--workers", "3"], ["--no-compile"], ["--epochs", "5"]):
        assert name("--precision", "float32", *more) == here
    assert name("--precision", "float32", "--micro-batch-sequences", "4") == here
    assert name("--precision", "float32", "--seeds", "4..9") == here, "more seeds go on in the same ledger"
    for more in (["--no-refine"], ["--tokens", "30k"], ["--set", "lion.beta1=0.8"], ["--points", "4"]):
        assert name("--precision", "float32", *more) != here
    assert name("--precision", "bf16") != here
    elsewhere = Machine(processor="another", cores=96, memory_bytes=10**12, cpu_bf16=True, gpus=8)
    for module in ("fairstep.cli.shared.options", "fairstep.study.file.study"):
        monkeypatch.setattr(f"{module}.machine", lambda: elsewhere)
    assert name("--precision", "float32") == here


def test_stores_of_two_machines_merge(
    text: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, read_texts = described("adamw", "lion", *text, "--threads", "1")
    carried(study, read_texts, Store(tmp_path / "one").writable(), threads=1)
    other, read_texts = described("adamw", "lion", *text, "--threads", "2", "--no-compile")
    carried(other, read_texts, Store(tmp_path / "two").writable(), threads=2)
    stores = [str(tmp_path / name) for name in ("one", "two")]
    assert main(["report", *stores, "--json", "--out", str(tmp_path / "page.html")]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 2, "one contest with two contestants"
    assert {row["contest"] for row in rows} == {next(iter(Store(stores[0]).ledgers())).name}
    assert {row["store"] for row in rows} == {" + ".join(stores)}


def test_a_ledger_under_an_earlier_name_is_left_as_it_is(text: list[str], tmp_path: Path, capsys: Any) -> None:
    """Its runs are the contest's, so nothing is repeated, and both are reported."""
    study, read_texts = described("adamw", "lion", *text)
    store = Store(tmp_path).writable()
    ledger, _ = carried(study, read_texts, store)
    (store.ledgers_folder / f"{ledger.name}.json").unlink()
    old = ledger.model_copy(update={"name": "adamw-lion-01234567", "study": ""})
    store.write_ledger(old)
    _, started = carried(study, read_texts, store)
    assert started == 0
    assert {one.name for one in store.ledgers()} == {old.name, ledger.name}
    assert store.ledger(old.name) == old
    assert main(["report", str(tmp_path), "--contest", old.name, "--json"]) == 0
    assert {row["name"] for row in json.loads(capsys.readouterr().out)["contestants"]} == {"adamw", "lion"}
    assert main(["study", "status", str(tmp_path), "--study", "adamw-lion", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 4


def test_another_text_under_the_same_path_is_refused(
    text: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study, _ = described("adamw", "lion", *text)
    path = tmp_path / "saved.toml"
    save(study, path)
    digits = next(iter(study.table.data.values())).fingerprint
    path.write_text(path.read_text().replace(digits, digits[::-1]))
    assert main(["study", "run", str(path), "--store", str(tmp_path / "store")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"has the fingerprint {digits[:16]}..., and the study is of the text {digits[::-1][:16]}" in said
    assert f"{path}, line " in said


def test_what_save_refuses(text: list[str], tmp_path: Path) -> None:
    study, _ = described("adamw", "lion", *text)
    with pytest.raises(ValueError, match=r"ends in .toml, not mine.txt"):
        save(study, Path("mine.txt"))
    path = tmp_path / "folder" / "mine.toml"
    save(study, path)
    save(study, path)
    other, _ = described("adamw", "lion", *text, "--seeds", "5")
    with pytest.raises(ValueError, match="would write over"):
        save(other, path)


def test_a_title_names_a_contest_and_decides_nothing(text: list[str]) -> None:
    study, texts_ = described("adamw", "lion", *text)
    titled, _ = described("adamw", "lion", *text, "--title", "with more decay")
    assert study.digest == titled.digest
    (one,), (other,) = ledgers(study, texts_).values(), ledgers(titled, texts_).values()
    assert (one.name, other.title) == (other.name, "with more decay")
    second = other.model_copy(update={"name": "second"})
    assert distinct([one, second]) == ["title"]
    assert cell_words(second).startswith("with more decay · ")
