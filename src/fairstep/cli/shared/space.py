"""``--space``: search spaces from the command line or a TOML file.

    lr=log:1e-4:1e-2           from LOW to HIGH in steps of about a factor of 2
    lr=log:1e-4:1e-2:5         in 5 steps
    lr=1e-3,2e-3,4e-3          these values
    lion.lr=...                for one contestant, by its name, alias or path: pkg.mod:Class.lr=...
    spaces.toml                lr = "log:1e-4:1e-2", or [1e-3, 2e-3], in the file's top or in a table per contestant

A space that names no contestant is for optimizers of other packages, which bring no space.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fairstep import optim
from fairstep.cli.shared.options import value_of
from fairstep.cli.shared.owners import owner_of
from fairstep.study import Axis
from fairstep.study.file.published_spaces import axis_of

MOST = 100
"""Values of a range; factors of 2 would leave the numbers of a float."""

Spaces = dict[str, dict[str, Axis]]
"""Contestant -> hyperparameter -> its values."""


def read(texts: Iterable[str], contestants: Sequence[optim.OptimizerSpec]) -> Spaces:
    """The spaces that are given. Raises ValueError with one sentence, OSError for a file that cannot be read."""
    spaces: Spaces = {spec.name: {} for spec in contestants}
    for owner, name, values, said in (item for text in texts for item in _items(text, list(spaces))):
        for spec in _owners(owner, contestants, said):
            spaces[spec.name][spec.canonical(name)] = axis_of(
                spec, name, dict.fromkeys(_values(values, said)), factor=0.0
            )
    return spaces


def lists(texts: Iterable[str], names: Sequence[str]) -> dict[str, dict[str, list[Any]]]:
    """Contestant -> placeholder -> values, for contestants that are only names. A space without a name is for all.
    Raises ValueError with one sentence, OSError for a file that cannot be read."""
    spaces: dict[str, dict[str, list[Any]]] = {name: {} for name in names}
    for owner, name, values, said in (item for text in texts for item in _items(text, names)):
        if owner and owner not in spaces:
            raise ValueError(f"--space {said} is for {owner}, which does not compete; there are {', '.join(names)}")
        for one in [owner] if owner else names:
            spaces[one][name] = list(dict.fromkeys(_values(values, said)))
    return spaces


def check_sizes(sizes: Mapping[str, int]) -> None:
    """Tuning costs every contestant the same. ``sizes``: contestant -> configurations. Raises ValueError."""
    if len(set(sizes.values())) > 1:
        counted = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise ValueError(
            f"the spaces have different numbers of configurations ({counted}), and tuning must cost every contestant "
            "the same; give the others as many values, or fix a hyperparameter with --set"
        )


def own(spec: optim.OptimizerSpec) -> Axis:
    """The optimizer's own learning rates. Raises ValueError if it has none."""
    grid = spec.search_space.get("lr")
    if grid is None:
        raise ValueError(
            f"{spec.name} has no learning rate to begin with; give one with --space {spec.name}.lr=log:1e-4:1e-2"
        )
    return axis_of(spec, "lr", grid.values)


def longer(axis: Axis, points: int) -> Axis:
    """With at least so many values, made more at both ends in turn (upper end first), by the ratio it has."""
    values = [float(value) for value in axis.values]
    factor = axis.factor or (values[-1] / values[-2] if len(values) > 1 else 2.0)
    while len(values) < points:
        values.append(float(f"{values[-1] * factor:.6g}"))
        if len(values) < points:
            values.insert(0, float(f"{values[0] / factor:.6g}"))
    return Axis(tuple(values), factor, axis.domain)


def _items(text: str, names: Sequence[str]) -> Iterator[tuple[str, str, Any, str]]:
    """(contestant or "", hyperparameter, values, what was written) of one --space."""
    if "=" not in text:
        items = list(_file(text))
        if not items:
            raise ValueError(f"{text} has no hyperparameter with values; write lr = [1e-3, 2e-3] under [OPTIMIZER]")
        yield from items
        return
    target, _, values = text.partition("=")
    if not target.strip() or not values:
        raise ValueError(f"--space takes NAME=VALUES or a TOML file, not {text!r}")
    yield *owner_of(target.strip(), names), values, text


def _file(path: str) -> Iterator[tuple[str, str, Any, str]]:
    if not path.endswith(".toml"):
        raise ValueError(f"--space takes NAME=VALUES such as lr=log:1e-4:1e-2, or a TOML file, not {path!r}")
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no TOML file: {error}") from None
    for key, value in content.items():
        for name, values in value.items() if isinstance(value, Mapping) else [("", value)]:
            owner, hyper = (key, name) if name else ("", key)
            yield owner, hyper, values, f"{hyper} = {values!r} in {path}"


def _owners(owner: str, contestants: Sequence[optim.OptimizerSpec], said: str) -> list[optim.OptimizerSpec]:
    if owner:
        name = owner if owner in [spec.name for spec in contestants] else optim.get(owner).name
        named = [spec for spec in contestants if spec.name == name]
        if not named:
            names = ", ".join(spec.name for spec in contestants)
            raise ValueError(f"--space {said} is for {name}, which does not compete; there are {names}")
        return named
    foreign = [spec for spec in contestants if spec.version]
    if not foreign:
        raise ValueError(f"every contestant has a space of its own; say whose to change: {contestants[0].name}.{said}")
    return foreign


def _values(values: Any, said: str) -> list[Any]:
    """The list that was written, or the points of log:LOW:HIGH[:COUNT]."""
    if isinstance(values, list):
        return values
    if not isinstance(values, str):
        return [values]
    if not values.startswith("log:"):
        return [value_of(word) for word in re.split(r",(?![^\[]*\])", values)]
    try:
        low, high, *rest = values.removeprefix("log:").split(":")
        start, end = float(low), float(high)
        count = int(rest[0]) if rest else round(math.log2(end / start)) + 1
        if not (0 < start < end < math.inf and 2 <= count <= MOST and len(rest) <= 1):
            raise ValueError
    except (ValueError, ZeroDivisionError):
        raise ValueError(
            f"a range is log:LOW:HIGH with 0 < LOW < HIGH, and perhaps :COUNT of 2 to {MOST}, not {said!r}"
        ) from None
    return [float(f"{start * (end / start) ** (n / (count - 1)):.6g}") for n in range(count)]
