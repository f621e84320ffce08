"""A causal language model of Hugging Face Transformers with new weights, and our attention in it.

Transformers' own attention on a CPU is PyTorch's flash kernel, whose backward pass is slow with few heads and short
contexts. Ours (``fairstep.model.base``) is registered with Transformers' interface of attention functions. It takes
over where the mask is plainly causal. Everything else goes to Transformers' own.

Transformers looks at the positions for sequences that were packed into one. Compiled it cannot look, and writes the
whole mask out. Our sequences are never packed. What it finds in one uncompiled pass therefore holds later.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from fairstep.model.attention import explicit_attention
from fairstep.model.config import EXPLICIT_ATTENTION_CONTEXT
from fairstep.runs import ForeignModelSpec, SpecError

NAME = "fairstep"
PLAIN = "fairstep_plain_mask"
"""Attribute of a config: whether an uncompiled pass left masks to the attention functions."""


def from_config(spec: ForeignModelSpec) -> torch.nn.Module:
    """The model of ``spec.config``, in float32. Raises SpecError, and whatever Transformers raises."""
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    def attention(
        module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **more: Any
    ) -> tuple[Tensor, None]:
        if _plainly_causal(module, query, key, attention_mask, **more):
            return _ours(query, key, value), None
        return sdpa_attention_forward(module, query, key, value, attention_mask, **more)

    def mask(*, config: Any, allow_is_causal_skip: bool = True, use_vmap: bool = False, **more: Any) -> Tensor | None:
        known = getattr(config, PLAIN, None)
        if torch.compiler.is_compiling():
            allow_is_causal_skip = allow_is_causal_skip or (known is True and not use_vmap)
        else:
            setattr(config, PLAIN, allow_is_causal_skip and known is not False)
        return sdpa_mask(allow_is_causal_skip=allow_is_causal_skip, use_vmap=use_vmap, **more)

    ALL_ATTENTION_FUNCTIONS.register(NAME, attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, mask)
    fields = dict(spec.config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of theirs about old keys
        config = AutoConfig.for_model(fields.pop("model_type"), **fields)
        config.vocab_size, config.use_cache, config.pad_token_id = spec.vocabulary, False, None
        if type(config) not in AutoModelForCausalLM._model_mapping:
            raise SpecError(f"{spec.source} has no causal language model in Transformers; name the config of one")
        kind = AutoModelForCausalLM._model_mapping[type(config)]
        kind = kind[0] if isinstance(kind, tuple) else kind
        ours = NAME if getattr(kind, "_supports_sdpa", False) else "eager"
        model: torch.nn.Module = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation=ours)
    if next(model.parameters()).device.type == "cpu":
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            model(torch.zeros((1, 2), dtype=torch.int64))
    return model


def _plainly_causal(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    softcap: float | None = None,
    position_bias: Tensor | None = None,
    **_: Any,
) -> bool:
    """Whether our written-out attention gives what is asked for, and is the faster one."""
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    plain = mask is None and causal and not dropout and softcap is None and position_bias is None
    usual = scaling is None or abs(scaling * query.shape[-1] ** 0.5 - 1) < 1e-9
    short = query.shape[2] == key.shape[2] <= EXPLICIT_ATTENTION_CONTEXT
    return plain and usual and short and query.device.type in ("cpu", "meta")


def _ours(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """(B, H, T, K) queries, with keys and values of as many or fewer heads, to (B, T, H, K)."""
    query, key = query.to(value.dtype), key.to(value.dtype)  # rotations widen them, and products narrow them again
    shared_by = query.shape[1] // key.shape[1]
    if shared_by > 1:
        key, value = (f.repeat_interleave(shared_by, dim=1) for f in (key, value))
    length = query.shape[2]
    mask = torch.full((length, length), float("-inf"), device=query.device).triu(1)
    return explicit_attention(query, key, value, mask).transpose(1, 2)
