"""Export without Transformers: what is written, found and refused. (tests/oracles compares the logits with theirs.)"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fairstep.cli import main
from fairstep.model import ModelConfig, MoEConfig, build
from fairstep.model.hf import hf_config, hf_weights
from fairstep.runs import Execution, Run, Store, StoreError
from fairstep.train import train
from fairstep.train.export import export_hf

TINY = ModelConfig(layers=1, width=16, heads=2, mlp_width=32, vocabulary=300, context=16)


@pytest.fixture
def run(tiny: Any, tmp_path: Path) -> Run:
    execution = Execution(threads=1, compile=False, save_weights=True)
    return train(tiny(tokens=8 * 16 * 5, schedule={"warmup_steps": 1}, execution=execution), Store(tmp_path / "store"))


def test_a_run_becomes_a_folder_with_its_tokenizer(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["export", run.id[:6], "--store", str(tmp_path / "store"), "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "run": run.id,
        "directory": str(out),
        "format": "hf",
        "tokenizer": True,
    }
    config = json.loads((out / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["eos_token_id"] == 0
    ours, theirs = load_file(run.directory / "weights.safetensors"), load_file(out / "model.safetensors")
    assert sum(t.numel() for t in theirs.values()) == sum(t.numel() for t in ours.values())
    assert torch.equal(theirs["model.embed_tokens.weight"], ours["embedding.weight"])
    assert main(["export", str(run.directory)]) == 0
    assert (run.directory / "hf/config.json").exists()


def test_what_cannot_be_exported_is_said(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run.directory / "weights.safetensors").write_bytes(b"cut off")
    with pytest.raises(ValueError, match="cannot be read"):
        export_hf(run, tmp_path / "out")
    (run.directory / "weights.safetensors").unlink()
    assert main(["export", run.id, "--store", str(tmp_path / "store")]) == 2
    assert "has no weights.safetensors: save its weights" in capsys.readouterr().err
    assert main(["eval", "zz", "--tasks", "piqa", "--store", str(tmp_path / "store")]) == 2
    assert "'zz' is neither a run directory nor the beginning" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"is not a run: it has no spec\.json"):
        export_hf(Run(tmp_path / "nothing"), tmp_path / "out")
    assert not (tmp_path / "out/config.json").exists()


def test_an_ambiguous_beginning_is_refused(tmp_path: Path) -> None:
    for name in ("ab12", "ab34"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "spec.json").write_text("{}")
    assert Store(tmp_path).find("ab3").id == "ab34"
    with pytest.raises(StoreError, match=r"2 runs of .* begin with 'ab'; give more digits"):
        Store(tmp_path).find("ab")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architecture": "bert"}, "only decoders can be exported, not bert"),
        ({"moe": MoEConfig(experts=4, routing="expert_choice")}, "no model with expert_choice routing"),
        ({"moe": MoEConfig(experts=4, shared_experts=1)}, "no model with shared_experts without a gate"),
        ({"moe": MoEConfig(experts=4, capacity_factor=1.5)}, "no model with a capacity_factor"),
    ],
)
def test_models_without_an_equal_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        hf_config(TINY.model_copy(update=change))


def test_weights_of_another_model_are_refused() -> None:
    weights = dict(build(TINY).named_parameters())
    with pytest.raises(ValueError, match="do not belong to the model"):
        hf_weights(TINY.model_copy(update={"layers": 2}), weights)
