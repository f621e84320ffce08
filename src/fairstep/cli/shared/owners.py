"""Whose a setting is: ``muon.embedding.lr_ratio`` is embedding.lr_ratio of the contestant muon."""

from __future__ import annotations

from collections.abc import Collection

from fairstep import optim
from fairstep.optim.roles import ROLES
from fairstep.optim.spec.overrides import AUX


def owner_of(target: str, names: Collection[str]) -> tuple[str, str]:
    """(contestant, hyperparameter) of CONTESTANT.NAME; the contestant is empty where only a name is given.

    A contestant of ``names``, or another optimizer that does not compete. The name may have dots, as overrides have,
    and so may the contestant, as paths have: the longest contestant that it begins with counts, else the shortest name
    of an optimizer. Raises ValueError for the name of no optimizer.
    """
    literal = [name for name in names if target.startswith(f"{name}.")]
    if literal:
        owner = max(literal, key=len)
        return owner, target[len(owner) + 1 :]
    words = target.split(".")
    if len(words) == 1 or words[0] in (*ROLES, AUX):
        return "", target
    for end in range(1, len(words)):
        try:
            return optim.get(".".join(words[:end])).name, ".".join(words[end:])
        except optim.UnknownOptimizerError:
            if end == len(words) - 1:
                raise
    raise AssertionError
