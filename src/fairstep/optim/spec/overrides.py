"""Overrides: hyperparameters that some parameters have otherwise, such as another learning rate for the embedding.

An override is a hyperparameter with a dotted name, TARGET.NAME:

    embedding.lr_ratio = 28       learning rate of these parameters over lr, in place of the optimizer's own ratio
    aux.weight_decay = 1e-3       weight decay, also of parameters that have none otherwise
    head.beta2 = 0.95             a hyperparameter of their rule, under the rule's name for it
    vector.decay_fraction = 0.4   last part of the run in which their learning rate decays (see ``SCHEDULED``)
    *.qkv.weight.splits = 3       parts of the rows, each a matrix of its own to a rule of matrices (``splits``)

TARGET is a role; or aux, which is every role that the matrices' rule does not take; or a parameter's name, or a pattern
of names, with a dot or one of * ? [ in it. Of several that concern one parameter the narrowest counts: its name, then
patterns, then its role, then aux. Two patterns that say different things of one parameter are an error.

A run is named by its hyperparameters, so there is one way to say a thing: an override that says what holds anyway is
left out, and one that says what a hyperparameter of the optimizer says becomes it (Muon's aux.beta1 is adam_beta1).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from fairstep.optim.roles import ROLES, Role, Value
from fairstep.optim.rule import Hyper
from fairstep.optim.spec.hyperparameter import Hyperparameter, Splits, did_you_mean
from fairstep.optim.spec.part import Part
from fairstep.optim.splits import SPLITS

AUX = "aux"
LR_RATIO = "lr_ratio"
RATIO = Hyperparameter(1.0, "learning rate over lr", "the optimizer's own ratio", "(0, inf)")
SCHEDULED = {
    "decay_fraction": Hyperparameter(0.2, "last part of the steps that decays (wsd, inverse_sqrt)", "", "(0, 1]"),
    "final_fraction": Hyperparameter(0.0, "learning rate at the end over the peak", "", "[0, 1]"),
}
"""What these parameters' learning-rate schedule has otherwise. The engine only keeps it, in the param group."""
KEPT = {
    **SCHEDULED,
    SPLITS: Splits(1, "parts of a fused matrix's rows that are matrices of their own", ""),
}
"""What no rule reads."""


def is_override(name: str) -> bool:
    return "." in name


def split(name: str) -> tuple[str, str]:
    """(target, hyperparameter)."""
    target, _, own = name.rpartition(".")
    return target, own


