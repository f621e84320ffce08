"""Each optimizer's own schedule, as W compares them, beside one schedule for all."""

from __future__ import annotations

from typing import Any

from fairstep import optim
from fairstep.runs import DataSpec, ModelSpec
from fairstep.study import Workload


def workload(**changes: Any) -> Workload:
    model = ModelSpec(layers=1, width=16, heads=2, mlp_width=32, vocabulary=64, context=16)
    data = DataSpec(name="text", fingerprint="0" * 64, vocabulary=64)
    return Workload(model=model, data=data, batch_sequences=8, tokens=8 * 16 * 200, **changes)


def test_own_schedules_are_those_of_the_specs() -> None:
    own = workload(schedule="own", final_fraction=0.5)
    adamw, muon = own.schedule_of("adamw", 200), own.schedule_of("muon", 200)
    assert adamw.kind == "cosine"
    assert adamw.warmup_steps == round(optim.get("adamw").schedule.warmup_fraction * 200)
    assert adamw.final_fraction == optim.get("adamw").schedule.final_fraction
    assert (muon.kind, muon.warmup_steps, muon.decay_fraction, muon.decay_shape) == ("wsd", 0, 0.8, "linear")


def test_one_schedule_is_everyones() -> None:
    same = workload(schedule="wsd", decay_shape="cosine", final_fraction=0.1)
    assert same.schedule_of("adamw", 200) == same.schedule_of("muon", 200)
    assert same.schedule_of("muon", 200).decay_shape == "cosine"
