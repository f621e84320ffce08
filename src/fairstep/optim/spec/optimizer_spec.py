"""OptimizerSpec: what the rest of the house knows about an optimizer, without importing torch.

Tables, help texts, tuners and conformance tests are generated from specs. The mathematics is in ``rules/``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from inspect import cleandoc
from typing import Literal, get_args

from fairstep.optim.roles import ROLES, Role, Value
from fairstep.optim.rule import Context, call
from fairstep.optim.spec.hyperparameter import Grid, Hyperparameter, did_you_mean
from fairstep.optim.spec.overrides import Overridable, is_override
from fairstep.optim.spec.part import Part
from fairstep.optim.spec.tunings import Tuned

Decay = Literal["decoupled", "independent", "coupled", "cautious", "corrected"]
DECAYS: tuple[Decay, ...] = get_args(Decay)
"""Forms of weight decay; the equations are in ``engine.step``."""


class UnknownOptimizerError(ValueError):
    """No optimizer has this name; the message gives the nearest ones."""


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


@dataclass(frozen=True, eq=False)
class OptimizerSpec(Overridable, Tuned):
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
    """What a training loop may have to supply beside gradients (see ``engine.signals``); mostly nothing."""
    version: str = ""
    """Which code a foreign optimizer is (see ``catalogue.provenance``); empty for ours, whose version is fairstep's."""
    retired: Mapping[str, Value] = field(default_factory=dict)
    """Hyperparameters that were taken out -> the only value they may have. ``validate`` still writes them, so that a
    run has the name (the hash of its settings) that it had before."""
    documented_in: tuple[str, ...] = ()
    """Names of the modules whose docstrings describe it; by default the module of its first rule."""
    roles: Mapping[Role, str] = field(init=False)
    """Role -> name of its rule, every role exactly once."""

    def __post_init__(self) -> None:
        taken = [(role, part.rule.name) for part in self.parts for role in part.roles]
        if sorted(role for role, _ in taken) != sorted(ROLES):
            raise ValueError(f"the parts of {self.name} must take each role of {', '.join(ROLES)} exactly once")
        for name in ("lr", "weight_decay"):
            if name not in self.hyperparameters:
                raise ValueError(f"{self.name} must declare the hyperparameter {name}")
        for part in self.parts:
            for name in part.rule.hyperparameters:
                known = part.rename.get(name, name)
                if known not in self.hyperparameters:
                    raise ValueError(
                        f"the rule {part.rule.name} asks for the hyperparameter {known}, which {self.name} has not"
                        f"{did_you_mean(known, self.hyperparameters)}; declare it, or correct the signature of the rule"
                    )
        object.__setattr__(self, "roles", dict(taken))

    def validate(self, hyper: Mapping[str, object]) -> dict[str, Value]:
        """All hyperparameters, given ones checked and the others at their defaults, in the order of the spec.

        Those that came later (``Hyperparameter.later``) only if they are not at their defaults, and overrides only if
        they change something (see ``overrides``).

        Raises ValueError with one sentence that names the hyperparameter, the value and what would be right.
        """
        self.check_retired(hyper)
        overrides = [name for name in hyper if is_override(name)]
        for name in hyper:
            if name not in self.retired and name not in overrides:
                self.hyperparameter(name)
        values = {
            name: known.check(f"{self.name}: {name}", hyper.get(name, known.default))
            for name, known in self.hyperparameters.items()
        }
        own = dict(values)
        for name in overrides:
            known = self.hyperparameter(name, own)
            values[self.canonical(name, own)] = known.check(f"{self.name}: {name}", hyper[name])
        for name, known in self.hyperparameters.items():
            if known.later and values[name] == known.default:
                del values[name]
        return {**self.without_idle(values), **self.retired}

    def typed(self, hyper: Mapping[str, object]) -> dict[str, Value]:
        """The given hyperparameters, each checked by itself. Raises ValueError."""
        self.check_retired(hyper)
        return {
            name: self.retired[name]
            if name in self.retired
            else self.hyperparameter(name).check(f"{self.name}: {name}", value)
            for name, value in hyper.items()
        }

    def complete(self, given: Mapping[str, object], grids: Mapping[str, Iterable[Value]]) -> dict[str, Value]:
        """All hyperparameters of a contestant that has some ``given`` and some tried from ``grids``. Raises ValueError.

        Of those that are tried it has the defaults.
        """
        values = self.validate(given)
        later = [n for n in grids if n not in values and (n in self.hyperparameters or is_override(n))]
        return values | {name: self.hyperparameter(name, values).default for name in later}

    def check_retired(self, hyper: Mapping[str, object]) -> None:
        """Raise ValueError if a hyperparameter that was taken out has another value than what is always done now."""
        for name, value in self.retired.items():
            if hyper.get(name, value) != value:
                raise ValueError(
                    f"{self.name}: {name}={hyper[name]!r} is no longer supported; leave {name} out "
                    f"(it is {value!r} now)"
                )

    def state_floats(self, o: int, i: int, role: Role = "matrix", **hyper: Value) -> int:
        """Floats of optimizer state for one o x i matrix of this role (a vector of n elements is n x 1)."""
        settings = self.validate(hyper)
        rule = self.part(role, settings).rule
        return call(rule.state_floats, Context(self.settings(role, settings)), o, i)

    def flops(self, o: int, i: int, role: Role = "matrix", **hyper: Value) -> float:
        """Floating-point operations that one step adds for one o x i matrix of this role."""
        settings = self.validate(hyper)
        rule = self.part(role, settings).rule
        return call(rule.flops, Context(self.settings(role, settings)), o, i)

    def of_run(
        self, hyper: Mapping[str, Value], *, steps: int, precision: Literal["float32", "bf16"]
    ) -> dict[str, Value]:
        """With what the run decides: a run length of 0 is ``steps``, a dtype of "auto" the run's precision."""
        filled: dict[str, Value] = {name: steps for name in self.run_lengths if hyper.get(name) == 0}
        dtype = "bfloat16" if precision == "bf16" else "float32"
        return {**hyper, **filled, **{name: dtype for name in self.product_dtypes if hyper.get(name) == "auto"}}

    @property
    def product_dtypes(self) -> tuple[str, ...]:
        """Names of the hyperparameters that are a dtype of matrix products."""
        return tuple(name for name, known in self.hyperparameters.items() if known.product_dtype)

    @property
    def run_lengths(self) -> tuple[str, ...]:
        """Names of the hyperparameters that are the run's number of steps."""
        return tuple(name for name, known in self.hyperparameters.items() if known.run_length)

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of the modules whose docstrings describe it."""
        return self.documented_in or (type(self.parts[0].rule).__module__,)

    @property
    def text(self) -> str:
        """Equations, citation and differences from other implementations: the docstring of the rule's file."""
        return "\n\n".join(cleandoc(sys.modules[module].__doc__ or "") for module in self.modules)
