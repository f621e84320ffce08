"""From a ForeignModelSpec to a module with new weights, drawn from torch's global generator."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from fairstep.model.foreign.module import ForeignModel
from fairstep.model.foreign.sources import code_of
from fairstep.optim.catalogue.contained import printing_to_stderr
from fairstep.optim.catalogue.paths import said
from fairstep.runs import ForeignModelSpec, SpecError, callables


def build(spec: ForeignModelSpec) -> ForeignModel:
    """The model of a spec, in training mode. Raises SpecError with one sentence, also where the code is not the
    spec's."""
    found = code_of(spec)
    if found != spec.code:
        what = f"{spec.code}, and here is {found}" if spec.config else "other code than is here now"
        raise SpecError(
            f"this run is of {spec.preset} by {what}: changed code is another workload; bring the earlier code back, "
            "or start the command again for the new one"
        )
    with printing_to_stderr():
        network = _from_config(spec) if spec.config else _from_factory(spec)
    if not isinstance(network, nn.Module):
        raise SpecError(f"{spec.source} gives {type(network).__name__}; let it return a torch.nn.Module")
    if not any(True for _ in network.parameters()):
        raise SpecError(
            f"{spec.source} builds a module without parameters; layers count when they are attributes of a module, or "
            "in an nn.ModuleList"
        )
    if not any(p.requires_grad for p in network.parameters()):
        raise SpecError(f"{spec.source} builds a module whose parameters are all frozen; nothing is left to train")
    return ForeignModel(spec, network.train())


def _from_factory(spec: ForeignModelSpec) -> Any:
    try:
        factory = callables.load(spec.factory, spec.directory, "model")
    except callables.NotFoundError:
        raise
    except (Exception, SystemExit) as error:
        raise SpecError(f"{spec.factory} cannot be imported: {said(error)}") from error
    given = {"vocabulary": spec.vocabulary, "context": spec.context}
    try:
        names = inspect.signature(factory).parameters
        return factory(**given) if given.keys() <= names.keys() else factory(*given.values())
    except (Exception, SystemExit) as error:
        raise SpecError(
            f"{spec.factory} raises {said(error)}; it is called as build(vocabulary={spec.vocabulary}, "
            f"context={spec.context})"
        ) from error


def _from_config(spec: ForeignModelSpec) -> Any:
    from fairstep.model.foreign.transformers_model import from_config  # loads Transformers

    try:
        return from_config(spec)
    except SpecError:
        raise
    except Exception as error:  # a config may break any of its models' code
        raise SpecError(f"Transformers cannot build {spec.source}: {said(error)}") from error
