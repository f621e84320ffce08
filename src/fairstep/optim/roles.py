"""Roles: what a parameter is for, by which an optimizer chooses its rule. This file imports neither torch nor ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from torch import Tensor, nn

Value = bool | int | float | str
"""A hyperparameter's value: what JSON and TOML can hold."""
Role = Literal["matrix", "embedding", "head", "vector", "expert", "router"]
ROLES: tuple[Role, ...] = get_args(Role)
"""vector: fewer than two dimensions (gains of norms, biases). expert: a stack of matrices (experts, output, input)."""

UNDECAYED: tuple[Role, ...] = ("vector", "embedding")
"""Roles without weight decay unless told otherwise, as in W: norms and the embedding; the head is decayed."""
NORMALISED: tuple[Role, ...] = ("matrix", "expert")
"""Roles of weights that a normalisation follows: the next block's norm divides their scale out again."""

QUERY = frozenset({"q", "q_proj", "wq", "to_q", "query"})
KEY = frozenset({"k", "k_proj", "wk", "to_k", "key"})
"""Names of the layers that make queries and keys, in lower case."""

AROUND = frozenset({"_checkpoint_wrapped_module", "_fsdp_wrapped_module", "original_module", "base_layer"})
"""Names under which a module holds the layer that it stands around."""
ORIGINALS = frozenset({"original", "original0", "original1"})
"""Names of what a parametrization computes a weight from."""
WEIGHTS = frozenset({"weight_v", "weight_orig"})
"""The same of torch's former weight_norm and spectral_norm."""


@dataclass(frozen=True, eq=False)
class Named:
    """A parameter with its name and, if it came from a module, the layer that holds it and the module around that."""

    name: str
    tensor: Tensor
    layer: nn.Module | None = None
    owner: nn.Module | None = None
    telling: bool = True
    """Whether the name says anything: a place in a list does not, nor the "weight" of a layer given by itself."""

    @property
    def path(self) -> list[str]:
        """The parts of the name, without those of modules that stand around a layer: checkpointing, FSDP, PEFT's
        copies and base layers, and torch's parametrizations."""
        given, path = self.name.split("."), list[str]()
        while given:
            word = given.pop(0)
            if word == "modules_to_save" and len(given) > 1:
                given = given[1:]  # the adapter's name
            elif word == "parametrizations" and len(given) == 2 and given[1] in ORIGINALS:
                given = given[:1]
            elif word not in AROUND or not given:
                path.append("weight" if word in WEIGHTS and not given else word)
        return path

    @property
    def layer_name(self) -> str:
        """The last part of the path without its own "weight" or "bias", in lower case."""
        return ".".join(self.path).removesuffix(".weight").removesuffix(".bias").rpartition(".")[2].lower()
