"""Contestants from the optimizers' specs: the papers' grids at the size of a cell."""

from __future__ import annotations

import pytest
from tests.study.test_contest import WORKLOAD

from fairstep.runs import ModelSpec
from fairstep.study import Axis, Workload
from fairstep.study.file.published_spaces import contestant_from_spec

LARGE = Workload(
    model=ModelSpec(preset="130m", layers=32, width=512, heads=8, mlp_width=2048, vocabulary=300, context=4096),
    data=WORKLOAD.data,
    batch_sequences=128,
    tokens=2_684_354_560,
    warmup_steps=2000,
)


def test_a_small_cell_has_the_small_grids() -> None:
    contestant = contestant_from_spec("adamw", {"small": WORKLOAD})
    assert list(contestant.space.axes) == ["lr"]
    assert contestant.space.axes["lr"].domain == "(0, inf)"
    assert contestant.optimizer == contestant.name == "adamw"


def test_wens_grids_at_wens_size() -> None:
    """From wen/sweeps.json: AdamW, 130m, 1x."""
    contestant = contestant_from_spec("adamw", {"130m": LARGE}, paper="W", label="tuned AdamW")
    axes = contestant.spaces["130m"].axes
    assert axes["lr"].values == (0.004, 0.008, 0.016, 0.032)
    assert axes["beta2"].values == (0.9, 0.95, 0.98)
    assert axes["weight_decay"].values == (0.0, 0.1, 0.2)
    assert axes["batch_sequences"].values == (128, 256, 512, 1024)
    assert axes["warmup_steps"].values == (500, 1000, 2000, 4000)
    assert axes["clip_norm"].values == (0, 1, 2)
    problem = contestant.problem("130m", LARGE, 0, 0)
    assert set(problem.start) == set(axes)
    assert (problem.start["lr"], problem.start["warmup_steps"], problem.start["batch_sequences"]) == (0.008, 2000, 128)
    spec = contestant.spec(LARGE, {**problem.start, "batch_sequences": 256, "clip_norm": 2.0}, seed=0)
    assert (spec.steps, spec.schedule.warmup_steps, spec.clip_norm) == (2560, 2000, 2.0)
    with pytest.raises(ValueError, match="warmup_steps"):
        contestant.spec(LARGE, {**problem.start, "batch_sequences": 1024}, seed=0)  # 640 steps: W leaves it out


def test_given_values_are_fixed_and_given_grids_are_taken() -> None:
    contestant = contestant_from_spec(
        "adamw", {"130m": LARGE}, "W", given={"beta1": 0.95}, grids={"lr": (0.001, 0.01), "eps": Axis((1e-8,))}
    )
    axes = contestant.space.axes
    assert "beta1" not in axes
    assert contestant.hyperparameters["beta1"] == 0.95
    assert axes["lr"].values == (0.001, 0.01)
    assert list(contestant_from_spec("adamw", {"130m": LARGE}, "W", only=("lr", "beta2")).space.axes) == ["lr", "beta2"]


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="did you mean"):
        contestant_from_spec("adamw", {"": WORKLOAD}, grids={"beta": (0.9,)})
    with pytest.raises(ValueError, match="lr must be a number"):
        contestant_from_spec("adamw", {"": WORKLOAD}, grids={"lr": (-1.0, 0.1)})
    with pytest.raises(ValueError, match="empty"):
        contestant_from_spec("adamw", {"": WORKLOAD}, grids={"lr": ()})
    with pytest.raises(ValueError, match="clip_norm is of the run"):
        contestant_from_spec("adamw", {"": WORKLOAD}, given={"clip_norm": 1.0})
    with pytest.raises(ValueError, match="tied to one thing, not to warmup_steps and warmup_fraction"):
        Workload(**(vars(WORKLOAD) | {"warmup_steps": 10, "warmup_fraction": 0.1}))


def test_what_a_warm_up_is_tied_to() -> None:
    steps = Workload(**(vars(WORKLOAD) | {"warmup_fraction": None, "warmup_steps": 10}))
    tokens = Workload(**(vars(WORKLOAD) | {"warmup_fraction": None, "warmup_tokens": 640}))
    assert [w.warmup(100) for w in (WORKLOAD, steps, tokens)] == [5, 10, 10]
    assert [w.changed({"batch_sequences": 8}).warmup(50) for w in (WORKLOAD, steps, tokens)] == [2, 10, 5]
    assert tokens.changed({"warmup_steps": 7}).warmup(100) == 7
    assert WORKLOAD.setting("warmup_steps") == 5
    with pytest.raises(ValueError, match="a run has no hyperparameter 'momentum'"):
        WORKLOAD.changed({"momentum": 0.9})
