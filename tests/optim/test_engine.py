"""The engine: decay, param groups, names, state, errors."""

from __future__ import annotations

import contextlib
import copy
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import fairstep.optim.engine.stacks as stacks
from fairstep.optim import SOAP, AdamW, Engine, Lion, Muon, build, get, names
from fairstep.optim.rule import Context, call


def one(value: float = 1.0) -> nn.Parameter:
    return nn.Parameter(torch.full((2, 2), value, dtype=torch.float64))


def lion_step(w: nn.Parameter, grad: float, lr: float = 0.1, factor: float = 1.0, **settings: Any) -> float:
    """One step of Lion (u = sign of the gradient) at ``factor`` times its first learning rate."""
    optimizer = Lion([("w", w)], lr=lr, **settings)
    optimizer.param_groups[0]["lr"] *= factor
    w.grad = torch.full_like(w, grad)
    optimizer.step()
    return w.detach()[0, 0].item()


@pytest.mark.parametrize(
    ("decay", "factor", "grad", "expected"),
    [
        ("decoupled", 1.0, 1.0, (1 - 0.1 * 0.5) * 2 - 0.1),
        ("decoupled", 0.5, 1.0, (1 - 0.05 * 0.5) * 2 - 0.05),
        ("independent", 1.0, 1.0, (1 - 0.5) * 2 - 0.1),
        ("independent", 0.5, 1.0, (1 - 0.25) * 2 - 0.05),
        ("coupled", 1.0, -0.5, 2 - 0.1),  # -0.5 + 0.5 * 2 > 0: decay turned the sign
        ("coupled", 1.0, -1.5, 2 + 0.1),
        ("cautious", 1.0, 1.0, (1 - 0.1 * 0.5) * 2 - 0.1),  # the step shrinks w as well: decayed
        ("cautious", 1.0, -1.0, 2 + 0.1),  # the step grows w: not decayed
    ],
)
def test_decay(decay: str, factor: float, grad: float, expected: float) -> None:
    assert lion_step(one(2.0), grad, factor=factor, weight_decay=0.5, decay=decay) == pytest.approx(expected, abs=1e-15)


def test_soap_decays_after_its_step() -> None:
    w = one(2.0)
    optimizer = SOAP([("w", w)], lr=0.1, weight_decay=0.5, max_precond_dim=0)
    for _ in range(2):
        w.grad = torch.ones_like(w)
        optimizer.step()
    assert torch.allclose(w, torch.full_like(w, (1 - 0.05) * (2 - 0.1)), atol=1e-8, rtol=0)


def test_decay_by_role(make_model: Callable[..., nn.Module], feed: Any) -> None:
    model = make_model()
    groups = AdamW(model, undecayed=("head",)).param_groups
    decayed = {n: group["weight_decay"] for group in groups for n in group["param_names"]}
    assert decayed["head.weight"] == 0 and decayed["norm.weight"] == decayed["embedding.weight"] == 0.1
    assert all(group["weight_decay"] == 0.1 for group in AdamW(model, undecayed=()).param_groups)
    with pytest.raises(ValueError, match=r"undecayed: unknown role 'vectors' \(did you mean vector\?\)"):
        AdamW(model, undecayed=("vectors",))
    with pytest.raises(ValueError, match="decay must be one of decoupled, independent, coupled, cautious"):
        AdamW(model, decay="l2")


def test_companion_has_its_own_rate_and_follows_the_schedule() -> None:
    w, b = one(), nn.Parameter(torch.zeros(3))
    optimizer = Muon([("w", w), ("b", b)], lr=0.02, adam_lr_ratio=0.25, adam_beta1=0.7)
    assert [(group["rule"], group["lr"]) for group in optimizer.param_groups] == [("muon", 0.02), ("adamw", 0.005)]
    assert optimizer.param_groups[1]["beta1"] == 0.7 and "ns_steps" not in optimizer.param_groups[1]
    scheduler = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, 0.5, total_iters=2),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4),
        ],
        milestones=[2],
    )
    for _ in range(4):
        w.grad, b.grad = torch.ones_like(w), torch.ones_like(b)
        optimizer.step()
        scheduler.step()
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates[1] == pytest.approx(rates[0] / 4)


