"""The conformance list: what every registered optimizer must do. A new one joins by existing.

So does a wrapper, around AdamW and around Muon. What rules do every ten steps, they do in steps 1 and 11 or in step 10.
Runs of twelve steps have both, and what is saved after step 9 meets both in the next three.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from tests.optim.supply import KINDS_OF_STATE, build, supplied
from torch import Tensor, nn

from fairstep.optim import get, names, state_bytes
from fairstep.optim.doctor import CHECKS, Check, Subject, run_check
from fairstep.optim.roles import Named
from fairstep.optim.rule import Context, call
from fairstep.optim.spec import DECAYS, Decay
from fairstep.optim.wrappers import wrappers

WRAPPED = {get(f"{base}+{wrapper}").name for base in ("adamw", "muon") for wrapper in wrappers()} - set(names())
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in sorted(WRAPPED) if name.startswith("muon")]
NAMES = [*names(), *sorted(name for name in WRAPPED if not name.startswith("muon")), *SLOW]
every_optimizer = pytest.mark.parametrize("name", NAMES)

STEPPED = ("adamw", "lion", "muon", "muon-8bit", "muonclip", "muonh", "prodigy", "schedule-free-adamw", "soap")
"""One optimizer of each way in which the engine takes a step: by a kernel of torch's, element by element, in stacks of
matrices, from 8 bits, with a move of the rule's around it, with numbers in common, with the decay after it. A decay is
the engine's, and does the same for others that step as one of these."""

STRICTER = ("resumes", "survives_divergence", "leaves_gradients", "is_copied", "works_on_bf16", "waits_for_gradients")
"""Checks of the doctor's list that the tests below make more exactly for our own optimizers."""
LONG = ("decreases_a_quadratic",)
"""Checks that take hundreds of steps. That the loss of a model falls is in the golden runs of tests/train."""


def is_shared(name: str) -> bool:
    """Whether all its parameters have numbers in common, so that none is as if alone."""
    spec = get(name)
    return any(call(part.rule.shared, Context(part.hyper(spec.validate({})))) for part in spec.parts)


def decayed(name: str, role: Any) -> bool:
    spec = get(name)
    by_default = bool(spec.hyperparameters["weight_decay"].default)
    return role not in ("vector", "embedding") and spec.part(role).rule.decayed and by_default


def train(model: nn.Module, optimizer: torch.optim.Optimizer, feed: Any, first: int, last: int) -> None:
    for step in range(first, last + 1):
        feed(model.parameters(), step)
        optimizer.step()


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


class Undisturbed(NamedTuple):
    """A run of twelve steps, stacked and with fresh gradients, with which runs in other circumstances are compared."""

    weights: list[list[Tensor]]
    """Of all parameters, before the first step and after each."""
    saved: dict[str, Any]
    """The optimizer's state after step 9."""


@pytest.fixture(scope="module")
def undisturbed(make_model: Callable[..., nn.Module], feed: Any) -> Callable[..., Undisturbed]:
    """undisturbed(name, dtype=torch.float64): made once for all tests that compare with it."""

    @cache
    def run(name: str, dtype: torch.dtype = torch.float64) -> Undisturbed:
        model, saved = make_model(dtype), {}
        optimizer = build(name, model)
        weights = [clones(model)]
        for step in range(1, 13):
            train(model, optimizer, feed, step, step)
            weights.append(clones(model))
            if step == 9:
                saved = copy.deepcopy(optimizer.state_dict())
        return Undisturbed(weights, saved)

    return run


