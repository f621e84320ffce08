"""What may be asked of any model before it is built: parameters, roles, FLOPs, memory. Ours by formulas, others
counted.

One of ours needs no torch for it. A foreign one carries its counts in its spec; its table of parameters is counted
when it is first asked for, which builds the module on the meta device.
"""

from __future__ import annotations

from fairstep.model import shapes
from fairstep.model.activations import kept_per_token as kept_by_block
from fairstep.model.config import LOGITS_AT_ONCE
from fairstep.model.shapes import Counts, Parameter
from fairstep.runs import AnyModelSpec, ForeignModelSpec

LOGIT_COPIES = 3
"""Tensors of the size of the logits that live at once: the logits, their softmax, its gradient."""


def parameter_table(model: AnyModelSpec) -> list[Parameter]:
    """In the order of the module's ``named_parameters``. Raises SpecError for a foreign one that cannot be built."""
    if isinstance(model, ForeignModelSpec):
        from fairstep.model.foreign.counting import counted  # loads torch

        return list(counted(model).table)
    return shapes.parameter_table(model)


def counts(model: AnyModelSpec) -> Counts:
    """All parameters, and the matrices'; of a foreign model no expert is known to be idle."""
    if isinstance(model, ForeignModelSpec):
        facts = model.facts
        multiplied = facts.flops_per_token // 6
        return Counts(facts.parameters, facts.parameters_matrix, facts.parameters, multiplied)
    return shapes.counts(model)


def flops_per_token(model: AnyModelSpec) -> int:
    """FLOPs of forward and backward per trained token."""
    return model.facts.flops_per_token if isinstance(model, ForeignModelSpec) else shapes.flops_per_token(model)


def kept_per_token(model: AnyModelSpec, compiled: bool, explicit_attention: bool) -> float:
    """Numbers that the backward pass needs of one token, logits apart. A foreign model's are counted uncompiled."""
    if isinstance(model, ForeignModelSpec):
        return model.facts.kept_per_token
    return model.layers * kept_by_block(model, compiled, explicit_attention)


def logit_floats(model: AnyModelSpec, tokens: int) -> int:
    """Numbers for the logits of so many tokens and what follows from them, at their most."""
    if isinstance(model, ForeignModelSpec):
        return LOGIT_COPIES * tokens * model.vocabulary
    rows = min(tokens, max(1, LOGITS_AT_ONCE // model.vocabulary))
    at_once = LOGIT_COPIES * rows * model.vocabulary
    if rows < tokens:  # in chunks; gradients of the head and of its input are computed on the way
        at_once += model.width * (model.vocabulary + tokens)
    return at_once


def block_of(name: str) -> str:
    """The repeated block that a parameter is in, as blocks.0 or model.layers.3; empty outside of them."""
    parts = name.split(".")
    place = next((place for place, part in enumerate(parts[:-1]) if part.isdigit()), None)
    return "" if place is None else ".".join(parts[: place + 1])
