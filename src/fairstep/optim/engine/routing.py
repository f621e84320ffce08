"""Which parameter plays which role: inferred from the module and the names, or said by the user.

Every parameter gets exactly one role, and through its optimizer's spec exactly one rule. A tensor whose role cannot be
inferred is an error that asks for ``roles``: nothing is guessed silently.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from fairstep.optim.engine.orientation import flat_experts
from fairstep.optim.roles import AROUND, ROLES, Named, Role, Value
from fairstep.optim.spec import OptimizerSpec, nearest
from fairstep.optim.splits import SPLITS, unit

Roles = str | Mapping[str, str] | Callable[[str, Tensor], str | None] | None
"""A user's own roles: names or patterns ("*.gate.weight") -> role, a function that returns a role or None, or the one
role of every parameter with two dimensions or more ("matrix")."""

HEAD_NAMES = {"head", "lm_head", "output", "unembedding", "unembed", "output_projection", "embed_out", "to_logits"}
LAST_HEAD_NAMES = {"score", "classifier", "fc", "decoder", "out", "qa_outputs"}
"""Names of a head if it is the last of the layers outside repeated blocks."""
HEADS = {*HEAD_NAMES, "heads", "score", "classifier", "fc"}
"""Names of modules, beside those that end in _head or _heads, whose last layer is a head if it has a number (as in a
``Sequential``) or one of ``LAST_IN_HEADS``."""
LAST_IN_HEADS = {"out_proj", "proj", "fc", "linear", "summary"}
POSITION_NAMES = {"wpe", "pos_emb", "pos_embed", "pos_embedding", "position_embedding", "position_embeddings",
                  "positional_embedding", "positional_embeddings", "embed_positions"}  # fmt: skip
EMBEDDING_NAMES = {"embedding", "embeddings", "embed", "wte", "embed_tokens", "tok_embeddings", "token_embedding",
                   "tok_emb", "embed_in", "word_embeddings", "token_type_embeddings", "shared",
                   "relative_attention_bias", *POSITION_NAMES}  # fmt: skip


def named_parameters(params: Any) -> list[Named]:
    """Parameters of a module, of (name, parameter) pairs, or of an iterable of parameters (named by position).

    The "_orig_mod." that torch.compile puts into names is taken out. Raises TypeError for anything else and ValueError
    for an empty list, a repeated name or parameter, and parameters that are complex or have no elements.
    """
    if isinstance(params, nn.Module):
        layers = {}
        for module in params.modules():
            for tensor in module.parameters(recurse=False):
                # A tied weight belongs to its embedding, whichever of its layers comes first.
                if id(tensor) not in layers or isinstance(module, nn.Embedding):
                    layers[id(tensor)] = module
        items = [
            Named(name, tensor, *_holders(params, name, layers[id(tensor)]))
            for name, tensor in params.named_parameters()
        ]
    elif isinstance(params, Tensor):
        raise TypeError("params must be a module or an iterable of parameters, not one tensor; write [parameter]")
    elif isinstance(params, set):
        raise TypeError("params must have an order that is the same in every run; a set has none, so give a list")
    elif isinstance(params, Mapping):
        raise TypeError(
            "params must be a module or an iterable of parameters, not a dict; give its .items(), or a list of param "
            "groups"
        )
    elif not isinstance(params, Iterable):
        raise TypeError(f"params must be a module or an iterable of parameters, not {params!r}")
    else:
        items = [_named(number, item) for number, item in enumerate(params)]
    if not items:
        raise ValueError("the parameter list is empty; give a module with parameters, or named parameters")
    items = [replace(item, name=item.name.replace("_orig_mod.", "")) for item in items if not _is_frozen_code(item)]
    if not items:
        raise ValueError("all parameters are frozen and no floating-point numbers; nothing is left to train")
    for item in items:
        if nn.parameter.is_lazy(item.tensor):
            raise ValueError(f"parameter {item.name} has no shape yet; run its lazy module once before")
        if not item.tensor.numel():
            shape = " x ".join(map(str, item.tensor.shape))
            raise ValueError(f"parameter {item.name} has no elements ({shape}); leave it out")
        if item.tensor.is_complex():
            raise ValueError(f"parameter {item.name} is complex; give its real view (torch.view_as_real)")
        if not item.tensor.is_floating_point():
            raise ValueError(
                f"parameter {item.name} has dtype {item.tensor.dtype}; only floating-point ones are trained"
            )
        if item.tensor.requires_grad and item.tensor.layout == torch.strided and _overlaps(item.tensor):
            raise ValueError(f"parameter {item.name} has elements that share memory (expand); give a clone of it")
        if not (item.tensor.is_leaf or item.tensor.retains_grad):
            raise ValueError(
                f"parameter {item.name} is computed from other tensors (not a leaf); give those, or an nn.Parameter"
            )
    names: dict[int, str] = {}
    for item in items:
        other = names.setdefault(id(item.tensor), item.name)
        if other != item.name:
            raise ValueError(f"{other} and {item.name} are the same parameter; give a shared weight once")
    for repeated, count in Counter(item.name for item in items).items():
        if count > 1:
            raise ValueError(f"the name {repeated} is given {count} times; names must be unique")
    return items


def _holders(root: nn.Module, name: str, layer: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The layer of a parameter, of a parametrized one's too, and the module that has the layer by its name."""
    *path, _ = name.split(".")
    if isinstance(layer, nn.utils.parametrize.ParametrizationList):
        path = path[: path.index("parametrizations")]
        layer = root.get_submodule(".".join(path))
    while path and (path[-1] in AROUND or "modules_to_save" in path[-2:-1]):
        path = path[:-1] if path[-1] in AROUND else path[:-2]
    return layer, root.get_submodule(".".join(path[:-1]))


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
    embeddings = [item for item in items if item.tensor.ndim >= 2 and _is_embedding(item)]
    heads = _find_heads(items, embeddings)
    assigned: dict[str, Role] = {}
    for item in items:
        own = said(item, roles)
        if own is None:
            assigned[item.name] = _infer(item, item in embeddings, item in heads, expert_parents, matters)
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


