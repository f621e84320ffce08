"""The engine: a torch optimizer that runs any rule over any model.

It does once, for every contestant alike, what is not the contestant's idea: routing parameters to rules (``routed``),
stacking them (``stacks``), the step with its weight decay (``step``), signals, evaluation weights, saving and loading.
"""

from __future__ import annotations

import inspect
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fairstep.optim.engine import evaluation, signals
from fairstep.optim.engine import state as state_dicts
from fairstep.optim.engine.formed import FormedStacks
from fairstep.optim.engine.inference import outside_inference
from fairstep.optim.engine.one_number import keep_ratios, warn_of_one_rate
from fairstep.optim.engine.orientation import Orientation
from fairstep.optim.engine.owned import OwnedShards
from fairstep.optim.engine.rounding import ROUNDINGS, Rounding
from fairstep.optim.engine.routed import UNDECAYED, Routed
from fairstep.optim.engine.said_roles import Roles, picklable
from fairstep.optim.engine.shared_numbers import effective_lr, update_shared
from fairstep.optim.engine.signals import Supplied
from fairstep.optim.engine.step import advance
from fairstep.optim.rule import Total
from fairstep.optim.sharding.step_cost import Piece
from fairstep.optim.spec import Decay
from fairstep.optim.spec.overrides import flat

_DEFAULT: Any = object()


