"""Exported weights give the models of Hugging Face Transformers our logits; lm-eval scores what we would score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training import cache, corpus, tiny

from fairstep.cli import main
from fairstep.model import ModelConfig, MoEConfig, build
from fairstep.model.hf import hf_config, hf_weights
from fairstep.runs import Execution, ModelSpec, Store
from fairstep.train import train

transformers = pytest.importorskip("transformers", reason="install the extra eval")

__all__ = ["cache", "corpus", "tiny"]

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]  # theirs are not ours to mend

TINY = ModelConfig(
    layers=2, width=32, heads=4, mlp_width=48, vocabulary=64, context=24, rope_base=5000.0, norm_eps=1e-6
)
CONFIGS = {
    "llama": (TINY, "LlamaForCausalLM"),
    "tied": (TINY.model_copy(update={"tied_head": True}), "LlamaForCausalLM"),
    "gqa": (TINY.model_copy(update={"kv_heads": 2}), "LlamaForCausalLM"),
    "qk_norm": (TINY.model_copy(update={"qk_norm": True, "kv_heads": 2}), "Qwen3ForCausalLM"),
    "moe": (TINY.model_copy(update={"moe": MoEConfig(experts=4)}), "MixtralForCausalLM"),
    "moe_qk_norm": (TINY.model_copy(update={"moe": MoEConfig(experts=4), "qk_norm": True}), "Qwen3MoeForCausalLM"),
    "gpt2": (TINY.model_copy(update={"architecture": "gpt2", "tied_head": True}), "GPT2LMHeadModel"),
}


def with_random_weights(config: ModelConfig) -> torch.nn.Module:
    """Every tensor matters: gains and biases are drawn too, and all is large enough to show in the logits."""
    torch.manual_seed(0)
    model = build(config)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p) * 0.15 + (1.0 if p.ndim == 1 else 0.0))
    return model.eval()


@pytest.mark.parametrize("name", CONFIGS)
def test_exported_weights_give_their_model_our_logits(name: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    config, expected = CONFIGS[name]
    model: Any = with_random_weights(config)
    weights = hf_weights(config, {n: p.detach() for n, p in model.named_parameters()})
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(hf_config(config)))
    theirs, loading = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert type(theirs).__name__ == expected
    assert not loading["missing_keys"] and not loading["unexpected_keys"] and not loading["mismatched_keys"]
    assert sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in model.parameters())
    tokens = torch.randint(0, 64, (3, 24))
    with torch.no_grad():
        ours, found = model.logits(tokens), theirs(tokens).logits
    assert ours.std() > 0.3
    assert torch.allclose(ours, found, atol=2e-5, rtol=1e-4)


def test_the_encoder_is_theirs() -> None:
    """Their BertModel with our weights, and segment embeddings of 0, ends in our hidden states."""
    config = TINY.model_copy(update={"architecture": "bert", "norm_eps": 1e-12})
    model: Any = with_random_weights(config)
    theirs = transformers.BertModel(
        transformers.BertConfig(
            vocab_size=64,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=48,
            max_position_embeddings=24,
        ),
        add_pooling_layer=False,
    ).eval()
    names = {
        "embedding": "embeddings.word_embeddings",
        "positions": "embeddings.position_embeddings",
        "norm": "embeddings.LayerNorm",
    }
    for n in range(2):
        layer = f"encoder.layer.{n}."
        inner = {"q": "self.query", "k": "self.key", "v": "self.value", "o": "output.dense"}
        names |= {f"blocks.{n}.attention.{ours}": f"{layer}attention.{name}" for ours, name in inner.items()}
        names[f"blocks.{n}.attention_norm"] = layer + "attention.output.LayerNorm"
        names[f"blocks.{n}.mlp.up"] = layer + "intermediate.dense"
        names[f"blocks.{n}.mlp.down"] = layer + "output.dense"
        names[f"blocks.{n}.mlp_norm"] = layer + "output.LayerNorm"
    state = {"embeddings.token_type_embeddings.weight": torch.zeros(2, 32)}
    for name, p in model.named_parameters():
        if name != "head.weight":
            stem, _, kind = name.rpartition(".")
            state[f"{names[stem]}.{kind}"] = p.detach()
    theirs.load_state_dict(state)
    tokens = torch.randint(0, 64, (3, 24))
    with torch.no_grad():
        assert torch.allclose(model.hidden(tokens)[0], theirs(tokens).last_hidden_state, atol=2e-5, rtol=1e-4)


TASK = """
task: which_follows
dataset_path: json
dataset_kwargs:
  data_files: {data}
