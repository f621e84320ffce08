"""Runs of the other models: experts that report their load, an encoder that is asked the same whatever the batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fairstep.data.masking import mask_windows
from fairstep.runs import Execution, ModelSpec, Store
from fairstep.train import train
from fairstep.train.step import Trainer

SIZES: dict[str, Any] = {"layers": 1, "width": 16, "heads": 2, "mlp_width": 32, "vocabulary": 301, "context": 16}


def test_a_mixture_of_experts_trains_and_logs_its_load(tiny: Any, tmp_path: Any) -> None:
    model = ModelSpec(**SIZES, moe={"experts": 4}, z_loss=1e-4)
    run = train(tiny(model=model), Store(tmp_path))
    rows = [row for row in run.metrics() if row["kind"] == "train"]
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.5
    for row in rows:
        assert sum(row["expert_load"][0]) == pytest.approx(1, abs=1e-5)
        assert row["balance_loss"] > 0
        assert row["z_loss"] > 0
    assert run.summary is not None
    assert run.summary.parameters_matrix == 4 * 16**2 + 4 * 16 + 4 * 3 * 16 * 32


def test_evaluation_is_the_cross_entropy_alone(tiny: Any) -> None:
    plain, heavy = (
        Trainer(tiny(model=ModelSpec(**SIZES, moe={"experts": 4, "balance_loss": c, "router_z_loss": c}, z_loss=c)))
        for c in (0.0, 10.0)
    )
    assert heavy.evaluate(heavy.windows) == plain.evaluate(plain.windows)
    assert heavy.step(0)[0] > plain.step(0)[0] + 1
    assert heavy.model.training


def test_an_encoder_learns_and_does_not_see_the_micro_batch(tiny: Any, tmp_path: Any) -> None:
    model = ModelSpec(**SIZES, architecture="bert", tied_head=True, initialisation="flat")
    whole = train(tiny(model=model), Store(tmp_path / "a")).metrics()
    split = Execution(threads=1, compile=False, micro_batch_sequences=2)
    parts = train(tiny(model=model, execution=split), Store(tmp_path / "b")).metrics()
    assert [row["loss"] for row in parts] == pytest.approx([row["loss"] for row in whole], rel=1e-4)
    assert whole[-1]["loss"] < whole[0]["loss"] - 0.5


def test_masks_are_a_function_of_seed_and_slot() -> None:
    windows = np.random.default_rng(0).integers(0, 300, (6, 41))
    inputs, targets = mask_windows(windows, seed=3, first=10, vocabulary=301)
    for row in range(6):
        one = mask_windows(windows[row : row + 1], seed=3, first=10 + row, vocabulary=301)
        assert np.array_equal(one[0][0], inputs[row])
        assert np.array_equal(one[1][0], targets[row])
    assert not np.array_equal(mask_windows(windows, seed=4, first=10, vocabulary=301)[1], targets)
    assert not np.array_equal(targets[0] == -100, targets[1] == -100)


def test_masks_have_the_published_shares() -> None:
    """15 % predicted; of these 80 % mask, 10 % random, 10 % kept (arXiv 1810.04805, section 3.1)."""
    windows = np.random.default_rng(0).integers(0, 300, (50, 401))
    tokens = windows[:, :-1]
    inputs, targets = mask_windows(windows, seed=0, first=0, vocabulary=301)
    predicted = targets != -100
    assert (predicted.sum(1) == 60).all()
    assert np.array_equal(targets[predicted], tokens[predicted])
    assert np.array_equal(inputs[~predicted], tokens[~predicted])
    assert ((inputs == 300).sum(1) == 48).all()
    changed = (inputs != tokens) & (inputs != 300)
    assert ((changed.sum(1) <= 6) & (changed.sum(1) >= 4)).all()  # a random token may be the right one
    columns = predicted.sum(0)
    assert columns.std() == pytest.approx((50 * 0.15 * 0.85) ** 0.5, rel=0.15)  # every place is as likely
    assert torch.tensor(inputs).max() == 300
