"""ModelSpec: the model of a run, by its sizes and choices."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from fairstep.runs.frozen import Frozen, Positive

Count = Annotated[int, Field(ge=0)]
Coefficient = Annotated[float, Field(ge=0)]
Architecture = Literal["llama", "gpt2", "bert", "track3"]
SCALES = ("attention_scale", "residual_scale", "output_scale")
"""Fields of a ModelSpec that multiply what a part of the model gives."""
Initialisation = Literal["depth_scaled", "flat", "fan_in", "zero_outputs", "mup"]


class MoESpec(Frozen):
    """A mixture of experts in place of every block's MLP. The defaults are S's (section 2)."""

    experts: Positive
    """Experts of each block. Each expert has the MLP's size."""
    experts_per_token: Positive = 2
    """Experts that see each token (top_k), or tokens per expert in units of T / experts (expert_choice)."""
    shared_experts: Count = 0
    """Further experts that see every token."""
    routing: Literal["top_k", "expert_choice"] = "top_k"
    """top_k: every token takes its best experts. expert_choice: every expert takes its best tokens of each sequence
    (arXiv 2202.09368), which looks into the future."""
    capacity_factor: Coefficient = 0.0
    """Largest number of a sequence's tokens that an expert takes, in units of an equal share. 0: no bound."""
    balance_loss: Coefficient = 0.1
    """Coefficient of the balance of experts in the training loss, averaged over layers."""
    balance_scale: Literal["sum", "switch"] = "sum"
    """Balance of experts. sum: the sum over experts e of f_e P_e, as in S's code. switch: that times ``experts``, as in
    the Switch Transformer (arXiv 2101.03961, equation 4)."""
    router_z_loss: Coefficient = 0.01
    """Coefficient of mean(logsumexp(router logits)^2) in the training loss, averaged over layers."""

    @model_validator(mode="after")
    def _choice(self) -> MoESpec:
        if self.experts_per_token > self.experts:
            raise ValueError(
                f"experts_per_token must be at most {self.experts} (the experts), not {self.experts_per_token}"
            )
        return self


class ModelSpec(Frozen):
    """A model by its numbers. The default choices are the dense Llama of S: pre-norm RMSNorm, RoPE, SwiGLU, no biases.

    Sizes are elements of a tensor's side.
    """

    preset: str = ""
    """Name that the sizes came from. Not part of the identity."""
    layers: Positive
    """Number of blocks."""
    width: Positive
    """Elements of a token's representation between blocks."""
    heads: Positive
    """Attention heads of queries. A head has width / heads elements, an even number."""
    mlp_width: Positive
    """Elements between the matrices of an MLP."""
    vocabulary: Positive
    """Rows of the embedding and of the head."""
    context: Positive
    """Tokens of a sequence."""
    tied_head: bool = False
    """Whether the head's weight is the embedding's."""
    rope_base: float = Field(default=10_000.0, gt=1)
    """Base b of the rotation angles position x b^(-2i / head width) (arXiv 2104.09864). track3: of its lowest."""
    norm_eps: float = Field(default=1e-5, gt=0)
    """Number that is added to the mean square (RMSNorm) or to the variance (LayerNorm)."""
    init_std: float = Field(default=0.02, gt=0)
    """Standard deviation of first weights, where ``initialisation`` uses it."""
    architecture: Architecture = "llama"
    """llama: RMSNorm, RoPE, SwiGLU, no biases. gpt2: LayerNorm, GELU, learned positions, biases. bert: as gpt2, but
    bidirectional, with norms behind the sums, and trained on masked tokens. track3: the model of modded-nanogpt's
    optimization track: squared ReLU, biases, half-rotated heads, capped logits, the embedding in bf16."""
    kv_heads: Count = 0
    """Heads of keys and values, each shared by heads / kv_heads queries (arXiv 2305.13245). 0: as many as ``heads``."""
    qk_norm: bool = False
    """RMSNorm with a gain over each head's query and key, before the rotation."""
    z_loss: Coefficient = 0.0
    """Coefficient of mean(logsumexp(logits)^2) in the training loss (arXiv 2204.02311, section 5)."""
    initialisation: Initialisation = "depth_scaled"
    """First weights; gains are 1 and biases 0. depth_scaled: N(0, init_std^2), and N(0, (init_std / sqrt(2 layers))^2)
    for what writes to the residual stream (S). flat: N(0, init_std^2) for all. fan_in: normal, cut at 3 standard
    deviations, with standard deviation 1 / sqrt(inputs), and 1 / width for the embedding (W). zero_outputs: 0 for the
    head and what writes to the residual stream, N(0, 1) for the embedding, N(0, 0.33 / inputs) else (modded-nanogpt).
    mup: 0 for the head and what writes to the residual stream, N(0, 0.1^2) for the embedding, N(0, 1 / inputs) else
    (arXiv 2512.05620).
    """
    attention_scale: Coefficient = 0.0
    """Factor of the products of queries and keys. 0: 1 / sqrt(head width)."""
    residual_scale: float = Field(default=1.0, gt=0)
    """Factor of what attention and MLP add to the residual stream."""
    output_scale: float = Field(default=1.0, gt=0)
    """Factor of the logits."""
    moe: MoESpec | None = None
    """Experts in place of every block's MLP. none: a dense model."""

    @model_serializer(mode="wrap")
    def _as_before(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without scales at their defaults, which came later: files of runs without them are written as they were."""
        fields: dict[str, Any] = written(self)
        default = {name: type(self).model_fields[name].default for name in SCALES}
        return {name: value for name, value in fields.items() if name not in default or value != default[name]}

    @property
    def elsewhere(self) -> set[str]:
        """Fields that are no part of a run's identity."""
        return {"preset"}

    @property
    def masked(self) -> bool:
        """Whether it is trained on masked tokens; the mask is the last token of its vocabulary."""
        return self.architecture == "bert"

    @property
    def head_width(self) -> int:
        """Elements of a head."""
        return self.width // self.heads

    @property
    def key_width(self) -> int:
        """Outputs of the key matrix and of the value matrix."""
        return (self.kv_heads or self.heads) * self.head_width

    @property
    def token_work(self) -> float:
        """Of a token: about the parameters that multiply it."""
        blocks = self.layers * (4 * self.width**2 + 3 * self.width * self.mlp_width)
        return float(blocks + self.width * self.vocabulary)

    @model_validator(mode="after")
    def _heads_divide_width(self) -> ModelSpec:
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(
                f"heads must divide width into even parts (RoPE rotates pairs), not {self.width} / {self.heads}"
            )
        if self.architecture == "track3" and self.head_width % 4:
            raise ValueError(
                f"heads of track3 must have a multiple of 4 elements (half of their pairs are rotated), not "
                f"{self.head_width}"
            )
        if self.kv_heads and self.heads % self.kv_heads:
            raise ValueError(f"kv_heads must divide the {self.heads} heads, not {self.kv_heads}")
        return self

    @model_validator(mode="after")
    def _a_tied_head_is_an_embedding(self) -> ModelSpec:
        for name, value in (("architecture", "track3"), ("initialisation", "zero_outputs")):
            if self.tied_head and getattr(self, name) == value:
                raise ValueError(f"{name} {value} needs a head of its own, so tied_head must be false")
        return self

    @model_validator(mode="after")
    def _only_llama_has_options(self) -> ModelSpec:
        if self.architecture != "llama":
            for name in ("kv_heads", "qk_norm", "moe", *SCALES):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"{name} is an option of the llama architecture, not of {self.architecture}")
        return self
