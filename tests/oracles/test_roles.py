"""The role of every parameter of models that people train, reviewed by hand: ``roles.json``, repeated blocks once.

python -m tests.oracles.test_roles        writes the file anew, for review
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fairstep.optim import Muon

transformers = pytest.importorskip("transformers", reason="install the extra oracle")

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]  # theirs are not ours to mend

FILE = Path(__file__).with_name("roles.json")
SMALL = {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
WIDE = {**SMALL, "intermediate_size": 64}
LLAMA = {**WIDE, "num_key_value_heads": 2}
CLASSES = {"num_labels": 3, "pad_token_id": 0}
OPT = {"vocab_size": 96, "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", {"vocab_size": 96, "n_embd": 32, "n_layer": 1, "n_head": 4}),
    "llama": ("LlamaForCausalLM", "LlamaConfig", LLAMA),
    "llama-classifier": ("LlamaForSequenceClassification", "LlamaConfig", {**LLAMA, **CLASSES}),
    "mixtral": ("MixtralForCausalLM", "MixtralConfig", {**LLAMA, "num_local_experts": 4}),
    "qwen2-moe": (
        "Qwen2MoeForCausalLM",
        "Qwen2MoeConfig",
        {**LLAMA, "num_experts": 4, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 32},
    ),
    "gpt-oss": ("GptOssForCausalLM", "GptOssConfig", {**LLAMA, "head_dim": 8, "num_local_experts": 4}),
    "llama4": (
        "Llama4ForCausalLM",
        "Llama4TextConfig",
        {**LLAMA, "head_dim": 8, "intermediate_size_mlp": 64, "num_local_experts": 4},
    ),
    "opt": ("OPTForCausalLM", "OPTConfig", {**OPT, "word_embed_proj_dim": 32, "max_position_embeddings": 64}),
    "bert-classifier": ("BertForSequenceClassification", "BertConfig", {**WIDE, **CLASSES}),
    "roberta-classifier": ("RobertaForSequenceClassification", "RobertaConfig", {**WIDE, **CLASSES}),
    "musicgen": (
        "MusicgenForCausalLM",
        "MusicgenDecoderConfig",
        {**SMALL, "vocab_size": 96, "ffn_dim": 64, "num_codebooks": 2, "pad_token_id": 0, "bos_token_id": 0},
    ),
    "t5": (
        "T5ForConditionalGeneration",
        "T5Config",
        {"vocab_size": 96, "d_model": 32, "d_ff": 64, "num_layers": 1, "num_heads": 4, "d_kv": 8},
    ),
    "vit": (
        "ViTForImageClassification",
        "ViTConfig",
        {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "image_size": 32,
         "patch_size": 8, "num_labels": 5},
    ),
    "dbrx": (
        "DbrxForCausalLM",
        "DbrxConfig",
        {"vocab_size": 96, "d_model": 32, "n_heads": 4, "n_layers": 1,
         "attn_config": {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 1e4},
         "ffn_config": {"ffn_hidden_size": 16, "moe_num_experts": 4, "moe_top_k": 2, "hidden_size": 32}},
    ),
    "electra-discriminator": ("ElectraForPreTraining", "ElectraConfig", {**WIDE, "embedding_size": 16}),
    "mamba": ("MambaForCausalLM", "MambaConfig", {**SMALL, "state_size": 4}),
}  # fmt: skip


def table(name: str) -> dict[str, str]:
    """Parameter, with the number of its block as N -> role, and whether it is stored as input x output."""
    model, config, settings = MODELS[name]
    settings = {k: v for k, v in settings.items() if name != "mamba" or k != "num_attention_heads"}
    build: Callable[[Any], Any] = getattr(transformers, model)
    optimizer = Muon(build(getattr(transformers, config)(**settings)))
    return {
        re.sub(r"\.\d+\.", ".N.", name): f"{role}, in x out" if name in optimizer.in_by_out else role
        for name, role in optimizer.roles.items()
    }


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_has_the_role_that_was_reviewed(name: str) -> None:
    assert table(name) == json.loads(FILE.read_text(encoding="utf-8"))[name]


if __name__ == "__main__":
    FILE.write_text(json.dumps({name: table(name) for name in MODELS}, indent=1) + "\n", encoding="utf-8")
