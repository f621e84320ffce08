"""Parameters of one kind, handled as one tensor: a step of a small model becomes a handful of large operations.

A stack is a cache. What an optimizer remembers belongs to its parameters one by one (``optimizer.state[p]``, whose
tensors are views into the stack), so stacks can be dissolved and formed anew, and checkpoints do not depend on them.

Layout: a parameter is ``rows`` items of shape ``tail``, and a stack is the concatenation of its members' items.

    elementwise rule    rows = number of elements    tail = ()        stack (n,)
    matrix              rows = 1                     tail = (o, i)    stack (s, o, i)
    vector, scalar      rows = 1                     tail = (n, 1)    stack (s, n, 1), of a rule that is not elementwise
    experts (e, o, i)   rows = e                     tail = (o, i)    stack (s, o, i)
    matrix in k splits  rows = k                     tail = (o/k, i)  stack (s, o/k, i)
    experts in k        rows = e k                   tail = (o/k, i)  stack (s, o/k, i)
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from operator import is_
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fairstep.optim.engine.orientation import AS_STORED, Orientation
from fairstep.optim.engine.part_entry import OF_ALL_PARTS, PartEntry
from fairstep.optim.engine.rounding import Rounding, round_stochastically_
from fairstep.optim.roles import Value
from fairstep.optim.rule import Context, RowShard, Rule, call
from fairstep.optim.spec.overrides import SCHEDULED
from fairstep.optim.splits import part_runs

CPU_ELEMENTS = 2**16
"""Elements per thread that a rule handles at once on a CPU: several passes over 256 KiB a tensor stay in its cache."""
DEVICE_ELEMENTS = 2**23
"""The same on an accelerator, where a launch costs more than a pass. Both bound the scratch memory of a step."""
MATRIX_ELEMENTS = 2**17
"""As ``CPU_ELEMENTS`` for rules of matrices, where batched products make fewer passes and more calls."""


def most_elements(device: torch.device, rule: Rule) -> int:
    """Of a stack of several parameters, and of a piece of a large one."""
    if device.type != "cpu":
        return DEVICE_ELEMENTS
    return (CPU_ELEMENTS if rule.elementwise else MATRIX_ELEMENTS) * torch.get_num_threads()


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """dtype of state and arithmetic: float32 for anything narrower."""
    return torch.promote_types(dtype, torch.float32)


@dataclass(frozen=True)
class Layout:
    """How one parameter lies in a stack (see the module's table).

    ``lead`` replaces the leading dimension where the parameter's own state is shown: a vector's state has the
    parameter's shape, a matrix's state no leading dimension, the state of experts one entry per expert. Splits have
    one more, with one entry per part.
    """

    tail: tuple[int, ...]
    lead: tuple[int, ...]
    rows: int

    @classmethod
    def of(cls, rule: Rule, role: str, shape: Sequence[int], splits: int = 1) -> Layout:
        if rule.elementwise:
            return cls((), tuple(shape), math.prod(shape))
        parts = (splits,) if splits > 1 else ()
        if role == "expert":
            experts, rows = shape[:2]
            return cls((rows // splits, *shape[2:]), (experts, *parts), experts * splits)
        if role == "vector":
            return cls((math.prod(shape), 1), (), 1)
        shape = tuple(shape) or (1,)
        if role == "embedding" and len(shape) > 2 and shape[0] == 1:  # one table for all sequences of a batch
            shape = shape[1:]
        return cls((shape[0] // splits, math.prod(shape[1:])), parts, splits)

    @property
    def elements(self) -> int:
        return self.rows * math.prod(self.tail)


class FusedPart(NamedTuple):
    """Rows ``start`` to ``stop`` of a matrix, or of each of a stack of experts (``dim`` 1), as the rule sees it; of
    each of its ``groups`` of rows where parts are interleaved."""

    dim: int
    start: int
    stop: int
    groups: int = 1

    def of(self, oriented: Tensor) -> Tensor:
        """The part of a tensor, a view; with a dimension for its groups if it has several."""
        if self.groups == 1:
            return oriented.narrow(self.dim, self.start, self.stop - self.start)
        return oriented.unflatten(self.dim, (self.groups, -1)).narrow(self.dim + 1, self.start, self.stop - self.start)


def parts_of(rule: Rule, role: str, oriented: Tensor, splits: Value) -> Iterator[tuple[Layout, FusedPart | None]]:
    """How a parameter lies in stacks: in one, or part by part where ``splits`` makes parts of several sizes.

    Equal parts that follow one another lie together.
    """
    if rule.elementwise or splits == 1:
        yield Layout.of(rule, role, oriented.shape), None
        return
    dim = int(role == "expert")
    shape = oriented.shape
    runs = part_runs(splits, shape[dim])
    for run in runs:
        part = FusedPart(dim, run.start, run.stop, run.groups) if len(runs) > 1 else None
        yield Layout.of(rule, role, (*shape[:dim], run.rows, *shape[dim + 1 :]), run.parts), part


@dataclass(frozen=True, eq=False)
class Member:
    """A parameter, or a part of one, in a stack. ``entry`` is its dict in ``optimizer.state``, empty at first."""

    name: str
    tensor: Tensor
    layout: Layout
    entry: MutableMapping[str, Any]
    shard: RowShard | None = None
    """Which rows of a matrix these are, if ranks share its rows; it is then alone in its stack."""
    orientation: Orientation = AS_STORED
    """How the rule sees the parameter. Its state is as the rule sees it."""
    first: int = 0
    """Its first row in the whole parameter, of which it may be a piece."""
    part: FusedPart | None = None
    """Which rows of a fused matrix it is, if there are others of another size."""

    def entry_in(self, entry: dict[str, Any]) -> MutableMapping[str, Any]:
        """What is the member's in a state of the whole parameter."""
        return PartEntry(entry, self.entry.number) if isinstance(self.entry, PartEntry) else entry

    @property
    def key(self) -> tuple[str, FusedPart | None]:
        """The only one of an optimizer's members that has it."""
        return self.name, self.part

    def oriented(self, x: Tensor) -> Tensor:
        """Of a tensor of the parameter's shape, the part that the member is, as a view, the way the rule sees it."""
        seen = self.orientation.seen(x)
        return self.part.of(seen) if self.part else seen

    @property
    def numbers(self) -> tuple[tuple[str, Any], ...]:
        """What is not a tensor in its entry, first of all the steps taken: members of one stack have it in common."""
        return tuple((name, value) for name, value in self.entry.items() if not isinstance(value, Tensor))

    def rows(self) -> dict[str, Any]:
        """Its state as a rule sees it: ``lead`` dimensions become rows again."""
        lead = len(self.layout.lead)
        return {
            name: value.reshape(self.layout.rows, *value.shape[lead:]) if isinstance(value, Tensor) else value
            for name, value in self.entry.items()
            if name not in OF_ALL_PARTS
        }


class Scratch:
    """Two tensors per device and dtype that all stacks use in turn, one for gradients and one for weights.

    They are kept because fresh memory costs a CPU more (page faults) than the arithmetic on it, and because views
    into fixed memory can be made once.
    """

    def __init__(self) -> None:
        self._pairs: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}

    def reserve(self, device: torch.device, dtype: torch.dtype, elements: int) -> None:
        """Have at least so many elements; to be called before ``pair``, because it moves the tensors."""
        pair = self._pairs.get((device, dtype))
        if pair is None or pair[0].numel() < elements:
            gradients, weights = (torch.empty(elements, device=device, dtype=dtype) for _ in range(2))
            self._pairs[device, dtype] = gradients, weights

    def pair(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """(gradients, weights), flat and uninitialised."""
        return self._pairs[device, dtype]


Placed = tuple[dict[str, Any], Member]
"""A member with its param group."""


class StackPart(NamedTuple):
    """What a stack has of one param group: how many rows, in the order of the parts, and which members."""

    group: dict[str, Any]
    rows: int
    members: slice


class Stack:
    """Members with one item shape, dtype, device and number of steps taken, whose rule does the same for all.

    They are of one param group, or of several that differ in learning rate and weight decay only (``alike``): ``group``
    is the first of them, and ``parts`` are all. State that earlier stacks left in the members' entries is collected;
    then the entries get views into this stack's.
    """

    def __init__(self, rule: Rule, placed: Sequence[Placed], scratch: Scratch, rounding: Rounding = "nearest") -> None:
        self.rule, self.group, self.members = rule, placed[0][0], [member for _, member in placed]
        self.parts = _parts(placed)
        members = self.members
        self.params = [member.tensor for member in members]
        self._rounds = rounding == "stochastic" and self.params[0].dtype == torch.bfloat16
        first = members[0].first + (members[0].part.start if members[0].part else 0)
        self._stream = zlib.crc32(f"{members[0].name} from {first}".encode())
        self._views_needed = any(member.orientation != AS_STORED or member.part for member in members)
        self.context = Context(self.group, members[0].shard)
        self.tail = members[0].layout.tail
        self.dtype = compute_dtype(self.params[0].dtype)
        self.step = int(members[0].entry.get("step", 0))
        if len(members) > 1:
            self._make_buffers(scratch)
        self.state: dict[str, Any] = self._collect() if self.step else self._begin()
        self._tensors = [name for name, value in self.state.items() if isinstance(value, Tensor)]
        self._numbers = [name for name in self.state if name not in self._tensors]
        self._expose()

    def blocks(self, write: bool = True) -> Iterator[tuple[Tensor, Tensor, slice]]:
        """Gradients and weights (rows, *tail) in the compute dtype, and which rows they are.

        A single parameter's are its own memory where that is possible; an elementwise rule gets them in pieces that
        stay in the cache. With ``write``, what is done to the weights in between is done to the parameters.
        """
        grads, params = self._oriented([p.grad for p in self.params]), self._oriented(self.params)  # type: ignore[misc]
        if len(grads) > 1:
            torch._foreach_copy_(self._gradient_views, grads)
            torch._foreach_copy_(self._weight_views, params)
            yield self._gradients, self._weights, slice(None)
            if write:
                if self._rounds:
                    round_stochastically_(self._weights, self.step, 0, self._stream)
                torch._foreach_copy_(params, self._weight_views)
            return
        p, gradient = params[0], grads[0].reshape(-1, *self.tail)
        parameter = p.detach().reshape(-1, *self.tail)
        length = most_elements(p.device, self.rule) if self.rule.elementwise else max(len(parameter), 1)
        for start in range(0, max(len(parameter), 1), length):
            rows = slice(start, start + length)
            weights = parameter[rows].to(self.dtype)
            yield gradient[rows].to(self.dtype), weights, rows
            if write and weights.dtype != p.dtype:
                if self._rounds:
                    round_stochastically_(weights, self.step, start, self._stream)
                parameter[rows] = weights
        if write and parameter.data_ptr() != p.data_ptr():
            p.copy_(parameter.view(p.shape))

    def gather(self, values: Mapping[str, Tensor]) -> Tensor:
        """Tensors of the members' shapes, by name, as (rows, *tail) in the compute dtype."""
        return torch.cat(
            [
                member.oriented(values[member.name].detach()).reshape(-1, *self.tail).to(self.dtype)
                for member in self.members
            ]
        )

    def count_step(self) -> None:
        """Count one step, here and in every member's entry."""
        self.step += 1
        self._expose_numbers()

    def _oriented(self, tensors: list[Tensor]) -> list[Tensor]:
        """Tensors of the members' shapes as the rule sees them; of members that are turned, or parts, as views."""
        if not self._views_needed:
            return tensors
        return [member.oriented(x) for member, x in zip(self.members, tensors, strict=True)]

    def release(self, taken: Collection[tuple[str, FusedPart | None]]) -> None:
        """Free this stack's memory: members that no other stack has ``taken`` get state of their own."""
        for member in self.members:
            if member.key not in taken:
                own = {name: value.clone() for name, value in member.entry.items() if isinstance(value, Tensor)}
                member.entry.update(own)

    @property
    def intact(self) -> bool:
        """Whether the members' entries hold what this stack put there; anyone may change ``optimizer.state``."""
        entries, numbers = [member.entry for member in self.members], self._shown.items()
        held = [entry.get(name) for entry in entries for name in self._tensors]
        return (
            all(map(is_, held, self._views))
            and all(len(entry) == len(self.state) + 1 and numbers <= entry.items() for entry in entries)
            and [view.data_ptr() for view in self._views] == self._places
        )

    def record_numbers(self, state: Mapping[str, Any]) -> None:
        """Take over the numbers of a block's ``state``, whose tensors are views. All blocks have the same numbers."""
        for name in self._numbers:
            self.state[name] = state[name]

    def _expose_numbers(self) -> None:
        self._shown = {"step": self.step, **{name: self.state[name] for name in self._numbers}}
        for member in self.members:
            member.entry.update(self._shown)

    def _begin(self) -> dict[str, Any]:
        """The rule's state before the first step. It is contiguous, as it will be after loading: sums depend on it."""
        params = self._oriented(self.params)
        parts = [p.detach().reshape(-1, *self.tail).to(self.dtype) for p in params]
        state = call(self.rule.init, self.context, parts[0] if len(parts) == 1 else torch.cat(parts))
        return {name: x.contiguous() if isinstance(x, Tensor) else x for name, x in state.items()}

    def _make_buffers(self, scratch: Scratch) -> None:
        sizes = [member.layout.elements for member in self.members]
        total = sum(sizes)
        gradients, weights = (flat[:total] for flat in scratch.pair(self.params[0].device, self.dtype))
        self._gradients, self._weights = gradients.view(-1, *self.tail), weights.view(-1, *self.tail)
        shapes = [p.shape for p in self._oriented(self.params)]
        self._gradient_views = [flat.view(s) for flat, s in zip(gradients.split(sizes), shapes, strict=True)]
        self._weight_views = [flat.view(s) for flat, s in zip(weights.split(sizes), shapes, strict=True)]

    def _collect(self) -> dict[str, Any]:
        """The members' own state tensors as one; numbers are the same for all members."""
        entries = [member.rows() for member in self.members]
        return {
            name: torch.cat([rows[name] for rows in entries]) if isinstance(value, Tensor) else value
            for name, value in entries[0].items()
        }

    def _expose(self) -> None:
        for member in self.members:
            member.entry.clear()
        self._expose_numbers()
        rows = [member.layout.rows for member in self.members]
        for name in self._tensors:
            for member, piece in zip(self.members, self.state[name].split(rows), strict=True):
                member.entry[name] = piece.view((*member.layout.lead, *piece.shape[1:]))
        self._views = [member.entry[name] for member in self.members for name in self._tensors]
        self._places = [view.data_ptr() for view in self._views]


def _parts(placed: Sequence[Placed]) -> list[StackPart]:
    """Every param group of the members, which come group by group."""
    parts: list[StackPart] = []
    for place, (group, member) in enumerate(placed):
        first = parts.pop() if parts and parts[-1].group is group else StackPart(group, 0, slice(place, place))
        members = slice(first.members.start, place + 1)
        parts.append(StackPart(group, first.rows + member.layout.rows, members))
    return parts


_APART = ("params", "param_names", "lr", "weight_decay", "peak_lr", "initial_lr", "role", "shared", *SCHEDULED)
"""What groups of one stack may differ in: the step uses it part by part, or nobody does. They share shared numbers."""


def alike(rule: Rule, group: Mapping[str, Any]) -> tuple[str, ...]:
    """The settings in which groups agree whose parameters may be in one stack; none: it is not in a stack with others.

    That is for groups of overrides alone, and for rules that do not see the learning rate.
    """
    if "role" not in group or "lr" in rule.hyperparameters:
        return ()
    coupled = ("weight_decay",) if group["decay"] == "coupled" else ()
    return (*(name for name in group if name not in _APART), *coupled)


def cut(placed: Sequence[Placed], limit: int) -> list[Sequence[Placed]]:
    """Consecutive runs of members with at most ``limit`` elements, or one larger member."""
    runs: list[list[Placed]] = []
    total = 0
    for group, member in placed:
        size = member.layout.elements
        if not runs or total + size > limit:
            runs.append([])
            total = 0
        runs[-1].append((group, member))
        total += size
    return [*runs]
