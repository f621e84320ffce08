"""Roles that a user says: names, patterns, a function, or one word for all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase

from torch import Tensor

from fairstep.optim.roles import Named
from fairstep.optim.spec import did_you_mean

Roles = str | Mapping[str, str] | Callable[[str, Tensor], str | None] | None
"""A user's own roles: names or patterns ("*.gate.weight") -> role, a function that returns a role or None, or the one
role of every parameter with two dimensions or more ("matrix")."""


def said(item: Named, roles: Roles) -> str | None:
    """What they say of a parameter, if anything. Raises TypeError for roles in another form."""
    if roles is None:
        return None
    if isinstance(roles, str):
        return roles if item.tensor.ndim >= 2 else None
    if callable(roles):
        return roles(item.name, item.tensor)
    if not isinstance(roles, Mapping):
        raise TypeError(f"roles must be a role, a mapping of names to roles, or a function, not {roles!r}")
    matches = [pattern for pattern in roles if fnmatchcase(item.name, pattern)]
    # The exact name wins over patterns, and of several patterns the last one written.
    return roles[item.name] if item.name in roles else roles[matches[-1]] if matches else None


def check_patterns(known: Iterable[str], roles: Roles) -> None:
    """Raise ValueError if a name or pattern of ``roles`` matches none of the known names."""
    if roles is None or isinstance(roles, str) or callable(roles):
        return
    known = tuple(known)
    for pattern in roles:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise ValueError(f"roles: no parameter is named {pattern!r}{did_you_mean(pattern, known)}")


def picklable(roles: Roles) -> Roles:
    """``roles`` as it can be pickled: a function that has no name of its own becomes one that asks for it again."""
    if callable(roles) and "<" in getattr(roles, "__qualname__", "<"):
        return _lost_roles
    return roles


def _lost_roles(name: str, tensor: Tensor) -> str | None:
    raise ValueError(
        f"parameter {name}: the function given as roles did not survive pickling; "
        "give roles as a mapping, or as a function defined at the top of a module"
    )