def test_param_groups_with_settings_of_their_own(make_model: Callable[..., nn.Module], feed: Any) -> None:
    model = make_model()
    body = [(n, p) for n, p in model.named_parameters() if "head" not in n]
    head = [("head.weight", model.head.weight)]
    groups = [{"params": body}, {"params": head, "lr": 0.5, "adam_beta2": 0.8, "weight_decay": 0.0}]
    optimizer = Muon(groups, lr=0.02, roles={"head.weight": "head"})
    assert optimizer.param_groups[-1]["lr"] == pytest.approx(0.5 * 0.2)
    assert optimizer.param_groups[-1]["beta2"] == 0.8 and optimizer.param_groups[-1]["weight_decay"] == 0
    late = nn.Parameter(torch.zeros(4, dtype=torch.float64))
    feed(model.parameters(), 1)
    optimizer.step()
    optimizer.add_param_group({"params": [("late", late)], "lr": 0.1})
    late.grad = torch.ones_like(late)
    optimizer.step()
    assert late[0].item() == pytest.approx(-0.1 * 0.2) and optimizer.state[late]["step"] == 1
    with pytest.raises(ValueError, match="parameter late is in two param groups"):
        optimizer.add_param_group({"params": [("late", late)]})
    with pytest.raises(ValueError, match="two parameters have the name late; give names of the whole model"):
        optimizer.add_param_group({"params": [("late", nn.Parameter(torch.zeros(2)))]})
    with pytest.raises(ValueError, match=r"muon has no hyperparameter 'lrr' \(did you mean lr"):
        optimizer.add_param_group({"params": [("more", nn.Parameter(torch.zeros(2)))], "lrr": 1.0})


def test_unnamed_parameters_are_numbered() -> None:
    groups = [{"params": [one(), nn.Parameter(torch.zeros(3))]}, {"params": [one()], "lr": 0.5}]
    optimizer = AdamW(groups)
    assert optimizer.roles == {"0": "matrix", "1": "vector", "2": "matrix"}
    assert [name for name, _ in AdamW([one(), one()]).named_parameters()] == ["0", "1"]


def test_bf16_is_rounded_once() -> None:
    """Decay and step of a bf16 weight are added in float32: neither alone is large enough to move it."""
    for several in (1, 2):
        ws = [nn.Parameter(torch.ones(4, dtype=torch.bfloat16)) for _ in range(several)]
        optimizer = Lion([(str(n), w) for n, w in enumerate(ws)], lr=1.5e-3, weight_decay=1.0, undecayed=())
        for w in ws:
            w.grad = torch.ones_like(w)
        optimizer.step()
        assert all((w == 1 - 2**-8).all() for w in ws), "1 - 0.003 rounds to the next number below 1"


def test_torchs_own_hooks_run_around_a_step() -> None:
    w, seen = one(), []
    optimizer = AdamW([("w", w)], lr=0.1)
    optimizer.register_step_pre_hook(lambda *_: seen.append(("before", w[0, 0].item())))
    optimizer.register_step_post_hook(lambda *_: seen.append(("after", w[0, 0].item())))
    w.grad = torch.ones_like(w)
    optimizer.step()
    assert [when for when, _ in seen] == ["before", "after"] and seen[0][1] == 1.0 > seen[1][1]


