"""The list of optimizers: every OptimizerSpec in a module of ``rules/``, also with ``wrappers``, and foreign ones.

A new file in ``rules/`` is a new optimizer, and no other file changes. Importing a rule file does not import torch.
Importing a foreign class does (see ``foreign``).
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fairstep.optim import rules
from fairstep.optim.spec import OptimizerSpec, UnknownOptimizerError, did_you_mean
from fairstep.optim.spec.overrides import flat
from fairstep.optim.wrappers import derive, key, named, parse
from fairstep.optim.wrappers import is_foreign as is_foreign_wrapper

if TYPE_CHECKING:
    from fairstep.optim.engine.engine import Engine
    from fairstep.optim.engine.said_roles import Roles

PLUGINS = "fairstep.optimizers"
"""The group of entry points by which a package gives its optimizer a short name."""


@functools.cache
def specs() -> dict[str, OptimizerSpec]:
    """Name -> spec of every built-in optimizer, by name. Raises ValueError if two claim one name."""
    by_name: dict[str, OptimizerSpec] = {}
    taken: dict[str, str] = {}
    for module in pkgutil.iter_modules(rules.__path__, rules.__name__ + "."):
        for spec in vars(importlib.import_module(module.name)).values():
            if isinstance(spec, OptimizerSpec) and spec not in by_name.values():
                for word in {spec.class_name, *map(key, (spec.name, *spec.aliases))}:
                    if taken.setdefault(word, spec.name) != spec.name:
                        raise ValueError(f"both {taken[word]} and {spec.name} claim the name {word!r}")
                by_name[spec.name] = spec
    return dict(sorted(by_name.items()))


def names() -> list[str]:
    """Names of the built-in optimizers, sorted."""
    return list(specs())


def get(name: str) -> OptimizerSpec:
    """The spec of a name or alias; upper case, hyphens, underscores and spaces do not matter.

    Wrappers follow with a plus, in any order: ``muon+hyperball+ema`` (see ``wrappers``). Also of
    ``package.module:Class`` (and what else ``paths`` takes for it) and of an entry point's name, to the letter; an
    alias in front, ``mine=``, is left to whoever prints names. Raises UnknownOptimizerError (a ValueError) with the
    nearest names.
    """
    if "=" in name:
        from fairstep.optim.catalogue.paths import alias_of

        return get(alias_of(name)[1])
    if "+" in name and key(name) not in _words():
        return _wrapped(*name.split("+"))
    words = _words()
    if key(name) not in words:
        from fairstep.optim.catalogue import paths

        if is_foreign(name):
            from fairstep.optim.catalogue import foreign  # only those who bring an optimizer pay for it

            if name in plugins():
                return foreign.describe(name, plugins()[name])
            path = paths.normal(name) if ":" in name else paths.dotted(name)
            if path:
                return foreign.describe(path, path)
        if hint := paths.without_class(name):
            raise UnknownOptimizerError(hint)
        spelled = [word for spec in specs().values() for word in (spec.name, *spec.aliases)]
        raise UnknownOptimizerError(
            f"unknown optimizer {name!r}{did_you_mean(name, spelled)}; there are {', '.join(names())}, and your own as "
            "package.module:Class"
        )
    return words[key(name)]


@functools.cache
def _words() -> dict[str, OptimizerSpec]:
    return {key(word): spec for spec in specs().values() for word in (spec.name, *spec.aliases)}


def _wrapped(name: str, *words: str) -> OptimizerSpec:
    """One optimizer, one name: what an alias stands for (adamh: adamw+hyperball) is taken apart and sorted."""
    base = get(name)
    if not base.parts:
        raise UnknownOptimizerError(f"wrappers go around fairstep's own optimizers, and {name} is another package's")
    plain, *inside = next((alias for alias in base.aliases if "+" in alias.strip("+")), base.name).split("+")
    names = parse((*inside, *words))
    for end in range(len(names), -1, -1):
        start = _words().get(key("+".join((plain, *names[:end]))))
        if start:
            return _of_versions(derive(start, names[end:]), names)
    raise AssertionError(f"{plain} is the name of a built-in optimizer")


@functools.cache
def _of_versions(spec: OptimizerSpec, names: tuple[str, ...]) -> OptimizerSpec:
    """With the versions of the packages that its wrappers are from, which are part of a run's identity."""
    modules = dict.fromkeys(named(name).module for name in names if named(name).module)
    if not modules:
        return spec
    from fairstep.optim.catalogue.provenance import version_of  # only those who bring a wrapper pay for it

    return replace(spec, version="; ".join(map(version_of, modules)))


def build(
    name: str,
    params: Any,
    *,
    roles: Roles = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    **hyper: Any,
) -> Any:
    """The optimizer of this name over a module, named parameters, parameters or param groups (see ``Engine``).

    An ``Engine``; for a foreign class that class (see ``foreign.build``).

    >>> optimizer = build("muon", model, lr=0.02, roles={"output.weight": "head"})
    """
    spec = get(name)
    hyper |= flat(overrides or {})
    if not spec.parts:
        from fairstep.optim.catalogue import foreign

        return foreign.build(spec, params, roles, hyper)
    return optimizer_class(spec)(params, roles=roles, **hyper)


@functools.cache
def plugins() -> dict[str, str]:
    """Name -> ``package.module:Class`` of every entry point, without importing any."""
    from importlib import metadata  # takes as long as all else here

    return {point.name: point.value for point in metadata.entry_points(group=PLUGINS)}


def is_foreign(name: str) -> bool:
    """Whether a name, or a part of it between pluses, is a path (dotted or not), or an entry point's name that nothing
    of ours has: what ``get`` would import."""
    return ":" in name or (key(name) not in _words() and any(map(_is_foreign_part, enumerate(name.split("+")))))


def _is_foreign_part(part: tuple[int, str]) -> bool:
    place, word = part
    if place:
        return is_foreign_wrapper(word)
    return key(word) not in _words() and ("." in word or word in plugins())


def version(name: str) -> str:
    """Which code a foreign optimizer or wrapper is (see ``provenance``); empty for ours and for unknown names."""
    return get(name).version if is_foreign(name) else ""


def check_version(name: str, recorded: str) -> None:
    """Raise ValueError if a run was described for other code than what is installed now."""
    if recorded and recorded != version(name):
        raise ValueError(
            f"this run is of {name} in {recorded}, and here is {version(name) or 'another optimizer'}; bring that "
            "version back, or start the contest again for the new one"
        )


@functools.cache
def optimizer_class(spec: OptimizerSpec) -> Callable[..., Engine]:
    """The class ``fairstep.optim.<class_name>``: the engine with this spec."""
    from fairstep.optim.engine.engine import Engine

    body: Mapping[str, Any] = {"spec": spec, "__module__": "fairstep.optim", "__doc__": f"{spec.title}\n\n{spec.text}"}
    return type(spec.class_name, (Engine,), dict(body))
