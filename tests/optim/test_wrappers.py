"""Wrappers against literal twins, with vectors and stacks, in float64; their names; what they may not do."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.optim import twins
from tests.optim.test_rules import gradient, rate, start
from torch import Tensor, nn

from fairstep.optim import Rule, build, get, names, version
from fairstep.optim import wrappers as module
from fairstep.optim.catalogue import registry
from fairstep.optim.wrappers import WrappedRule, derive, wrappers

State = dict[str, Any]
Base = Callable[[Tensor, Tensor, State, float, float], Tensor]
"""One step of what is inside: (w, g, state, lr, weight decay) -> w."""
STEPS, LR, WD = 20, 0.03, 0.2


def adamw(w: Tensor, g: Tensor, s: State, lr: float, wd: float) -> Tensor:
    return twins.adamw(w, g, s, lr, wd, 0.8, 0.9, 1e-3)


def muon(w: Tensor, g: Tensor, s: State, lr: float, wd: float) -> Tensor:
    if w.ndim < 2:
        return twins.adamw(w, g, s, 0.2 * lr, wd, 0.8, 0.9, 1e-3)
    return twins.muon(w, g, s, lr, wd, 0.9, True, 5, "shape")


BASES: dict[str, tuple[Base, dict[str, Any]]] = {
    "adamw": (adamw, {"beta1": 0.8, "beta2": 0.9, "eps": 1e-3}),
    "muon": (muon, {"momentum": 0.9, "adam_beta1": 0.8, "adam_beta2": 0.9, "adam_eps": 1e-3}),
}
both = pytest.mark.parametrize("base", list(BASES))


def ours(name: str, **hyper: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(training weights, evaluation weights) after STEPS steps."""
    base = name.split("+")[0]
    params = {n: nn.Parameter(w) for n, w in start().items()}
    settings = {**BASES[base][1], "lr": LR, "weight_decay": WD, **hyper}
    optimizer = build(name, params.items(), undecayed=(), **settings)
    peaks = [group["lr"] for group in optimizer.param_groups]
    for step in range(1, STEPS + 1):
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * rate(step)
        for n, p in params.items():
            p.grad = gradient(p.detach(), n, step)
        optimizer.step()
    trained = {n: p.detach().clone() for n, p in params.items()}
    optimizer.eval()
    return trained, {n: p.detach().clone() for n, p in params.items()}


def hold(ours: dict[str, Tensor], twin: dict[str, Tensor]) -> None:
    for n, first in start().items():
        assert (ours[n] - twin[n]).abs().max() <= 1e-11 * (twin[n] - first).abs().max(), n


def trajectory(base: str, n: str) -> list[Tensor]:
    """The weights after every step of the optimizer without a wrapper."""
    w, s, found = start()[n], {}, []
    for step in range(1, STEPS + 1):
        w = BASES[base][0](w, gradient(w, n, step), s, LR * rate(step), WD)
        found.append(w)
    return found


@both
def test_ema(base: str) -> None:
    trained, evaluated = ours(f"{base}+ema", ema_decay=0.8)
    paths = {n: trajectory(base, n) for n in start()}
    factors = [0.8 ** (STEPS - k) for k in range(1, STEPS + 1)]
    hold(trained, {n: path[-1] for n, path in paths.items()})
    average = {n: sum(f * w for f, w in zip(factors, path, strict=True)) / sum(factors) for n, path in paths.items()}
    hold(evaluated, average)


@both
@pytest.mark.parametrize(("schedule_steps", "taken"), [(STEPS, 5), (0, STEPS), (2 * STEPS, 0)])
def test_tail(base: str, schedule_steps: int, taken: int) -> None:
    """Against torch's averaged model, whose average is uniform."""
    trained, evaluated = ours(f"{base}+tail", tail_fraction=0.25, schedule_steps=schedule_steps)
    for n in start():
        path = trajectory(base, n)
        torch.testing.assert_close(trained[n], path[-1], rtol=0, atol=1e-12)
        holder = nn.ParameterList([nn.Parameter(path[-1])])
        average = torch.optim.swa_utils.AveragedModel(holder)
        for w in path[STEPS - taken :] if taken else path[-1:]:
            holder[0].data = w
            average.update_parameters(holder)
        torch.testing.assert_close(evaluated[n], average.module[0].data, rtol=0, atol=1e-12)