def _named(number: int, item: Any) -> Named:
    """A parameter of a list, with or without its name."""
    pair = isinstance(item, tuple)
    name, tensor = item if pair and len(item) == 2 else (str(number), item)
    if not isinstance(name, str):
        raise TypeError(f"parameter {number} must have a text as its name, not {name!r}")
    if not isinstance(tensor, Tensor):
        kind = type(tensor).__name__
        told = "; give {'params': module} for a param group" if isinstance(tensor, nn.Module) else ""
        raise TypeError(f"parameter {name} must be a tensor, not {kind}{told}")
    return Named(name, tensor, telling=pair)


def _overlaps(tensor: Tensor) -> bool:
    return any(stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True))


def _is_frozen_code(item: Named) -> bool:
    """Whether these are a frozen layer's quantised weights, which no optimizer ever steps."""
    tensor = item.tensor
    if not isinstance(tensor, nn.Parameter) or tensor.requires_grad:
        return False
    return not (tensor.is_floating_point() or tensor.is_complex())


def _is_vector(item: Named) -> bool:
    """Of a tensor with two dimensions or more: whether it is no map from inputs to outputs."""
    own, tensor, layer = item.name.rpartition(".")[2], item.tensor, item.layer
    if own.endswith("bias") or own in ("A_log", "weight_g") or getattr(tensor, "_no_weight_decay", False):
        return True
    if _is_magnitude(item):
        return True
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        return layer.groups > 1
    if isinstance(layer, nn.modules.conv._ConvNd):
        return layer.groups > 1 and layer.groups == layer.in_channels
    return tensor.ndim > 2 and tensor.shape[-1] == tensor.numel()


def _is_magnitude(item: Named) -> bool:
    """Whether these are weight_norm's lengths, of rows or along another dimension."""
    parametrized = item.name.endswith(".original0") and ".parametrizations." in f".{item.name}"
    return parametrized and max(item.tensor.shape) == item.tensor.numel()


def _infer(item: Named, is_embedding: bool, is_head: bool, expert_parents: set[str], matters: bool) -> Role:
    path, tensor = item.name.split("."), item.tensor
    if tensor.ndim < 2:
        return "vector"
    if is_embedding:
        return "embedding"
    if is_head:
        return "head"
    if _is_vector(item):
        return "vector"
    if (tensor.ndim == 3 and "experts" in path) or flat_experts(item):
        return "expert"
    if tensor.ndim == 2:
        container, layer = ["", *_layer_path(item)][-2:]
        if "router" in (container, layer) or layer == "shared_expert_gate":
            return "router"
        if layer == "gate" and _parent(item) in expert_parents:
            return "router"
        return "matrix"
    known = isinstance(item.layer, (nn.modules.conv._ConvNd, nn.Bilinear)) or "parametrizations" in path
    if tensor.ndim >= 4 or known or not matters:
        return "matrix"
    if isinstance(tensor, nn.Parameter) and not tensor.requires_grad:  # a table that is not trained
        return "vector"
    raise ValueError(
        f"parameter {item.name} of shape {tuple(tensor.shape)} has no evident role; say it with "
        f"roles={{{item.name!r}: 'expert'}} (a stack of matrices), 'matrix' (flattened to {len(tensor)} rows) or "
        "'vector'"
    )


def _is_embedding(item: Named) -> bool:
    name = _layer_name(item)
    if _is_magnitude(item):
        return False
    if item.tensor.ndim > 2:  # one table for all sequences of a batch
        return name in POSITION_NAMES and item.tensor.shape[0] == 1
    if item.path[-1] == "weight" and isinstance(item.layer, (nn.Embedding, nn.EmbeddingBag)):
        return True
    return name in EMBEDDING_NAMES and not _is_linear(item.layer)


def _is_linear(layer: nn.Module | None) -> bool:
    """Whether a layer multiplies by its weight, whatever it is named: torch's, and others' that are called so."""
    known = isinstance(layer, (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd))
    return known or any(word in type(layer).__name__.lower() for word in ("linear", "conv"))