def flat(overrides: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """``{"head": {"lr_ratio": 0.16, "betas": (0.8, 0.95)}}`` by dotted names. Raises ValueError for another form."""
    found: dict[str, Any] = {}
    if not isinstance(overrides, Mapping):
        raise ValueError(f"overrides take {{TARGET: {{NAME: VALUE}}}}, not {overrides!r}")
    for target, values in overrides.items():
        if not isinstance(values, Mapping):
            raise ValueError(f"overrides take {{TARGET: {{NAME: VALUE}}}}, and {target!r} has {values!r}")
        for name, value in values.items():
            named = {name: value}
            if name == "betas" and isinstance(value, list | tuple):
                named = {f"beta{n}": beta for n, beta in enumerate(value, 1)}
            elif name == SPLITS and isinstance(value, list | tuple):
                named = {name: ":".join(map(str, value))}
            found |= {f"{target}.{own}": given for own, given in named.items()}
    return found


class Overridable:
    """What a spec says of the hyperparameters that some parameters have otherwise."""

    name: str
    parts: tuple[Part, ...]
    hyperparameters: Mapping[str, Hyperparameter]

    def part(self, role: Role, hyper: Hyper | None = None) -> Part:
        """The part that takes a role, by default or with these hyperparameters."""
        part = next(part for part in self.parts if role in part.roles)
        return self.parts[0] if hyper and part.yields_to and hyper[part.yields_to] else part

    def aux(self, hyper: Hyper | None = None) -> tuple[Role, ...]:
        """Roles that another rule takes than the matrices', such as AdamW's in Muon."""
        matrices = self.part("matrix", hyper)
        return tuple(role for role in ROLES if self.part(role, hyper) is not matrices)

    def own_names(self, role: Role, hyper: Hyper | None = None) -> dict[str, str]:
        """The rule's name -> the optimizer's, of what parameters of a role may have otherwise."""
        own = self.part(role, hyper).own
        return {name: known for name, known in own.items() if not self.hyperparameters[known].run_length}

    def ratio_name(self, role: Role, hyper: Hyper | None = None) -> str | None:
        """The hyperparameter that is the role's learning rate over lr, if there is one."""
        return self.part(role, hyper).lr_ratio

    def known(self, role: Role, own: str, hyper: Hyper | None = None) -> str | None:
        """The optimizer's name of what an override calls so for a role; None: it has none."""
        return self.ratio_name(role, hyper) if own == LR_RATIO else self.own_names(role, hyper).get(own)

    def reads(self, role: Role, hyper: Hyper | None = None) -> set[str | None]:
        """The optimizer's hyperparameters that a role's rule reads, and the one that is its ratio."""
        part = self.part(role, hyper)
        return {part.rename.get(name, name) for name in part.rule.hyperparameters} | {part.lr_ratio}

    def one_lr(self, role: Role, hyper: Hyper | None = None) -> bool:
        """Whether all parameters of the role's rule must have one learning rate."""
        return self.part(role, hyper).rule.one_lr

    def hyperparameter(self, name: str, hyper: Hyper | None = None) -> Hyperparameter:
        """A hyperparameter or an override by name; an override's default is what holds without it.

        Raises ValueError with one sentence for one that there is not.
        """
        if name in self.hyperparameters:
            return self.hyperparameters[name]
        if not is_override(name):
            raise ValueError(
                f"{self.name} has no hyperparameter {name!r}{did_you_mean(name, self.hyperparameters)}; "
                f"it has {', '.join(self.hyperparameters)}"
            )
        target, own = split(name)
        roles = self._roles_of(name, hyper)
        if own in KEPT:
            return KEPT[own]
        if own == LR_RATIO:
            if any(self.one_lr(role, hyper) for role in roles):
                raise ValueError(
                    f"{self.name}: {name} is refused, because {self.name} estimates one learning rate for all "
                    "parameters; leave it out"
                )
            known = RATIO
        else:
            names = {role: self.own_names(role, hyper) for role in roles}
            has = [role for role in roles if own in names[role]]
            if not has or (target in (*ROLES, AUX) and len(has) < len(roles)):
                lacking = next(role for role in roles if role not in has)
                raise ValueError(
                    f"{self.name}: {name} names no hyperparameter of the rule for {lacking}"
                    f"{did_you_mean(own, (LR_RATIO, *names[lacking]))}; it has {_listed(names[lacking])}"
                )
            known = self.hyperparameters[names[has[0]][own]]
        without = self.value_without(name, hyper or {})
        return known if without is None else replace(known, default=without)

    def canonical(self, name: str, hyper: Hyper | None = None) -> str:
        """The optimizer's own name of what an override says, if it has one for just these roles; else the name."""
        target, own = split(name)
        if name in self.hyperparameters or target not in (*ROLES, AUX):
            return name
        roles = self._roles_of(name, hyper)
        known = self.known(roles[0], own, hyper)
        return known if known and roles == tuple(role for role in ROLES if known in self.reads(role, hyper)) else name

    def without_idle(self, hyper: Mapping[str, Value]) -> dict[str, Value]:
        """Hyperparameters without overrides that say what holds anyway."""
        kept = dict(hyper)
        for name in hyper:
            if is_override(name) and kept[name] == self.value_without(name, kept):
                del kept[name]
        return kept

    def value_without(self, name: str, hyper: Hyper) -> Value | None:
        """What holds where an override is left out; None where that is not one value, or not known here.

        Weight decay is not: the engine has roles without one.
        """
        target, own = split(name)
        if target not in (*ROLES, AUX) or own == "weight_decay" or own in KEPT:
            return None
        values: set[Value] = set()
        aux = self.aux(hyper)
        for role in self._roles_of(name, hyper):
            if target != AUX and role in aux and (above := f"{AUX}.{own}") in hyper:
                values.add(hyper[above])
                continue
            known = self.known(role, own, hyper)
            values.add(hyper.get(known, self.hyperparameters[known].default) if known else 1.0)
        return values.pop() if len(values) == 1 else None

    def overridden(self, role: Role, hyper: Hyper, name: str = "") -> dict[str, Value]:
        """What a parameter has otherwise, by its role and, where it is given, its name.

        Raises ValueError if its rule has no such hyperparameter, or two patterns contradict one another.
        """
        found: dict[str, tuple[int, str, Value]] = {}
        aux: tuple[Role, ...] | None = None
        for given, value in hyper.items():
            if not is_override(given):
                continue
            aux = self.aux(hyper) if aux is None else aux
            target, own = split(given)
            level = _level(target, role, name, aux)
            known = found.get(own)
            if level == 2 and known and known[0] == 2 and known[2] != value:
                raise ValueError(
                    f"the overrides {known[1]!r} and {target!r} both name {name}, with {own} {known[2]} and {value}; "
                    "give one of them"
                )
            if level >= 0 and (known is None or level >= known[0]):
                found[own] = level, target, value
        for own, (_, target, _) in found.items():
            if own != LR_RATIO and own not in KEPT and own not in (names := self.own_names(role, hyper)):
                raise ValueError(
                    f"{self.name}: the override {target!r} gives {name or role} a {own}, which its rule has not; "
                    f"it has {_listed(names)}"
                )
        return {own: value for own, (_, _, value) in found.items()}

    def check_overrides(self, hyper: Hyper, roles: Mapping[str, Role]) -> None:
        """Raise ValueError for an override whose target no parameter is, and for what ``overridden`` refuses.

        ``roles``: of a model's parameters by name.
        """
        there = [role for role in ROLES if role in roles.values()]
        targets = dict.fromkeys(split(name)[0] for name in hyper if is_override(name))
        for target in targets:
            wanted = self.aux(hyper) if target == AUX else (target,)
            if target == AUX or target in ROLES:
                if not set(there) & set(wanted):
                    raise ValueError(
                        f"an override is for {target}, and the model has no such parameter; its roles are "
                        f"{', '.join(there)}"
                    )
            elif not any(fnmatchcase(name, target) for name in roles):
                raise ValueError(f"overrides: no parameter is named {target!r}{did_you_mean(target, roles)}")
        for name, role in roles.items() if targets else ():
            self.overridden(role, hyper, name)

    def check_model(self, roles: Collection[str]) -> None:
        """Raise ValueError for a whole model without a matrix, if matrices have a rule of their own."""
        aux = self.aux()
        if aux and set(roles) <= set(aux):
            raise ValueError(
                f"{self.name} has a rule of its own for matrices, and the model has none: every parameter would get "
                f"another optimizer's rule; take one that has a single rule, such as adamw"
            )

    def settings(self, role: Role, hyper: Hyper, own: Mapping[str, Value] | None = None) -> dict[str, Value]:
        """What rule and engine read for parameters of a role. ``own``: ``overridden``, by default of the role alone."""
        values = dict(self.overridden(role, hyper) if own is None else own)
        settings = self.part(role, hyper).hyper(hyper)
        if LR_RATIO in values:
            settings["lr"] = hyper["lr"] * values.pop(LR_RATIO)
        return settings | values

    def _roles_of(self, name: str, hyper: Hyper | None) -> tuple[Role, ...]:
        """The roles that an override may be about. Raises ValueError if there are none."""
        target = split(name)[0]
        for role in ROLES:
            if role == target:
                return (role,)
        if target == AUX:
            if aux := self.aux(hyper):
                return aux
            raise ValueError(
                f"{self.name} has one rule for all parameters, and so no {name}; name roles: embedding, head, vector"
            )
        if any(sign in target for sign in ".*?["):
            return ROLES
        raise ValueError(
            f"{self.name}: {name} is for an unknown role{did_you_mean(target, (*ROLES, AUX))}; roles are "
            f"{', '.join(ROLES)}, and {AUX} for all but the matrices' rule (a pattern of names has a dot or a * in it)"
        )


def _level(target: str, role: Role, name: str, aux: Collection[Role]) -> int:
    """How narrowly a target means a parameter; -1: not at all."""
    if target in ROLES:
        return 1 if target == role else -1
    if target == AUX:
        return 0 if role in aux else -1
    if name == target:
        return 3
    return 2 if name and fnmatchcase(name, target) else -1


def _listed(names: Iterable[str]) -> str:
    return ", ".join((LR_RATIO, *names, *KEPT))
