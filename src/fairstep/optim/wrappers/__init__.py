"""Wrappers: changes that go around any optimizer, named after it with a plus (``muon+hyperball+ema``).

Each file is one wrapper: equations, a rule around a rule, and a ``Wrapper`` that makes a spec out of a spec. Every
file here is found by existing, like the files of ``rules/``. Wrappers apply in one order, however they are written, so
that one optimizer has one name: first those that change the direction, then those that constrain the weights, then
those that look ahead or average. A wrapper is applied at most once. What may not go in: optimizers, imports of torch.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import pkgutil
from collections.abc import Iterable

from fairstep.optim.spec import OptimizerSpec, UnknownOptimizerError, nearest
from fairstep.optim.wrappers.base import WrappedRule, Wrapper

__all__ = ["WrappedRule", "Wrapper", "derive", "key", "parse", "wrappers"]


@functools.cache
def wrappers() -> dict[str, Wrapper]:
    """Name -> wrapper, in the order in which they apply."""
    discovered = [
        value
        for module in pkgutil.iter_modules(__path__, __name__ + ".")
        for value in vars(importlib.import_module(module.name)).values()
        if isinstance(value, Wrapper)
    ]
    return {wrapper.name: wrapper for wrapper in sorted(discovered, key=lambda wrapper: wrapper.order)}


def parse(words: Iterable[str]) -> tuple[str, ...]:
    """The names of these wrappers in the order in which they apply; aliases and spelling as for optimizers.

    Raises UnknownOptimizerError for a word that names none, for one that is named twice, and for two that contradict.
    """
    by_key = {key(word): w.name for w in wrappers().values() for word in (w.name, *w.aliases)}
    chosen: list[str] = []
    for word in words:
        name = by_key.get(key(word))
        if name is None:
            raise UnknownOptimizerError(
                f"unknown wrapper {word!r}{nearest(word, tuple(by_key))}; there are {', '.join(wrappers())}"
            )
        if name in chosen:
            raise UnknownOptimizerError(f"the wrapper {name} is named twice; once is all that it can do")
        chosen.append(name)
    known = tuple(wrapper for wrapper in wrappers().values() if wrapper.name in chosen)
    for first, second in itertools.combinations(known, 2):
        if first.decides and first.decides == second.decides:
            raise UnknownOptimizerError(f"{first.name} and {second.name} both say {first.decides}; keep one of them")
    return tuple(wrapper.name for wrapper in known)


@functools.cache
def derive(spec: OptimizerSpec, names: tuple[str, ...]) -> OptimizerSpec:
    """``spec`` with these wrappers around it, the first one innermost. The same object for the same arguments."""
    for name in names:
        spec = wrappers()[name].derive(spec)
    return spec


def key(name: str) -> str:
    """A name without upper case, hyphens, underscores and spaces, which do not matter."""
    return name.lower().translate({ord(mark): None for mark in "-_ "})
