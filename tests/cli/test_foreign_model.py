"""Anybody's model through the verbs: a contest that ends in a verdict and a page, its study file, plans, costs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.cli.test_input import refused
from tests.model import own

from fairstep.cli import main
from fairstep.cli.train import changed_code
from fairstep.data import Corpus
from fairstep.model import named
from fairstep.runs import DataSpec, RunSpec, Store, write_atomic
from fairstep.study import Workload
from fairstep.study.file.study import Study, StudyError, read

MODEL = f"{own.__file__}:build"


@pytest.fixture
def text(corpus: Corpus) -> list[str]:
    return ["--data", str(corpus.directory.parent.parent.parent / "*.txt"), "--vocabulary", "300"]


@pytest.mark.slow
def test_a_contest_on_it_ends_in_a_verdict_and_changed_code_begins_anew(
    text: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, store = tmp_path / "mine.py", tmp_path / "store"
    shutil.copy(own.__file__, file)
    command = ["compare", "adamw", "lion", "--model", f"{file}:build", *text, "--tokens", "31k", "--context", "32"]
    command += ["--seeds", "2", "--no-refine", "--extensions", "0", "--evaluation-tokens", "2000", "--no-compile"]
    command += ["--store", str(store), "--save", str(tmp_path / "saved.toml"), "--json"]
    assert main(command) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["cell"]["model"].startswith("mine.py:build@") and result["cell"]["parameters_matrix"] == 512
    assert {row["name"] for row in result["contestants"]} == {"adamw", "lion"}
    page = Path(result["report"]).read_text(encoding="utf-8")
    assert result["cell"]["model"] in page
    (ledger,) = Store(store).ledgers()
    runs = len(list(Store(store).runs()))
    assert main(["study", "run", str(tmp_path / "saved.toml"), "--store", str(store), "--json"]) == 0
    assert len(list(Store(store).runs())) == runs, "the study file is the contest, and all of its runs are there"
    assert main(["store", "check", str(store)]) == 0
    capsys.readouterr()
    file.write_text(file.read_text() + "\nANOTHER = 1\n")
    assert main([*command[:-3], "--json"]) == 0
    said = capsys.readouterr().err
    assert f"the model mine.py:build (its code, config or context) is not what {ledger.name} was run with" in said
    assert len(list(Store(store).runs())) == 2 * runs


def test_it_is_planned(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["plan", "muon", "--model", MODEL, "--vocabulary", "300", "--tokens", "1M", "--device", "h100", "--json"]
    assert main(command) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["model"].startswith("own.py:build@")
    assert row["parameters_total"] == 2 * 300 * 16 + 2 * (16 * 16 + 16) + 32
    assert row["flops"] == 6 * (512 + 300 * 16) * row["tokens"]
    assert row["memory_activations"] > 0
    assert main(["plan", "--model", MODEL, "--device", "h100"]) == 0
    assert "own.py:build@" in capsys.readouterr().out


def test_plan_and_recommend_name_a_model_in_the_same_words(capsys: pytest.CaptureFixture[str]) -> None:
    def planned(*words: str) -> int:
        assert main(["plan", *words, "--device", "h100", "--json"]) == 0
        return int(json.loads(capsys.readouterr().out)["parameters_matrix"])

    assert planned("--layers", "24", "--width", "1024") == planned("--model", "24x1024")
    assert planned("--params", "350M") == pytest.approx(350e6, rel=0.1)
    length = ["--tokens", "7B", "--batch-tokens", "512k", "--json"]
    assert main(["recommend", "--layers", "24", "--width", "1024", *length]) == 0
    assert {row["optimizer"] for row in json.loads(capsys.readouterr().out)} >= {"adamw", "muon"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["plan", "--params", "350M", "--layers", "2"], "not by --params and by --layers and --width"),
        (["plan", "--layers", "2"], "--layers and --width go together"),
        (["recommend"], "name the model by one of --model, --params, or --layers and --width"),
        (["plan", "--model", "106k", "--batch-tokens", "2k", "--batch-sequences", "2"], "keep one of them"),
        (["plan", "--model", MODEL, "--context", "-1"], "--context must be at least 0"),
        (["compare", "adamw", "muon", "--model", "nothing.py:build"], "there is no file"),
        (["train", "adamw", "--model", f"{own.__file__}:raises"], "raises RuntimeError: no GPU here"),
        (["train", "adamw", "--model", f"{own.__file__}:fewer"], "the vocabulary is 512, which build"),
    ],
)
def test_what_cannot_be_meant_is_said(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert sentence in refused(capsys, *arguments)


def test_a_study_names_it_and_refuses_choices_of_ours(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    cells = f'[[cells]]\nmodel = ["27k", "{MODEL}"]\nsteps = 20\n'
    rest = '[[contestants]]\noptimizer = ["adamw", "lion"]\n'
    file.write_text(cells + rest)
    study = read(file)
    assert isinstance(study, Study)
    names = [cell.name for cell in study.cells(study.assumed_texts())]
    assert names[0] == "27k-20-steps" and names[1].startswith("own.py:build@")
    file.write_text(cells.replace('"27k", ', "") + "qk_norm = true\n" + rest)
    with pytest.raises(StudyError, match="line 4: qk_norm is a choice of fairstep's own models"):
        read(file)


def test_a_strangers_run_is_planned_only_when_its_code_is_trusted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "theirs.py"
    shutil.copy(own.__file__, file)
    data = DataSpec(name="any", fingerprint="", vocabulary=300)
    model = named(f"{file}:build", 16).config(300)
    spec = Workload(model, data, batch_sequences=8, tokens=8 * 16 * 60).spec("adamw", {"lr": 0.01}, seed=0)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "spec.json").write_text(spec.to_json())
    command = ["plan", "--run", str(tmp_path / "run"), "--device", "h100"]
    assert "theirs.py:build, somebody's own model, and planning it would import" in refused(capsys, *command)
    assert main([*command, "--import", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters_matrix"] == 512


def test_training_says_that_the_code_is_other_than_an_earlier_runs(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    data = DataSpec(name="any", fingerprint="", vocabulary=300)

    def spec(lr: float) -> RunSpec:
        shutil.copy(own.__file__, file)
        file.write_text(file.read_text() + f"\nADDED = {written}\n")
        model = named(f"{file}:build", 16).config(300)
        return Workload(model, data, batch_sequences=8, tokens=8 * 16 * 60).spec("adamw", {"lr": lr}, seed=0)

    store, written = Store(tmp_path / "store"), 0
    first = spec(0.01)
    assert changed_code(store, first) == ""
    write_atomic(store.run(first).directory / "spec.json", first.to_json())
    assert changed_code(store, first) == "", "the same run goes on"
    assert changed_code(store, spec(0.02)) == "", "the same code with another learning rate"
    written = 1
    said = changed_code(store, spec(0.01))
    assert f"than run {first.identity} was trained with; this run begins anew" in said
    assert changed_code(store, spec(0.02)) == ""