@both
@pytest.mark.parametrize("schedule_steps", [0, STEPS])
def test_ema_nesterov(base: str, schedule_steps: int) -> None:
    hyper = {"nesterov_step": 1.5, "nesterov_decay": 0.7, "schedule_steps": schedule_steps}
    trained, evaluated = ours(f"{base}+ema-nesterov", **hyper)
    ahead, behind, lookaheads = {}, {}, 0
    for n, theta in start().items():
        w, m, s = theta, torch.zeros_like(theta), {}
        for step in range(1, STEPS + 1):
            new = BASES[base][0](w, gradient(w, n, step), s, LR * rate(step), WD)
            m = 0.7 * m + 0.3 * (new - theta)
            theta = new
            middle = schedule_steps == 0 or 0.3 * STEPS <= step < 0.8 * STEPS
            lookaheads += middle
            w = theta + 1.5 * rate(step) * m if middle else theta
        ahead[n], behind[n] = w, theta
    assert lookaheads == len(start()) * (10 if schedule_steps else STEPS)
    hold(trained, ahead)
    hold(evaluated, behind)


@both
@pytest.mark.parametrize(("power", "lr_power"), [(0.0, 2.0), (1.5, 1.0)])
def test_schedule_free(base: str, power: float, lr_power: float) -> None:
    hyper = {"sf_beta": 0.6, "sf_step_power": power, "sf_lr_power": lr_power}
    trained, evaluated = ours(f"{base}+schedule-free", **hyper)
    ys, xs = {}, {}
    for n, first in start().items():
        x, z, s, weights = first, first, {}, []
        scale = 1.0 if base == "adamw" or first.ndim == 2 else 0.2
        for step in range(1, STEPS + 1):
            y = 0.4 * z + 0.6 * x
            z = z + BASES[base][0](y, gradient(y, n, step), s, LR * rate(step), WD) - y
            largest = max(rate(k) for k in range(1, step + 1)) * LR * scale
            weights.append(step**power * largest**lr_power)
            c = weights[-1] / sum(weights)
            x = (1 - c) * x + c * z
        ys[n], xs[n] = 0.4 * z + 0.6 * x, x
    hold(trained, ys)
    hold(evaluated, xs)


@both
def test_hyperball(base: str) -> None:
    trained, _ = ours(f"{base}+hyperball")
    twin = {}
    for n, w in start().items():
        radius, s = w.norm(), {}
        for step in range(1, STEPS + 1):
            g, lr = gradient(w, n, step), LR * rate(step)
            if w.ndim < 2:
                w = BASES[base][0](w, g, s, lr * (3 / 13 if base == "adamw" else 1.0), WD)
            else:
                u = -BASES[base][0](torch.zeros_like(w), g, s, 1.0, 0.0)
                w = w - lr * radius * u / u.norm()
                w = radius * w / w.norm()
        twin[n] = w
    hold(trained, twin)


def test_cautious_muon() -> None:
    trained, _ = ours("muon+cautious", cautious_scale="count")
    twin = {}
    for n, w in start().items():
        s: State = {}
        for step in range(1, STEPS + 1):
            g, lr = gradient(w, n, step), LR * rate(step)
            u = -muon(torch.zeros_like(w), g, s, 1.0, 0.0)  # the companion's 0.2 is in it
            shrink = 1 - lr * WD * (1.0 if w.ndim == 2 else 0.2)
            w = shrink * w - lr * twins.keep_agreeing(u, g, "count")
        twin[n] = w
    hold(trained, twin)


def test_cautious_decay_is_the_decay_mode() -> None:
    params = [nn.Parameter(w) for w in start().values()], [nn.Parameter(w) for w in start().values()]
    optimizers = build("lion+cwd", params[0]), build("lion", params[1], decay="cautious")
    for step in range(1, 5):
        for ps, optimizer in zip(params, optimizers, strict=True):
            for n, p in zip(start(), ps, strict=True):
                p.grad = gradient(p.detach(), n, step)
            optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(*params, strict=True))


@both
def test_corrected_decay_is_quadratic_in_the_schedule(base: str) -> None:
    """arXiv 2506.02285: lr_t^2 / lr_max * lambda of matrices, in the warm-up too; vectors keep lr_t * lambda."""
    trained, _ = ours(f"{base}+corrected-decay")
    twin = {}
    for n, w in start().items():
        s: State = {}
        for step in range(1, STEPS + 1):
            decay = WD * rate(step) if w.ndim == 2 else WD
            w = BASES[base][0](w, gradient(w, n, step), s, LR * rate(step), decay)
        twin[n] = w
    hold(trained, twin)


