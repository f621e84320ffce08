"""ModelSpec: the model of a run, by its sizes."""

from __future__ import annotations

from pydantic import Field, model_validator

from fairstep.runs.frozen import Frozen, Positive


class ModelSpec(Frozen):
    """A dense Llama (S section 2, W section 2): pre-norm RMSNorm, RoPE, SwiGLU, no biases.

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

    @model_validator(mode="after")
    def _heads_divide_width(self) -> ModelSpec:
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(
                f"heads must divide width into even parts (RoPE rotates pairs), not {self.width} / {self.heads}"
            )
        return self
