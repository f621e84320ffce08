"""Which parameter plays which role: inferred from the module and the names, or said by the user.

Every parameter gets exactly one role, and through its optimizer's spec exactly one rule. A tensor whose role cannot be
inferred is an error that asks for ``roles``: nothing is guessed silently.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from fairstep.optim.engine.evident_roles import evident_role, find_heads, is_embedding, is_linear
from fairstep.optim.engine.named_parameters import named_parameters
from fairstep.optim.engine.orientation import flat_experts
from fairstep.optim.engine.said_roles import Roles, check_patterns, said
from fairstep.optim.roles import ROLES, Named, Role, Value
from fairstep.optim.spec import OptimizerSpec
from fairstep.optim.splits import SPLITS, unit


def infer_roles(params: Any, roles: Roles = None) -> dict[str, Role]:
    """Name -> role of every parameter of a module, of named parameters, or of parameters.

    * vector: fewer than two dimensions that are not 1 by construction: biases and gains of experts, magnitudes of
      weight_norm, class tokens, Mamba's A_log, filters of depthwise convolutions and of transposed ones with groups,
      and what is marked _no_weight_decay.
    * embedding: the weight of an nn.Embedding (also when the head shares it), or a name such as embed_tokens, pos_emb
      (not of a linear layer or a convolution).
    * head: a weight that is named so (lm_head, head, output, value_head; score, classifier, fc, classifier.2 if it is
      the last), one of a list of heads, the last if it has one output, or the only one with the embedding's shape,
      padded or not; only outside repeated blocks, where a wide MLP can have that shape.
    * expert: three dimensions under the name experts, or DBRX's two. router: a layer named router or
      shared_expert_gate, or in a module named router, or named gate beside experts.
    * matrix: every other weight with two dimensions, or of a convolution (flattened to output x rest, a transposed
      one's too, which torch stores as input x output x kernel).

    Unnamed two-dimensional parameters are matrices here; an optimizer whose rule depends on it refuses them. Raises
    ValueError for a tensor that none of this decides, for an unknown role, and for a name in ``roles`` that matches no
    parameter.
    """
    assigned = assign(named_parameters(params), roles)
    check_patterns(assigned, roles)
    return assigned


def assign(items: list[Named], roles: Roles = None, matters: bool = True) -> dict[str, Role]:
    """``infer_roles`` for parameters that were named before; ``roles`` may name others too.

    With ``matters`` False a tensor without an evident role is a matrix.
    """
    expert_parents = {".".join(item.path).split("experts")[0] for item in items if "experts" in item.path}
    embeddings = [item for item in items if item.tensor.ndim >= 2 and is_embedding(item)]
    heads = find_heads(items, embeddings)
    assigned: dict[str, Role] = {}
    for item in items:
        own = said(item, roles)
        if own is None:
            assigned[item.name] = evident_role(item, item in embeddings, item in heads, expert_parents, matters)
        elif own == "expert" and item.tensor.ndim < 3 and not flat_experts(item):
            raise ValueError(
                f"parameter {item.name}: the role expert is for a stack of matrices with three dimensions, "
                f"not for the shape {tuple(item.tensor.shape)}"
            )
        elif own in ROLES:
            assigned[item.name] = own
        else:
            raise ValueError(f"parameter {item.name}: unknown role {own!r}; roles are {', '.join(ROLES)}")
    return assigned


def refuse_untold(spec: OptimizerSpec, items: list[Named], assigned: Mapping[str, Role], roles: Roles) -> None:
    """Raise ValueError if a parameter that has no telling name counts as a matrix, and nobody said that it is one."""
    untold = [
        item.name for item in items if not item.telling and assigned[item.name] == "matrix" and not said(item, roles)
    ]
    if untold:
        shown = ", ".join(untold[:3]) + (f" and {len(untold) - 3} more" if len(untold) > 3 else "")
        raise ValueError(
            f"{spec.name} has another rule for embedding and head than for matrices, and nothing tells which of them "
            f"is parameter {shown}; give the module, {spec.class_name}(model), or names, "
            f"{spec.class_name}(model.named_parameters()), in param groups as "
            '{"params": model.lm_head.named_parameters("lm_head")}, or say roles="matrix" if all are matrices'
        )


def refuse_flat_experts(item: Named, roles: Roles) -> None:
    """Raise ValueError for a matrix that is said to be one by nobody, and whose name says that several experts' are in
    it (megablocks stores them one under another): a weight of a module of all experts, and no layer's."""
    path = item.path
    inside = path[path.index("experts") + 1 :] if "experts" in path else []
    frozen = isinstance(item.tensor, nn.Parameter) and not item.tensor.requires_grad
    if frozen or not inside or inside[-1] == "weight" or any(word.isdigit() for word in inside):
        return
    if item.tensor.ndim == 2 and not is_linear(item.layer) and said(item, roles) is None:
        raise ValueError(
            f"parameter {item.name} of shape {tuple(item.tensor.shape)} seems to hold the matrices of several experts, "
            "and nothing tells how many; if they lie one under another, each as output x input, say "
            f"overrides={{{item.name!r}: {{{SPLITS!r}: number of experts}}}}, and otherwise "
            f"roles={{{item.name!r}: 'matrix'}} (one matrix) or 'vector'"
        )


def check_splits(item: Named, role: Role, splits: Value) -> None:
    """Raise ValueError if a parameter, as its rule sees it, cannot be divided into such parts."""
    parts = unit(splits)
    if parts == 1:
        return
    if role == "vector":
        raise ValueError(f"parameter {item.name} has the role vector, and no rows to split; leave {SPLITS} out")
    rows = item.tensor.shape[role == "expert"]
    if rows % parts:
        meant = "equal parts" if isinstance(splits, int) else "parts in proportion"
        raise ValueError(
            f"parameter {item.name} has {rows} rows, and cannot be {splits} {meant}; the rows must be a multiple of "
            f"{parts}"
        )


def prove_partition(expected: Iterable[tuple[str, Tensor]], groups: list[dict[str, Any]]) -> None:
    """Check that param groups hold every expected parameter exactly once, and no other. Raises ValueError."""
    times = Counter(id(p) for group in groups for p in group["params"])
    for name, p in expected:
        if times.pop(id(p), 0) != 1:
            raise ValueError(f"parameter {name} must be in exactly one param group")
    if times:
        raise ValueError(f"the param groups hold {len(times)} parameters that were not given")


def table(param_groups: Iterable[Mapping[str, Any]], roles: Mapping[str, str], lr: float) -> str:
    """One line per parameter: name, shape, role, rule, learning rate, its peak over ``lr``, weight decay."""
    rows = [("parameter", "shape", "role", "rule", "lr", "ratio", "weight decay")]
    for group in param_groups:
        for name, p in zip(group["param_names"], group["params"], strict=True):
            shape = " x ".join(map(str, p.shape)) or "scalar"
            ratio = f"{float(group['peak_lr']) / lr:.3g}" if lr else "-"
            numbers = f"{float(group['lr']):.3g}", ratio, f"{group['weight_decay']:.3g}"
            rows.append((name, shape, roles[name], group["rule"], *numbers))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