def _find_heads(items: list[Named], embeddings: list[Named]) -> list[Named]:
    """Weights that are named as heads, else the only one with an embedding's shape; outside repeated blocks.

    A vocabulary is often padded to a multiple of 8 or more, by less than an eighth.
    """
    shapes = {tuple(item.tensor.shape) for item in embeddings}
    outside = [item for item in items if not any(part.isdigit() for part in item.path[:-2])]
    linear = [i for i in outside if i.tensor.ndim == 2 and i not in embeddings and not _is_magnitude(i)]
    named = [item for item in linear if _layer_name(item) in HEAD_NAMES or _is_one_of_heads(item)]
    if not named and linear and _is_last_head(linear[-1]):
        named = linear[-1:]
    shaped = [item for item in linear if tuple(item.tensor.shape) in shapes]
    padded = [item for item in linear if any(_pads(item.tensor, *shape) for shape in shapes if len(shape) == 2)]
    heads = named or next((found for found in (shaped, padded) if len(found) == 1), [])
    return [*heads, *(item for item in linear if item not in heads and _layer_name(item).endswith("_head"))]


def _is_one_of_heads(item: Named) -> bool:
    """Of a list such as lm_heads, with a head for each codebook or each of the next tokens."""
    *_, container, layer = "", "", *_layer_path(item)
    return layer.isdigit() and container.endswith("heads") and not isinstance(item.owner, nn.Sequential)


def _is_last_head(item: Named) -> bool:
    """Of the last of the layers outside repeated blocks: by its name, or because it makes one number (ELECTRA's
    dense_prediction, a value) and is no gate."""
    name = _layer_name(item)
    one = len(item.tensor) == 1 and item.path[-1] == "weight" and not name.endswith(("gate", "router"))
    return one or name in LAST_HEAD_NAMES or _ends_a_head(item)


def _ends_a_head(item: Named) -> bool:
    """Whether it is what classifies in a head of several layers, if it is the last of them: classifier.out_proj."""
    *_, container, layer = "", "", *_layer_path(item)
    inside = container in HEADS or container.endswith(("_head", "_heads"))
    return inside and (layer.isdigit() or layer in LAST_IN_HEADS)


def _pads(weight: Tensor, vocabulary: int, width: int) -> bool:
    rows, columns = weight.shape
    return columns == width and rows % 8 == 0 and 0 < rows - vocabulary <= vocabulary // 8


def said(item: Named, roles: Roles) -> str | None:
    if roles is None:
        return None
    if isinstance(roles, str):
        return roles if item.tensor.ndim >= 2 else None
    if callable(roles):
        return roles(item.name, item.tensor)
    if not isinstance(roles, Mapping):
        raise TypeError(f"roles must be a role, a mapping of names to roles, or a function, not {roles!r}")
    matches = [pattern for pattern in roles if fnmatchcase(item.name, pattern)]
    # The exact name wins over patterns, and of several patterns the last one written.
    return roles[item.name] if item.name in roles else roles[matches[-1]] if matches else None


def picklable(roles: Roles) -> Roles:
    """``roles`` as it can be pickled: a function that has no name of its own becomes one that asks for it again."""
    if callable(roles) and "<" in getattr(roles, "__qualname__", "<"):
        return _lost_roles
    return roles


def _lost_roles(name: str, tensor: Tensor) -> str | None:
    raise ValueError(
        f"parameter {name}: the function given as roles did not survive pickling; "
        "give roles as a mapping, or as a function defined at the top of a module"
    )


def check_patterns(known: Iterable[str], roles: Roles) -> None:
    """Raise ValueError if a name or pattern of ``roles`` matches none of the known names."""
    if roles is None or isinstance(roles, str) or callable(roles):
        return
    known = tuple(known)
    for pattern in roles:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise ValueError(f"roles: no parameter is named {pattern!r}{nearest(pattern, known)}")


def refuse_flat_experts(item: Named, roles: Roles) -> None:
    """Raise ValueError for a matrix that is said to be one by nobody, and whose name says that several experts' are in
    it (megablocks stores them one under another): a weight of a module of all experts, and no layer's."""
    path = item.path
    inside = path[path.index("experts") + 1 :] if "experts" in path else []
    frozen = isinstance(item.tensor, nn.Parameter) and not item.tensor.requires_grad
    if frozen or not inside or inside[-1] == "weight" or any(word.isdigit() for word in inside):
        return
    if item.tensor.ndim == 2 and not _is_linear(item.layer) and said(item, roles) is None:
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


def _layer_path(item: Named) -> list[str]:
    """['blocks', '0', 'mlp', 'gate'] of 'blocks.0.mlp.gate.weight'."""
    path = item.path
    return path[:-1] if len(path) > 1 and path[-1] == "weight" else path


def _layer_name(item: Named) -> str:
    return _layer_path(item)[-1]


def _parent(item: Named) -> str:
    """'blocks.0.mlp.' of 'blocks.0.mlp.gate.weight'."""
    return "".join(f"{part}." for part in _layer_path(item)[:-1])


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
