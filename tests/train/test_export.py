"""Export without Transformers: what is written, found and refused. (tests/oracles compares the logits with theirs.)"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fairstep.cli import main
from fairstep.data import prepare
from fairstep.data.gpt2 import RankTokenizer
from fairstep.model import ModelConfig, MoEConfig, build
from fairstep.model.hf import hf_config, hf_weights
from fairstep.runs import Execution, Run, Store, StoreError
from fairstep.train import train
from fairstep.train.export import export_hf

TINY = ModelConfig(layers=1, width=16, heads=2, mlp_width=32, vocabulary=300, context=16)
SAVING = Execution(threads=1, compile=False, save_weights=True)


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


@pytest.mark.parametrize("change", ["shape", "missing", "nan"])
def test_weights_that_are_not_of_the_run_are_refused(change: str, run: Run, tmp_path: Path) -> None:
    path = run.directory / "weights.safetensors"
    weights = load_file(path)
    name = "blocks.0.attention.q.weight"
    if change == "missing":
        del weights[name]
    else:
        weights[name] = weights[name][:3].contiguous() if change == "shape" else weights[name] * torch.nan
    save_file(weights, path)
    with pytest.raises(ValueError, match=rf"is not of this run \({name}"):
        export_hf(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def ends(out: Path) -> tuple[set[Any], set[Any]]:
    """Ids and names of the end of a text in every file of an export."""
    config, generation, tokenizer = (
        json.loads((out / f"{name}.json").read_text()) for name in ("config", "generation_config", "tokenizer_config")
    )
    ids = {each[f"{mark}_token_id"] for each in (config, generation) for mark in ("bos", "eos", "pad")}
    return ids, {tokenizer[f"{mark}_token"] for mark in ("bos", "eos", "pad")}


def llama_2(folder: Path) -> str:
    """<unk> 0, <s> 1, </s> 2, and a template that begins every text with <s>."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<unk>", "<s>", "</s>"]
    tokenizer.train_from_iterator(
        ["a text"], trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.enable_truncation(7)
    tokenizer.save(str(folder / "tokenizer.json"))
    return str(folder / "tokenizer.json")


def ranks(folder: Path) -> RankTokenizer:
    import base64

    tokens = [bytes([byte]) for byte in range(256)] + [b"th", b"the", b" the"]
    lines = b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens))
    (folder / "x.tiktoken").write_bytes(lines)
    return RankTokenizer.read(folder / "x.tiktoken")


@pytest.mark.parametrize("kind", ["llama-2", "bytes", "ranks", "bpe", "mixture", "configured"])
def test_every_file_names_the_corpus_s_own_end_of_text(
    kind: str, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tokenizers import Tokenizer as Library

    from fairstep.data import preparation

    monkeypatch.setenv("FAIRSTEP_CACHE", str(tmp_path / "cache"))
    for number in range(40):
        (tmp_path / f"{number}.txt").write_text(f"text {number} of the words and the other words\n" * 30)
    source = str(tmp_path / "*.txt")
    names = {"llama-2": llama_2, "configured": llama_2}
    if kind == "ranks":
        monkeypatch.setattr(preparation.tokenizer, "named", lambda name: ranks(tmp_path))
    if kind == "configured":
        (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<s>"}')
    tokenizer = names[kind](tmp_path) if kind in names else "bpe" if kind == "mixture" else kind
    sources = [f"{source}=1"] if kind == "mixture" else source
    validation = {"more": source} if kind == "mixture" else None
    corpus = prepare(sources, tokenizer=tokenizer, vocabulary=280, validation=validation)
    mark, end = {
        "llama-2": ("</s>", 2),
        "configured": ("<s>", 1),
        "bytes": ("<|endoftext|>", 256),
        "ranks": ("<|endoftext|>", 259),
    }.get(kind, ("<|endoftext|>", 0))
    spec = tiny(tokens=8 * 16 * 2, schedule={"warmup_steps": 1}, execution=SAVING)
    model = spec.model.model_copy(update={"vocabulary": corpus.vocabulary})
    data = spec.data.model_copy(update={"fingerprint": corpus.fingerprint, "vocabulary": corpus.vocabulary})
    done = train(spec.model_copy(update={"model": model, "data": data}), Store(tmp_path / "store"))
    out = export_hf(done, tmp_path / "out")
    assert ends(out) == ({end}, {mark})
    theirs = Library.from_file(str(out / "tokenizer.json"))
    assert theirs.token_to_id(mark) == end
    text = "the words of a text"
    (ours,) = corpus.open_tokenizer().encode([text])
    assert theirs.encode(text).ids == ours[:-1].tolist(), "nothing is added, nothing is cut off"


def test_token_files_without_a_tokenizer_keep_their_end_of_text(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAIRSTEP_CACHE", str(tmp_path / "cache"))
    for name in ("train", "val"):
        tokens = np.random.default_rng(0).integers(0, 50_256, 5_000).astype("<u2")
        tokens[::100] = 50_256
        tokens.tofile(tmp_path / f"{name}.bin")
    corpus = prepare([str(tmp_path / "train.bin"), str(tmp_path / "val.bin")])
    spec = tiny(tokens=8 * 16 * 2, schedule={"warmup_steps": 1}, execution=SAVING)
    model = spec.model.model_copy(update={"vocabulary": corpus.vocabulary})
    data = spec.data.model_copy(update={"fingerprint": corpus.fingerprint, "vocabulary": corpus.vocabulary})
    done = train(spec.model_copy(update={"model": model, "data": data}), Store(tmp_path / "store"))
    assert main(["export", str(done.directory), "--out", str(tmp_path / "out")]) == 0
    assert "came without a tokenizer: prepare it again with --tokenizer)" in " ".join(capsys.readouterr().out.split())
    for name in ("config", "generation_config"):
        assert json.loads((tmp_path / "out" / f"{name}.json").read_text())["eos_token_id"] == 50_256


def test_a_run_without_weights_is_trained_again(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    weights = load_file(run.directory / "weights.safetensors")
    (run.directory / "weights.safetensors").unlink()
    for _ in range(2):  # the second time there is nothing to train
        assert main(["export", str(run.directory), "--again"]) == 0
        assert capsys.readouterr().out.startswith(f"{run.id}: runs/again/runs/{run.id}/hf")
    again = load_file(tmp_path / "runs/again/runs" / run.id / "weights.safetensors")
    assert again.keys() == weights.keys() and all(torch.equal(again[name], weights[name]) for name in weights)
    assert "trained again it ends" not in capsys.readouterr().err
    summary = run.summary
    assert summary is not None and summary.final_loss is not None
    run.write_summary(run.sealed(summary.model_copy(update={"final_loss": summary.final_loss + 0.25})))
    assert main(["export", str(run.directory), "--again"]) == 0
    assert f"{run.id}: trained again it ends at {summary.final_loss:.6g} nats" in " ".join(
        capsys.readouterr().err.split()
    )
    assert not run.has("weights.safetensors") and not run.has("hf")


def test_what_cannot_be_exported_is_said(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run.directory / "weights.safetensors").write_bytes(b"cut off")
    with pytest.raises(ValueError, match="cannot be read"):
        export_hf(run, tmp_path / "out")
    (run.directory / "weights.safetensors").unlink()
    assert main(["export", run.id, "--store", str(tmp_path / "store")]) == 2
    assert "has no weights.safetensors: contests and packed stores keep none" in capsys.readouterr().err
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