class Engine(Routed):
    """Base class of all our optimizers; a subclass is a ``spec``.

    ``params`` is a module, an iterable of (name, parameter) or of parameters, or an iterable of param groups: dicts
    with "params", any hyperparameters of their own, and keys of the user's, which are kept. A module is best, in a
    param group too: roles are inferred from its layers (``routing.infer_roles``); ``roles`` overrides them. Others:

    * ``overrides``: what some parameters have otherwise, by role, "aux" (all but the matrices' rule) or name pattern:
      ``{"embedding": {"lr_ratio": 28}, "aux": {"betas": (0.8, 0.95)}, "*.q_norm.*": {"weight_decay": 0.01}}``.
      Values: ``lr_ratio`` (learning rate over lr), ``weight_decay``, the rule's hyperparameters (``spec.overrides``).
    * ``decay``: form of weight decay, by default the spec's. ``undecayed``: roles without any, unless overridden.
    * ``stacked=False`` handles every parameter by itself: slower, same results up to rounding.
    * ``rounding="stochastic"``: of new bfloat16 weights (see ``rounding``), which lose small steps otherwise.
    * the optimizer's hyperparameters (``help`` of the class lists them); ``betas`` are beta1 and beta2 as in torch, a
      tensor as ``lr`` is the number that it is now, and ``lr`` 0 waits for a scheduler.

    A param group of ours has one rule and one weight decay, so the groups given are split. Learning-rate schedulers
    work as with any torch optimizer. A companion's lower learning rate is its group's own, so scale each group's
    ``peak_lr`` (the learning rate that it was built with) instead of setting one number everywhere. One ``max_lr`` of
    OneCycleLR and one ``swa_lr`` of SWALR are times each group's ratio; others are warned of (``one_number``).

    DTensors of FSDP2 (``fully_shard``) are stepped as plain parameters are, by all ranks at once (``dtensors``), and
    tensor parallel ones by elementwise rules (``local_dtensors``).

    Raises ValueError or TypeError for an empty list, unknown or impossible hyperparameters, and parameters that
    cannot be routed, such as weights without names where embedding and head have another rule than matrices. ``step``
    raises ValueError for sparse gradients.
    """

    _supplied: Supplied
    _rates_seen = False
    """Whether the first learning rates above 0 were looked at."""

    def __init__(
        self,
        params: nn.Module | Iterable[Any],
        lr: Any = _DEFAULT,
        *,
        roles: Roles = None,
        overrides: Mapping[str, Mapping[str, Any]] | None = None,
        decay: Decay | None = None,
        undecayed: Collection[str] = UNDECAYED,
        stacked: bool = True,
        rounding: Rounding = "nearest",
        **hyper: Any,
    ) -> None:
        if hyper.pop("compiled", False):
            text = "compiled=True has no effect any more: every step is eager; leave it out"
            warnings.warn(text, DeprecationWarning, stacklevel=2)
        if lr is not _DEFAULT:
            hyper["lr"] = lr
        if rounding not in ROUNDINGS:
            raise ValueError(f"rounding must be one of {', '.join(ROUNDINGS)}, not {rounding!r}")
        hyper |= flat(overrides or {})
        self.stacked, self.rounding = stacked, rounding
        self._forget_stacks()
        super().__init__(params, roles, decay, undecayed, hyper)
        if isinstance(params, nn.Module):
            signals.check_takers(self)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Show a subclass's hyperparameters with their defaults in ``help`` and editors."""
        super().__init_subclass__(**kwargs)
        if "spec" in vars(cls):
            general = inspect.signature(Engine.__init__).parameters.values()
            known = cls.spec.hyperparameters
            hyperparameters = [
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=hyper.default)
                for name, hyper in known.items()
                if name != "lr"
            ]
            shown = [
                p.replace(default=known["lr"].default) if p.name == "lr" else p
                for p in general
                if p.name != "self" and p.kind is not inspect.Parameter.VAR_KEYWORD
            ]
            cls.__signature__ = inspect.Signature([*shown, *hyperparameters])  # type: ignore[attr-defined]

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Route the parameters of a group and add them, as one group per rule and weight decay."""
        super().add_param_group(param_group)
        self._forget_stacks()

    @outside_inference
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step for every parameter that has a gradient. Gradients are neither changed nor kept.

        Raises ValueError, before anything is changed, if a signal that is due was not supplied, and between ``eval``
        and ``train`` where those change the weights.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
            if "loss" in self.due() and loss is not None:
                self.supply("loss", loss)
        self.check_groups()
        if self._evaluating:
            raise ValueError("the parameters hold weights to evaluate; call optimizer.train() before the next step")
        self._watch_rates()
        fresh, ownership = not any(self.state.values()), self.ownership
        if ownership:
            ownership.fetch(gradients=True)
        stacks, supplied, total = self._stacks.of(self, self.stacked, self.rounding), self._supplied, None
        if fresh and self._asks_for_state():
            return loss
        if ownership:
            numbers = {signal: value for signal, value in supplied.items() if signal in signals.NUMBERS}
            supplied, total = ownership.cut_signals(supplied) | numbers, ownership.total
        if not stacks:
            self._refuse_meta()
        signals.check(self.spec.name, stacks, supplied)
        update_shared(stacks, self.param_groups, supplied, self.rules, total)
        advance(stacks, supplied)
        if ownership:
            ownership.collect()
            state_dicts.count_absent(self)
        self._supplied = {}
        return loss

    @property
    def effective_lr(self) -> float | None:
        """The learning rate of the last step, if the rule estimates a part of it (Prodigy: d lr b); else None."""
        return effective_lr(self.param_groups, self.rules)

    def _refuse_meta(self) -> None:
        """Raises ValueError for parameters that ``to_empty`` replaced, which will never have a gradient."""
        for name, p in self.named_parameters():
            if p.is_meta:
                raise ValueError(
                    f"parameter {name} is on the meta device and has no gradient; build the optimizer after to_empty, "
                    "which makes other parameters"
                )

    def share(self, owned: Mapping[str, Piece], total: Total) -> None:
        """From now on step only these pieces of the parameters, and keep only their state.

        Other processes have the other pieces (``partition.divide`` of ``step_costs``). The parameters may not be moved
        or replaced afterwards. ``total`` adds a tensor up over all processes, which all call it equally often. Before
        ``step`` the caller gives the ``owned`` pieces the gradient of the whole batch; afterwards it collects the
        parameters. ``state_dict`` then has a ``StateShard`` for each tensor of which this process has a part. DTensors
        need no such call. Raises ValueError for a parameter that cannot be divided because its memory is not
        contiguous, or because it is stored otherwise than its rule sees it (``orientation``).
        """
        for name, one in self.orientations.items():
            stored = "input x output" if one.in_by_out else "one matrix of all experts"
            raise ValueError(f"parameter {name} is stored as {stored}, and so cannot be divided over processes")
        kinds = {cost.name: cost.kind for cost in self.step_costs()}
        self._ownership = OwnedShards(dict(self.named_parameters()), kinds, owned, total)
        self._forget_stacks()

    @outside_inference
    def eval(self) -> None:
        """Put the weights to evaluate and export into the parameters, if they are others than those trained."""
        with self._whole():
            evaluation.evaluate(self)
        self._evaluating = evaluation.evaluating(self.state)

    @outside_inference
    def train(self) -> None:
        """Put the training weights back, to the bit, after ``eval``. Raises ValueError if they are not in the state."""
        if self._evaluating and not evaluation.evaluating(self.state):
            raise ValueError("the training weights were kept in optimizer.state, which was changed since eval()")
        if self._evaluating:
            with self._whole():
                evaluation.resume(self)
        self._evaluating = False

    def due(self) -> dict[str, list[str]]:
        """Signal -> names of the parameters that need it in the coming step; mostly nothing (see ``signals``)."""
        return signals.due(self)

    def supply(self, signal: str, values: Mapping[str, Tensor] | Tensor | float) -> None:
        """Give a due signal to the coming step, by parameter name, or as one number for all (see ``signals``).

        Raises ValueError if it is not due or misshapen.
        """
        self._supplied[signal] = signals.accept(self, signal, values)

    def previous_weights(self) -> AbstractContextManager[None]:
        """With the weights before the last step in the parameters, as exact MARS needs them for its signal."""
        return signals.previous_weights(self)

    def state_dict(self) -> dict[str, Any]:
        """State and settings by parameter name (see ``state``).

        Raises ValueError if the state was changed from outside into what no step could go on from.
        """
        for hook in self._optimizer_state_dict_pre_hooks.values():
            hook(self)
        state_dicts.check(self)
        saved = state_dicts.dump(self)
        for post_hook in self._optimizer_state_dict_post_hooks.values():
            changed = post_hook(self, saved)
            saved = saved if changed is None else changed
        return saved

    @outside_inference
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a saved state, to the bit. Raises ValueError if it is of another optimizer or model.

        As with torch, what the saved param groups say counts, and not what this optimizer was built with: learning
        rates, hyperparameters, the form of weight decay. A param group that is added later has what it was built with.
        """
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            changed = hook(self, dict(state_dict))
            state_dict = state_dict if changed is None else changed
        state_dicts.load(self, state_dict)
        self._forget_stacks()
        for post_hook in self._optimizer_load_state_dict_post_hooks.values():
            post_hook(self)

    def __getstate__(self) -> dict[str, Any]:
        if self.ownership:
            raise TypeError(
                "an optimizer that shares its work with other processes cannot be copied; save its state_dict"
            )
        names = "decay", "undecayed", "stacked", "rounding", "hyper", "roles", "orientations", "_ratios"
        kept = {name: getattr(self, name) for name in names}
        kept["_user_roles"] = picklable(self._user_roles)
        # Copies, because a pickled view would drag its whole stack along once per parameter.
        copies: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        for p, entry in self.state.items():
            copies[p] = {name: x.clone() if isinstance(x, Tensor) else x for name, x in entry.items()}
        return {**super().__getstate__(), **kept, "state": copies}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if not isinstance(self._ratios, Mapping):  # pickled by an earlier version
            firsts = [group["param_names"][0] for group in self.param_groups]
            self._ratios = dict(zip(firsts, self._ratios, strict=True))
        if "orientations" not in state:  # so too
            earlier = state.get("in_by_out", ())
            self.orientations = {n: Orientation(0, True, int(self.roles[n] == "expert")) for n in earlier}
        for group in self.param_groups:
            if "initial_lr" in group:
                state_dicts.name_peak(group, group)
        self._forget_stacks()

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """With the weights of all that this process steps at hand, to be changed."""
        ownership = self.ownership
        if ownership:
            ownership.fetch(gradients=False)
        yield
        if ownership:
            ownership.collect()

    def _watch_rates(self) -> None:
        """Keep the ratios of learning rates that a scheduler set alike, or say that they are gone (``one_number``)."""
        if len(set(self._ratios.values())) > 1:
            ratios = [self._ratios.get(group["param_names"][0], 1.0) for group in self.param_groups]
            keep_ratios(self.param_groups, ratios)
            if not self._rates_seen:
                self._rates_seen = warn_of_one_rate(self.param_groups, ratios)

    def _forget_stacks(self) -> None:
        self._stacks = FormedStacks()
        self._evaluating = evaluation.evaluating(getattr(self, "state", {}))
        self._supplied = {}

    def _asks_for_state(self) -> bool:
        """Whether this step only asks for the state that a first step makes, as torch.distributed.checkpoint does."""
        ownership = self.ownership
        if any(float(group["lr"]) for group in self.param_groups) or (ownership and ownership.by_caller):
            return False
        gradients = [p.grad for p in (ownership.tensors if ownership else dict(self.named_parameters())).values()]
        moves = any(gradient is not None and gradient.any() for gradient in gradients)
        return not (ownership.anywhere(moves) if ownership else moves)
