"""What a rule is: the mathematics of one optimizer on one stack of tensors, and what a step costs.

A rule keeps no tensors and no hyperparameters. It loops over no parameters and knows no weight decay, clipping or
communication. The engine supplies these once, so that contestants differ in their rule and in nothing else.

A method of a rule names the hyperparameters that it reads as keyword-only arguments:

    def update(self, grad, state, param, step, *, beta1, beta2, eps): ...

``call`` passes what the signature names, from the live param group: a schedule of any hyperparameter takes effect at
once. A method that must know more than its tensors and hyperparameters also names ``context`` (``Context``). A name
that the optimizer's spec does not have is an error when the spec is built. This file does not import torch.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar

from fairstep.optim._lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from fairstep.optim.roles import Named

Hyper = Mapping[str, Any]
"""Hyperparameters by the rule's names for them: a live param group, or what ``Part.hyper`` makes for one."""

DECOMPOSITION, ELEMENTWISE, RANDOM = 2.5, 100.0, 800.0
"""Cost of a QR FLOP, of an elementwise FLOP and of a random number, relative to one matrix-product FLOP. Measured on a
CPU for sides from 512 on, by ``benchmarks/rates.py``."""

State = dict[str, "Tensor"]
"""A rule's state for one stack, by name. Each tensor's leading dimension is the stack's."""

Result = TypeVar("Result")


class Total(Protocol):
    """Adds a tensor up over all ranks in place, or takes the largest of each element, and returns it."""

    def __call__(self, part: Tensor, largest: bool = False, /) -> Tensor: ...


@dataclass(frozen=True)
class RowShard:
    """This rank's rows of one matrix: from ``start`` on, of ``rows`` in the whole matrix. Other ranks have the rest."""

    start: int
    rows: int
    total: Total


@dataclass(frozen=True)
class Context:
    """What a rule may know beside its tensors and hyperparameters, for methods whose signature names ``context``.

    ``group``: the live param group. Beside hyperparameters it has the settings of its parameters (``Rule.settings``).
    ``rows``: which rows of the matrix this rank has; None: all. ``sharding.row_sums`` adds up over the ranks.
    ``given``: for ``agree``, signals that are numbers, such as the loss.
    """

    group: Hyper
    rows: RowShard | None = None
    given: Mapping[str, float] = field(default_factory=dict)

    @property
    def shared(self) -> dict[str, float]:
        """The numbers that all parameters of the rule have in common (``Rule.shared``), such as Prodigy's d."""
        if "shared" not in self.group:
            raise ValueError(
                "a param group was changed from outside: it has no shared, the numbers that all parameters of its rule "
                "have in common; set what was deleted again"
            )
        numbers: dict[str, float] = self.group["shared"]
        return numbers

    @property
    def peak_lr(self) -> float:
        """The learning rate that the param group was built with; of one built with 0, its present one."""
        return float(self.group["peak_lr"]) or float(self.group["lr"]) or 1.0


def call(method: Callable[..., Result], context: Context, *arguments: Any) -> Result:
    """A rule's method with these arguments, and with the hyperparameters (and the context) that its signature names.

    One that the group has not is one that came later than the group's run: it has the signature's default.
    """
    group, names = context.group, named(method)
    given = {name: group[name] for name in names if name in group}
    if "context" in names:
        given["context"] = context
    return method(*arguments, **given)


def named(method: Callable[..., Any]) -> tuple[str, ...]:
    """The keyword-only arguments of a method."""
    return _named(getattr(method, "__func__", method))


@functools.cache
def _named(function: Callable[..., Any]) -> tuple[str, ...]:
    parameters = inspect.signature(function).parameters.values()
    return tuple(parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY)


@dataclass(frozen=True)
class RowSharding:
    """How the rows of one matrix may be divided over ranks, and what every rank has beside its rows.

    ``unit``: rows that stay together. ``repeated``: names of the state that every rank keeps whole, ``state`` floats
    in all. ``second``: names of state whose second dimension is the rows (the first is blocks of columns).
    ``cost``: work that every rank repeats, in matrix-product FLOPs. ``sums``: floats added up over ranks in a step.
    """

    unit: int = 1
    repeated: tuple[str, ...] = ()
    second: tuple[str, ...] = ()
    state: int = 0
    cost: float = 0.0
    sums: float = 0.0


