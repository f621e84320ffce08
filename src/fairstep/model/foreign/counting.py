"""Parameters, roles, FLOPs and memory of anybody's model, counted on the meta device, where nothing is computed.

FLOPs are counted by torch's counter over the matrix products and attention of a forward and a backward pass. A module
that cannot run on the meta device (its shapes depend on values) runs once on a CPU if it is small. For a large one
FLOPs are 6 for every weight that is no embedding, as is usual (arXiv 2001.08361), and activations are not known.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from fairstep.model.foreign.building import build
from fairstep.model.foreign.module import ForeignModel
from fairstep.model.shapes import Parameter
from fairstep.optim.catalogue.contained import printing_to_stderr
from fairstep.optim.catalogue.paths import said
from fairstep.optim.engine.named_parameters import named_parameters
from fairstep.optim.engine.orientation import orientation
from fairstep.optim.engine.routing import infer_roles
from fairstep.runs import ForeignModelSpec, ModelFacts, SpecError

SEQUENCES = 2
"""Of a counted pass: one would hide a module that mixes up its dimensions."""

MOST_ON_CPU = 100_000_000
"""Parameters of a module that is run on a CPU where the meta device cannot."""


@dataclass(frozen=True)
class Counted:
    """``table``: every parameter with its role, a tied one once. ``estimated``: why FLOPs are not counted, if so."""

    table: tuple[Parameter, ...]
    facts: ModelFacts
    estimated: str = ""


def counted(spec: ForeignModelSpec) -> Counted:
    """Counts of a spec, whatever facts it has. Raises SpecError for a model that cannot be built or called."""
    return _counted(spec.model_copy(update={"facts": ModelFacts()}))


@functools.cache
def _counted(spec: ForeignModelSpec) -> Counted:
    model = _on_meta(spec)
    try:
        roles = infer_roles(model.network, model.roles)
        seen = {item.name: orientation(item, roles[item.name]) for item in named_parameters(model.network)}
    except (ValueError, TypeError) as error:
        raise SpecError(f"{spec.source}: {error} as an attribute `roles` of the module") from None
    table = tuple(
        Parameter(name, seen[name].shape(p.shape), roles[name], p.element_size())
        for name, p in model.network.named_parameters()
        if name in roles
    )
    total = sum(parameter.elements for parameter in table)
    matrix = sum(parameter.elements for parameter in table if parameter.role in ("matrix", "expert", "router")) or total
    flops, kept, estimated = _passes(spec, model, total)
    if flops is None:
        unembedded = sum(parameter.elements for parameter in table if parameter.role != "embedding")
        flops, kept = 6 * unembedded, 0.0
    facts = ModelFacts(parameters=total, parameters_matrix=matrix, flops_per_token=round(flops), kept_per_token=kept)
    return Counted(table, facts, estimated)


def _on_meta(spec: ForeignModelSpec) -> ForeignModel:
    """Built there, or on a CPU and sent there."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return build(spec).to("meta")
        except SpecError:
            return build(spec).to("meta")


def _passes(spec: ForeignModelSpec, model: ForeignModel, parameters: int) -> tuple[float | None, float, str]:
    """FLOPs and kept numbers of a token, and why they are not known."""
    try:
        return (*_pass(spec, model, "meta"), "")
    except SpecError:
        raise
    except Exception as error:  # somebody else's code
        why = said(error)
    if parameters > MOST_ON_CPU:
        return None, 0.0, f"the module cannot be run on the meta device ({why})"
    try:
        with torch.random.fork_rng(devices=[]):
            return (*_pass(spec, build(spec), "cpu"), "")
    except SpecError:
        raise
    except (Exception, SystemExit) as error:
        raise SpecError(
            f"{spec.source} builds a module that raises {said(error)}; it is called with int64 tokens of shape "
            f"({SEQUENCES}, {spec.context})"
        ) from error


def _pass(spec: ForeignModelSpec, model: ForeignModel, device: str) -> tuple[float, float]:
    tokens = torch.zeros((SEQUENCES, spec.context), dtype=torch.int64, device=device)
    weights = {p.untyped_storage()._cdata for p in model.parameters()}
    kept: dict[int, int] = {}
    alive: list[Any] = []

    def keep(tensor: Tensor) -> Tensor:
        """Count each memory once; logits and what follows from them are counted apart."""
        storage = tensor.untyped_storage()
        if storage._cdata not in weights and tensor.numel() < tokens.numel() * spec.vocabulary:
            kept[storage._cdata] = storage.nbytes() // tensor.element_size()
            alive.append(storage)  # so that no other memory gets its number
        return tensor

    counter = FlopCounterMode(display=False)
    with printing_to_stderr(), counter, saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(tokens, tokens)
        if not isinstance(loss, Tensor) or loss.ndim:
            raise SpecError(f"{spec.source} gives a loss of shape {tuple(loss.shape)}; let it be one number, the mean")
        if not loss.requires_grad:
            raise SpecError(
                f"{spec.source} gives a loss that depends on no parameter; is it detached, or under no_grad?"
            )
        loss.backward()
    return counter.get_total_flops() / tokens.numel(), sum(kept.values()) / tokens.numel()
