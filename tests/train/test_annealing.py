"""The schedule on param groups: every group's own peak, ramps where they belong, own schedules of optimizers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fairstep import optim
from fairstep.model import Llama, ModelConfig
from fairstep.runs import Ramp, ScheduleSpec
from fairstep.train.annealing import Annealer


def muon() -> Any:
    config = ModelConfig(layers=1, width=16, heads=2, mlp_width=32, vocabulary=64, context=16)
    return optim.build("muon", Llama(config), lr=0.02, weight_decay=0.1)


@pytest.mark.parametrize("name", optim.names())
def test_the_final_fraction_is_every_groups(name: str) -> None:
    config = ModelConfig(layers=1, width=16, heads=2, mlp_width=32, vocabulary=64, context=16)
    optimizer = optim.build(name, Llama(config))
    peaks = [group["lr"] for group in optimizer.param_groups]
    annealer = Annealer(ScheduleSpec(kind="linear", final_fraction=0.1, positions="closed"), optimizer, 100)
    annealer.apply(99)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1 * peak for peak in peaks])


def test_momentum_and_weight_decay_follow_their_ramps() -> None:
    optimizer = muon()
    given = [(group.get("momentum"), group["weight_decay"]) for group in optimizer.param_groups]
    ramps = (
        Ramp(hyperparameter="momentum", start=0.85, start_steps=10),
        Ramp(hyperparameter="weight_decay", end=0.0, end_steps=20),
    )
    annealer = Annealer(ScheduleSpec(ramps=ramps), optimizer, 100)
    annealer.apply(0)
    assert {group["momentum"] for group in optimizer.param_groups if "momentum" in group} == {0.85}
    annealer.apply(50)
    assert [(group.get("momentum"), group["weight_decay"]) for group in optimizer.param_groups] == given
    annealer.apply(90)
    decays = [group["weight_decay"] for group in optimizer.param_groups]
    assert decays == pytest.approx([decay / 2 for _, decay in given])
    assert 0.0 in decays  # undecayed groups stay so


def test_some_parameters_have_a_schedule_of_their_own() -> None:
    """Companions that begin to decay later, as in records of modded-nanogpt's optimization track."""
    config = ModelConfig(layers=1, width=16, heads=2, mlp_width=32, vocabulary=64, context=16)
    overrides = {"aux": {"decay_fraction": 0.4}, "head": {"final_fraction": 0.5}}
    optimizer = optim.build("muon", Llama(config), lr=0.02, overrides=overrides)
    annealer = Annealer(ScheduleSpec(kind="wsd", decay_fraction=1.0, decay_shape="linear"), optimizer, 100)
    for step, matrices, aux, head in ((0, 1.0, 1.0, 1.0), (50, 0.5, 1.0, 1.0), (80, 0.2, 0.5, 0.75)):
        annealer.apply(step)
        parts = {group["role"]: group["lr"] / group["peak_lr"] for group in optimizer.param_groups}
        assert parts == pytest.approx({"matrix": matrices, "embedding": aux, "vector": aux, "head": head})
    with pytest.raises(ValueError, match="the schedule cosine has no decay_fraction"):
        Annealer(ScheduleSpec(), optimizer, 100)


def test_a_ramp_of_nothing_is_said() -> None:
    ramps = (Ramp(hyperparameter="momentun", start=0.85, start_steps=10),)
    with pytest.raises(ValueError, match=r"ramps 'momentun', which this optimizer has not; it has .*momentum"):
        Annealer(ScheduleSpec(ramps=ramps), muon(), 100)


def test_any_torch_optimizer_follows() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.5, momentum=0.9)
    annealer = Annealer(ScheduleSpec(ramps=(Ramp(hyperparameter="momentum", end=0.5, end_steps=10),)), optimizer, 40)
    annealer.apply(20)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.25)
    annealer.apply(35)
    assert optimizer.param_groups[0]["momentum"] == pytest.approx(0.7)
    optimizer.load_state_dict(optimizer.state_dict())  # puts new groups into the optimizer
    annealer.apply(20)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.25)
    assert optimizer.param_groups[0]["momentum"] == pytest.approx(0.9)
