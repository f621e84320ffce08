"""One compiled kernel for the whole step of an elementwise rule, so that every number is read and written once.

No rule knows of it. In every step a rule is carried out once on tensors of two elements, which records its operations
in their order. The numbers among their arguments (learning rate, bias corrections, schedules, all
hyperparameters) become entries of one tensor in the compute dtype, which the kernel takes beside gradient, weights and
state. So a kernel depends on the operations alone: no schedule, and no other setting of the same optimizer, compiles
anew, and all steps run in the compute dtype (numbers as Python floats would make torch's compiler work in double).

Steps that do not pay stay eager: those of small stacks, and each parameter's first, which often only initialises. What
is compiled depends on rule, sizes and step alone, so a run that is resumed continues to the bit.
"""

from __future__ import annotations

import functools
import os
import shutil
import sysconfig
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fairstep.optim.stacks import Stack

LEAST_ELEMENTS = 2**12
"""Smaller stacks stay eager: calling a kernel takes as long as a rule's passes over so few numbers in the cache."""

Action = Callable[[Tensor, Tensor, dict[str, Any]], Tensor | None]
"""What is done with gradients, weights and state: (rows,) in the compute dtype, and a dict of tensors and numbers."""


class Unsupported(Exception):
    """What a rule does that cannot be recorded."""


@functools.cache
def can_compile(device_type: str) -> bool:
    """Whether torch.compile works here: on a CPU it needs a C++ compiler and Python's headers, on CUDA triton."""
    if device_type == "cuda":
        return find_spec("triton") is not None
    if device_type != "cpu":
        return True
    compiler = os.environ.get("CXX") or "g++"
    headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return shutil.which(compiler) is not None and headers.exists()


@functools.cache
def _say_once(reason: str) -> None:
    warnings.warn(f"compiled=True, but {reason}; it steps uncompiled", RuntimeWarning, stacklevel=2)


class Slot(NamedTuple):
    """A tensor of a recording: an input, or the result of an operation, counted together."""

    place: int
    kind: str = "tensor"


class Number(NamedTuple):
    """An entry of the tensor of numbers."""

    place: int
    kind: str = "number"


class Operation(NamedTuple):
    function: Any
    arguments: tuple[Any, ...]
    keywords: tuple[tuple[str, Any], ...]
    result: int
    """The result's slot, which of an operation in place is that of its first argument."""


class Program(NamedTuple):
    """A recording without its numbers: equal ones share a kernel. (Tuples, because they are compared in each step.)"""

    inputs: int
    operations: tuple[Operation, ...]
    result: int | None


FORMS: dict[str, Callable[..., Tensor]] = {
    "add": lambda x, y, alpha=None: x + y if alpha is None else x + alpha * y,
    "sub": lambda x, y, alpha=None: x - y if alpha is None else x - alpha * y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "lerp": lambda x, y, weight: torch.lerp(x, y, weight),
    "addcmul": lambda x, a, b, value=None: x + a * b if value is None else x + value * (a * b),
    "addcdiv": lambda x, a, b, value=None: x + a / b if value is None else x + value * (a / b),
    "pow": lambda x, y: torch.pow(x, y),
    "clamp": lambda x, min=None, max=None: _clamp(x, min, max),
    "clamp_min": lambda x, min: _clamp(x, min, None),
    "clamp_max": lambda x, max: _clamp(x, None, max),
    "ge": lambda x, y: x >= y,
    "gt": lambda x, y: x > y,
    "le": lambda x, y: x <= y,
    "lt": lambda x, y: x < y,
}
"""Operations with numbers among their arguments, for numbers in tensors. In place and ``out`` follow from them."""


@functools.cache
def _form(function: Any) -> Callable[..., Tensor] | None:
    return FORMS.get(function.overloadpacket.__name__.removesuffix("_"))


def _clamp(x: Tensor, least: Tensor | None, most: Tensor | None) -> Tensor:
    x = x if least is None else torch.maximum(x, least)
    return x if most is None else torch.minimum(x, most)


