"""Schedules against torch's own schedulers and against the closed forms at their ends."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from fairstep.runs import ScheduleSpec, learning_rate_fraction


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
    ours = [learning_rate_fraction(schedule, step, 50) for step in range(50)]
    theirs = torch_rates(lambda o: lr_scheduler.CosineAnnealingLR(o, 50, eta_min=final), 50)
    assert ours == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("final", [0.0, 0.25])
def test_linear_is_torchs(final: float) -> None:
    schedule = ScheduleSpec(kind="linear", final_fraction=final)
    ours = [learning_rate_fraction(schedule, step, 40) for step in range(40)]
    theirs = torch_rates(lambda o: lr_scheduler.LinearLR(o, 1.0, final, total_iters=40), 40)
    assert ours == pytest.approx(theirs, abs=1e-12)


def test_wsd_holds_and_then_falls_as_one_minus_the_root() -> None:
    schedule = ScheduleSpec(kind="wsd", warmup_steps=10, decay_fraction=0.2)
    rates = [learning_rate_fraction(schedule, step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert set(rates[10:81]) == {1.0}
    assert rates[90] == pytest.approx(1 - math.sqrt(10 / 20))


@given(
    kind=st.sampled_from(["cosine", "linear", "wsd", "constant"]),
    steps=st.integers(2, 300),
    warmup=st.floats(0, 0.9),
    final=st.floats(0, 1),
)
def test_every_schedule_warms_up_and_never_rises_again(kind: str, steps: int, warmup: float, final: float) -> None:
    schedule = ScheduleSpec(kind=kind, warmup_steps=int(warmup * steps), final_fraction=final)  # type: ignore[arg-type]
    rates = [learning_rate_fraction(schedule, step, steps) for step in range(steps)]
    top = max(0, schedule.warmup_steps - 1)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert max(rates) == 1.0
    assert min(rates) > 0
