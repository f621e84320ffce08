"""Settings of live param groups, which schedulers, loops and saved states change: can their rules read them still?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from operator import is_, itemgetter
from typing import Any

from torch import Tensor

from fairstep.optim.engine import torch_forms
from fairstep.optim.spec import DECAYS, OptimizerSpec

_NUMBERS = ("lr", "weight_decay", "peak_lr")
"""Keys of a param group that are numbers whatever the rule."""
_UNKNOWN: tuple[frozenset[str], Callable[[Any], Any]] = frozenset({"rule"}), lambda _: (object(),)
"""What is read of a param group whose rule is unknown: nothing that was looked at before."""


class LiveGroups:
    """Checks the param groups of an optimizer in each step, and looks closely at those that were changed since."""

    def __init__(self, spec: OptimizerSpec) -> None:
        self.spec = spec
        self.known = {
            part.rule.name: {
                name: known
                for name in part.rule.hyperparameters
                if (known := spec.hyperparameters.get(part.rename.get(name, name))) and not known.later
            }
            for part in spec.parts
        }
        """The hyperparameters that every param group has, by rule. What came in a later version may be missing."""
        self.written = {part.rule.name: part.rule.written for part in spec.parts}
        """Keys that rules write into their param groups themselves."""
        settings = {rule: ["decay", "rule", *(n for n in known if n != "lr")] for rule, known in self.known.items()}
        always = {"params", "param_names", *_NUMBERS}
        self.read = {
            rule: (frozenset({*names, *always}), _getter(names, self.written[rule])) for rule, names in settings.items()
        }
        """Keys of a param group that are read in each step, by rule, and a getter of its settings."""
        self.checked: dict[int, Any] = {}
        """The settings of each param group that were looked at last."""
        self.first_written: dict[str, dict[str, Any]] = {}
        """What a rule wrote into its param group, by the name of the group's first parameter."""

    def check(self, groups: Sequence[Mapping[str, Any]]) -> None:
        """Raises ValueError if a param group has settings that its rule cannot read."""
        for number, group in enumerate(groups):
            keys, settings = self.read.get(group.get("rule", ""), _UNKNOWN)
            if (
                not group.keys() >= keys
                or not group.keys().isdisjoint(torch_forms.UNREAD)
                or not all(type(group.get(name)) is float for name in _NUMBERS)
                or number not in self.checked
                or not all(map(is_, self.checked[number], settings(group)))  # tensors have no one equality
            ):
                self.check_one(number, group)
                self._check_written(number, group)
                self.checked[number] = settings(group)

    def check_one(self, number: int, group: Mapping[str, Any]) -> None:
        """Raises ValueError if the settings of the param group with this number are none that its rule can read."""
        rule = group.get("rule")
        keys, _ = self.read.get(rule, _UNKNOWN) if rule else _UNKNOWN
        if missing := keys - group.keys():
            raise ValueError(
                f"param group {number}{f' ({rule})' if rule else ''} was changed from outside: it has no "
                f"{', '.join(sorted(missing))}; set what was deleted again"
            )
        if rule not in self.known:
            raise ValueError(f"param group {number} has the rule {rule!r}; {self.spec.name} has {', '.join(self.read)}")
        if group["decay"] not in DECAYS:
            raise ValueError(f"param group {number}: decay must be one of {', '.join(DECAYS)}, not {group['decay']!r}")
        for name in _NUMBERS:
            value = group[name]
            if not isinstance(value, Real | Tensor) or (isinstance(value, Tensor) and value.numel() != 1):
                raise ValueError(f"param group {number}: {name} must be a number, not {value!r}")
        for name, known in self.known[rule].items():
            value = group[name]
            one = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
            if name not in _NUMBERS:
                known.check(f"param group {number}: {name}", one)
        torch_forms.check_unread(self.spec, number, group)

    def _check_written(self, number: int, group: Mapping[str, Any]) -> None:
        """Raises ValueError if what the rule wrote into its param group was changed since."""
        if (names := self.written[group["rule"]]) and group["param_names"]:
            now = {name: group.get(name) for name in names}
            before = self.first_written.setdefault(group["param_names"][0], now)
            for name in names:
                if now[name] != before[name]:
                    raise ValueError(
                        f"param group {number} ({group['rule']}) was changed from outside: {name} is {now[name]!r}, "
                        f"and the rule made it {before[name]!r} by the layers of its parameters; set it back"
                    )


def _getter(names: Sequence[str], written: Sequence[str]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """Of the settings with these names, and of what a rule wrote where it did."""
    read = itemgetter(*names)
    return (lambda group: (*read(group), *map(group.get, written))) if written else read
