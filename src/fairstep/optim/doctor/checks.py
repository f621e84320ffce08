"""The conformance list: what an optimizer must do to compete, as functions of a ``Subject`` that raise ``Wrong``.

Any other exception is the optimizer's own error and counts as a failure too. ``examine`` goes through the list, and so
do the tests of the built-in optimizers.
"""

from __future__ import annotations

import copy
import io
import math
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fairstep.optim.catalogue.paths import said
from fairstep.optim.doctor.subject import (
    Pair,
    Subject,
    feed,
    largest,
    run,
    same,
    small_model,
    step_with_signals,
    weights,
)


class Wrong(Exception):
    """What an optimizer does that it should not, and the remedy, in words. ``harmless``: a contest here is not hurt."""

    def __init__(self, message: str, harmless: bool = False) -> None:
        super().__init__(message)
        self.harmless = harmless


@dataclass(frozen=True)
class Check:
    """``needed``: without it a contest here would be wrong or end in an error; the others matter in other loops."""

    name: str
    title: str
    function: Callable[[Subject], None]
    needed: bool


CHECKS: list[Check] = []


def check(title: str, needed: bool = True) -> Callable[[Callable[[Subject], None]], Callable[[Subject], None]]:
    """Add a function to the list."""

    def add(function: Callable[[Subject], None]) -> Callable[[Subject], None]:
        CHECKS.append(Check(function.__name__, title, function, needed))
        return function

    return add


RATES = (0.05, 0.5, 0.005)
"""Learning rates that may decrease the quadratic, beside the optimizer's own default: units differ."""

STEPS = 12
"""Steps after which every parameter must have moved: some begin by only gathering statistics."""


@check("takes a step with one gradient and no closure")
def takes_a_step(subject: Subject) -> None:
    model, optimizer = subject.pair()
    first = weights(model)
    try:
        run(optimizer, model, 1, STEPS)
    except Exception as error:
        if "closure" in str(error):
            raise Wrong(
                f"its step needs a closure ({error}); fairstep gives every optimizer one gradient a step, because "
                "contestants that see more cannot be compared by tokens"
            ) from error
        raise
    for (name, p), start in zip(model.named_parameters(), first, strict=True):
        if not torch.isfinite(p).all():
            raise Wrong(
                f"{name} is not finite after {STEPS} steps with ordinary gradients at lr {subject.hyper['lr']:g}"
            )
        if torch.equal(p, start):
            raise Wrong(f"{name} did not move in {STEPS} steps, although it had gradients; is it left out somewhere?")


@check("takes parameter groups, every parameter once")
def takes_parameter_groups(subject: Subject) -> None:
    model = small_model()
    params = dict(model.named_parameters())
    try:
        matrices, others = subject.groups(model)
        optimizer = subject.build([matrices, {**others, **subject.undecayed}])
    except Exception as error:
        raise Wrong(
            f"it takes no param groups ({said(error)}), so norms, biases and embeddings are decayed as it decides",
            harmless=True,
        ) from error
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    if sorted(held) != sorted(map(id, params.values())):
        raise Wrong("its param_groups do not hold every parameter exactly once")
    run(optimizer, model, 1, 2)
    try:
        optimizer = subject.build([matrices, {**others, "lr": subject.another_lr}])
        run(optimizer, model, 3, 4)
    except Exception as error:
        raise Wrong(f"a param group cannot have an lr of its own ({said(error)})", harmless=True) from error
    rates = {id(p): float(group["lr"]) for group in optimizer.param_groups for p in group["params"]}
    if math.isclose(rates[id(params["blocks.0.q.weight"])], rates[id(params["norm.weight"])]):
        raise Wrong(
            "a param group's own lr is ignored; read hyperparameters from the group, not from the optimizer",
            harmless=True,
        )


@check("decays matrices alone", needed=False)
def decays_matrices_alone(subject: Subject) -> None:
    """Without a gradient only weight decay moves a weight, by a factor that all elements have in common. An optimizer
    that refuses gradients of zeros (heavyball's PSGD) cannot be asked."""
    model, optimizer = subject.pair(torch.float64)
    first = {name: p.detach().clone() for name, p in model.named_parameters()}
    for _ in range(2):
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        try:
            step_with_signals(optimizer, dict(model.named_parameters()))
        except Exception:
            return
    for name, p in model.named_parameters():
        if p.ndim > 1 and "embedding" not in name:
            continue
        shares = (p / first[name])[first[name] != 0]
        if shares.numel() and 0 < shares.max() < 1 - 1e-12 and shares.max() - shares.min() < 1e-9:
            raise Wrong(
                f"it decays {name}, and no other contestant decays norms, biases and embeddings; call the argument "
                "weight_decay and read it from the param group, so that fairstep can give these a group without it"
            )


