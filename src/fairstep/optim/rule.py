"""What a rule is: the mathematics of one optimizer on one stack of tensors, and what that costs.

A rule holds no tensors and no hyperparameters, loops over no parameters, and knows no learning rate, weight decay,
clipping or communication: the engine supplies those once, so that contestants differ in their rule and in nothing
else. This file does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from torch import Tensor

    from fairstep.optim.routing import Named

Hyper = Mapping[str, Any]
"""Hyperparameters as a rule reads them: the live param group, so schedules of any of them take effect."""


DECOMPOSITION, ELEMENTWISE, RANDOM = 2.5, 100.0, 800.0
"""Time of a FLOP of a QR decomposition, of a FLOP between elements and of a random number, each over that of a FLOP of
a matrix product: on a CPU, for sides from 512 on, by ``benchmarks/rates.py``."""


@dataclass(frozen=True)
class Apart:
    """How the rows of one matrix may be divided over ranks, and what each rank has beside its share of rows.

    ``unit``: rows that must stay together. ``repeated``: names of the state that every rank keeps in whole, of
    ``state`` floats. ``second``: names of state that has rows as its second dimension, behind blocks of columns.
    ``cost``: what every rank repeats, in the unit of ``work.cost``. ``sums``: floats that are added up over the
    ranks in a step.
    """

    unit: int = 1
    repeated: tuple[str, ...] = ()
    second: tuple[str, ...] = ()
    state: int = 0
    cost: float = 0.0
    sums: float = 0.0


class Rule:
    """Base class of all rules.

    The engine calls with tensors that hold many parameters at once, all in the compute dtype (float32 for bf16 and
    float16 parameters, else the parameter's own):

    * ``elementwise`` rules see flat vectors ``(n,)``: several parameters of any shape, end to end. Such a rule may
      not look across elements.
    * other rules see stacks ``(s, o, i)`` of s matrices of one shape, o output and i input features, and treat every
      matrix by itself. A vector of n elements is n x 1, a scalar 1 x 1.
    """

    name: str
    uses: ClassVar[tuple[str, ...]]
    """Names of the hyperparameters that ``init`` and ``update`` read."""
    elementwise: ClassVar[bool] = False
    decays_after_step: ClassVar[bool] = False
    """Whether weight decay multiplies the weights after the step was added instead of before."""
    decayed: ClassVar[bool] = True
    """Whether its parameters may have weight decay at all."""
    state_formula: str
    """Floats of state for one o x i matrix, in words (N = o i)."""
    flops_formula: str
    """Floating-point operations of one step on one o x i matrix, in words (k = min(o, i), K = max(o, i))."""

    def settings(self, item: Named, hyper: Hyper) -> dict[str, Any]:
        """What the rule must know of one parameter beyond its shape, from its name and its modules.

        The engine adds it to the hyperparameters that ``init`` and ``update`` see: parameters whose settings differ are
        in different param groups. Raises ValueError with the parameter's name if the two do not fit.
        """
        return {}

    def init(self, param: Tensor, hyper: Hyper) -> dict[str, Tensor]:
        """The state before the first step. Every tensor's leading dimension is that of ``param``.

        A value may also be a float: one number for each parameter, which ``move`` replaces in the dict (parameters
        whose numbers differ are never in one stack). Must also work on the meta device: the engine asks it for shapes.
        """
        raise NotImplementedError

    def update(self, grad: Tensor, state: dict[str, Tensor], param: Tensor, hyper: Hyper, step: int) -> Tensor | None:
        """The direction u of step number ``step`` (1, 2, ...), which the engine applies as W <- W - lr u.

        Changes the tensors of ``state`` in place (they are views that checkpoints see). ``grad`` and ``param`` are
        read-only and may not be kept: they can be the caller's own memory. None means that this call only
        initialises: neither step nor decay.
        """
        raise NotImplementedError

    def due(self, hyper: Hyper, step: int) -> tuple[str, ...]:
        """Signals that ``update`` needs in this step, and then finds in ``state`` under their names."""
        return ()

    def move(
        self, weights: Tensor, step: Callable[[Tensor], None], state: dict[str, Any], hyper: Hyper, count: int
    ) -> None:
        """Take step number ``count``: ``step(weights)`` decays the weights and adds -lr u, in place.

        A rule that constrains or averages the weights does so here, around that call.
        """
        step(weights)

    def evaluation_weights(self, weights: Tensor, state: dict[str, Any], hyper: Hyper, count: int) -> Tensor:
        """The weights to evaluate and export after ``count`` steps: ``weights`` itself, or an average in new memory."""
        return weights

    def shared(self, hyper: Hyper) -> dict[str, float]:
        """Numbers that all parameters have in common, as they are before the first step (Prodigy's d).

        Where there are any, they are ``hyper["shared"]``, and before the updates of a step the engine adds up
        ``measure`` over all stacks and calls ``agree`` once.
        """
        return {}

    def measure(self, grad: Tensor, state: dict[str, Any], param: Tensor, hyper: Hyper) -> Tensor:
        """This stack's share (k,), in float64, of the sums that ``agree`` needs. Arguments as of ``update``."""
        raise NotImplementedError

    def agree(self, sums: Sequence[float], hyper: Hyper) -> dict[str, float]:
        """The shared numbers with which this step's updates are made, from the sums over all parameters."""
        raise NotImplementedError

    def rows_apart(self, o: int, i: int, hyper: Hyper) -> Apart | None:
        """How the rows of an o x i matrix may be divided over ranks; None: not at all.

        A rule that says so sees a part of the rows (s = 1), and looks across rows with the functions of ``across``.
        """
        return None

    def lr_factor(self, hyper: Hyper) -> float:
        """What the rule itself multiplies the learning rate by in this step."""
        return 1.0

    def state_floats(self, o: int, i: int, hyper: Hyper) -> int:
        """Floats of state for one o x i matrix (a vector of n elements is n x 1)."""
        raise NotImplementedError

    def flops(self, o: int, i: int, hyper: Hyper) -> float:
        """Floating-point operations of one step on one o x i matrix, averaged over steps."""
        raise NotImplementedError

    def decomposition_flops(self, o: int, i: int, hyper: Hyper) -> float:
        """Those among them that are of QR decompositions."""
        return 0.0

    def product_flops(self, o: int, i: int, hyper: Hyper) -> float:
        """Those among them that are of matrix products. All others but these two are elementwise."""
        return 0.0
