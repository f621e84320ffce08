"""Schedules against torch's own schedulers and against the closed forms at their ends."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from fairstep.runs import DecayShape, Ramp, ScheduleKind, ScheduleSpec, learning_rate_fraction


def rates(schedule: ScheduleSpec, steps: int) -> list[float]:
    return [learning_rate_fraction(schedule, step, steps) for step in range(steps)]


def torch_rates(make: object, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)  # type: ignore[operator]
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("final", [0.0, 0.01, 0.1])
def test_cosine_is_torchs(final: float) -> None:
    schedule = ScheduleSpec(kind="cosine", final_fraction=final)
    ours = rates(schedule, 50)
    theirs = torch_rates(lambda o: lr_scheduler.CosineAnnealingLR(o, 50, eta_min=final), 50)
    assert ours == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("final", [0.0, 0.25])
def test_linear_is_torchs(final: float) -> None:
    schedule = ScheduleSpec(kind="linear", final_fraction=final)
    ours = rates(schedule, 40)
    theirs = torch_rates(lambda o: lr_scheduler.LinearLR(o, 1.0, final, total_iters=40), 40)
    assert ours == pytest.approx(theirs, abs=1e-12)


def test_wsd_holds_and_then_falls_as_one_minus_the_root() -> None:
    schedule = ScheduleSpec(kind="wsd", warmup_steps=10, decay_fraction=0.2)
    values = rates(schedule, 100)
    assert values[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert set(values[10:81]) == {1.0}
    assert values[90] == pytest.approx(1 - math.sqrt(10 / 20))


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_power_is_torchs_polynomial(power: float) -> None:
    schedule = ScheduleSpec(kind="power", power=power)
    theirs = torch_rates(lambda o: lr_scheduler.PolynomialLR(o, 30, power=power), 30)
    assert rates(schedule, 30) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize(
    ("kind", "anneal", "shape"), [("cosine", "cos", "half-cosine"), ("linear", "linear", "linear")]
)
def test_the_code_of_s_is_torchs_one_cycle(kind: Any, anneal: Any, shape: Any) -> None:
    """S, protocol 6: one cycle with start ratio 0.01 and end ratio 0.01, warm-up of W steps that ends at step W - 1."""
    schedule = ScheduleSpec(
        kind=kind, warmup_steps=20, warmup_shape=shape, warmup_start=0.01, final_fraction=0.01, positions="closed"
    )

    def one_cycle(optimizer: Any) -> Any:
        return lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=1.0,
            total_steps=100,
            pct_start=0.2,
            anneal_strategy=anneal,
            div_factor=100,
            final_div_factor=1,
            cycle_momentum=False,
        )

    assert rates(schedule, 100) == pytest.approx(torch_rates(one_cycle, 100), abs=1e-12)


def test_the_formulas_of_s_for_cosine() -> None:
    warmup, steps, end = 7, 40, 0.01
    schedule = ScheduleSpec(
        warmup_steps=warmup, warmup_shape="half-cosine", warmup_start=0.01, final_fraction=end, positions="closed"
    )
    expected = []
    for t in range(steps):
        if t <= warmup - 1:
            p = t / (warmup - 1)
            expected.append(1 + (0.01 - 1) * (1 + math.cos(math.pi * p)) / 2)
        else:
            p = (t - (warmup - 1)) / (steps - warmup)
            expected.append(end + (1 - end) * (1 + math.cos(math.pi * p)) / 2)
    assert rates(schedule, steps) == pytest.approx(expected, abs=1e-12)
    assert expected[-1] == pytest.approx(end)


SHAPES: dict[str, Callable[[float], float]] = {
    "1-sqrt": lambda u: 1 - math.sqrt(u),
    "linear": lambda u: 1 - u,
    "cosine": lambda u: (1 + math.cos(math.pi * u)) / 2,
    "mirror-cosine": lambda u: 2 * (1 - u) - (1 + math.cos(math.pi * u)) / 2,
    "1-square": lambda u: 1 - u**2,
    "power": lambda u: (1 - u) ** 3,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_wsd_of_s_with_every_shape(shape: Any) -> None:
    """S, protocol 6: t/W + (1 - t/W)/100, then 1 until T - D with D = int(f T), then c = final + (1 - final) s(u)."""
    warmup, steps, final = 10, 103, 0.05
    schedule = ScheduleSpec(
        kind="wsd",
        warmup_steps=warmup,
        warmup_start=0.01,
        positions="from_start",
        final_fraction=final,
        decay_shape=shape,
        power=3,
    )
    decay = int(0.2 * steps)
    expected = [t / warmup + (1 - t / warmup) / 100 for t in range(warmup)]
    expected += [1.0] * (steps - decay - warmup)
    expected += [final + (1 - final) * SHAPES[shape](n / decay) for n in range(decay)]
    assert rates(schedule, steps) == pytest.approx(expected, abs=1e-12)


def test_exponential_decay_is_torchs_and_needs_an_end() -> None:
    schedule = ScheduleSpec(kind="wsd", decay_fraction=1, decay_shape="exponential", final_fraction=0.1)
    theirs = torch_rates(lambda o: lr_scheduler.ExponentialLR(o, 0.1 ** (1 / 25)), 25)
    assert rates(schedule, 25) == pytest.approx(theirs, rel=1e-12)
    with pytest.raises(ValueError, match="final_fraction must be positive"):
        ScheduleSpec(kind="wsd", decay_shape="exponential")


def test_muon_of_w_is_linear_from_its_first_step_on() -> None:
    """W: no warm-up, constant, then linear to 0 over the last part of the run; 1.0 is linear from the first step."""
    schedule = ScheduleSpec(kind="wsd", decay_fraction=0.8, decay_shape="linear", positions="from_start")
    values = rates(schedule, 100)
    assert values[:21] == [1.0] * 21
    assert values[20:] == pytest.approx([(100 - t) / 80 for t in range(20, 100)])
    whole = ScheduleSpec(kind="wsd", decay_fraction=1.0, decay_shape="linear")
    assert rates(whole, 50) == pytest.approx(rates(ScheduleSpec(kind="linear"), 50))


def test_warmup_of_w_begins_at_zero() -> None:
    schedule = ScheduleSpec(kind="cosine", warmup_steps=4, positions="from_start")
    assert rates(schedule, 8)[:5] == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_inverse_root_falls_from_its_warmup_and_cools_down() -> None:
    schedule = ScheduleSpec(kind="inverse_sqrt", warmup_steps=16, decay_fraction=0.1, decay_shape="linear")
    values = rates(schedule, 200)
    assert values[15] == 1.0
    assert values[63] == pytest.approx(0.5)  # four times the warm-up: half the rate
    assert values[190] == pytest.approx(math.sqrt(16 / 191) * 0.5)


def test_a_ramp_reaches_the_given_value_and_leaves_it() -> None:
    ramp = Ramp(hyperparameter="momentum", start=0.85, start_steps=10, end=0.8, end_steps=5)
    values = [ramp.value(0.95, step, 100) for step in range(100)]
    assert values[0] == 0.85
    assert values[5] == pytest.approx(0.9)
    assert set(values[10:96]) == {0.95}
    assert values[96] == pytest.approx(0.95 - 0.15 / 5)
    cosine = Ramp(hyperparameter="weight_decay", end=0.0, end_steps=10, shape="cosine")
    assert cosine.value(0.1, 95, 100) == pytest.approx(0.05)


@given(
    kind=st.sampled_from(get_args(ScheduleKind)),
    shape=st.sampled_from(get_args(DecayShape)),
    positions=st.sampled_from(["open", "from_start", "closed"]),
    warmup_shape=st.sampled_from(["linear", "half-cosine"]),
    steps=st.integers(2, 300),
    warmup=st.floats(0, 0.9),
    final=st.floats(0.001, 1),
)
def test_every_schedule_warms_up_and_never_rises_again(
    kind: Any, shape: Any, positions: Any, warmup_shape: Any, steps: int, warmup: float, final: float
) -> None:
    schedule = ScheduleSpec(
        kind=kind,
        decay_shape=shape,
        positions=positions,
        warmup_shape=warmup_shape,
        warmup_steps=int(warmup * steps),
        final_fraction=final,
    )
    values = rates(schedule, steps)
    top = values.index(max(values))
    assert top <= schedule.warmup_steps
    slack = 1e-12  # rounding of a cosine's ends
    assert all(a <= b + slack for a, b in pairwise(values[: top + 1]))
    assert all(a >= b - slack for a, b in pairwise(values[top:]))
    assert values[top] == pytest.approx(1.0) or kind == "inverse_sqrt" or schedule.warmup_steps == steps - 1
    assert min(values) > 0 or positions != "open"


def test_the_default_gives_no_step_the_rate_zero() -> None:
    for kind in ("cosine", "linear", "wsd", "power"):
        assert min(rates(ScheduleSpec(kind=kind, warmup_steps=5), 50)) > 0
