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

import contextlib
import functools
import inspect
import math
import numbers
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from fairstep.optim.catalogue.contained import contained
from fairstep.optim.catalogue.paths import load, said
from fairstep.optim.roles import Role, Value
from fairstep.optim.spec import Grid, Hyperparameter, OptimizerSpec, Schedule, UnknownOptimizerError, did_you_mean
from fairstep.optim.spec.overrides import LR_RATIO, is_override

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from fairstep.optim.engine.said_roles import Roles


@dataclass(frozen=True, eq=False)
class ForeignSpec(OptimizerSpec):
    """A class of torch.optim.Optimizer, described by its signature. ``parts``, ``roles`` and ``aliases`` are empty."""

    target: type = object
    params: inspect.Parameter | None = None
    """The argument for the parameters."""
    unset: tuple[str, ...] = ()
    """Arguments whose defaults are left to the class, because they are no numbers, switches or words."""
    required: tuple[str, ...] = ()
    """Of these, those without a default."""
    decay_name: str = ""
    """The argument that is the weight decay; empty: none is known to be."""
    tuples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Argument -> its numbered hyperparameters."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "roles", {})

    def validate(self, hyper: Mapping[str, object]) -> dict[str, Value]:
        """All hyperparameters, the given ones checked: by type here, by value in a trial construction of the class.

        Raises ValueError with one sentence, the class's own words in it.
        """
        values: dict[str, Value] = {name: known.default for name, known in self.hyperparameters.items()}
        values = self.without_idle(values | self.typed(hyper))
        if values["lr"] == NO_RATE and "lr" not in hyper:
            raise ValueError(
                f"{self.name} has no learning rate of its own; give one: --lr in train, --set lr=VALUE in doctor, "
                f"--space {self.name}.lr=log:1e-4:1e-2 in compare"
            )
        if missing := [name for name in self.required if name not in values]:
            raise ValueError(
                f"{self.name} cannot be built without a value for {' and '.join(missing)}; give one with "
                f"--set, such as --set {missing[0]}=VALUE"
            )
        import torch

        with contained(), torch.random.fork_rng(devices=[]):  # a class may draw numbers, and asking must change nothing
            shapes = {"weight": (4, 4), "bias": (4,)}
            self.construct({n: torch.nn.Parameter(torch.zeros(shape)) for n, shape in shapes.items()}, None, values)
        return values

    @property
    def takes_names(self) -> bool:
        """Whether the class wants pairs of name and parameter."""
        return self.params is not None and "named" in self.params.name

    def typed(self, hyper: Mapping[str, object]) -> dict[str, Value]:
        """The given hyperparameters, checked by type alone: some are valid only together with others."""
        values: dict[str, Value] = {}
        for name, value in self._numbered(hyper).items():
            if name in self.hyperparameters:
                values[name] = _checked(f"{self.name}: {name}", value, self.hyperparameters[name].default)
            elif name in self.unset:
                values[name] = value  # type: ignore[assignment]
            elif is_override(name):
                own = self.hyperparameter(name)
                values[name] = _checked(f"{self.name}: {name}", value, own.default)
                if own.domain != _domain(own.default):  # a ratio, or of the schedule
                    values[name] = own.check(f"{self.name}: {name}", value)
            else:
                known = (*self.hyperparameters, *self.unset)
                raise ValueError(
                    f"{self.name} has no argument {name!r}{did_you_mean(name, known)}; it has {', '.join(known)}"
                )
        return values

    def complete(self, given: Mapping[str, object], grids: Mapping[str, Iterable[Value]]) -> dict[str, Value]:
        """As of any spec; every value of a grid is checked with the given ones and the first of the other grids."""
        own = (*self.hyperparameters, *self.unset)
        tried = {n: tuple(values) for n, values in grids.items() if n in own or is_override(n)}
        first = {name: values[0] for name, values in tried.items()}
        for name, value in ((name, value) for name, values in tried.items() for value in values[1:]):
            self.validate({**first, name: value, **given})
        values = self.validate({**first, **given})
        known = {name: self.hyperparameter(name, values).default for name in first if name not in self.unset}
        return values | {n: v for n, v in known.items() if n not in given and (n, v) != ("lr", NO_RATE)}

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
        given = {name: value for name, value in values.items() if not is_override(name)}
        changed: dict[str, Any] = {k: v for k, v in given.items() if k == "lr" or k not in own or v != own[k].default}
        for name, parts in self.tuples.items():
            if any(part in changed for part in parts):
                whole = tuple(values.get(part, own[part].default) for part in parts)
                changed = {k: v for k, v in changed.items() if k not in parts} | {name: whole}
        return changed

    # What some parameters have otherwise, in param groups of the class (see ``spec.overrides``).

    def aux(self, hyper: Mapping[str, Any] | None = None) -> tuple[Role, ...]:
        return ()

    def own_names(self, role: Role, hyper: Mapping[str, Any] | None = None) -> dict[str, str]:
        names = {name: name for name in self.hyperparameters if name not in ("lr", self.decay_name)}
        return names | ({"weight_decay": self.decay_name} if self.decay_name else {})

    def ratio_name(self, role: Role, hyper: Mapping[str, Any] | None = None) -> str | None:
        return None

    def reads(self, role: Role, hyper: Mapping[str, Any] | None = None) -> set[str | None]:
        return set(self.hyperparameters)

    def one_lr(self, role: Role, hyper: Mapping[str, Any] | None = None) -> bool:
        return False

    def in_group(self, own: Mapping[str, Value], values: Mapping[str, Value]) -> dict[str, Any]:
        """What a param group of the class says for parameters that have something otherwise."""
        names = self.own_names("matrix")
        merged = {**values, **{names[name]: value for name, value in own.items() if name in names}}
        group: dict[str, Any] = {}
        for name, value in own.items():
            whole = next((tuple_ for tuple_, parts in self.tuples.items() if name in parts), None)
            if name == LR_RATIO:
                group["lr"] = float(values["lr"]) * float(value)
            elif whole:
                group[whole] = tuple(merged[part] for part in self.tuples[whole])
            else:
                group[names.get(name, name)] = value
        return group

    def construct(
        self, named: Mapping[str, Any], groups: Iterable[Any] | None, values: Mapping[str, Value]
    ) -> Optimizer:
        """The class over param groups or parameters, by default the named ones; a class that wants names gets pairs.

        Raises ValueError with one sentence.
        """
        pairs = list(named.items())
        if pairs and self.takes_names:
            return self._call(pairs, values)
        try:
            return self._call(list(named.values()) if groups is None else groups, values)
        except ValueError:
            if not pairs:
                raise
            with contextlib.suppress(ValueError):
                return self._call(pairs, values)
            raise

    def _call(self, params: Iterable[Any], values: Mapping[str, Value]) -> Optimizer:
        arguments = self.arguments(values)
        try:
            if self.params is None or self.params.name == _first(self.target).name:
                return self.target(params, **arguments)
            return self.target(**{self.params.name: params}, **arguments)
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

    As with our engine, vectors and embeddings get no weight decay: they are a second param group, if the class has an
    argument for it (``DECAY_NAMES``) and it is not 0. A class with train() and eval() is in train mode.
    """
    from fairstep.optim.engine.named_parameters import named_parameters
    from fairstep.optim.engine.routed import UNDECAYED
    from fairstep.optim.engine.routing import assign

    assert isinstance(spec, ForeignSpec)
    values = spec.validate(hyper)
    groups: list[Any] | None = None if hasattr(params, "parameters") else list(params)
    overrides = any(map(is_override, values))
    if overrides and (spec.takes_names or (groups and all(isinstance(group, Mapping) for group in groups))):
        reason = "takes no param groups" if spec.takes_names else "is given param groups, which can say the same"
        raise ValueError(f"{spec.name} {reason}, so that it can have no overrides; leave them out")
    named: dict[str, Any] = {}
    if not (groups and all(isinstance(group, Mapping) for group in groups)):
        items = named_parameters(params if groups is None else groups)
        assigned = assign(items, roles)
        named, groups = {item.name: item.tensor for item in items}, None
        decays = bool(values.get(spec.decay_name, 0))
        buckets: dict[tuple[Any, ...], dict[str, Any]] = {}
        for item in sorted(items, key=lambda item: assigned[item.name] in UNDECAYED):
            undecayed = {spec.decay_name: 0.0} if decays and assigned[item.name] in UNDECAYED else {}
            group = undecayed | spec.in_group(spec.overridden(assigned[item.name], values, item.name), values)
            buckets.setdefault(tuple(group.items()), {"params": [], **group})["params"].append(item.tensor)
        groups = list(buckets.values()) if len(buckets) > 1 or overrides else None
        spec.check_overrides(values, assigned)
    optimizer = spec.construct(named, groups, values)
    if callable(getattr(optimizer, "train", None)):
        optimizer.train()  # type: ignore[attr-defined]
    return optimizer


NO_RATE = 0.0
"""The default of a learning rate that has none: None, or nothing at all."""

DECAY_NAMES = frozenset(
    {"weightdecay", "wd", "decay", "weightdecayrate", "weightdecaycoefficient", "weightdecaycoeff", "lambdawd"}
    | {"l2", "l2reg", "l2penalty", "l2regularization", "wdcoef", "wdcoeff", "weightdecayvalue", "lrweightdecay"}
)
"""Names of an argument that is the weight decay, without underscores."""

PARAMS_NAMES = ("params", "parameters", "named_params", "named_parameters", "param_groups", "model_params")


def _first(target: type) -> inspect.Parameter:
    return next(iter(inspect.signature(target).parameters.values()))


def _arguments(target: type) -> list[inspect.Parameter]:
    """The arguments of a class, that for the parameters first: by its name, else the first one."""
    arguments = list(inspect.signature(target).parameters.values())
    params = next((a for a in arguments if a.name in PARAMS_NAMES), arguments[0] if arguments else None)
    return [a for a in (params, *(a for a in arguments if a is not params)) if a is not None]


@functools.cache
def describe(name: str, path: str) -> OptimizerSpec:
    """The spec of what ``path`` (``package.module:Class``) means, under this name. Raises UnknownOptimizerError."""
    from fairstep.optim.catalogue.provenance import version_of

    found = load(path)
    if isinstance(found, OptimizerSpec):
        return replace(found, name=name, version=version_of(path.partition(":")[0]))
    import torch

    if not (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
        kind = f"the class {found.__name__}" if isinstance(found, type) else f"a {type(found).__name__}"
        raise UnknownOptimizerError(f"{name} is {kind}, and no subclass of torch.optim.Optimizer")
    params, *arguments = _arguments(found)
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
    space: dict[str, Grid] = {}
    for argument in named:
        default = argument.default
        source = f"{found.__name__} of {version}"
        if isinstance(default, tuple | list) and default and all(map(_is_value, default)):
            stem = argument.name.removesuffix("s")
            tuples[argument.name] = tuple(f"{stem}{n}" for n in range(1, len(default) + 1))
            for part, value in zip(tuples[argument.name], default, strict=True):
                known[part] = Hyperparameter(value, f"one of its {argument.name}", source, _domain(value))
        elif argument.name == "lr":
            rate = default if _is_value(default) and not isinstance(default, bool | str) else NO_RATE
            says = "an argument of the class" if rate else "the class has no number as its default, so it must be given"
            known["lr"] = Hyperparameter(rate, says, source, "(0, inf)")
            if rate > 0:
                space["lr"] = Grid.geometric(rate / 2, 3, f"around {rate:g}, its default")
        elif _is_value(default):
            known[argument.name] = Hyperparameter(default, "an argument of the class", source, _domain(default))
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
        params=params,
        unset=tuple(a.name for a in named if a.name not in known and a.name not in tuples),
        required=tuple(a.name for a in named if a.name != "lr" and a.default is a.empty),
        tuples=tuples,
        decay_name=next((n for n in known if n.lower().replace("_", "") in DECAY_NAMES), ""),
    )


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
