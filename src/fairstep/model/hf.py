"""Our weights under the names and in the layout of Hugging Face Transformers, so that other tools can read a model.

Llama becomes LlamaForCausalLM (Qwen3ForCausalLM with QK-norm), experts MixtralForCausalLM (Qwen3MoeForCausalLM), GPT-2
GPT2LMHeadModel. Our rotation takes interleaved pairs of a head's elements; Transformers' takes its halves. The rows of
query and key matrices are reordered accordingly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from fairstep.model.config import ModelConfig
from fairstep.runs.model_spec import SCALES


def hf_config(config: ModelConfig) -> dict[str, Any]:
    """config.json. Raises ValueError, saying which choice, for a model that Transformers has no equal of."""
    shared = {"vocab_size": config.vocabulary, "tie_word_embeddings": config.tied_head, "dtype": "float32"}
    if config.architecture == "gpt2":
        return shared | {
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "n_embd": config.width,
            "n_layer": config.layers,
            "n_head": config.heads,
            "n_inner": config.mlp_width,
            "n_positions": config.context,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": config.norm_eps,
            "attn_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "resid_pdrop": 0.0,
        }
    if config.architecture == "track3":
        raise ValueError("Transformers has no model like track3 (squared ReLU, half-rotated heads, a bias of the head)")
    if config.architecture != "llama":
        raise ValueError(f"only decoders can be exported, not {config.architecture}: it has no loss of the next token")
    for scale in SCALES:
        if getattr(config, scale) != type(config).model_fields[scale].default:
            raise ValueError(f"Transformers' Llama has no {scale}; only models without one can be exported")
    moe = config.moe
    if moe is not None and (moe.routing != "top_k" or moe.capacity_factor or moe.shared_experts):
        choice = (
            "expert_choice routing"
            if moe.routing != "top_k"
            else "a capacity_factor"
            if moe.capacity_factor
            else "shared_experts without a gate"
        )
        raise ValueError(f"Transformers has no model with {choice}; only top_k experts without bound can be exported")
    kind, name = {
        (False, False): ("llama", "LlamaForCausalLM"),
        (True, False): ("qwen3", "Qwen3ForCausalLM"),
        (False, True): ("mixtral", "MixtralForCausalLM"),
        (True, True): ("qwen3_moe", "Qwen3MoeForCausalLM"),
    }[config.qk_norm, moe is not None]
    common = shared | {
        "architectures": [name],
        "model_type": kind,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads or config.heads,
        "head_dim": config.head_width,
        "intermediate_size": config.mlp_width,
        "max_position_embeddings": config.context,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_base,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_base},
        "hidden_act": "silu",
        "attention_bias": False,
    }
    if moe is None:
        return common | ({} if config.qk_norm else {"mlp_bias": False})
    common |= {"num_experts_per_tok": moe.experts_per_token, "num_local_experts": moe.experts, "sliding_window": None}
    if config.qk_norm:
        common |= {"num_experts": moe.experts, "moe_intermediate_size": config.mlp_width, "norm_topk_prob": True}
    return common


def hf_weights(config: ModelConfig, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Their names and tensors for ours (``named_parameters``). A tied head is left out, as they do.

    Raises ValueError for weights that are not this config's.
    """
    try:
        return dict(_gpt2(config, weights) if config.architecture == "gpt2" else _llama(config, weights))
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"the weights do not belong to the model in the run's spec: {error}") from None


def _halves(rows: Tensor, heads: int) -> Tensor:
    """Elements 0 2 4 ... 1 3 5 ... of every head, for rows of an attention matrix or a gain (one head)."""
    return rows.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2).contiguous()


def _llama(config: ModelConfig, weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    moe_block, moe_names = (
        ("mlp", {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"})
        if config.qk_norm
        else ("block_sparse_moe", {"gate": "w1", "up": "w3", "down": "w2"})
    )
    yield "model.embed_tokens.weight", weights["embedding.weight"]
    for n in range(config.layers):
        ours, theirs = f"blocks.{n}.", f"model.layers.{n}."
        yield theirs + "input_layernorm.weight", weights[ours + "attention_norm.weight"]
        yield theirs + "post_attention_layernorm.weight", weights[ours + "mlp_norm.weight"]
        attention = theirs + "self_attn."
        yield attention + "q_proj.weight", _halves(weights[ours + "attention.q.weight"], config.heads)
        yield (
            attention + "k_proj.weight",
            _halves(weights[ours + "attention.k.weight"], config.kv_heads or config.heads),
        )
        yield attention + "v_proj.weight", weights[ours + "attention.v.weight"]
        yield attention + "o_proj.weight", weights[ours + "attention.o.weight"]
        for name in ("q_norm", "k_norm") if config.qk_norm else ():
            yield f"{attention}{name}.weight", _halves(weights[f"{ours}attention.{name}.weight"], 1)
        if config.moe is None:
            for name in ("gate", "up", "down"):
                yield f"{theirs}mlp.{name}_proj.weight", weights[f"{ours}mlp.{name}.weight"]
            continue
        yield f"{theirs}{moe_block}.gate.weight", weights[ours + "mlp.router.weight"]
        for name, their_name in moe_names.items():
            for e, expert in enumerate(weights[f"{ours}mlp.experts.{name}"]):
                yield f"{theirs}{moe_block}.experts.{e}.{their_name}.weight", expert.clone()
    yield "model.norm.weight", weights["norm.weight"]
    if not config.tied_head:
        yield "lm_head.weight", weights["head.weight"]


def _gpt2(config: ModelConfig, weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Their linear maps are stored input x output, and q, k, v as one."""
    yield "transformer.wte.weight", weights["embedding.weight"]
    yield "transformer.wpe.weight", weights["positions.weight"]
    for n in range(config.layers):
        ours, theirs = f"blocks.{n}.", f"transformer.h.{n}."
        for kind in ("weight", "bias"):
            qkv = torch.cat([weights[f"{ours}attention.{name}.{kind}"] for name in ("q", "k", "v")])
            linear = {
                "attn.c_attn": qkv,
                "attn.c_proj": weights[f"{ours}attention.o.{kind}"],
                "mlp.c_fc": weights[f"{ours}mlp.up.{kind}"],
                "mlp.c_proj": weights[f"{ours}mlp.down.{kind}"],
            }
            for name, value in linear.items():
                yield f"{theirs}{name}.{kind}", value.T.contiguous() if kind == "weight" else value
            yield f"{theirs}ln_1.{kind}", weights[f"{ours}attention_norm.{kind}"]
            yield f"{theirs}ln_2.{kind}", weights[f"{ours}mlp_norm.{kind}"]
    for kind in ("weight", "bias"):
        yield f"transformer.ln_f.{kind}", weights[f"norm.{kind}"]
    if not config.tied_head:
        yield "lm_head.weight", weights["head.weight"]