@check("decreases a quadratic")
def decreases_a_quadratic(subject: Subject) -> None:
    reached = {}
    for lr in dict.fromkeys((RATES[0], subject.hyper["lr"], *RATES[1:])):
        reached[lr] = _quadratic(subject, lr)
        if reached[lr] < 0.1:
            return
    best = min(reached, key=lambda lr: reached[lr] if math.isfinite(reached[lr]) else math.inf)
    raise Wrong(
        f"of a convex quadratic's loss {100 * reached[best]:.0f} % are left after 200 steps at its best learning rate "
        f"({best:g} of {', '.join(f'{lr:g}' for lr in reached)}); the sign or the size of the step is wrong, or its lr "
        "has another unit",
        harmless=reached[best] < 0.9,
    )


def _quadratic(subject: Subject, lr: float) -> float:
    """The part of the loss |W - T|^2 / 2 + |b - 1|^2 / 2 that is left after 200 steps. W begins with T's norm, which
    some optimizers keep."""
    target = torch.randn(12, 12, generator=torch.Generator().manual_seed(0))
    w, b = nn.Parameter(target.flip(0)), nn.Parameter(torch.zeros(12))
    optimizer = subject.build([("w", w), ("b", b)], lr=lr, **subject.undecayed)

    def loss() -> float:
        return (0.5 * ((w - target) ** 2).sum() + 0.5 * ((b - 1) ** 2).sum()).item()

    first = loss()
    for _ in range(200):
        w.grad, b.grad = (w - target).detach(), (b - 1).detach()
        step_with_signals(optimizer, {"w": w, "b": b}, loss())
    if callable(getattr(optimizer, "eval", None)):
        optimizer.eval()
    return loss() / first


@check("follows the learning rate of its groups")
def follows_the_learning_rate(subject: Subject) -> None:
    """Gradients do not depend on the weights here, so half the rate must go half as far."""
    moved = []
    for share in (1.0, 0.5):
        model, optimizer = subject.pair(torch.float32, **subject.undecayed)
        first = weights(model)
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * 1e-3 * share
        run(optimizer, model, 1, STEPS, feedback=0.0)
        moved.append([p - q for p, q in zip(weights(model), first, strict=True)])
    far, near = (sum(float(x.double().norm()) for x in part) for part in moved)
    if far == 0 or not 0.1 < near / far < 0.95:
        ratio = "nowhere" if far == 0 else f"{near / far:.2f} times as far"
        raise Wrong(
            f"with half the lr in its param groups it goes {ratio}, and should go about half as far; step() must read "
            "group['lr'], or a learning-rate schedule has no effect"
        )


@check("handles vectors and scalars", needed=False)
def handles_vectors_and_scalars(subject: Subject) -> None:
    shapes = {"matrix": (8, 6), "vector": (6,), "one": (1,), "scalar": ()}
    params = {name: nn.Parameter(torch.ones(shape)) for name, shape in shapes.items()}
    optimizer = subject.build(params.items())
    for step in range(1, 4):
        feed(params, step)
        step_with_signals(optimizer, params)
    for name, p in params.items():
        if p.shape != shapes[name] or not torch.isfinite(p).all():
            raise Wrong(f"a parameter of shape {shapes[name]} ends as {p.detach()}")


@check("gives the same numbers every time")
def is_deterministic(subject: Subject) -> None:
    runs = []
    for _ in range(2):
        model, optimizer = subject.pair()
        run(optimizer, model, 1, 13)
        runs.append(weights(model))
    if largest(*runs):
        raise Wrong(
            f"two runs with the same seed differ by {largest(*runs):.1e}; draw random numbers from torch's generator, "
            "and keep nothing from one optimizer to the next"
        )


@check("continues from a checkpoint to the bit")
def resumes(subject: Subject) -> None:
    _resumes(subject, _through_memory)
    if subject.resume and not _refused_by_safe_load(subject):
        _resumes(subject, subject.resume)


def _through_memory(name: str, saved: Pair, fresh: Pair) -> None:
    """The usual way, by torch.save."""
    file = io.BytesIO()
    torch.save([part.state_dict() for part in saved], file)
    file.seek(0)
    for part, state in zip(fresh, torch.load(file, weights_only=False), strict=True):
        part.load_state_dict(state)


def _resumes(subject: Subject, resume: Callable[[str, Pair, Pair], None]) -> None:
    model, optimizer = subject.pair()
    run(optimizer, model, 1, 13)
    other, resumed = subject.pair()
    resume(subject.name, (model, optimizer), (other, resumed))
    if not same(model, other):
        raise Wrong("load_state_dict changes the weights, which are loaded by themselves")
    run(optimizer, model, 14, 25)
    run(resumed, other, 14, 25)
    apart = largest(weights(model), weights(other))
    if 0 < apart <= 1e-5:
        raise Wrong(
            f"12 steps after loading it is {apart:.1e} away from the run that was not interrupted: rounding, as if "
            "something were computed anew or laid out differently after loading",
            harmless=True,
        )
    if apart:
        raise Wrong(
            f"12 steps after loading it is {apart:.1e} away from the run that was not interrupted; state_dict and "
            "load_state_dict must keep everything that step() reads, with its dtype: counters, and attributes outside "
            "of optimizer.state and param_groups too"
        )


