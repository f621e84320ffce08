"""Runs whose evaluation weights are not their training weights: averages train like what they go around."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from fairstep.runs import Execution, Store
from fairstep.train import train
from fairstep.train.step import Trainer

pytestmark = pytest.mark.slow


def losses(spec: Any, store: Store, kind: str) -> list[float]:
    return [row["loss"] for row in train(spec, store).metrics() if row["kind"] == kind]


@pytest.mark.parametrize("wrapper", ["ema", "tail"])
def test_an_average_changes_what_is_evaluated_and_not_what_is_trained(wrapper: str, tiny: Any, tmp_path: Path) -> None:
    """Of Lion, because a plain AdamW takes torch's fused kernel and a wrapped one does not: other roundings."""
    store = Store(tmp_path)
    plain, averaged = tiny("lion", lr=0.001), tiny(f"lion+{wrapper}", lr=0.001)
    assert losses(plain, store, "train") == losses(averaged, store, "train")
    assert all(a != b for a, b in zip(*(losses(s, store, "evaluation") for s in (plain, averaged)), strict=True))


@pytest.mark.parametrize("name", ["schedule-free-adamw", "muon+ema-nesterov+ema"])
def test_final_weights_are_the_evaluated_ones(name: str, tiny: Any, tmp_path: Path) -> None:
    spec = tiny(name, execution=Execution(threads=1, compile=False, save_weights=True))
    run = train(spec, Store(tmp_path))
    trainer = Trainer(spec)
    trainer.model.load_state_dict(load_file(run.directory / "weights.safetensors"), strict=False)
    assert run.summary is not None
    assert trainer.evaluate(trainer.final_windows) == run.summary.final_loss
