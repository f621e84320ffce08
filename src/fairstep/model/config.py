"""ModelConfig: what a model is built from. Plain numbers, without torch.

``runs.ModelSpec`` holds the same fields, validated, as part of a run's identity; a test keeps the two alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

LOGITS_AT_ONCE = 2**26
"""Most logits that the loss holds at a time (256 MiB of float32)."""

EXPLICIT_ATTENTION_CONTEXT = 256
"""Longest context for which a CPU uses written-out attention: its score matrix grows with the square."""

Architecture = Literal["llama", "gpt2", "bert"]
Initialisation = Literal["depth_scaled", "flat", "fan_in"]


@dataclass(frozen=True)
class MoEConfig:
    """A mixture of experts in place of every block's MLP. Each expert has the MLP's size.

    ``routing``: every token takes its ``experts_per_token`` best experts (top_k), or every expert takes its best
    ``experts_per_token`` x T / ``experts`` tokens of each sequence (expert_choice, arXiv 2202.09368, which looks into
    the future). ``capacity_factor`` bounds what an expert takes of a sequence to that number times the factor; 0 sets
    no bound. ``balance_loss`` and ``router_z_loss`` are coefficients of the training loss's auxiliary terms, averaged
    over layers (S section 2, the defaults). ``balance_scale``: sum_e f_e P_e as in S's code, or the Switch
    Transformer's (arXiv 2101.03961, equation 4), which is ``experts`` times that.
    """

    experts: int
    experts_per_token: int = 2
    shared_experts: int = 0
    routing: Literal["top_k", "expert_choice"] = "top_k"
    capacity_factor: float = 0.0
    balance_loss: float = 0.1
    balance_scale: Literal["sum", "switch"] = "sum"
    router_z_loss: float = 0.01


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and choices of a model.

    * ``architecture``: llama (RMSNorm, RoPE, SwiGLU, no biases), gpt2 (LayerNorm, GELU, learned positions, biases) or
      bert (the same, bidirectional and with the norms after the sums; trained on masked tokens).
    * ``kv_heads``: heads of keys and values, each shared by heads / kv_heads queries (arXiv 2305.13245); 0: ``heads``.
    * ``qk_norm``: RMSNorm with a gain over each head's query and key, before the rotation.
    * ``z_loss``: coefficient of mean(logsumexp(logits)^2) in the training loss (arXiv 2204.02311, section 5).
    * ``initialisation``: depth_scaled: N(0, init_std^2), and N(0, (init_std / sqrt(2 layers))^2) for what writes to the
      residual stream (S). flat: N(0, init_std^2) for all. fan_in: normal cut at 3 standard deviations, of standard
      deviation 1 / sqrt(inputs), the embedding's 1 / width (W). Norm gains are 1 and biases 0.
    """

    layers: int
    width: int
    heads: int
    mlp_width: int
    vocabulary: int
    context: int
    tied_head: bool = False
    rope_base: float = 10_000.0
    norm_eps: float = 1e-5
    init_std: float = 0.02
    architecture: Architecture = "llama"
    kv_heads: int = 0
    qk_norm: bool = False
    z_loss: float = 0.0
    initialisation: Initialisation = "depth_scaled"
    moe: MoEConfig | None = None

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def key_width(self) -> int:
        """Outputs of the key and of the value matrix."""
        return (self.kv_heads or self.heads) * self.head_width


def config_of(fields: Mapping[str, Any]) -> ModelConfig:
    """The config of a ModelSpec's fields (``spec.model.model_dump()``). Raises TypeError for an unknown field."""
    plain = {name: value for name, value in fields.items() if name != "preset"}
    if isinstance(plain.get("moe"), Mapping):
        plain["moe"] = MoEConfig(**plain["moe"])
    return ModelConfig(**plain)
