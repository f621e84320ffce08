"""Wrappers: changes that go around any optimizer, named after it with a plus (``muon+hyperball+ema``).

Each file is one wrapper: equations, a rule around a rule, and a ``Wrapper`` that makes a spec out of a spec. Every
file here is found by existing, like the files of ``rules/``. Wrappers apply in one order, however they are written, so
that one optimizer has one name: first those that change the direction, then those that constrain the weights, then
those that look ahead or average. A wrapper is applied at most once. What may not go in: optimizers, imports of torch.

A package gives a wrapper of its own a name, as it does for an optimizer:

    [project.entry-points."fairstep.wrappers"]
    mine = "mypackage.optim:MINE"
"""

from __future__ import annotations

import functools
import importlib
import itertools
import pkgutil
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from fairstep.optim.spec import OptimizerSpec, UnknownOptimizerError, did_you_mean
from fairstep.optim.wrappers.base import WrappedRule, Wrapper

__all__ = ["WrappedRule", "Wrapper", "derive", "is_foreign", "key", "named", "parse", "plugins", "wrappers"]

PLUGINS = "fairstep.wrappers"
"""The group of entry points by which a package gives its wrapper a name."""


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


@functools.cache
def plugins() -> dict[str, str]:
    """Name -> ``package.module:WRAPPER`` of every entry point, without importing any."""
    from importlib import metadata  # takes as long as all else here

    return {point.name: point.value for point in metadata.entry_points(group=PLUGINS)}


def named(word: str) -> Wrapper:
    """The wrapper of a name or alias, spelled as for optimizers; ours before a package's.

    Raises UnknownOptimizerError for a word that names none, and for an entry point behind which there is none.
    """
    if key(word) in _ours():
        return _ours()[key(word)]
    if is_foreign(word):
        return _loaded(next(name for name in plugins() if key(name) == key(word)))
    known = (*wrappers(), *plugins())
    raise UnknownOptimizerError(
        f"unknown wrapper {word!r}{did_you_mean(word, dict.fromkeys((*_ours(), *known)))}; there are {', '.join(known)}"
    )


def is_foreign(word: str) -> bool:
    """Whether a word names a wrapper of another package, which ``named`` would import."""
    return key(word) not in _ours() and key(word) in map(key, plugins())


@functools.cache
def _ours() -> dict[str, Wrapper]:
    return {key(word): wrapper for wrapper in wrappers().values() for word in (wrapper.name, *wrapper.aliases)}


@functools.cache
def _loaded(name: str) -> Wrapper:
    """What an entry point stands for, under its name there."""
    place, _, attribute = plugins()[name].partition(":")
    try:
        found: Any = functools.reduce(getattr, attribute.split("."), importlib.import_module(place))
    except (Exception, SystemExit) as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:400]
        raise UnknownOptimizerError(f"the wrapper {name} ({plugins()[name]}) cannot be imported: {said}") from error
    if not isinstance(found, Wrapper):
        raise UnknownOptimizerError(
            f"the wrapper {name} ({plugins()[name]}) is a {type(found).__name__}, and should be a "
            "fairstep.optim.wrappers.Wrapper"
        )
    return replace(found, name=name, module=place)


def parse(words: Iterable[str]) -> tuple[str, ...]:
    """The names of these wrappers in the order in which they apply; aliases and spelling as for optimizers.

    Raises UnknownOptimizerError for a word that names none, for one that is named twice, and for two that contradict.
    """
    chosen: dict[str, Wrapper] = {}
    for word in words:
        wrapper = named(word)
        if wrapper.name in chosen:
            raise UnknownOptimizerError(f"the wrapper {wrapper.name} is named twice; once is all that it can do")
        chosen[wrapper.name] = wrapper
    known = sorted(chosen.values(), key=lambda wrapper: (wrapper.order, wrapper.name))
    for first, second in itertools.combinations(known, 2):
        if first.decides and first.decides == second.decides:
            raise UnknownOptimizerError(f"{first.name} and {second.name} both say {first.decides}; keep one of them")
    return tuple(wrapper.name for wrapper in known)


@functools.cache
def derive(spec: OptimizerSpec, names: tuple[str, ...]) -> OptimizerSpec:
    """``spec`` with these wrappers around it, the first one innermost. The same object for the same arguments."""
    for name in names:
        spec = named(name).derive(spec)
    return spec


def key(name: str) -> str:
    """A name without upper case, hyphens, underscores and spaces, which do not matter."""
    return name.lower().translate({ord(mark): None for mark in "-_ "})