@pytest.mark.parametrize(
    ("named", "roles", "message"),
    [
        ([], None, "the parameter list is empty"),
        ([("w", torch.zeros(2, 2, dtype=torch.complex64))], None, r"parameter w is complex; give its real view"),
        (
            [("w", torch.zeros(2, 2, dtype=torch.int64))],
            None,
            r"parameter w has dtype torch.int64; only floating-point",
        ),
        ([("w", one() * 1)], None, r"parameter w is computed from other tensors \(not a leaf\)"),
        (
            [("w", torch.zeros(2, 2, 2))],
            None,
            r"parameter w of shape \(2, 2, 2\) has no evident role; say it with roles=",
        ),
        ([("w", torch.zeros(2, 2))], {"w": "expert"}, r"parameter w: the role expert .* not for the shape \(2, 2\)"),
        ([("w", torch.zeros(2, 2))], {"v": "head"}, r"roles: no parameter is named 'v'"),
    ],
)
def test_bad_parameters_are_named(named: Any, roles: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Muon(named, roles=roles)


def test_closure() -> None:
    w = one()

    def closure() -> torch.Tensor:
        loss = (w**2).sum()
        loss.backward()
        return loss

    assert AdamW([("w", w)], lr=0.1).step(closure).item() == 4.0
    assert w.max() < 1


def test_sparse_gradients_are_refused_by_name() -> None:
    embedding = nn.Embedding(4, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(
        ValueError, match=r"parameter weight has a sparse gradient; build its embedding with sparse=False"
    ):
        AdamW(embedding).step()


@pytest.mark.parametrize("name", names())
def test_unknown_hyperparameters_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} has no hyperparameter 'learning_rate'"):
        build(name, [("w", one())], learning_rate=1.0)


def test_experts_are_separate_matrices() -> None:
    generator = torch.Generator().manual_seed(0)
    grads = torch.randn(3, 6, 4, generator=generator, dtype=torch.float64)
    stack = nn.Parameter(torch.zeros_like(grads))
    singles = [nn.Parameter(torch.zeros(6, 4, dtype=torch.float64)) for _ in range(3)]
    optimizers = Muon([("experts", stack)]), Muon(singles, roles="matrix")
    for _ in range(3):
        stack.grad = grads.clone()
        for p, g in zip(singles, grads, strict=True):
            p.grad = g.clone()
        for optimizer in optimizers:
            optimizer.step()
    assert torch.allclose(stack, torch.stack([p.detach() for p in singles]), rtol=1e-12, atol=0)


def test_convolutions_are_flattened() -> None:
    g = torch.randn(6, 3, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    conv, flat = nn.Parameter(torch.zeros_like(g)), nn.Parameter(torch.zeros(6, 12, dtype=torch.float64))
    conv.grad, flat.grad = g.clone(), g.reshape(6, 12).clone()
    Muon([("c", conv)]).step()
    Muon([("f", flat)]).step()
    assert torch.equal(conv.detach().reshape(6, 12), flat.detach())


@pytest.mark.parametrize("limit", [1, 40, 10**9])
def test_the_size_of_stacks_does_not_matter(
    limit: int, make_model: Callable[..., nn.Module], feed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairstep.optim.engine.stacks.CPU_ELEMENTS", limit)
    model, reference = make_model(), make_model()
    cut, alone = SOAP(model), SOAP(reference, stacked=False)
    for step in range(1, 13):
        for m in (model, reference):
            feed(m.parameters(), step)
        cut.step()
        alone.step()
    for p, q in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(p, q, rtol=1e-12, atol=1e-12)


def test_a_small_model_is_a_handful_of_stacks() -> None:
    layers = [nn.ModuleDict({n: nn.Linear(16, 16, bias=False) for n in "qkvo"}) for _ in range(4)]
    model = nn.ModuleDict({"blocks": nn.ModuleList(layers), "norm": nn.LayerNorm(16)})
    calls = []

    class Counting(type(get("muon").parts[0].rule)):  # type: ignore[misc]
        def update(self, grad: torch.Tensor, *rest: Any, context: Context) -> Any:
            calls.append(tuple(grad.shape))
            return call(super().update, context, grad, *rest)

    optimizer = Muon(model)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    for stack in optimizer._stacks.live.values():
        stack.rule = Counting() if stack.rule.name == "muon" else stack.rule
    optimizer.step()
    assert calls == [(16, 16, 16)], "sixteen matrices in one call"


@pytest.mark.parametrize("name", ["adamw", "lion", "muon", "soap", "prodigy", "adamw+ema"])
def test_gradients_that_come_and_go(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one parameter at a time, and without forming a stack where a set of gradients comes again."""
    formed, begin = [], stacks.Stack.__init__

    def counted(stack: stacks.Stack, *rest: Any) -> None:
        formed.append(rest)
        begin(stack, *rest)

    monkeypatch.setattr(stacks.Stack, "__init__", counted)
    models = [nn.ModuleList([nn.Linear(6, 6, bias=False) for _ in range(8)]).double() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    optimizers = [
        build(name, model, lr=0.01, stacked=stacked) for model, stacked in zip(models, (True, False), strict=True)
    ]
    counts = []
    for step in range(24):
        generator = torch.Generator().manual_seed(step)
        absent = [(), (3,), (), (5, 6), (3,)][step % 5]
        gradients = [torch.randn(6, 6, generator=generator, dtype=torch.float64) for _ in range(8)]
        for model in models:
            for place, (layer, gradient) in enumerate(zip(model, gradients, strict=True)):
                layer.weight.grad = None if place in absent else gradient
        optimizers[1].step()
        before = len(formed)
        optimizers[0].step()
        counts.append(len(formed) - before)
    assert not any(counts[10:]), "every set has come before"
    for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12)
    optimizers[0].load_state_dict(optimizers[0].state_dict())
    optimizers[0].step()


def test_a_step_while_another_thread_loads_dtensors(
    make_model: Callable[..., nn.Module], feed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.distributed.tensor", types.ModuleType("torch.distributed.tensor"))
    model = make_model()
    optimizer = build("adamw", model)
    feed(model.parameters(), 1)
    optimizer.step()


def test_non_contiguous_parameters() -> None:
    base = torch.ones(4, 6, dtype=torch.float64)
    w, v = nn.Parameter(base.clone().t()), nn.Parameter(base.t().contiguous())
    for p in (w, v):
        optimizer = AdamW([("w", p)], lr=0.1)
        p.grad = torch.arange(24.0, dtype=torch.float64).reshape(6, 4)
        optimizer.step()
    assert not w.is_contiguous()  # and so not for the fused kernel, which rounds otherwise
    torch.testing.assert_close(w, v, rtol=1e-14, atol=0)


def test_our_own_rule_needs_no_edit() -> None:
    """A user's optimizer: a rule, a spec, a subclass of the engine."""
    from fairstep.optim import ROLES, Grid, Hyperparameter, OptimizerSpec, Part, Rule, Schedule

    class SGDRule(Rule):
        name, elementwise = "sgd", True

        def init(self, param: torch.Tensor) -> dict[str, torch.Tensor]:
            return {}

        def update(self, grad: torch.Tensor, state: Any, param: Any, step: int) -> torch.Tensor:
            return grad

    class SGD(Engine):
        spec = OptimizerSpec(
            name="sgd",
            class_name="SGD",
            title="Gradient descent",
            reference="",
            parts=(Part(ROLES, SGDRule()),),
            hyperparameters={
                "lr": Hyperparameter(0.1, "learning rate", "", "(0, inf)"),
                "weight_decay": Hyperparameter(0.0, "decay", "", "[0, inf)"),
            },
            search_space={"lr": Grid.geometric(0.1, 2, "")},
            lr_unit="weights per gradient",
            schedule=Schedule("constant", 0.0, 1.0, ""),
        )

    w, b = one(), nn.Parameter(torch.zeros(()))
    optimizer = SGD([w, b], lr=0.5)
    for _ in range(2):
        w.grad, b.grad = torch.ones_like(w), torch.ones_like(b)
        optimizer.step()
    assert w[0, 0].item() == 0.0 and b.item() == -1.0
    saved = optimizer.state_dict()
    SGD([w, b]).load_state_dict(saved)


def test_compute_dtype() -> None:
    narrow = {torch.float16: torch.float32, torch.bfloat16: torch.float32}
    for dtype, expected in {**narrow, torch.float32: torch.float32, torch.float64: torch.float64}.items():
        assert stacks.compute_dtype(dtype) == expected


def test_asking_for_compiled_steps_is_answered_and_changes_nothing() -> None:
    weights = []
    for asked in ({}, {"compiled": False}, {"compiled": True}):
        w = nn.Parameter(torch.ones(3, 3))
        warned = pytest.warns(DeprecationWarning, match="compiled=True has no effect any more")
        with warned if asked.get("compiled") else contextlib.nullcontext():
            optimizer = build("nadamw", [w], **asked)
        w.grad = torch.ones(3, 3)
        optimizer.step()
        weights.append(w.detach())
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])


def test_the_way_from_a_step_to_a_rule_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engine.step, advance, call, update; and the gradient is handed on once."""
    frames: list[str] = []

    def update(self: Any, grad: torch.Tensor, state: Any, param: Any, step: int, *, beta1: float) -> torch.Tensor:
        frame = sys._getframe()
        while frame.f_code.co_name != "step":
            frames.append(frame.f_code.co_name)
            frame = frame.f_back  # type: ignore[assignment]
        return grad * beta1

    monkeypatch.setattr(type(Lion.spec.parts[0].rule), "update", update)
    assert lion_step(one(), 1.0) == pytest.approx(1 - 0.1 * 0.9, abs=0.1)
    assert frames == ["update", "call", "advance"]


def test_the_peak_learning_rate_is_ours_alone() -> None:
    """A scheduler's initial_lr changes no decay, and a state dict that has the peak under that name is read."""
    w = one()
    optimizer = Lion([("w", w)], lr=0.1, weight_decay=0.5, decay="independent")
    (group,) = optimizer.param_groups
    assert group["peak_lr"] == 0.1
    assert "initial_lr" not in group
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)
    group["initial_lr"] = 7.0
    w.grad = torch.ones_like(w)
    optimizer.step()
    assert w[0, 0].item() == pytest.approx((1 - 0.5 * 0.5) * 1.0 - 0.05)
    saved = optimizer.state_dict()
    saved["param_groups"][0]["initial_lr"] = saved["param_groups"][0].pop("peak_lr")
    again = Lion([("w", one())], lr=0.3, decay="independent")
    again.load_state_dict(saved)
    assert again.param_groups[0]["peak_lr"] == 0.1


@pytest.mark.parametrize(
    ("given", "as_ours"),
    [
        ({"betas": (0.8, 0.9)}, {"beta1": 0.8, "beta2": 0.9}),
        ({"lr": torch.tensor(0.5)}, {"lr": 0.5}),
        ({"lr": 0}, {"lr": 0.0}),
    ],
    ids=["betas", "tensor", "zero"],
)
def test_settings_as_torch_takes_them(given: dict[str, Any], as_ours: dict[str, float]) -> None:
    """For the optimizer and for one param group; a key of the user's stays in its group."""
    whole, first = (
        AdamW([one()], **given),
        AdamW([{"params": one(), **given, "name": "first", "lr_scale": 2.0}, {"params": one()}]),
    )
    for optimizer in (whole, first):
        assert {name: optimizer.param_groups[0][name] for name in as_ours} == as_ours
    assert (first.param_groups[0]["name"], first.param_groups[0]["lr_scale"]) == ("first", 2.0)
    assert "name" not in first.param_groups[1]
    first.load_state_dict(first.state_dict())
    assert AdamW([one()], 0.25).param_groups[0]["lr"] == 0.25


@pytest.mark.parametrize(
    ("settings", "group", "message"),
    [
        ({"betas": (0.8,)}, {}, r"adamw: betas must be \(beta1, beta2\), not \(0.8,\)"),
        ({"betas": (0.8, 0.9), "beta1": 0.8}, {}, "adamw: beta1 is given twice"),
        ({"lr": None}, {}, "adamw: lr must be a number"),
        ({"lr": False}, {}, "adamw: lr must be a number"),
        ({}, {"rule": "muon"}, "a param group's rule is the optimizer's to write"),
        ({}, {"weight_decey": 0.0}, r"adamw has no hyperparameter 'weight_decey' \(did you mean weight_decay"),
    ],
)
def test_settings_that_are_neither_torchs_nor_ours(settings: Any, group: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AdamW([{"params": one(), **group}], **settings)


def test_a_groups_setting_that_only_a_part_would_read_is_not_passed_over() -> None:
    for own in ({"betas": (0.8, 0.9)}, {"eps": 1e-10}):
        with pytest.raises(ValueError, match="muon has no hyperparameter"):
            Muon([{"params": [("w", one())], **own}])


def test_a_learning_rate_of_zero_is_a_pause() -> None:
    """A step with it changes no weight; independent decay takes what comes after it for the peak."""
    w = one()
    optimizer = AdamW([("w", w)], lr=0, decay="independent", weight_decay=0.25, undecayed=())
    w.grad = torch.ones_like(w)
    optimizer.step()
    assert w.eq(1).all()
    optimizer.param_groups[0]["lr"] = 0.5
    w.grad = torch.zeros_like(w)
    optimizer.state.clear()
    optimizer.step()
    assert w.detach().flatten().tolist() == pytest.approx([0.75] * 4)


def test_torchs_schedulers_change_rates_and_nothing_else() -> None:
    """What LambdaLR and OneCycleLR write as initial_lr is theirs: a group's own rate stays, decay and ratios too."""
    model = nn.ModuleDict({"up": nn.Linear(4, 4, bias=False), "lm_head": nn.Linear(4, 8, bias=False)})
    edited = Muon(model, lr=0.02)
    edited.param_groups[0]["lr"] = 0.005
    torch.optim.lr_scheduler.LambdaLR(edited, lambda step: 1.0)
    assert [group["lr"] for group in edited.param_groups] == [0.005, pytest.approx(0.004)]
    cycled = Muon(model, lr=0.02, decay="independent", weight_decay=0.25)
    peaks = [group["lr"] for group in cycled.param_groups]
    torch.optim.lr_scheduler.OneCycleLR(cycled, max_lr=peaks, total_steps=10, cycle_momentum=False)
    for group, peak in zip(cycled.param_groups, peaks, strict=True):
        group["lr"] = peak
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    cycled.step()
    for p, start in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(p.detach(), 0.75 * start)


def matrix_and_head() -> nn.Module:
    model = nn.ModuleDict({"up": nn.Linear(4, 4, bias=False), "lm_head": nn.Linear(4, 8, bias=False)})
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    return model


@pytest.mark.parametrize("form", ["new", "copied", "resumed"])
def test_one_max_lr_is_the_optimizers_and_each_group_keeps_its_ratio(form: str) -> None:
    """At every step of the cycle, as with one max_lr per group. A copy, and what resumes, does not scale again."""
    model = matrix_and_head()
    optimizer, expected = Muon(model, lr=0.02), Muon(model, lr=0.02)
    assert [group["lr"] for group in expected.param_groups] == [0.02, pytest.approx(0.004)]
    peaks = [group["lr"] for group in expected.param_groups]
    other = torch.optim.lr_scheduler.OneCycleLR(expected, max_lr=peaks, total_steps=10, cycle_momentum=False)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.02, total_steps=10, cycle_momentum=False)
    for step in range(9):
        if step == 4 and form == "copied":
            optimizer = copy.deepcopy(optimizer)
            cycle.optimizer = optimizer
        if step == 4 and form == "resumed":
            saved, place = optimizer.state_dict(), cycle.state_dict()
            optimizer = Muon(model, lr=0.02)
            cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.02, total_steps=10, cycle_momentum=False)
            optimizer.load_state_dict(saved)
            cycle.load_state_dict(place)
        for mine in (optimizer, expected):
            mine.step()
        for mine, theirs in zip(optimizer.param_groups, expected.param_groups, strict=True):
            assert mine["lr"] == pytest.approx(theirs["lr"]), step
        for scheduler in (cycle, other):
            scheduler.step()


