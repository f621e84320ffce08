"""OptimizerSpec: what the rest of the house knows about an optimizer, without importing torch.

Tables, help texts, tuners and conformance tests are generated from specs; a rule's mathematics is in ``rules/``.
"""

from __future__ import annotations

import math
import numbers
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from inspect import cleandoc
from typing import Literal, get_args

from fairstep.optim import tunings
from fairstep.optim.rule import Hyper, Rule
from fairstep.optim.tunings import Paper, Sourced, Tuning

Value = bool | int | float | str
Role = Literal["matrix", "embedding", "head", "vector", "expert", "router"]
ROLES: tuple[Role, ...] = get_args(Role)
"""What a parameter is for. vector: fewer than two dimensions (norm gains, biases). expert: a stack of matrices."""
Decay = Literal["decoupled", "independent", "coupled", "cautious"]
DECAYS: tuple[Decay, ...] = get_args(Decay)
"""Forms of weight decay; the equations are in ``engine``."""


class UnknownOptimizerError(ValueError):
    """No optimizer has this name; the message gives the nearest ones."""


@dataclass(frozen=True)
class Hyperparameter:
    """One number, switch or word that a user may set.

    The default's type is the type: bool, int, float or str. ``domain`` is an interval such as "(0, inf)" or "[0, 1)"
    for numbers, the allowed words for a str, and not needed for a bool. ``source`` says where the default is from.
    """

    default: Value
    description: str
    source: str
    domain: str | tuple[str, ...] = ""

    def check(self, name: str, value: object) -> Value:
        """The value in its proper type. Raises ValueError with one sentence: what was given, what would be right."""
        if isinstance(self.default, bool):
            if not isinstance(value, bool):
                raise ValueError(f"{name} must be true or false, not {value!r}")
            return value
        if isinstance(self.default, str):
            if value not in self.domain:
                raise ValueError(
                    f"{name} must be one of {', '.join(self.domain)}, not {value!r}{_nearest(value, self.domain)}"
                )
            return str(value)
        whole = isinstance(self.default, int)
        kind = "an integer" if whole else "a number"
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise ValueError(f"{name} must be {kind} in {self.domain}, not {value!r}")
        number = float(value)
        if not self._contains(number) or (whole and not number.is_integer()):
            raise ValueError(f"{name} must be {kind} in {self.domain}, not {value!r}")
        return int(number) if whole else number

    def _contains(self, number: float) -> bool:
        assert isinstance(self.domain, str)
        low, high = (float(end) for end in self.domain[1:-1].split(","))
        above = number > low or (number == low and self.domain[0] == "[")
        below = number < high or (number == high and self.domain[-1] == "]")
        return math.isfinite(number) and above and below


@dataclass(frozen=True)
class Grid:
    """Values that a tuner tries for one hyperparameter: geometric, so it can be extended at either end."""

    values: tuple[float, ...]
    factor: float
    source: str

    @classmethod
    def geometric(cls, first: float, count: int, source: str, factor: float = 2.0) -> Grid:
        return cls(tuple(float(f"{first * factor**n:.6g}") for n in range(count)), factor, source)


@dataclass(frozen=True)
class Schedule:
    """A default learning-rate schedule in fractions of the run (see ``runs.ScheduleSpec`` for the kinds).

    A wsd schedule decays on a straight line unless told otherwise, as W's do.
    """

    kind: Literal["cosine", "linear", "wsd", "constant"]
    warmup_fraction: float
    final_fraction: float
    source: str
    decay_fraction: float = 0.2
    decay_shape: Literal["1-sqrt", "linear"] = "linear"


@dataclass(frozen=True)
class Part:
    """The roles that one rule takes. An optimizer has one part, or several (Muon and its companion AdamW).

    ``rename`` maps the rule's name of a hyperparameter to the optimizer's (beta1 -> adam_beta1). ``lr_ratio`` names the
    hyperparameter whose product with lr is this part's learning rate.
    """

    roles: tuple[Role, ...]
    rule: Rule
    rename: Mapping[str, str] = field(default_factory=dict)
    lr_ratio: str | None = None
    yields_to: str | None = None
    """A hyperparameter that, if true, hands these roles to the optimizer's first part."""

    def hyper(self, hyper: Hyper) -> dict[str, Value]:
        """What this part's rule and the engine read, from the optimizer's hyperparameters."""
        ratio = hyper[self.lr_ratio] if self.lr_ratio else 1.0
        used = {name: hyper[self.rename.get(name, name)] for name in self.rule.uses}
        return {"lr": hyper["lr"] * ratio, "weight_decay": hyper["weight_decay"], **used}


