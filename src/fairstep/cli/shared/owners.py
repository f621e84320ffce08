"""Whose a setting is: ``muon.embedding.lr_ratio`` is embedding.lr_ratio of the contestant muon."""

from __future__ import annotations

from collections.abc import Collection

from fairstep import optim
from fairstep.optim.roles import ROLES
from fairstep.optim.spec.overrides import AUX


def owner_of(target: str, names: Collection[str]) -> tuple[str, str]:
    """(contestant, hyperparameter) of CONTESTANT.NAME; the contestant is empty where only a name is given.

    A contestant of ``names``, by its class alone where one has it, or an optimizer that does not compete. The name may
    have dots, as overrides have, and so may the contestant, as paths have: the longest contestant that it begins with
    counts, else the shortest name of an optimizer. Raises ValueError for the name of no optimizer.
    """
    literal = [name for name in names if target.startswith(f"{name}.")]
    if literal:
        owner = max(literal, key=len)
        return owner, target[len(owner) + 1 :]
    words = target.split(".")
    by_class = [name for name in names if name.rpartition(":")[2] == words[0]]  # RowNorm of mypackage.optim:RowNorm
    if len(by_class) == 1 and len(words) > 1:
        return by_class[0], target[len(words[0]) + 1 :]
    if len(words) == 1 or words[0] in (*ROLES, AUX):
        return "", target
    for end in range(1, len(words)):
        try:
            return optim.get(".".join(words[:end])).name, ".".join(words[end:])
        except optim.UnknownOptimizerError:
            if end == len(words) - 1:
                raise
    raise AssertionError
