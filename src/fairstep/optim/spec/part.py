"""Part: the roles that one rule takes, and where the rule finds its hyperparameters among the optimizer's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fairstep.optim.roles import Role, Value
from fairstep.optim.rule import Hyper, Rule


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

    def ratio(self, hyper: Hyper) -> float:
        """This part's learning rate over lr."""
        return float(hyper.get(self.lr_ratio, 1.0)) if self.lr_ratio else 1.0  # a later one may be missing

    def hyper(self, hyper: Hyper) -> dict[str, Value]:
        """What this part's rule and the engine read, from the optimizer's hyperparameters."""
        names = {name: self.rename.get(name, name) for name in self.rule.hyperparameters}
        used = {name: hyper[known] for name, known in names.items() if known in hyper}
        return {**used, "lr": hyper["lr"] * self.ratio(hyper), "weight_decay": hyper["weight_decay"]}

    @property
    def own(self) -> dict[str, str]:
        """The rule's name -> the optimizer's, of the hyperparameters that some of its parameters may have otherwise.

        Not of those that all parameters of the rule have in common, as they decide over shared numbers.
        """
        names = {name: self.rename.get(name, name) for name in self.rule.hyperparameters}
        decay = {"weight_decay": "weight_decay"} if self.rule.decayed else {}
        return {n: known for n, known in names.items() if n not in ("lr", *self.rule.common)} | decay
