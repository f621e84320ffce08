"""What anybody's module is to a training loop: tokens and targets in, a loss out.

A module gives logits, or a loss, or both. Its loss is what is trained where it gives one. An evaluation is the
cross-entropy of its logits where it gives these, so that auxiliary terms and other means do not enter it.

Shapes in comments: B sequences, T positions, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairstep.model.loss import IGNORED
from fairstep.model.precision import wide
from fairstep.runs import ForeignModelSpec, SpecError


class ForeignModel(nn.Module):
    """``forward(tokens, targets)`` is the loss in nats per token. ``network`` is the module, under its own names.

    Raises SpecError, when it is built or called, for a module that gives neither logits nor a loss.
    """

    def __init__(self, config: ForeignModelSpec, network: nn.Module) -> None:
        super().__init__()
        self.config, self.network = config, network
        self.targets_as, self.options = _signature(config.source, network)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """tokens, targets: (B, T) integers; targets of -100 do not count. Returns the scalar loss."""
        if self.targets_as is None:
            output = self._called(tokens)
            loss = self._cross_entropy(output, tokens, targets)
            return loss + _auxiliary(output, self.network) if self.training else loss
        if self.training:
            return self._own_loss(tokens, targets)
        output = self._called(tokens, targets.clamp(min=0))
        if _part(output, "logits", 3) is None:
            return self._own_loss_of_whole_rows(tokens, targets)
        return self._cross_entropy(output, tokens, targets)

    def logits(self, tokens: Tensor) -> Tensor:
        """(B, T) integers to (B, T, V) scores of the next token. Raises SpecError for a module that gives a loss."""
        return self._logits_of(self._called(tokens, tokens), tokens)

    def measurements(self) -> dict[str, Any]:
        """Nothing but the loss is known of it."""
        return {}

    def reset_measurements(self) -> None:
        """Nothing is measured."""

    @property
    def roles(self) -> Any:
        """Roles that the module says of its own parameters, by a ``roles`` attribute; None: all are inferred."""
        return getattr(self.network, "roles", None)

    def _called(self, tokens: Tensor, targets: Tensor | None = None) -> Any:
        if self.targets_as is None:
            return self.network(tokens, **self.options)
        return self.network(tokens, **self.options, **{self.targets_as: targets})

    def _own_loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        output = self._called(tokens, targets)
        loss = _part(output, "loss", 0)
        return self._cross_entropy(output, tokens, targets) if loss is None else loss

    @torch.compiler.disable
    def _own_loss_of_whole_rows(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """A loss of somebody else's may not know that -100 does not count, and sequences count whole or not at all."""
        rows = targets[:, 0] != IGNORED
        return self._own_loss(tokens[rows], targets[rows])

    def _cross_entropy(self, output: Any, tokens: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(wide(self._logits_of(output, tokens)).flatten(0, 1), targets.flatten())

    def _logits_of(self, output: Any, tokens: Tensor) -> Tensor:
        logits = _part(output, "logits", 3)
        wanted = (*tokens.shape, self.config.vocabulary)
        if logits is None:
            got = f"a tensor of shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
            raise SpecError(
                f"{self.config.source} gives {got} for tokens of shape {tuple(tokens.shape)}; let forward return logits"
                f" of shape {wanted}" + ("" if self.targets_as is None else ", a scalar loss, or both")
            )
        if logits.shape != wanted:
            raise SpecError(
                f"{self.config.source} gives logits of shape {tuple(logits.shape)}; {_remedy(logits, wanted)}"
            )
        return logits


def _remedy(logits: Tensor, wanted: tuple[int, ...]) -> str:
    if logits.shape[:2] != wanted[:2]:
        return f"let forward return a score for every position: {wanted}"
    return (
        f"the vocabulary is {wanted[2]}, which build(vocabulary, context) was given: let the head have as many rows, "
        "or cut what it has more"
    )


def _signature(source: str, network: nn.Module) -> tuple[str | None, dict[str, Any]]:
    """The argument that targets go into, None if there is none; and what else forward is called with."""
    arguments = list(inspect.signature(network.forward).parameters.values())
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    named = [one for one in arguments if one.kind in kinds]
    if not named and not any(one.kind is inspect.Parameter.VAR_POSITIONAL for one in arguments):
        raise SpecError(f"{source} builds a module whose forward takes nothing; let it take tokens of shape (B, T)")
    required = [one.name for one in named[1:] if one.default is inspect.Parameter.empty]
    options = {"use_cache": False} if any(one.name == "use_cache" for one in named) else {}
    if "labels" in required:
        raise SpecError(
            f"{source} builds a module whose forward needs labels, and labels are shifted in some models and not in "
            "others; let it return logits without them, or call the argument targets and expect the next tokens"
        )
    if len(required) > 1:
        raise SpecError(
            f"{source} builds a module whose forward needs {', '.join(required)} beside tokens; it is called with "
            "tokens, or with tokens and targets"
        )
    optional = "targets" if any(one.name == "targets" for one in named[1:]) else None
    return (required[0] if required else optional), options


def _part(output: Any, name: str, dimensions: int) -> Tensor | None:
    """Logits (3 dimensions) or loss (none) of what a forward pass returned: a tensor, several, or names with them."""
    found: list[Any]
    if isinstance(output, Tensor):
        found = [output]
    elif isinstance(output, Mapping):
        found = [output[name]] if name in output else []
    elif isinstance(output, tuple | list):
        found = list(output)
    else:
        found = [getattr(output, name, None)]
    return next((one for one in found if isinstance(one, Tensor) and one.ndim == dimensions), None)


def _auxiliary(output: Any, network: nn.Module) -> Tensor | float:
    """The balance of experts in Transformers' models that return it, with their own coefficient."""
    loss = getattr(output, "aux_loss", None)
    coefficient = getattr(getattr(network, "config", None), "router_aux_loss_coef", None)
    return 0.0 if loss is None or coefficient is None else coefficient * loss