class Recorder(TorchDispatchMode):
    """Takes down the operations on ``inputs`` and on what comes of them, while they are carried out."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()
        self.kept = list(inputs)  # also so that no id is given twice
        self.slots = {id(x): index for index, x in enumerate(inputs)}
        self.operations: list[Operation] = []
        self.numbers: list[float] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch's guard against compiling this class costs as much as all else here, and nobody does

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        free, first = _form(function) is not None, len(self.numbers)
        arguments = tuple([self._symbol(x, free) for x in args])
        keywords = tuple([(name, self._symbol(x, free)) for name, x in kwargs.items()]) if kwargs else ()
        named = (*arguments, *(value for _, value in keywords))
        if not _mentions(Slot, named):  # arithmetic on numbers, such as a learning rate in a tensor
            del self.numbers[first:]
            return result
        if not isinstance(result, Tensor) or _mentions(_Foreign, named):
            raise Unsupported(f"{function} is more than arithmetic on tensors and numbers")
        slot = self.slots.get(id(result))
        if slot is None:
            slot = self.slots[id(result)] = len(self.kept)
            self.kept.append(result)
        self.operations.append(Operation(function, arguments, keywords, slot))
        return result

    def _symbol(self, x: Any, free: bool) -> Any:
        """``free``: whether numbers may be entries of a tensor; floats that may not would be compiled in."""
        if isinstance(x, Tensor):
            slot = self.slots.get(id(x))
            return _Foreign() if slot is None else Slot(slot)
        if free and isinstance(x, int | float) and not isinstance(x, bool):
            self.numbers.append(x)
            return Number(len(self.numbers) - 1)
        if isinstance(x, list | tuple):
            return tuple([self._symbol(y, free) for y in x])
        return _Foreign() if isinstance(x, float | torch.device) else x


class _Foreign:
    """What a kernel cannot have: a tensor from elsewhere, a device, a number that no form takes as a tensor."""


def _mentions(kind: type, symbols: Iterable[Any]) -> bool:
    return any(
        isinstance(x, kind) or (isinstance(x, tuple) and not isinstance(x, Slot | Number) and _mentions(kind, x))
        for x in symbols
    )


def replay(program: Program, inputs: Sequence[Tensor], numbers: Tensor) -> Tensor | None:
    """Carry out a recording on other tensors and other numbers."""
    tensors: dict[int, Tensor] = dict(enumerate(inputs))

    def value(x: Any) -> Any:
        if isinstance(x, Slot):
            return tensors[x.place]
        if isinstance(x, Number):
            return numbers[x.place]
        return [value(y) for y in x] if isinstance(x, tuple) else x

    for operation in program.operations:
        arguments = [value(x) for x in operation.arguments]
        keywords = {name: value(x) for name, x in operation.keywords}
        form = _form(operation.function)
        if form is None:
            tensors[operation.result] = operation.function(*arguments, **keywords)
            continue
        keywords.pop("out", None)
        result = form(*arguments, **keywords)
        known = tensors.get(operation.result)
        tensors[operation.result] = result if known is None else known.copy_(result)
    return None if program.result is None else tensors[program.result]


@functools.cache
def kernel(program: Program, kind: tuple[Any, ...]) -> Callable[..., Tensor | None]:
    """The compiled recording: gradient, weights, state and numbers in, weights and state changed in place.

    Sizes are left open. It is compiled at its first call, which takes seconds. ``kind``: device, dtype and threads,
    for which torch would compile anew, and only so often.
    """
    graph = torch.fx.Graph()
    tracer = torch.fx.proxy.GraphAppendingTracer(graph)
    *inputs, numbers = (
        torch.fx.Proxy(graph.placeholder(name), tracer)
        for name in (*(f"x{index}" for index in range(program.inputs)), "numbers")
    )
    result: Any = replay(program, inputs, numbers)  # type: ignore[arg-type]
    graph.output(result.node if isinstance(result, torch.fx.Proxy) else None)
    return torch.compile(torch.fx.GraphModule(torch.nn.Module(), graph).forward, dynamic=True, fullgraph=True)


@dataclass
class Pass:
    """A kernel with the numbers of one step; called like the action that it does the work of."""

    kernel: Callable[..., Tensor | None]
    numbers: Tensor
    changed: dict[str, Any]
    """Numbers of the state as the action left them."""

    def __call__(self, grad: Tensor, weights: Tensor, state: dict[str, Any]) -> Tensor | None:
        # .data: no views, whose bases would become part of what is compiled for. It hides the change from autograd.
        result = self.kernel(*(x.data for x in (grad, weights, *state.values()) if isinstance(x, Tensor)), self.numbers)
        torch.autograd.graph.increment_version(weights)
        state.update(self.changed)
        return result


class Passes:
    """The kernels of one step of an optimizer. Stacks of one param group and age have one recording."""

    def __init__(self) -> None:
        self.known: dict[tuple[Any, ...], Pass | None] = {}

    def find(self, action: Action, stack: Stack, state: Mapping[str, Any], moves: bool) -> Pass | None:
        """``action``, which moves the weights or only measures, as one kernel for this stack and state; None if it is
        to be carried out as it is."""
        if not stack.rule.elementwise or not stack.step or stack.elements < LEAST_ELEMENTS:
            return None
        described = tuple((name, x.dtype if isinstance(x, Tensor) else x) for name, x in state.items())
        key = moves, id(stack.group), stack.step, stack.params[0].device, stack.own_dtype, described
        if key not in self.known:
            self.known[key] = _record(action, stack, state)
        return self.known[key]


def _record(action: Action, stack: Stack, state: Mapping[str, Any]) -> Pass | None:
    p = stack.params[0]
    if not can_compile(p.device.type):
        _say_once("torch cannot compile here (it needs g++, or what CXX names, and Python's headers; on CUDA triton)")
        return None
    grad, weights = (torch.ones(2, dtype=stack.own_dtype) for _ in range(2))
    shadow = {name: torch.ones(2, dtype=x.dtype) if isinstance(x, Tensor) else x for name, x in state.items()}
    inputs = [grad, weights, *(x for x in shadow.values() if isinstance(x, Tensor))]
    recorder = Recorder(inputs)
    try:
        with recorder:
            own = weights.to(stack.dtype)
            result = action(grad.to(stack.dtype), own, shadow)
            if own is not weights:
                weights.copy_(own)
    except Unsupported as error:
        _say_once(f"the rule {stack.rule.name} cannot be: {str(error).splitlines()[0]}")
        return None
    output = None if result is None else recorder.slots[id(result)]
    program = Program(len(inputs), tuple(recorder.operations), output)
    numbers = torch.tensor(recorder.numbers or [0.0], dtype=stack.dtype, device=p.device)
    changed = {name: value for name, value in shadow.items() if not isinstance(value, Tensor)}
    return Pass(kernel(program, (p.device, stack.own_dtype, torch.get_num_threads())), numbers, changed)
