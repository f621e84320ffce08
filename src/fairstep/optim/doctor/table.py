"""The routing table of an optimizer over a model that takes no memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from fairstep.optim.catalogue.registry import build, get


def routing_table(name: str, hyper: Mapping[str, Any], make: Callable[[], Any]) -> str:
    """Which parameter of the module that ``make`` returns has which role, rule, learning rate and weight decay.

    The module is made on the meta device. Raises ValueError if the optimizer is another package's, if ``make`` returns
    no module, and for what the optimizer refuses.
    """
    if not get(name).parts:
        raise ValueError(f"{name} is another package's and has one rule; a routing table is of fairstep's own")
    with torch.device("meta"):
        made = make()
    if not isinstance(made, torch.nn.Module):
        raise ValueError(f"the model is a {type(made).__name__}, and must be a torch module")
    table: str = build(name, made, **hyper).routing_table()
    return table