def per_element(count: float) -> str:
    """A count for each of the N elements, in words."""
    return "" if not count else "N" if count == 1 else f"{count:g} N"


class Rule:
    """Base class of all rules. ``*_, **hyper`` in a signature stands for the keyword-only arguments of a subclass.

    Tensors hold many parameters at once, in the compute dtype (float32 for bf16 and float16 parameters, otherwise the
    parameter's own):

    * an ``elementwise`` rule sees flat vectors ``(n,)``: several parameters of any shape, end to end. It may not look
      across elements.
    * another rule sees stacks ``(s, o, i)``: s matrices of one shape with o outputs and i inputs, each treated by
      itself. A vector of n elements is n x 1, a scalar 1 x 1.
    """

    name: str
    elementwise: bool = False
    decays_after_step: bool = False
    """Whether weight decay multiplies the weights after the step was added instead of before."""
    decayed: bool = True
    """Whether its parameters may have weight decay at all."""
    one_lr: bool = False
    """Whether the learning rates of all its param groups must be the same, apart from 0."""
    moments: ClassVar[tuple[str, ...]] = ()
    """Names of state that has the shape of the parameter and begins at zero. Other state is a method ``init``."""
    eight_bit: ClassVar[tuple[tuple[str, Literal["signed", "positive"]], ...]] = ()
    """Moments that may be kept in 8 bits, and whether they have a sign; a subclass does not inherit them."""
    floats_per_element: ClassVar[int]
    """Floats of state for each element of a matrix, by default the moments. Another count is ``state_floats``."""
    flops_per_element: ClassVar[float]
    """FLOPs of one step for each element, beside ``product_flops`` and ``decomposition_flops``."""
    products: ClassVar[str] = ""
    """``product_flops`` and ``decomposition_flops`` of one o x i matrix, in words (k = min(o, i), K = max(o, i))."""
    state_formula: str
    """Floats of state for one o x i matrix, in words (N = o i); by default from ``floats_per_element``."""
    flops_formula: str
    """FLOPs of one step on one o x i matrix, in words; by default from ``products`` and ``flops_per_element``."""
    methods: ClassVar[tuple[str, ...]] = (
        *("settings", "init", "update", "due", "move", "evaluation_weights", "shared", "measure", "agree"),
        *("lr_factor", "row_sharding", "state_floats", "flops", "decomposition_flops", "product_flops"),
    )
    """Methods that ``call`` may be asked for."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse rules written for the earlier convention. Raises TypeError."""
        super().__init_subclass__(**kwargs)
        cls.eight_bit = vars(cls).get("eight_bit", ())
        if "moments" in vars(cls):
            cls.floats_per_element = len(cls.moments)
        if "floats_per_element" in vars(cls) and "state_formula" not in vars(cls):
            cls.state_formula = per_element(cls.floats_per_element)
        if "flops_per_element" in vars(cls) and "flops_formula" not in vars(cls):
            cls.flops_formula = " + ".join(filter(None, (cls.products, per_element(cls.flops_per_element))))
        if "uses" in vars(cls):
            raise TypeError(
                f"{cls.__name__}: `uses` and the argument `hyper` are gone; name the hyperparameters that a method "
                "reads as its keyword-only arguments, as in update(self, grad, state, param, step, *, beta1)"
            )

    @functools.cached_property
    def hyperparameters(self) -> tuple[str, ...]:
        """The hyperparameters that its methods name, in the order of the methods."""
        return tuple(dict.fromkeys(self._named()))

    @property
    def common(self) -> tuple[str, ...]:
        """The hyperparameters that decide over ``shared`` numbers, and so are the same for all its parameters."""
        return tuple(dict.fromkeys((*named(self.shared), *named(self.agree))))

    def _named(self) -> Iterator[str]:
        for method in self.methods:
            yield from (name for name in named(getattr(self, method)) if name != "context")

    written: tuple[str, ...] = ()
    """Keys of ``settings``: what the engine does not let anyone change."""

    def settings(self, item: Named, *_: Any, **hyper: Any) -> dict[str, Any]:
        """What the rule must know of one parameter beyond its shape, from its name and its modules.

        The engine puts it into the param group; parameters whose settings differ are in different groups. Raises
        ValueError with the parameter's name if parameter and hyperparameters do not fit.
        """
        return {}

    def init(self, param: Tensor, *_: Any, **hyper: Any) -> dict[str, Any]:
        """The state before the first step, by default the ``moments``. Tensors have the leading dimension of ``param``.

        A value may also be a float: one number for each parameter, which ``move`` replaces in the dict (parameters
        whose numbers differ are never in one stack). Must also work on the meta device: the engine asks it for shapes.
        """
        return {name: torch.zeros_like(param) for name in self.moments}

    def update(
        self, grad: Tensor, state: dict[str, Any], param: Tensor, step: int, *_: Any, **hyper: Any
    ) -> Tensor | None:
        """The direction u of step number ``step`` (1, 2, ...), which the engine applies as W <- W - lr u.

        Changes the tensors of ``state`` in place (they are views that checkpoints see). ``grad`` and ``param`` are
        read-only and may not be kept: they can be the caller's own memory. None means that this call only
        initialises: neither step nor decay.
        """
        raise NotImplementedError

    def due(self, step: int, *_: Any, **hyper: Any) -> tuple[str, ...]:
        """Signals that ``update`` needs in this step, and then finds in ``state`` under their names."""
        return ()

    def move(
        self,
        weights: Tensor,
        descend: Callable[[Tensor], None],
        state: dict[str, Any],
        step: int,
        *_: Any,
        **hyper: Any,
    ) -> None:
        """Take step number ``step``: ``descend(weights)`` decays the weights and adds -lr u, in place.

        A rule that constrains or averages the weights does so here, around that call.
        """
        descend(weights)

    def evaluation_weights(self, weights: Tensor, state: dict[str, Any], step: int, *_: Any, **hyper: Any) -> Tensor:
        """The weights to evaluate and export after ``step`` steps: ``weights`` itself, or an average in new memory."""
        return weights

    def shared(self, *_: Any, **hyper: Any) -> dict[str, float]:
        """Numbers that all parameters have in common, as they are before the first step (Prodigy's d).

        Where there are any, they are ``context.shared``. Before the updates of a step the engine adds ``measure`` up
        over all stacks and calls ``agree`` once.
        """
        return {}

    def measure(self, grad: Tensor, state: dict[str, Any], param: Tensor, *_: Any, **hyper: Any) -> Tensor:
        """This stack's share (k,), in float64, of the k sums that ``agree`` needs. Arguments as of ``update``."""
        raise NotImplementedError

    def agree(self, sums: Sequence[float], *_: Any, **hyper: Any) -> dict[str, float]:
        """The shared numbers with which this step's updates are made, from the sums over all parameters."""
        raise NotImplementedError

    def lr_factor(self, *_: Any, **hyper: Any) -> float:
        """What the rule itself multiplies the learning rate by in this step."""
        return 1.0

    def row_sharding(self, o: int, i: int, *_: Any, **hyper: Any) -> RowSharding | None:
        """How the rows of an o x i matrix may be divided over ranks; None: not at all.

        A rule that allows it sees a part of the rows (s = 1) and looks across rows with ``sharding.row_sums``.
        """
        return None

    def state_floats(self, o: int, i: int, *_: Any, **hyper: Any) -> int:
        """Floats of state for one o x i matrix (a vector of n elements is n x 1)."""
        return self.floats_per_element * o * i

    def flops(self, o: int, i: int, *_: Any, context: Context, **hyper: Any) -> float:
        """Floating-point operations of one step on one o x i matrix, averaged over steps."""
        matrices = call(self.product_flops, context, o, i) + call(self.decomposition_flops, context, o, i)
        return matrices + float(self.flops_per_element) * o * i

    def decomposition_flops(self, o: int, i: int, *_: Any, **hyper: Any) -> float:
        """The FLOPs of QR decompositions among ``flops``."""
        return 0.0

    def product_flops(self, o: int, i: int, *_: Any, **hyper: Any) -> float:
        """The FLOPs of matrix products among ``flops``. All others but these two kinds are elementwise."""
        return 0.0
