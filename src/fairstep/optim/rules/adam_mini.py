"""Adam-mini: AdamW with one second moment for each block of weights.

    m  <- beta1 m + (1 - beta1) g
    v_b <- beta2 v_b + (1 - beta2) mean of g^2 over block b
    u  = (m / (1 - beta1^t)) / (sqrt(v_b / (1 - beta2^t)) + eps)
    W  <- (1 - lr lambda) W - lr u

Blocks, which are always whole rows of a matrix:

    query and key of attention                       the rows of one head
    every other matrix, embedding and head           one row: one neuron, one token
    vectors                                          the whole tensor    vector_blocks "tensor": the paper
                                                     each element        vector_blocks "element": W
    biases                                           each element

Query and key are known by the name of their layer (q, q_proj, wq, query, k, ...), a bias by ending in "bias", and the
rows of a head by head_size, or by the attention module that holds the layer: its head_width, head_dim, head_size or
what else Transformers calls it, or its number of heads, of which each has inputs / heads rows. Where the size of a head
is not known, as in a plain list of parameters, each row of query and key is a block, which is finer than the paper's
and uses more memory, not less.
``param_groups`` show the choice as ``block_rows`` (0: the whole tensor).

Y. Zhang et al., "Adam-mini: Use Fewer Learning Rates To Gain More", arXiv 2406.16793, as in the authors' version 1.1.1.
Optimizer state: 1 float per parameter and 1 per block.

Differences from other implementations: the authors find all blocks by parts of names, and one number per tensor where
none fits. Version 1.0 and pytorch-optimizer have another, coarser partition. W stores v at full size. A fused
query-key-value matrix has a block for each row (the authors' code does not support it).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fairstep.optim._lazy import torch
from fairstep.optim.roles import KEY, QUERY
from fairstep.optim.rule import Context, RowSharding, Rule, State
from fairstep.optim.rules.adamw import ADAMW
from fairstep.optim.spec import Grid, Hyperparameter, OptimizerSpec, Part, Schedule

if TYPE_CHECKING:
    from torch import Tensor

    from fairstep.optim.roles import Named

HEAD_SIZES = ("head_width", "head_dim", "head_size", "attention_head_size", "key_value_proj_dim", "d_head", "dim_head")
HEAD_COUNTS = ("heads", "num_heads", "n_heads", "n_head", "num_attention_heads")


class AdamMiniRule(Rule):
    """Matrices, embedding and head."""

    name = "adam-mini"
    state_formula = "N + o, or N and 1 for each head of query and key"
    flops_per_element = 8
    rows_by_default = 1
    written = ("block_rows",)

    def settings(self, item: Named, *, head_size: int) -> dict[str, Any]:
        rows = 1
        if item.layer_name in QUERY | KEY:
            rows = head_size or _head_size(item) or 1
            if len(item.tensor) % rows:
                raise ValueError(
                    f"adam-mini: {item.name} has {len(item.tensor)} rows, which heads of {rows} do not divide"
                )
        return {"block_rows": rows}

    def _blocks(self, o: int, context: Context) -> int:
        rows = context.group.get("block_rows", self.rows_by_default)
        return o // rows if rows else 1

    def init(self, param: Tensor, *, context: Context) -> dict[str, Tensor]:
        blocks = self._blocks(param.shape[-2], context)
        return {"m": torch.zeros_like(param), "v": param.new_zeros(len(param), blocks)}

    def update(
        self, grad: Tensor, state: State, param: Tensor, step: int, *, beta1: float, beta2: float, eps: float
    ) -> Tensor:
        m, v = state["m"].lerp_(grad, 1 - beta1), state["v"]  # (s, o, i), (s, blocks)
        v.lerp_(grad.square().reshape(*v.shape, -1).mean(-1), 1 - beta2)
        root = (v / (1 - beta2**step)).sqrt_().add_(eps).mul_(1 - beta1**step)
        return (m.reshape(*v.shape, -1) / root[..., None]).reshape(m.shape)

    def row_sharding(self, o: int, i: int, *, context: Context) -> RowSharding | None:
        rows = int(context.group.get("block_rows", self.rows_by_default))
        return RowSharding(rows) if rows else None

    def state_floats(self, o: int, i: int, *, context: Context) -> int:
        return o * i + self._blocks(o, context)


class VectorRule(AdamMiniRule):
    name = "adam-mini-vector"
    state_formula = "N + 1, or 2 N for biases"
    rows_by_default = 0

    def settings(self, item: Named, *, vector_blocks: str) -> dict[str, Any]:  # type: ignore[override]
        return {"block_rows": int(vector_blocks == "element" or item.name.endswith("bias"))}


def _head_size(item: Named) -> int:
    """Rows of a head, as the module around the layer says, or 0."""
    for name in HEAD_SIZES:
        if isinstance(size := getattr(item.owner, name, None), int):
            return size
    for name in HEAD_COUNTS:
        if isinstance(heads := getattr(item.owner, name, None), int):
            return item.tensor.shape[1] // heads
    return 0


_PAPER = "arXiv 2406.16793"

ADAM_MINI = OptimizerSpec(
    name="adam-mini",
    class_name="AdamMini",
    aliases=("mini",),
    title="Adam-mini",
    reference="Zhang et al. 2024, https://arxiv.org/abs/2406.16793",
    parts=(
        Part(("matrix", "embedding", "head", "expert", "router"), AdamMiniRule()),
        Part(("vector",), VectorRule()),
    ),
    hyperparameters={
        **{name: ADAMW.hyperparameters[name] for name in ("lr", "weight_decay", "beta1", "beta2", "eps")},
        "head_size": Hyperparameter(0, "rows of a head in query and key; 0: as the module says", _PAPER, "[0, inf)"),
        "vector_blocks": Hyperparameter(
            "tensor", "blocks of vectors other than biases", f"{_PAPER}; element in W", ("tensor", "element")
        ),
    },
    search_space={"lr": Grid.geometric(2e-3, 3, "AdamW's grid: W's best is 8e-3 for both at 130M")},
    lr_unit="as AdamW, in root mean square over a block",
    schedule=Schedule("cosine", 0.1, 0.0, "cosine to 0 is W's; warm-up as for AdamW"),
)