def clones(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


@every_optimizer
def test_routes_every_parameter_once_by_its_role(name: str, make_model: Callable[..., nn.Module]) -> None:
    model = make_model()
    optimizer = build(name, model)
    routed = [p for group in optimizer.param_groups for p in group["params"]]
    assert sorted(map(id, routed)) == sorted(map(id, model.parameters()))
    assert dict(optimizer.named_parameters()).keys() == dict(model.named_parameters()).keys()
    spec = get(name)
    for group in optimizer.param_groups:
        for n in group["param_names"]:
            role = optimizer.roles[n]
            assert group["rule"] == spec.roles[role]
            assert (group["weight_decay"] != 0) == decayed(name, role)
    assert set(optimizer.roles.values()) == set(spec.roles), "the test's model has every role"


@every_optimizer
def test_stacked_equals_unstacked(
    name: str, undisturbed: Callable[..., Undisturbed], make_model: Callable[..., nn.Module], feed: Any
) -> None:
    """Also, unstacked steps leave the gradients as they are."""
    alone = make_model()
    leaves_gradients(alone, build(name, alone, stacked=False), feed, 12)
    weights = undisturbed(name).weights
    for p, q, start in zip(weights[12], alone.parameters(), weights[0], strict=True):
        assert (p - q).abs().max() <= 1e-12 * (p - start).abs().max()


@every_optimizer
@pytest.mark.parametrize(
    "check", [check for check in CHECKS if check.name not in (*STRICTER, *LONG)], ids=lambda check: check.name
)
def test_passes_the_doctors_list(name: str, check: Check) -> None:
    """What anyone's optimizer is asked for; checks that are long or have a stricter test here are in the rest below."""
    finding = run_check(check, Subject(name, get(name).validate({})))
    assert finding.status == "passed", finding.message


@pytest.mark.slow
@every_optimizer
def test_passes_the_rest_of_the_doctors_list(name: str) -> None:
    """What has a stricter test below is asked of every kind of state: the doctor raises no false alarm there."""
    rest = (*LONG, *(STRICTER if name in KINDS_OF_STATE else ()))
    subject = Subject(name, get(name).validate({}))
    findings = [run_check(check, subject) for check in CHECKS if check.name in rest]
    assert len(findings) == len(rest)
    assert [finding.message for finding in findings if finding.status != "passed"] == []


@every_optimizer
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_resumes_to_the_bit(name: str, dtype: torch.dtype, make_model: Callable[..., nn.Module], feed: Any) -> None:
    model = make_model(dtype)
    optimizer = build(name, model)
    saved_at = 9 if dtype == torch.float32 else 3  # in other dtypes the state begins otherwise and goes on the same way
    train(model, optimizer, feed, 1, saved_at)
    saved_model, saved = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    other = make_model(dtype)
    other.load_state_dict(saved_model)
    resumed = build(name, other, lr=0.5, weight_decay=0.3)
    resumed.load_state_dict(saved)
    assert same(model, other)
    again = resumed.state_dict()
    assert again["param_groups"] == saved["param_groups"], "settings come from the state"
    for n, entry in saved["state"].items():
        for key, value in entry.items():
            if isinstance(value, torch.Tensor):
                assert again["state"][n][key].dtype == value.dtype == torch.promote_types(dtype, torch.float32)
                assert torch.equal(again["state"][n][key], value)
            else:
                assert again["state"][n][key] == value
    train(model, optimizer, feed, saved_at + 1, saved_at + 3)
    train(other, resumed, feed, saved_at + 1, saved_at + 3)
    assert same(model, other)


@every_optimizer
def test_a_checkpoint_does_not_depend_on_stacking(
    name: str, undisturbed: Callable[..., Undisturbed], make_model: Callable[..., nn.Module], feed: Any
) -> None:
    weights, saved = undisturbed(name)
    model = make_model()
    resumed = build(name, model, stacked=False)
    for p, value in zip(model.parameters(), weights[9], strict=True):
        p.data.copy_(value)
    resumed.load_state_dict(copy.deepcopy(saved))
    train(model, resumed, feed, 10, 12)
    for p, q in zip(weights[12], model.parameters(), strict=True):
        assert torch.allclose(p, q, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("stacked", [True, False])
@pytest.mark.parametrize("decay", DECAYS[1:])
@pytest.mark.parametrize("name", STEPPED)
def test_gradients_are_not_changed_by_a_decay(
    name: str, decay: Decay, stacked: bool, make_model: Callable[..., nn.Module], feed: Any
) -> None:
    """A decay does the same in every step: the first and another one show it."""
    model = make_model()
    leaves_gradients(model, build(name, model, stacked=stacked, decay=decay), feed, 2)


def leaves_gradients(model: nn.Module, optimizer: Any, feed: Any, steps: int) -> None:
    for step in range(1, steps + 1):
        feed(model.parameters(), step)
        before = [(p.grad, p.grad.clone()) for p in model.parameters()]
        optimizer.step()
        for p, (tensor, values) in zip(model.parameters(), before, strict=True):
            assert p.grad is tensor and torch.equal(tensor, values)


@every_optimizer
def test_gradients_are_not_changed_and_may_be_reused_in_place(
    name: str, undisturbed: Callable[..., Undisturbed], make_model: Callable[..., nn.Module], feed: Any
) -> None:
    model = make_model()
    optimizer = build(name, model)
    buffers = [torch.zeros_like(p) for p in model.parameters()]
    for step in range(1, 13):
        feed(model.parameters(), step)
        given = [p.grad for p in model.parameters()]
        for buffer, p in zip(buffers, model.parameters(), strict=True):
            p.grad = buffer.copy_(p.grad)
        optimizer.step()
        for p, buffer, values in zip(model.parameters(), buffers, given, strict=True):
            assert p.grad is buffer and torch.equal(buffer, values)
            buffer.fill_(torch.nan)  # whoever still looks at it will be poisoned
    assert all(map(torch.equal, model.parameters(), undisturbed(name).weights[12]))


@every_optimizer
def test_copies_continue_by_themselves(name: str, make_model: Callable[..., nn.Module], feed: Any) -> None:
    def train(parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
        for step in range(first, last + 1):
            feed(parameters.values(), step)
            optimizer.step()

    def duplicates(pair: Any) -> list[Any]:
        """Such as torch copies them: without hooks, which are added here."""
        made = [copy.deepcopy(pair), pickle.loads(pickle.dumps(pair))]
        for _, copied in made:
            supplied(copied)
        return made

    parameters = dict(make_model().named_parameters())
    optimizer = build(name, parameters.items())
    early = duplicates((parameters, optimizer))
    train(parameters, optimizer, 1, 2)
    second = [p.detach().clone() for p in parameters.values()]
    train(parameters, optimizer, 3, 9)
    ninth = [p.detach().clone() for p in parameters.values()]
    late = duplicates((parameters, optimizer))
    train(parameters, optimizer, 10, 12)
    for copies, copied in late:
        assert type(copied) is type(optimizer)
        assert all(map(torch.equal, copies.values(), ninth)), "nothing is shared"
        train(copies, copied, 10, 12)
        assert all(torch.equal(p, copies[n]) for n, p in parameters.items())
    for copies, copied in early:
        train(copies, copied, 1, 2)
        assert all(map(torch.equal, copies.values(), second)), "copied before its first step"


@every_optimizer
def test_follows_a_learning_rate_scheduler(name: str, make_model: Callable[..., nn.Module], feed: Any) -> None:
    by_scheduler, by_hand = make_model(), make_model()
    one, two = build(name, by_scheduler), build(name, by_hand)
    first = [group["lr"] for group in one.param_groups]

    def schedule(epoch: int) -> float:
        return 1 / (1 + epoch)

    scheduler = torch.optim.lr_scheduler.LambdaLR(one, schedule)
    for step in range(1, 5):
        feed(by_scheduler.parameters(), step)
        one.step()
        scheduler.step()
        for group in two.param_groups:
            group["lr"] = group["peak_lr"] * schedule(step - 1)
        feed(by_hand.parameters(), step)
        two.step()
    assert [group["lr"] for group in one.param_groups] == pytest.approx([lr * schedule(4) for lr in first])
    assert same(by_scheduler, by_hand)


@every_optimizer
def test_bf16_keeps_float32_state_and_follows_float32(
    name: str, make_model: Callable[..., nn.Module], feed: Any
) -> None:
    narrow, wide = make_model(torch.bfloat16), make_model(torch.bfloat16).float()
    first = [p.detach().clone() for p in wide.parameters()]
    optimizers = build(name, narrow, lr=0.02), build(name, wide, lr=0.02)
    for step in range(1, 6):
        feed(narrow.parameters(), step)
        for p, q in zip(narrow.parameters(), wide.parameters(), strict=True):
            q.grad = p.grad.float()
        for optimizer in optimizers:
            optimizer.step()
    for p in narrow.parameters():
        tensors = [value for value in optimizers[0].state[p].values() if isinstance(value, torch.Tensor)]
        assert tensors and all(value.dtype == torch.float32 for value in tensors)
    for p, q, start in zip(narrow.parameters(), wide.parameters(), first, strict=True):
        assert p.dtype == torch.bfloat16
        # Five roundings to 8 bits of weights of about this size.
        assert (p.float() - q).abs().max() <= 5 * 2**-8 * torch.maximum(start.abs().max(), q.abs().max())


@every_optimizer
def test_state_is_what_the_spec_says(name: str, make_model: Callable[..., nn.Module], feed: Any) -> None:
    model = make_model(torch.float32)
    optimizer = build(name, model)
    train(model, optimizer, feed, 1, 2)
    spec, total = get(name), 0
    for n, p in model.named_parameters():
        role = optimizer.roles[n]
        matrices = len(p) if role == "expert" else 1
        o, i = (p.numel(), 1) if p.ndim < 2 else p.shape[-2:]
        measured = sum(value.numel() for value in optimizer.state[p].values() if isinstance(value, torch.Tensor))
        (group,) = (group for group in optimizer.param_groups if n in group["param_names"])
        rule = optimizer.rules[group["rule"]]
        own = call(rule.settings, Context(group), Named(n, p))
        expected = call(rule.state_floats, Context({**group, **own}), o, i)
        assert measured == matrices * expected, n
        if not own:
            assert expected == spec.state_floats(o, i, role=role), n
        total += 4 * measured
    assert state_bytes(optimizer) == total


@every_optimizer
def test_parameters_without_gradients_wait(name: str, make_model: Callable[..., nn.Module], feed: Any) -> None:
    """One that misses steps, and one that comes late, behave as if they were alone in their optimizer."""
    if is_shared(name):
        return  # none is as if alone; test_prodigy_has_one_d has parameters that come late
    model, reference = make_model(), make_model()
    optimizer = build(name, model)
    singles = {n: build(name, [(n, p)]) for n, p in reference.named_parameters()}
    missing = {
        "blocks.0.q.weight": (4, 5),
        "blocks.1.up.weight": (1, 2, 3),
        "norm.weight": (7,),
        "head.weight": range(1, 13),
    }
    first = {n: p.detach().clone() for n, p in model.named_parameters()}
    for step in range(1, 13):
        for m in (model, reference):
            feed(m.parameters(), step)
            for n, p in m.named_parameters():
                if step in missing.get(n, ()):
                    p.grad = None
        optimizer.step()
        for single in singles.values():
            single.step()
    for (n, p), q in zip(model.named_parameters(), reference.parameters(), strict=True):
        assert torch.allclose(p, q, rtol=1e-11, atol=1e-11), n
    assert torch.equal(model.head.weight, first["head.weight"]) and not optimizer.state[model.head.weight]
    assert optimizer.state[model.blocks[1]["up"].weight]["step"] == 9


def spoiled(name: str, model: nn.Module, feed: Any, at: int, bad: float, elements: int | None) -> nn.Module:
    """The model after 13 steps, at one of which the first elements of every gradient, or all, were not finite."""
    optimizer = build(name, model)
    for step in range(1, 14):
        feed(model.parameters(), step)
        if step == at:
            for p in model.parameters():
                p.grad.view(-1)[:elements] = bad
        optimizer.step()
    return model


@every_optimizer
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_gradients_that_are_not_finite_raise_nothing(
    name: str, bad: float, make_model: Callable[..., nn.Module], feed: Any
) -> None:
    """Divergence is a result of a run, so it must reach the loss and not end the program."""
    spoiled(name, make_model(torch.float32), feed, 1, bad, None)


@every_optimizer
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_gradient_that_is_not_finite_shows_in_the_weights(
    name: str, bad: float, make_model: Callable[..., nn.Module], feed: Any
) -> None:
    """Weights that stay finite and move no more would look as if the run had converged."""
    model = spoiled(name, make_model(torch.float32), feed, 3, bad, 1)
    assert not any(p.isfinite().all() for p in model.parameters())


@every_optimizer
def test_evaluation_leaves_no_trace(
    name: str, undisturbed: Callable[..., Undisturbed], make_model: Callable[..., nn.Module], feed: Any
) -> None:
    """eval() and train() as often as one likes: the run is the same to the bit, also through a checkpoint between."""
    for dtype in (torch.float64, torch.bfloat16):
        plain, other = undisturbed(name, dtype).weights, make_model(dtype)
        optimizer = build(name, other)
        optimizer.eval()
        optimizer.train()
        train(other, optimizer, feed, 1, 4)
        optimizer.eval()
        evaluated = clones(other)
        optimizer.eval()
        assert all(torch.equal(p, q) for p, q in zip(other.parameters(), evaluated, strict=True))
        changes = not all(map(torch.equal, evaluated, plain[4]))
        if changes:
            with pytest.raises(ValueError, match=r"the parameters hold weights to evaluate; call optimizer.train\(\)"):
                optimizer.step()
        saved = copy.deepcopy(optimizer.state_dict())
        optimizer = build(name, other)
        optimizer.load_state_dict(saved)
        optimizer.train()
        optimizer.train()
        train(other, optimizer, feed, 5, 7)
        assert all(map(torch.equal, other.parameters(), plain[7]))
        if not changes:
            break  # eval() is nothing in any dtype


@every_optimizer
def test_zero_gradients_move_nothing(name: str, make_model: Callable[..., nn.Module]) -> None:
    model = make_model()
    first = [p.detach().clone() for p in model.parameters()]
    unclipped = {"qk_threshold": 1e9} if "qk_threshold" in get(name).hyperparameters else {}
    optimizer = build(name, model, weight_decay=0.0, **unclipped)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    for _ in range(12):
        optimizer.step()
    assert all(torch.equal(p, start) for p, start in zip(model.parameters(), first, strict=True))


@every_optimizer
def test_works_with_gradient_scaling(name: str, make_model: Callable[..., nn.Module], feed: Any) -> None:
    plain, scaled = make_model(torch.float32), make_model(torch.float32)
    one, two = build(name, plain), build(name, scaled)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for step in range(1, 4):  # what a rule gets is the same gradient in each
        for model in (plain, scaled):
            feed(model.parameters(), step)
        one.step()
        scaler.scale(torch.zeros((), requires_grad=True))  # the scaler only knows its scale after its first use
        for p in scaled.parameters():
            p.grad.mul_(scaler.get_scale())
        scaler.step(two)
        scaler.update()
    assert same(plain, scaled), "powers of two scale without rounding"