@both
def test_independent_decay_follows_the_schedule_alone(base: str) -> None:
    trained, _ = ours(f"{base}+independent-decay", weight_decay=0.01)
    twin = {}
    for n, w in start().items():
        s: State = {}
        for step in range(1, STEPS + 1):
            shrunk = (1 - rate(step) * 0.01) * w
            w = shrunk + BASES[base][0](w, gradient(w, n, step), s, LR * rate(step), 0.0) - w
        twin[n] = w
    hold(trained, twin)


def test_corrected_decay_is_of_normalised_weights(make_model: Callable[..., nn.Module]) -> None:
    optimizer = build("adamc", make_model(), undecayed=())
    decays = {optimizer.roles[n]: group["decay"] for group in optimizer.param_groups for n in group["param_names"]}
    others = {role: "decoupled" for role in decays if role not in ("matrix", "expert")}
    assert others and decays == {**dict.fromkeys(decays, "corrected"), **others}


def test_the_average_is_of_weights_on_the_ball_and_of_points_not_ahead() -> None:
    """Wrappers apply in one order: constraint, lookahead, average."""
    trained, evaluated = ours("muon+ema+hyperball+ema-nesterov", ema_decay=0.0, schedule_steps=0)
    for n, first in start().items():
        if first.ndim == 2:
            assert evaluated[n].norm().item() == pytest.approx(first.norm().item(), rel=1e-12)
            assert trained[n].norm().item() != pytest.approx(first.norm().item(), rel=1e-6)


def test_names() -> None:
    assert get("muon+ema+hyperball") is get("MUON+Hyperball+EMA") is get("muonh+ema")
    assert get("muon+ema+hyperball").name == "muonh+ema"
    assert get("adamw+hyperball") is get("adamh") and get("muon+hyperball") is get("muonh")
    assert get("adamw+cautious") is get("cautious") and get("lion+cautious") is get("c-lion")
    assert get("adamw+corrected-decay") is get("AdamC")
    assert get("adamh+cautious") is get("cautious-adamw+hyperball")
    assert get("adamw+sf") is get("adamw+schedule_free") and get("adamw+schedule-free") is not get("sf-adamw")
    assert get("ademamix+tail").hyperparameters["schedule_steps"] is get("ademamix").hyperparameters["schedule_steps"]
    for spec in (get(f"{name}+{wrapper}") for name in names() for wrapper in wrappers() if _fresh(name, wrapper)):
        known = {part.rename.get(use, use) for part in spec.parts for use in part.rule.hyperparameters}
        assert known <= set(spec.hyperparameters) and spec.search_space["lr"].values and "W " in spec.text