test_split: train
output_type: multiple_choice
doc_to_text: "{{{{text}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{label}}}}"
metric_list:
  - metric: acc
"""


@pytest.mark.slow
@pytest.mark.parametrize("experts", [False, True])
def test_a_run_is_scored_through_lm_eval_on_a_local_task(
    experts: bool, tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sentences of the corpus's grammar: the trained model knows the word that is spelled right. And the scores are
    our own model's: the accuracy is recomputed from its losses."""
    pytest.importorskip("lm_eval", reason="install the extra eval")
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf_home"))
    sizes = {"layers": 1, "width": 32, "heads": 2, "mlp_width": 64, "vocabulary": 300, "context": 32}
    model = ModelSpec(**sizes, moe={"experts": 4} if experts else None)
    execution = Execution(threads=1, compile=False, save_weights=True)
    store = tmp_path / "store"
    run = train(tiny(model=model, tokens=8 * 32 * 150, execution=execution), Store(store))
    assert run.status == "done"
    pairs = [("the cat", "sees", "sxex"), ("a dog", "likes", "lkise"), ("our model", "follows", "wollofs")]
    docs = [
        {
            "text": f"{who} likes a dog.\n{who}",
            "choices": [f" {right}", f" {wrong}"][:: 1 - 2 * (n % 2)],
            "label": n % 2,
        }
        for who, _, _ in pairs
        for n, (_, right, wrong) in enumerate(pairs)
    ]
    data = tmp_path / "docs.jsonl"
    data.write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "which_follows.yaml").write_text(TASK.format(data=data))
    command = ["eval", run.id[:8], "--store", str(store), "--tasks", "which_follows", "--task-folder", str(tasks)]
    assert main([*command, "--json"]) == 0
    row = json.loads(capsys.readouterr().out.splitlines()[-1])["tasks"]["which_follows"]
    assert row["samples"] == len(docs)
    assert row["acc,none"] == pytest.approx(_accuracy(run, docs))
    assert row["acc,none"] > 0.8
    assert main([*command, "--limit", "2"]) == 0
    assert "which_follows" in capsys.readouterr().out
    data.write_text(json.dumps({"text": "the cat", "choices": [" sees" * 99, " likes"], "label": 0}) + "\n")
    assert main(command) == 2
    assert "an answer has no token or more than the model's context of 32" in " ".join(capsys.readouterr().err.split())
    assert main([*command[:4], "--tasks", "no_such_task"]) == 2
    assert "lm-eval has no task 'no_such_task'" in capsys.readouterr().err


def _accuracy(run: Any, docs: list[dict[str, Any]]) -> float:
    """The share of questions whose right answer is the more likely one to our own module with the run's weights."""
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    from fairstep.data import open_corpus

    model = build(run.spec.model.model_dump()).eval()
    model.load_state_dict(load_file(run.directory / "weights.safetensors"))
    data = run.spec.data
    tokenizer = Tokenizer.from_file(str(open_corpus(data.fingerprint, data.vocabulary).directory / "tokenizer.json"))
    right = 0
    for doc in docs:
        scores = []
        for choice in doc["choices"]:
            prompt, whole = (tokenizer.encode(text).ids for text in (doc["text"], doc["text"] + choice))
            tokens = torch.tensor([whole[-33:]])
            with torch.no_grad():
                likely = model.logits(tokens[:, :-1]).log_softmax(-1).gather(2, tokens[:, 1:, None])[0, :, 0]
            scores.append(likely[len(prompt) - len(whole) :].sum().item())
        right += scores.index(max(scores)) == doc["label"]
    return right / len(docs)