def test_groups_of_the_users_get_what_a_scheduler_gives_them() -> None:
    """As with torch's optimizers: rates that differ because the user said so are the scheduler's to set alike."""
    model = matrix_and_head()
    groups = [{"params": [p], "lr": lr} for p, lr in zip(model.parameters(), (1e-3, 1e-4), strict=True)]
    kinds: tuple[Any, ...] = (AdamW, torch.optim.AdamW)
    for kind in kinds:
        optimizer = kind(groups)
        torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.02, total_steps=10, cycle_momentum=False)
        optimizer.step()
        assert [group["max_lr"] for group in optimizer.param_groups] == [0.02, 0.02]


def test_swa_keeps_ratios() -> None:
    optimizer = Muon(matrix_and_head(), lr=0.02)
    swa = torch.optim.swa_utils.SWALR(optimizer, swa_lr=0.01, anneal_epochs=2)
    for _ in range(4):
        optimizer.step()
        swa.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01, 0.002])


def test_a_loop_that_sets_one_rate_for_all_is_told_once() -> None:
    optimizer = Muon(matrix_and_head(), lr=0.02)
    for group in optimizer.param_groups:
        group["lr"] = 0.0  # a warm-up from 0 says nothing yet
    optimizer.step()
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    with pytest.warns(
        UserWarning, match=r"has learning rate 0.01 now, and was built with 0.02 \(muon\), 0.004 \(adamw\)"
    ):
        optimizer.step()
    optimizer.step()  # a second warning would be an error here
    alike = Muon(matrix_and_head(), lr=0.02, adam_lr_ratio=1.0)
    for group in alike.param_groups:
        group["lr"] = 0.01
    alike.step()


def test_prodigy_refuses_learning_rates_that_differ() -> None:
    """As its authors do: one estimate cannot serve two. A rate of 0 is allowed."""
    for name in ("prodigy", "prodigy+cautious"):
        groups = [{"params": [("a", one())]}, {"params": [("b", one())], "lr": 0.5}]
        optimizer = build(name, groups)
        for _, p in optimizer.named_parameters():
            p.grad = torch.ones_like(p)
        with pytest.raises(ValueError, match=r"one learning rate for all parameters, .* the factors 0.5, 1; give all"):
            optimizer.step()
        assert all(p.eq(1).all() for _, p in optimizer.named_parameters())
        optimizer.param_groups[1]["lr"] = 0.0
        optimizer.step()