@dataclass(frozen=True, eq=False)
class OptimizerSpec:
    """An optimizer as a contestant. Two specs are equal only if they are the same object."""

    name: str
    class_name: str
    """Name of the class in ``fairstep.optim``."""
    title: str
    reference: str
    parts: tuple[Part, ...]
    hyperparameters: Mapping[str, Hyperparameter]
    search_space: Mapping[str, Grid]
    """Grids for models that a CPU trains (width 32 to 64, batches of 1 to 2 thousand tokens, about 1000 steps)."""
    lr_unit: str
    """What a learning rate of 1 would do, in words: learning rates of different units cannot be compared."""
    schedule: Schedule
    aliases: tuple[str, ...] = ()
    decay: Decay = "decoupled"
    signals: tuple[str, ...] = ()
    """What a training loop may have to supply beside gradients (see ``signals``); mostly nothing."""
    version: str = ""
    """Which code a foreign optimizer is (see ``provenance``); empty for ours, whose version is fairstep's."""
    retired: Mapping[str, Value] = field(default_factory=dict)
    """Hyperparameters that were taken out -> the only value they may have. ``validate`` still writes them, so that a
    run has the name (the hash of its settings) that it had before."""
    documented_in: tuple[str, ...] = ()
    """Names of the modules whose docstrings describe it; by default that of its first rule."""
    roles: Mapping[Role, str] = field(init=False)
    """Role -> name of its rule, every role exactly once."""

    def __post_init__(self) -> None:
        taken = [(role, part.rule.name) for part in self.parts for role in part.roles]
        if sorted(role for role, _ in taken) != sorted(ROLES):
            raise ValueError(f"the parts of {self.name} must take each role of {', '.join(ROLES)} exactly once")
        for name in ("lr", "weight_decay"):
            if name not in self.hyperparameters:
                raise ValueError(f"{self.name} must declare the hyperparameter {name}")
        object.__setattr__(self, "roles", dict(taken))

    def validate(self, hyper: Mapping[str, object]) -> dict[str, Value]:
        """All hyperparameters, given ones checked and the others at their defaults, in the order of the spec.

        Raises ValueError with one sentence that names the hyperparameter, the value and what would be right.
        """
        self.check_retired(hyper)
        for name in hyper:
            if name not in self.hyperparameters and name not in self.retired:
                raise ValueError(
                    f"{self.name} has no hyperparameter {name!r}{_nearest(name, self.hyperparameters)}; "
                    f"it has {', '.join(self.hyperparameters)}"
                )
        values = {
            name: known.check(f"{self.name}: {name}", hyper.get(name, known.default))
            for name, known in self.hyperparameters.items()
        }
        return {**values, **self.retired}

    def check_retired(self, hyper: Mapping[str, object]) -> None:
        """Raise ValueError if a hyperparameter that was taken out has another value than what is always done now."""
        for name, value in self.retired.items():
            if hyper.get(name, value) != value:
                raise ValueError(
                    f"{self.name}: {name}={hyper[name]!r} is no longer supported; leave {name} out "
                    f"(it is {value!r} now)"
                )

    def part(self, role: Role, hyper: Hyper | None = None) -> Part:
        """The part that takes a role, by default or with these hyperparameters."""
        own = next(part for part in self.parts if role in part.roles)
        return self.parts[0] if hyper and own.yields_to and hyper[own.yields_to] else own

    def state_floats(self, o: int, i: int, role: Role = "matrix", **hyper: Value) -> int:
        """Floats of optimizer state for one o x i matrix of this role (a vector of n elements is n x 1)."""
        settings = self.validate(hyper)
        part = self.part(role, settings)
        return part.rule.state_floats(o, i, part.hyper(settings))

    def flops(self, o: int, i: int, role: Role = "matrix", **hyper: Value) -> float:
        """Floating-point operations that one step adds for one o x i matrix of this role."""
        settings = self.validate(hyper)
        part = self.part(role, settings)
        return part.rule.flops(o, i, part.hyper(settings))

    @property
    def tunings(self) -> tuple[Tuning, ...]:
        """What the two papers tried and chose for it, at every scale (see ``tunings``)."""
        return tunings.tunings(self.name)

    def tuning_at(self, parameters_matrix: int, tokens: int = 0, paper: Paper | None = None) -> Tuning | None:
        """The tuning nearest in size, then in tokens, that has a chosen configuration; None if there is none."""
        return tunings.tuning_at(self.name, parameters_matrix, tokens, paper)

    def search_space_at(
        self, parameters_matrix: int, paper: Paper | None = None
    ) -> tuple[dict[str, tuple[Value, ...]], str]:
        """(hyperparameter -> values, source) at the nearest size; ``search_space`` counts as one of small models."""
        return tunings.search_space_at(self, parameters_matrix, paper)

    def defaults_at(self, parameters_matrix: int, tokens: int = 0, paper: Paper | None = None) -> dict[str, Sourced]:
        """Every hyperparameter at this scale as (value, source)."""
        return tunings.defaults_at(self, parameters_matrix, tokens, paper)

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of the modules whose docstrings describe it."""
        return self.documented_in or (type(self.parts[0].rule).__module__,)

    @property
    def text(self) -> str:
        """Equations, citation and differences from other implementations: the docstring of the rule's file."""
        return "\n\n".join(cleandoc(sys.modules[module].__doc__ or "") for module in self.modules)


def _nearest(word: object, known: Iterable[str]) -> str:
    """' (did you mean a or b?)' or nothing."""
    from difflib import get_close_matches  # only errors need it

    close = get_close_matches(str(word).lower(), list(known), n=3, cutoff=0.5)
    return f" (did you mean {' or '.join(close)}?)" if close else ""