@check("is saved as tensors and plain values", needed=False)
def is_saved_plainly(subject: Subject) -> None:
    refused = _refused_by_safe_load(subject)
    if refused:
        raise Wrong(
            f"its state_dict holds what torch.load(weights_only=True) refuses ({refused}), "
            "so a run that is killed starts again from the beginning; keep tensors, numbers and strings only"
        )


def _refused_by_safe_load(subject: Subject) -> str:
    """What of its state dict torch.load(weights_only=True) refuses; empty: nothing."""
    model, optimizer = subject.pair()
    run(optimizer, model, 1, 2)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    try:
        torch.load(file, weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        return refused[1] if refused else said(error)
    return ""


@check("goes on after gradients that are not finite")
def survives_divergence(subject: Subject) -> None:
    for bad in (torch.nan, torch.inf):
        model, optimizer = subject.pair()
        params = dict(model.named_parameters())
        for step in range(1, 14):
            feed(params, step)
            for p in params.values() if step == 2 else ():
                p.grad.fill_(bad)  # type: ignore[union-attr]
            try:
                step_with_signals(optimizer, params)
            except Exception as error:
                raise Wrong(
                    f"raises {said(error)} {step - 2} steps after a gradient that was {bad}; divergence is a result, "
                    "so let it reach the loss"
                ) from error


@check("waits for parameters without a gradient", needed=False)
def waits_for_gradients(subject: Subject) -> None:
    model, optimizer = subject.pair()
    params = dict(model.named_parameters())
    first = model.head.weight.detach().clone()
    for step in range(1, 4):
        feed(params, step)
        model.head.weight.grad = None
        step_with_signals(optimizer, params)
    if not torch.equal(model.head.weight, first):
        raise Wrong("it moves a parameter whose gradient is None; skip those, as torch's optimizers do")


@check("leaves gradients as they are", needed=False)
def leaves_gradients(subject: Subject) -> None:
    model, optimizer = subject.pair()
    params = dict(model.named_parameters())
    for step in range(1, 4):
        feed(params, step)
        before = {name: (p.grad, p.grad.clone()) for name, p in params.items() if p.grad is not None}
        step_with_signals(optimizer, params)
        for name, (tensor, values) in before.items():
            if params[name].grad is not tensor or not torch.equal(tensor, values):
                raise Wrong(
                    f"step() changes the gradient of {name}; fairstep drops gradients after a step, but loops that log "
                    "or accumulate them afterwards go wrong; compute on a copy"
                )


@check("is copied by copy.deepcopy and pickle", needed=False)
def is_copied(subject: Subject) -> None:
    ways: dict[str, Callable[[Any], Any]] = {
        "copy.deepcopy": copy.deepcopy,
        "pickle": lambda pair: pickle.loads(pickle.dumps(pair)),
    }
    for way, duplicate in ways.items():
        model, optimizer = subject.pair()
        run(optimizer, model, 1, 3)
        for p in model.parameters():
            p.grad = None
        try:
            other, copied = duplicate((model, optimizer))
            run(copied, other, 4, 6)
            run(optimizer, model, 4, 6)
            wrong = "" if same(model, other) else "goes another way"
        except Exception as error:
            wrong = f"raises {said(error)}"
        if wrong:
            raise Wrong(
                f"what {way} makes of it {wrong}; torch copies param_groups, state and defaults of an optimizer and "
                "nothing else, so keep settings there, or define __getstate__ and __setstate__"
            )


@check("works on bf16 weights", needed=False)
def works_on_bf16(subject: Subject) -> None:
    narrow, optimizer = subject.pair(torch.bfloat16)
    wide = small_model(torch.bfloat16).float()
    reference = subject.build(wide)
    first = weights(wide)
    for step in range(1, 6):
        feed(dict(narrow.named_parameters()), step)
        for p, q in zip(narrow.parameters(), wide.parameters(), strict=True):
            q.grad = None if p.grad is None else p.grad.float()
        step_with_signals(optimizer, dict(narrow.named_parameters()))
        step_with_signals(reference, dict(wide.named_parameters()))
    ends = zip(weights(wide), first, strict=True)
    for (name, p), (end, start) in zip(narrow.named_parameters(), ends, strict=True):
        if p.dtype != torch.bfloat16 or not torch.isfinite(p).all():
            raise Wrong(f"{name} ends as {p.dtype}, finite: {bool(torch.isfinite(p).all())}")
        apart = (p.float() - end).abs().max()
        rounding = 5 * 2**-8 * torch.maximum(start.abs().max(), end.abs().max())
        if apart > rounding + 0.5 * (end - start).abs().max():
            raise Wrong(
                f"{name} is {apart:.1e} from where float32 weights go in 5 steps, more than rounding explains "
                f"({rounding:.0e}); keep state in float32"
            )
