"""Models of Hugging Face Transformers in our trainer: our weights give them our losses, and their own are checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.train.test_parallel import curve, processes
from tests.training import cache, corpus, tiny

from fairstep.model import build, named, preset
from fairstep.model.facts import counts, flops_per_token
from fairstep.model.foreign.checking import examine
from fairstep.model.hf import hf_config, hf_weights
from fairstep.runs import Execution, Store
from fairstep.train import train
from fairstep.train.export import export_hf

transformers = pytest.importorskip("transformers", reason="install the extra eval")

__all__ = ["cache", "corpus", "tiny"]

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]  # theirs are not ours to mend

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
ROTATION = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}, "max_position_embeddings": 64}
EXPERTS = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {**SIZES, **ROTATION},
    "tied": {**SIZES, **ROTATION, "model_type": "llama", "tie_word_embeddings": True},
    "qwen3": {**SIZES, **ROTATION, "num_key_value_heads": 2, "head_dim": 8},
    "mistral": {**SIZES, **ROTATION, "num_key_value_heads": 2, "sliding_window": 8},
    "mixtral": {**SIZES, **ROTATION, **EXPERTS, "num_key_value_heads": 2, "output_router_logits": True},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "resid_pdrop": 0.1},
    "gpt_neox": {**SIZES, **ROTATION},
}


@pytest.fixture
def config(tmp_path: Path) -> Any:
    """A function that writes config.json and gives the name of its model."""

    def written(fields: dict[str, Any]) -> str:
        (tmp_path / "config.json").write_text(json.dumps(fields))
        return f"hf:{tmp_path}"

    return written


def test_the_llama_of_106k_gives_our_losses_with_our_weights(config: Any) -> None:
    """20 steps of gradient descent: forward and backward passes are the same. Tolerances as for exported logits."""
    ours_spec = preset("106k").config(300)
    theirs_spec = named(config(hf_config(ours_spec))).config(300)
    assert flops_per_token(theirs_spec) == flops_per_token(ours_spec)
    assert (counts(theirs_spec).total, counts(theirs_spec).matrix) == (
        counts(ours_spec).total,
        counts(ours_spec).matrix,
    )
    torch.manual_seed(0)
    ours, theirs = build(ours_spec), build(theirs_spec)
    theirs.network.load_state_dict(hf_weights(ours_spec, {n: p.detach() for n, p in ours.named_parameters()}))
    optimizers = [torch.optim.SGD(model.network.parameters(), lr=0.5) for model in (ours, theirs)]
    draw = torch.Generator().manual_seed(0)
    for _ in range(20):
        windows = torch.randint(300, (4, 129), generator=draw)
        windows[:, 1::2] = windows[:, 0:-1:2]  # something to learn
        losses = []
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            loss = model(windows[:, :-1], windows[:, 1:])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        assert losses[0] == pytest.approx(losses[1], abs=2e-5, rel=1e-4)
    assert losses[0] < 5.6


@pytest.mark.parametrize("name", CONFIGS)
def test_their_models_pass_the_checks(name: str, config: Any) -> None:
    spec = named(config({"model_type": name, **CONFIGS[name]}), 16).config(300)
    findings = list(examine(spec))
    assert all(finding.status != "failed" for finding in findings), findings
    assert counts(spec).matrix > 4 * 32 * 32


@pytest.mark.parametrize("name", ["llama", "qwen3", "mistral"])
def test_our_attention_is_theirs(name: str, config: Any) -> None:
    """Logits with ours registered and with Transformers' own, where a window slides too."""
    torch.manual_seed(0)
    model: Any = build(named(config({"model_type": name, **CONFIGS[name]}), 32).config(300)).network
    tokens = torch.randint(300, (2, 32))
    assert model.config._attn_implementation == "fairstep"
    with torch.no_grad():
        ours = model(tokens).logits
        model.set_attn_implementation("sdpa")
        assert torch.allclose(model(tokens).logits, ours, atol=2e-5, rtol=1e-4)


def test_a_run_of_theirs_is_exported_as_it_is(config: Any, tiny: Any, tmp_path: Path) -> None:
    spec = named(config({**CONFIGS["tied"]}), 16).config(300)
    how = Execution(threads=1, compile=False, save_weights=True)
    run = train(tiny("muon", lr=0.02, model=spec, execution=how), Store(tmp_path / "store"))
    assert run.summary is not None and run.summary.final_loss is not None and run.summary.final_loss < 4.5
    out = export_hf(run, tmp_path / "out")
    theirs, loading = transformers.AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert type(theirs).__name__ == "LlamaForCausalLM"
    assert not loading["unexpected_keys"] and not loading["mismatched_keys"] and not loading["missing_keys"]
    from fairstep.data import open_corpus, validation_windows

    windows = torch.from_numpy(
        validation_windows(open_corpus(run.own_spec.data.fingerprint, 300).validation(), context=16, max_tokens=1000)
    )
    with torch.no_grad():
        logits = theirs(windows[:, :-1]).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten()).item()
    assert loss == pytest.approx(run.summary.final_loss, rel=1e-5)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"model_type": "no_such_kind"}, "Transformers cannot build hf:no_such_kind"),
        ({"model_type": "vit"}, "has no causal language model in Transformers"),
    ],
)
def test_what_transformers_cannot_build_is_said(fields: dict[str, Any], sentence: str, config: Any) -> None:
    with pytest.raises(ValueError, match=sentence):
        named(config(fields))


def test_a_model_id_is_read_from_the_local_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    folder = tmp_path / "models--nobody--small"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc" / "config.json").write_text(json.dumps({"model_type": "llama", **CONFIGS["llama"]}))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    model = named("hf:nobody/small", 16)
    assert model.name.startswith("hf:small@") and model.parameters_matrix > 0
    with pytest.raises(ValueError, match=r"nor a model whose config.json is in the local cache"):
        named("hf:nobody/large")


def test_other_transformers_are_another_workload(config: Any) -> None:
    spec = named(config({"model_type": "llama", **CONFIGS["llama"]})).model
    older = spec.model_copy(update={"code": "transformers 4.0.0"})
    with pytest.raises(ValueError, match=r"by transformers 4.0.0, and here is transformers"):
        build(older)


@pytest.mark.dist
@pytest.mark.parametrize("mode", ["ddp-sharded", "fsdp"])
def test_two_processes_give_the_losses_of_one(mode: Any, config: Any, tiny: Any, tmp_path: Path) -> None:
    how = Execution(threads=1, compile=False, parallel=mode)
    spec = tiny("muon", model=named(config(CONFIGS["tied"]), 16).config(300), tokens=8 * 16 * 20, execution=how)
    train(spec, Store(tmp_path / "one"))
    code, output, _ = processes(spec, tmp_path / "two", 2)
    assert code == 0, output
    assert curve(tmp_path / "two", spec) == pytest.approx(curve(tmp_path / "one", spec), rel=2e-5)
