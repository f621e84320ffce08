"""What a training step keeps of every token for its backward pass, counted without building a model or torch."""

from __future__ import annotations

from fairstep.model.config import ModelConfig


def kept_per_token(config: ModelConfig, compiled: bool, explicit_attention: bool) -> float:
    """Numbers that one block keeps of one token, in the precision of the matrix products.

    With width D, MLP width F (times the experts that a token sees), heads H and context T; a tensor counts when an
    operation's derivative needs it:

    * attention: its input, query, key, value and what the output matrix reads: 5 D (keys and values of their own
      width); written-out attention (short contexts on a CPU) also H T probabilities.
    * MLP: gate, up, and their product, which the last matrix reads: 3 F; GELU's MLP 2 F.
    * two norms and the sums around them: 2 D; uncompiled also their normalised inputs, 3 D, and the gated half, F.
    """
    width, mlp = config.width, config.mlp_width
    inputs = 1
    if config.moe is not None:
        inputs = config.moe.experts_per_token + config.moe.shared_experts
    attention = 3 * width + 2 * config.key_width
    if explicit_attention:
        attention += config.heads * config.context
    halves = (3 if compiled else 4) if config.architecture == "llama" else 2
    norms = 2 if compiled else 5
    experts = 2 * inputs * width if config.moe is not None else 0  # every assignment's own copy of input and output
    return attention + halves * inputs * mlp + norms * width + experts
