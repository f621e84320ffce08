"""Anyone's optimizer as a contestant, with no edit here.

``package.module:Class`` names any subclass of torch.optim.Optimizer that can be imported from the installed packages
or the current folder, or an OptimizerSpec (a rule of one's own on our engine). A package may also give it a short name:

    [project.entry-points."fairstep.optimizers"]
    mine = "mypackage.optim:Mine"

What we know of a class is its signature: ``lr`` and every argument whose default is a number, a switch or a word are
hyperparameters; a tuple of numbers becomes numbered ones (betas -> beta1, beta2). Other arguments may be set, but are
left to the class otherwise. The unit of the learning rate and the cost of a step are not known.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import math
import numbers
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairstep.optim.catalogue.contained import contained
from fairstep.optim.roles import Value
from fairstep.optim.spec import Grid, Hyperparameter, OptimizerSpec, Schedule, UnknownOptimizerError, nearest

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from fairstep.optim.engine.routing import Roles


@dataclass(frozen=True, eq=False)
class ForeignSpec(OptimizerSpec):
    """A class of torch.optim.Optimizer, described by its signature. ``parts``, ``roles`` and ``aliases`` are empty."""

    target: type = object
    unset: tuple[str, ...] = ()
    """Arguments whose defaults are left to the class, because they are no numbers, switches or words."""
    tuples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Argument -> its numbered hyperparameters."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "roles", {})

    def validate(self, hyper: Mapping[str, object]) -> dict[str, Value]:
        """All hyperparameters, the given ones checked: by type here, by value in a trial construction of the class.

        Raises ValueError with one sentence, the class's own words in it.
        """
        values: dict[str, Value] = {name: known.default for name, known in self.hyperparameters.items()}
        for name, value in self._numbered(hyper).items():
            if name in self.hyperparameters:
                values[name] = _checked(f"{self.name}: {name}", value, values[name])
            elif name in self.unset:
                values[name] = value  # type: ignore[assignment]
            else:
                known = (*self.hyperparameters, *self.unset)
                raise ValueError(
                    f"{self.name} has no argument {name!r}{nearest(name, known)}; it has {', '.join(known)}"
                )
        import torch

        with contained(), torch.random.fork_rng(devices=[]):  # asking must change nothing
            self.construct([torch.nn.Parameter(torch.zeros(shape)) for shape in ((4, 4), (4,))], values)
        return values

    def _numbered(self, hyper: Mapping[str, object]) -> dict[str, object]:
        """``betas=[0.9, 0.95]`` as beta1 and beta2."""
        found: dict[str, object] = {}
        for name, value in hyper.items():
            if name not in self.tuples:
                found[name] = value
                continue
            parts = self.tuples[name]
            if not isinstance(value, list | tuple) or len(value) != len(parts):
                raise ValueError(f"{self.name}: {name} takes {len(parts)} numbers in a list, not {value!r}")
            found |= dict(zip(parts, value, strict=True))
        return found

    def arguments(self, values: Mapping[str, Value]) -> dict[str, Any]:
        """Keyword arguments of the class: those that differ from its own defaults, and lr."""
        own = self.hyperparameters
        changed: dict[str, Any] = {k: v for k, v in values.items() if k == "lr" or k not in own or v != own[k].default}
        for name, parts in self.tuples.items():
            if any(part in changed for part in parts):
                whole = tuple(values.get(part, own[part].default) for part in parts)
                changed = {k: v for k, v in changed.items() if k not in parts} | {name: whole}
        return changed

    def construct(self, params: Iterable[Any], values: Mapping[str, Value]) -> Optimizer:
        """The class over ``params`` (parameters or param groups). Raises ValueError with one sentence."""
        try:
            return self.target(params, **self.arguments(values))
        except (Exception, SystemExit) as error:
            raise ValueError(f"{self.name} cannot be built: {said(error)}") from error

    def state_floats(self, o: int, i: int, role: Any = "matrix", **hyper: Value) -> int:
        raise ValueError(f"the state of {self.name} is not known before it has run")

    def flops(self, o: int, i: int, role: Any = "matrix", **hyper: Value) -> float:
        raise ValueError(f"the cost of a step of {self.name} is not known before it has run")

    @property
    def text(self) -> str:
        return inspect.getdoc(self.target) or f"{self.name} has no documentation."


def build(spec: OptimizerSpec, params: Any, roles: Roles, hyper: Mapping[str, Any]) -> Optimizer:
    """The optimizer over a module, named parameters, parameters or param groups of one's own.

    As with our engine, vectors and embeddings get no weight decay: they are a second param group, if the class has the
    argument weight_decay and it is not 0. A class with train() and eval() is in train mode.
    """
    from fairstep.optim.engine import routing
    from fairstep.optim.engine.routed import UNDECAYED

    assert isinstance(spec, ForeignSpec)
    values = spec.validate(hyper)
    groups: list[Any] = [] if hasattr(params, "parameters") else list(params)
    if not (groups and all(isinstance(group, Mapping) for group in groups)):
        items = routing.named_parameters(params if hasattr(params, "parameters") else groups)
        assigned = routing.assign(items, roles)
        plain = [item.tensor for item in items if assigned[item.name] in UNDECAYED]
        decayed = [item.tensor for item in items if assigned[item.name] not in UNDECAYED]
        groups = [item.tensor for item in items]
        if plain and decayed and values.get("weight_decay", 0):
            groups = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
    optimizer = spec.construct(groups, values)
    if callable(getattr(optimizer, "train", None)):
        optimizer.train()  # type: ignore[attr-defined]
    return optimizer


@functools.cache
def describe(name: str, path: str) -> OptimizerSpec:
    """The spec of what ``path`` (``package.module:Class``) means, under this name. Raises UnknownOptimizerError."""
    from fairstep.optim.catalogue.provenance import version_of

    found = _load(path)
    if isinstance(found, OptimizerSpec):
        return replace(found, name=name, version=version_of(path.partition(":")[0]))
    import torch

    if not (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
        kind = f"the class {found.__name__}" if isinstance(found, type) else f"a {type(found).__name__}"
        raise UnknownOptimizerError(f"{name} is {kind}, and no subclass of torch.optim.Optimizer")
    arguments = list(inspect.signature(found).parameters.values())[1:]
    named = [a for a in arguments if a.kind not in (a.VAR_KEYWORD, a.VAR_POSITIONAL)]
    if "lr" not in [argument.name for argument in named]:
        raise UnknownOptimizerError(
            f"{name} has no argument lr, and fairstep tunes and schedules the learning rate; give it one in a subclass"
        )
    closure = inspect.signature(found.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise UnknownOptimizerError(
            f"the step of {name} needs a closure that computes loss and gradient anew; fairstep gives every optimizer "
            "one gradient a step, because contestants that see more cannot be compared by tokens"
        )
    version = version_of(found.__module__)
    known: dict[str, Hyperparameter] = {}
    tuples: dict[str, tuple[str, ...]] = {}
    for argument in named:
        default = argument.default
        source = f"{found.__name__} of {version}"
        if isinstance(default, tuple | list) and default and all(map(_is_value, default)):
            stem = argument.name.removesuffix("s")
            tuples[argument.name] = tuple(f"{stem}{n}" for n in range(1, len(default) + 1))
            for part, value in zip(tuples[argument.name], default, strict=True):
                known[part] = Hyperparameter(value, f"one of its {argument.name}", source, _domain(value))
        elif _is_value(default):
            domain = "(0, inf)" if argument.name == "lr" else _domain(default)
            known[argument.name] = Hyperparameter(default, "an argument of the class", source, domain)
    rate = known["lr"].default if "lr" in known else None
    space = {}
    if isinstance(rate, float | int) and rate > 0:
        space["lr"] = Grid.geometric(rate / 2, 3, f"around {rate:g}, its default")
    return ForeignSpec(
        name=name,
        class_name=found.__name__,
        title=found.__name__,
        reference=version,
        parts=(),
        hyperparameters=known,
        search_space=space,
        lr_unit="not known",
        schedule=Schedule("cosine", 0.1, 0.0, "as AdamW: a class says nothing of its schedule"),
        version=version,
        target=found,
        unset=tuple(a.name for a in named if a.name not in known and a.name not in tuples),
        tuples=tuples,
    )


def _load(path: str) -> Any:
    """The object that ``package.module:Name`` means. Raises UnknownOptimizerError."""
    module_name, _, attribute = path.partition(":")
    if not attribute or not all(part.isidentifier() for part in module_name.split(".")):
        raise UnknownOptimizerError(f"an optimizer of your own is package.module:Class, not {path!r}")
    if "+" in attribute:
        raise UnknownOptimizerError(f"wrappers go around fairstep's own optimizers, and {path!r} asks for another's")
    if not {"", str(Path.cwd())} & set(
        sys.path
    ):  # `python -m` has the current folder there, the console script has not
        sys.path.append(str(Path.cwd()))
    try:
        with contained():
            module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        where = "in the installed packages or the current folder"
        needed = "" if module_name.startswith(missing) else f", which {module_name} imports"
        raise UnknownOptimizerError(f"there is no module {missing!r} {where}{needed}") from None
    except (Exception, SystemExit) as error:
        raise UnknownOptimizerError(f"{module_name} cannot be imported: {said(error)}") from error
    try:
        return functools.reduce(getattr, attribute.split("."), module)
    except AttributeError:
        near = nearest(attribute, [n for n, v in vars(module).items() if isinstance(v, type)])
        raise UnknownOptimizerError(f"{module_name} has no {attribute!r}{near}") from None


def _is_value(default: object) -> bool:
    """Whether a run's record can hold it: a switch, a word or a finite number."""
    return isinstance(default, bool | str) or (isinstance(default, numbers.Real) and math.isfinite(default))


def _domain(default: object) -> str:
    return "(-inf, inf)" if isinstance(default, numbers.Real) and not isinstance(default, bool) else ""


def _checked(name: str, value: object, default: Value) -> Value:
    """A value of the default's type; what else is allowed, only the class knows."""
    if isinstance(default, bool | str):
        if not isinstance(value, type(default)):
            kind = "true or false" if isinstance(default, bool) else "a word"
            raise ValueError(f"{name} must be {kind}, not {value!r}")
        return value
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, not {value!r}")
    return value if isinstance(value, int | float) else float(value)


def said(error: BaseException) -> str:
    """An error of someone else's code in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")[:400]
