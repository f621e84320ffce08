"""The routing table of an optimizer over a model that takes no memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fairstep.optim.catalogue.registry import build, get

if TYPE_CHECKING:
    from torch import nn

    from fairstep.optim.engine.said_roles import Roles


def routing_table(name: str, hyper: Mapping[str, Any], model: nn.Module, roles: Roles = None) -> str:
    """Which parameter of a module, perhaps on the meta device, has which role, rule, learning rate and weight decay.

    Raises ValueError if the optimizer is another package's, and for what the optimizer refuses.
    """
    if not get(name).parts:
        raise ValueError(f"{name} is another package's and has one rule; a routing table is of fairstep's own")
    table: str = build(name, model, roles=roles, **hyper).routing_table()
    return table
