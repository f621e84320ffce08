"""The role of a parameter as its layer, its name and its shape show it."""

from __future__ import annotations

from torch import Tensor, nn

from fairstep.optim.engine.orientation import flat_experts
from fairstep.optim.roles import Named, Role

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


def evident_role(item: Named, of_embedding: bool, of_head: bool, expert_parents: set[str], matters: bool) -> Role:
    """The role of one of the parameters. Raises ValueError if it is not evident and ``matters``, else it is a matrix.

    ``expert_parents``: beginnings of names, "blocks.0.", of modules that have experts.
    """
    path, tensor = item.name.split("."), item.tensor
    if tensor.ndim < 2:
        return "vector"
    if of_embedding:
        return "embedding"
    if of_head:
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


def is_embedding(item: Named) -> bool:
    """Whether a weight of two dimensions or more is a table with a row for each token, position or kind."""
    name = _layer_name(item)
    if _is_magnitude(item):
        return False
    if item.tensor.ndim > 2:  # one table for all sequences of a batch
        return name in POSITION_NAMES and item.tensor.shape[0] == 1
    if item.path[-1] == "weight" and isinstance(item.layer, (nn.Embedding, nn.EmbeddingBag)):
        return True
    return name in EMBEDDING_NAMES and not is_linear(item.layer)


def is_linear(layer: nn.Module | None) -> bool:
    """Whether a layer multiplies by its weight, whatever it is named: torch's, and others' that are called so."""
    known = isinstance(layer, (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd))
    return known or any(word in type(layer).__name__.lower() for word in ("linear", "conv"))


def find_heads(items: list[Named], embeddings: list[Named]) -> list[Named]:
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


def _layer_path(item: Named) -> list[str]:
    """['blocks', '0', 'mlp', 'gate'] of 'blocks.0.mlp.gate.weight'."""
    path = item.path
    return path[:-1] if len(path) > 1 and path[-1] == "weight" else path


def _layer_name(item: Named) -> str:
    return _layer_path(item)[-1]


def _parent(item: Named) -> str:
    """'blocks.0.mlp.' of 'blocks.0.mlp.gate.weight'."""
    return "".join(f"{part}." for part in _layer_path(item)[:-1])
