"""Anybody's model as a workload: what its name means, what is counted, what is refused, what a check finds."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.model import own

from fairstep.cli import main
from fairstep.cli.shared.sizes import SizeOptions, size_of
from fairstep.model import build, named, preset
from fairstep.model.factory import blocks, build_empty
from fairstep.model.facts import block_of, counts, flops_per_token, logit_floats, parameter_table
from fairstep.model.foreign.checking import examine, routes
from fairstep.model.foreign.sources import code_of, described
from fairstep.runs import RunSpec, SpecError

PLACE = "tests/model/own.py"


def test_a_factory_is_counted_without_being_computed() -> None:
    size = named(f"{PLACE}:build")
    assert size.context == 128 and size.model.vocabulary == 512
    model = size.config(300)
    table = {parameter.name: (parameter.shape, parameter.role) for parameter in parameter_table(model)}
    assert table == {
        "embedding.weight": ((300, 16), "embedding"),
        "blocks.0.weight": ((16, 16), "matrix"),
        "blocks.0.bias": ((16,), "vector"),
        "blocks.1.weight": ((16, 16), "matrix"),
        "blocks.1.bias": ((16,), "vector"),
        "norm.weight": ((16,), "vector"),
        "norm.bias": ((16,), "vector"),
        "head.weight": ((300, 16), "head"),
    }
    assert counts(model).total == 2 * 300 * 16 + 2 * (16 * 16 + 16) + 32
    assert counts(model).matrix == 512
    assert flops_per_token(model) == 6 * (512 + 300 * 16)
    assert model.token_work == 512 + 300 * 16
    assert model.facts.kept_per_token > 16 * 4
    assert logit_floats(model, 10) == 3 * 10 * 300


def test_a_tied_weight_counts_once_and_stays_tied() -> None:
    model = named(f"{PLACE}:tied").config(300)
    assert counts(model).total == 300 * 16 + 2 * (16 * 16 + 16) + 32
    copy = build_empty(model, torch.device("cpu"))
    assert copy.network.head.weight is copy.network.embedding.weight
    doubts = {route.name: route.doubt for route in routes(copy)}
    assert doubts["embedding.weight"] == "tied: embedding.weight and head.weight are one"


def test_a_module_whose_shapes_depend_on_values_is_counted_on_a_cpu() -> None:
    assert flops_per_token(named(f"{PLACE}:valued").model) == flops_per_token(named(f"{PLACE}:build").model)


@pytest.mark.parametrize("name", ["build", "swapped", "loss", "both"])
def test_every_kind_of_output_is_the_same_loss(name: str) -> None:
    """In evaluation, where sequences that are filled up do not count: the cross-entropy of the same weights."""
    torch.manual_seed(0)
    model = build(named(f"{PLACE}:{name}").config(300)).eval()
    tokens = torch.randint(300, (4, 129), generator=torch.Generator().manual_seed(1))
    inputs, targets = tokens[:, :-1], tokens[:, 1:].clone()
    targets[3] = -100
    torch.manual_seed(0)
    logits = own.Tiny(300)(inputs[:3])
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets[:3].flatten())
    assert model(inputs, targets).item() == pytest.approx(expected.item(), rel=1e-6)
    extra = 0.1 * logits.square().mean().item() if name == "both" else 0.0  # the module's own loss is what is trained
    model.train()
    assert model(inputs[:3], targets[:3]).item() == pytest.approx(expected.item() + extra, rel=1e-6)
    if name == "loss":
        with pytest.raises(SpecError, match="let forward return logits"):
            model.logits(inputs)
    else:
        assert torch.equal(model.logits(inputs[:3]), logits)


def test_roles_that_a_module_says_are_taken() -> None:
    table = {parameter.name: parameter.role for parameter in parameter_table(named(f"{PLACE}:with_roles").model)}
    assert table["stack"] == "expert"


def test_a_model_without_a_matrix_counts_all_its_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "check", f"{PLACE}:no_matrix"]) == 0
    assert "262,144 parameters, none of them in matrices" in capsys.readouterr().out
    assert named(f"{PLACE}:no_matrix").parameters_matrix == 512**2


@pytest.mark.parametrize("name", own.REFUSED)
def test_what_is_no_model_is_refused_in_one_sentence(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "check", f"{PLACE}:{name}"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("fairstep: own.py:") and said.err.count("\n") == 1
    assert own.REFUSED[name][1] in said.err


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("own.py:build", "there is no file"),
        ("no.such.module:build", "there is no module no.such.module"),
        (f"{PLACE}:absent", "has no function absent"),
        ("a:b:c", "a model is a preset"),
        ("hf:no.json", "there is no such file"),
        ("hf:nobody/nothing", "nor a model whose config.json is in the local cache"),
        ("107k", "unknown preset '107k'"),
        ("24x1000", "a multiple of 32"),
    ],
)
def test_a_name_that_means_nothing_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        named(name)


def test_a_config_is_read_before_transformers_is_needed(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    for text, sentence in (
        ("{", "it is no JSON"),
        ("[]", "it is no table"),
        ("{}", "it has no model_type"),
        ('{"model_type": "x", "auto_map": {}}', "needs code of its own repository"),
        ('{"model_type": "x", "max_position_embeddings": 64}', "has 64 positions, fewer than a context of 100"),
    ):
        file.write_text(text)
        with pytest.raises(SpecError, match=sentence):
            described(f"hf:{tmp_path}", context=100)


@pytest.mark.parametrize("name", own.FAILED)
def test_a_check_finds_what_is_wrong(name: str) -> None:
    _, check, sentence = own.FAILED[name]
    failed = {f.check: f.message for f in examine(described(f"{PLACE}:{name}", 16)) if f.status == "failed"}
    assert sentence in failed[check]


@pytest.mark.parametrize("name", ["build", "tied", "loss", "both", "counting", "with_roles"])
def test_a_right_model_passes(name: str) -> None:
    findings = {finding.check: finding for finding in examine(described(f"{PLACE}:{name}", 16))}
    assert {finding.status for finding in findings.values()} <= {"passed", "skipped"}, findings
    first = float(findings["first_loss"].message.split()[0])
    assert first == pytest.approx(math.log(512), abs=0.7)


@pytest.mark.parametrize("name", ["27k", "moe/328k", "gpt2/98k", "bert/98k"])
def test_ours_pass_too(name: str) -> None:
    model = preset(name).model.model_copy(update={"context": 16})
    findings = list(examine(model))
    assert all(finding.status != "failed" for finding in findings), findings
    assert sum(math.prod(route.shape) * route.count for route in routes(build(model))) == counts(model).total


def test_the_verb_prints_the_table_and_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    command = ["model", "check", f"{PLACE}:unused", "--vocabulary", "300", "--context", "16"]
    assert main(command) == 1
    said = capsys.readouterr().out
    assert "unused.weight" in said and "outside the blocks, and neither embedding nor head" in said
    assert "FAILED   every parameter gets a gradient" in said
    assert main([*command, "--json"]) == 1
    row = json.loads(capsys.readouterr().out)
    assert row["vocabulary"] == 300 and not row["fit"] and row["model"].startswith("own.py:unused@")
    assert {route["name"] for route in row["routes"]} >= {"blocks.*.weight", "head.weight"}


def test_the_identity_is_of_the_code_that_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit of a file that the factory imports, anywhere in it, makes another model; other files do not."""
    folder = tmp_path / "pkg"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "layers.py").write_text("WIDTH = 16\n")
    (folder / "other.py").write_text("")
    (tmp_path / "beside.py").write_text("")
    text = Path(PLACE).read_text() + "\n\ndef here(vocabulary, context):\n    from .layers import WIDTH\n    return 1\n"
    (folder / "model.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    by_file, by_module = described("pkg/model.py:build"), described("pkg.model:build")
    assert by_file.preset.startswith("model.py:build@") and by_module.preset.startswith("pkg.model:build@")
    assert by_module.directory == str(tmp_path) and by_file.directory == str(folder)
    (folder / "other.py").write_text("X = 1\n")
    (tmp_path / "beside.py").write_text("X = 1\n")
    assert described("pkg.model:build") == by_module
    (folder / "layers.py").write_text("WIDTH = 32\n")
    assert described("pkg.model:build").code != by_module.code != code_of(by_module)
    with pytest.raises(SpecError, match="changed code is another workload"):
        build(by_module)
    assert described("pkg.model:build", 64).preset != described("pkg.model:build").preset


def test_a_run_of_it_says_what_it_is_and_moves_with_its_folder(tmp_path: Path, tiny_spec: RunSpec) -> None:
    model = named(f"{PLACE}:build", 16).config(300)
    spec = tiny_spec.model_copy(update={"model": model})
    assert RunSpec.from_json(spec.to_json()) == spec
    shutil.copy(PLACE, tmp_path / "own.py")
    moved = named(f"{tmp_path}/own.py:build", 16).config(300)
    assert moved.directory != model.directory
    assert spec.model_copy(update={"model": moved}).identity == spec.identity
    assert spec.model_copy(update={"model": named(f"{PLACE}:tied", 16).config(300)}).identity != spec.identity
    assert "own.py:build" in spec.kind


def test_an_edited_file_is_loaded_anew(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from tests.model.own import Tiny\n\ndef build(vocabulary, context):\n    return Tiny(vocabulary, 16)\n"
    )
    os.utime(file, (1e9, 1e9))
    before = named(f"{file}:build")
    file.write_text(file.read_text().replace("16", "32"))
    os.utime(file, (1e9, 1e9))  # as large and of the same second: cached bytecode cannot tell
    assert named(f"{file}:build").parameters_matrix == 4 * before.parameters_matrix


@pytest.fixture
def tiny_spec() -> RunSpec:
    from fairstep.runs import DataSpec, ModelSpec, OptimizerChoice

    return RunSpec(
        model=ModelSpec(layers=1, width=16, heads=2, mlp_width=32, vocabulary=300, context=16),
        data=DataSpec(name="any", fingerprint="", vocabulary=300),
        optimizer=OptimizerChoice(name="adamw"),
        batch_sequences=8,
        tokens=8 * 16 * 60,
    )


def test_blocks_are_found_by_the_first_number_of_a_name() -> None:
    assert block_of("model.layers.3.mlp.experts.0.weight") == "model.layers.3"
    assert block_of("scales.0") == block_of("head.weight") == ""
    model = build(preset("27k").model)
    assert blocks(model) == list(model.blocks)  # type: ignore[union-attr]


def test_a_size_by_layers_and_width_is_a_model() -> None:
    model = named("3x96").model
    assert (model.layers, model.width, model.heads, model.preset) == (3, 96, 3, "3x96")  # type: ignore[union-attr]
    assert named("27k", 64).context == 64 and named("27k", 64).batch_sequences == 32


def test_plans_of_ours_load_no_torch_and_plans_of_others_count() -> None:
    code = (
        "import sys; from fairstep.cli.shared.sizes import *; size_of(SizeOptions(layers=24, width=1024)); "
        "from fairstep.study.file.cells import *; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert size_of(SizeOptions(model=f"{PLACE}:build")).parameters_matrix == 512
