"""ModelSpec: the model of a run, by its sizes and choices (``model.config`` says what each means)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fairstep.runs.frozen import Frozen, Positive

Count = Annotated[int, Field(ge=0)]
Coefficient = Annotated[float, Field(ge=0)]


class MoESpec(Frozen):
    """Experts in place of every block's MLP (defaults: S section 2)."""

    experts: Positive
    experts_per_token: Positive = 2
    shared_experts: Count = 0
    routing: Literal["top_k", "expert_choice"] = "top_k"
    capacity_factor: Coefficient = 0.0
    balance_loss: Coefficient = 0.1
    balance_scale: Literal["sum", "switch"] = "sum"
    router_z_loss: Coefficient = 0.01

    @model_validator(mode="after")
    def _choice(self) -> MoESpec:
        if self.experts_per_token > self.experts:
            raise ValueError(
                f"experts_per_token must be at most {self.experts} (the experts), not {self.experts_per_token}"
            )
        return self


class ModelSpec(Frozen):
    """A model by its numbers. The default choices are the dense Llama of S: pre-norm RMSNorm, RoPE, SwiGLU, no biases.

    Sizes are elements of a tensor's side. ``preset`` is only the name that the sizes came from.
    """

    preset: str = ""
    layers: Positive
    width: Positive
    heads: Positive
    mlp_width: Positive
    vocabulary: Positive
    context: Positive
    tied_head: bool = False
    rope_base: float = Field(default=10_000.0, gt=1)
    norm_eps: float = Field(default=1e-5, gt=0)
    init_std: float = Field(default=0.02, gt=0)
    architecture: Literal["llama", "gpt2", "bert"] = "llama"
    kv_heads: Count = 0
    qk_norm: bool = False
    z_loss: Coefficient = 0.0
    initialisation: Literal["depth_scaled", "flat", "fan_in"] = "depth_scaled"
    moe: MoESpec | None = None

    @model_validator(mode="after")
    def _heads_divide_width(self) -> ModelSpec:
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(
                f"heads must divide width into even parts (RoPE rotates pairs), not {self.width} / {self.heads}"
            )
        if self.kv_heads and self.heads % self.kv_heads:
            raise ValueError(f"kv_heads must divide the {self.heads} heads, not {self.kv_heads}")
        return self

    @model_validator(mode="after")
    def _only_llama_has_options(self) -> ModelSpec:
        if self.architecture != "llama":
            for name in ("kv_heads", "qk_norm", "moe"):
                if getattr(self, name):
                    raise ValueError(f"{name} is an option of the llama architecture, not of {self.architecture}")
        return self