def _fresh(name: str, wrapper: str) -> bool:
    """Whether the optimizer has neither the wrapper nor one that contradicts it, and can have it."""
    if wrapper == "8bit" and not get(name).part("matrix").rule.eight_bit:
        return False
    if wrapper == "schedule-free" and name == "schedule-free-plus":
        return False
    if get(name).decay == "corrected" and wrappers()[wrapper].decides == "how weights decay":
        return False
    inside = {word for part in get(name).parts for word in part.rule.name.split("+")[1:]}
    own = {wrappers()[word].decides for word in inside} - {""}
    return wrapper not in inside and wrappers()[wrapper].decides not in own


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("adamw+emma", r"unknown wrapper 'emma' \(did you mean ema\?\); there are 8bit, cautious, cautious-decay, cor"),
        ("adamw+ema+ema", "the wrapper ema is named twice"),
        ("schedule-free-adamw+schedule-free", "schedule-free-adamw is schedule-free by itself"),
        ("schedule-free-plus+ema+sf", "schedule-free-plus is schedule-free by itself"),
        ("adamc+cwd", "cautious-decay and corrected-decay both say how weights decay; keep one of them"),
        ("adamh+hyperball", "the wrapper hyperball is named twice"),
        ("admw+ema", r"unknown optimizer 'admw' \(did you mean"),
        (
            "torch.optim:SGD+ema",
            "wrappers go around fairstep's own optimizers, and torch.optim:SGD is another package's",
        ),
    ],
)
def test_names_that_mean_nothing(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        get(name)


def test_hyperball_needs_a_direction_to_keep() -> None:
    w = nn.Parameter(torch.zeros(3, 5))
    w.grad = torch.ones_like(w)
    optimizer = build("adamh", [("w", w)])
    with pytest.raises(ValueError, match=r"a matrix of shape 3 x 5 is zero; initialise it with other values"):
        optimizer.step()


def test_vectors_that_yield_to_mars_stay_off_the_ball() -> None:
    vector = nn.Parameter(torch.ones(3))
    optimizer = build("mars-adamw+hyperball", [("v", vector)], optimize_1d=True)
    assert optimizer.param_groups[0]["rule"] == "mars-adamw"


def test_a_wrapped_rule_hands_on_every_hook() -> None:
    hooks = {name for name, value in vars(Rule).items() if callable(value) and not name.startswith("_")}
    assert hooks <= set(vars(WrappedRule)), "what a wrapper does not hand on, the rule inside would lose"


def test_ones_own_spec_and_class_can_be_wrapped() -> None:
    from fairstep.optim import Engine

    class Mine(Engine):
        spec = derive(get("lion"), ("ema",))

    w = nn.Parameter(torch.ones(2, 2))
    optimizer = Mine([("w", w)], lr=0.5, weight_decay=0.0)
    for _ in range(2):
        w.grad = torch.ones_like(w)
        optimizer.step()
    assert w[0, 0].item() == 0.0
    optimizer.eval()
    assert w[0, 0].item() == pytest.approx((0.99 * 0.5 + 0.0) / 1.99)


def test_classes_are_found_again_by_their_pickles() -> None:
    optimizer = build("muon+hyperball+ema", [("w", nn.Parameter(torch.ones(2, 2)))])
    assert type(pickle.loads(pickle.dumps(optimizer))) is type(optimizer)
    assert "ema_decay" in str(type(optimizer).__signature__)  # type: ignore[attr-defined]


MINE = '''
"""Every step half as long."""
from dataclasses import replace

from fairstep.optim.rule import Context, call
from fairstep.optim.spec import Hyperparameter
from fairstep.optim.wrappers import WrappedRule, Wrapper
from fairstep.optim.wrappers.base import wrap_parts


class ShorterRule(WrappedRule):
    suffix = "shorter"

    def update(self, grad, state, param, step, *, share: float, context: Context):
        return share * call(self.inner.update, context, grad, state, param, step)


def shorter(spec):
    return replace(spec, parts=wrap_parts(spec, ShorterRule))


SHORTER = Wrapper("anything", "shorter steps", "a test", 12,
                  {"share": Hyperparameter(0.5, "share of the step", "a test", "(0, 1]")}, shorter)
NOTHING = 3
'''


@pytest.fixture
def entry_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "shorter_steps.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    points = {"shorter": "shorter_steps:SHORTER", "nothing": "shorter_steps:NOTHING", "gone": "no_such_place:IT"}
    made = [EntryPoint(name, value, module.PLUGINS) for name, value in {**points, "ema": "shorter_steps:IT"}.items()]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: made if group == module.PLUGINS else [])
    caches = (module.plugins, module._loaded, module.derive, registry.plugins, registry._of_versions)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()
    sys.modules.pop("shorter_steps", None)


@pytest.mark.usefixtures("entry_points")
def test_a_package_has_wrappers_of_its_own() -> None:
    spec = get("muon+Shorter+ema")
    assert spec is get("muon+ema+shorter") and spec.name == "muon+shorter+ema" and "half as long" in spec.text
    assert spec.hyperparameters["share"].default == 0.5
    assert spec.version.startswith("shorter_steps, source ") and version(spec.name) == spec.version
    assert not version("muon+ema") and not get("muon+ema").version, "ours comes before a package's of the same name"
    w = [nn.Parameter(torch.ones(3)) for _ in range(2)]
    for name, p in zip(("adamw", "adamw+shorter"), w, strict=True):
        p.grad = torch.ones(3)
        build(name, [("w", p)], lr=0.1).step()
    torch.testing.assert_close(1 - w[1], (1 - w[0]) / 2)


@pytest.mark.usefixtures("entry_points")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "muon+nothing",
            r"the wrapper nothing \(shorter_steps:NOTHING\) is a int, and should be a fairstep.optim.wrap",
        ),
        ("muon+gone", r"the wrapper gone \(no_such_place:IT\) cannot be imported: ModuleNotFoundError: No module"),
        (
            "muon+shortest",
            r"unknown wrapper 'shortest' \(did you mean shorter.*\); there are 8bit, .*, tail, shorter, no",
        ),
    ],
)
def test_what_is_no_wrapper_of_a_package(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        get(name)
