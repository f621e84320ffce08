"""The golden run: a refactor keeps these losses to the bit.

``golden.json`` holds the losses of one small run per optimizer and the machine that they were measured on. On that
machine (same processor, torch and threads) the losses must be equal to the bit; on another one, whose matrix
products round differently, to 1e-3 of their value. After a change that is meant to change numbers, write it anew with
``python -m tests.train.test_golden`` and say why in the commit.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from fairstep import optim
from fairstep.model import Llama, ModelConfig
from fairstep.runs import ScheduleSpec, learning_rate_fraction, machine
from fairstep.train.signals import Signals

FILE = Path(__file__).parent / "golden.json"
STEPS = 30


def golden_losses(name: str) -> list[float]:
    """Losses of a tiny model on fixed random tokens that repeat, so that there is something to learn."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Llama(ModelConfig(layers=2, width=32, heads=2, mlp_width=64, vocabulary=64, context=32))
    tokens = torch.randint(0, 64, (4, 17), generator=torch.Generator().manual_seed(1)).repeat(1, 2)[:, :33]
    spec = optim.get(name)
    optimizer: Any = optim.build(name, model, lr=spec.search_space["lr"].values[1])
    signals = Signals(optimizer, model, model.logits, micro=4, seeds=(0,))
    peaks = [group["lr"] for group in optimizer.param_groups]
    losses = []
    for step in range(STEPS):
        fraction = learning_rate_fraction(ScheduleSpec(warmup_steps=3), step, STEPS)
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * fraction
        loss = model(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        signals.supply(step, tokens[:, :-1], tokens[:, 1:], (1 / (norm + 1e-6)).clamp(max=1.0))
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def this_machine() -> dict[str, str]:
    return {
        "processor": machine().processor,
        "torch": torch.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }


@pytest.mark.parametrize("name", sorted(optim.names()))
def test_golden_losses(name: str) -> None:
    golden = json.loads(FILE.read_text())
    assert name in golden["losses"], f"{name} has no golden run; python -m tests.train.test_golden writes it"
    losses = golden_losses(name)
    assert losses == pytest.approx(golden["losses"][name], rel=1e-3)
    if golden["machine"] == this_machine():
        assert losses == golden["losses"][name]
    # Prodigy spends most of these steps on growing d from 1e-6.
    assert losses[-1] < losses[0] - (0.02 if name == "prodigy" else 0.1)


if __name__ == "__main__":
    # With names of optimizers it writes these and keeps the others.
    import sys

    asked = sys.argv[1:] or sorted(optim.names())
    kept = json.loads(FILE.read_text())["losses"] if sys.argv[1:] else {}
    losses = {**kept, **{name: golden_losses(name) for name in asked}}
    FILE.write_text(json.dumps({"machine": this_machine(), "losses": dict(sorted(losses.items()))}, indent=1) + "\n")
    print(f"wrote {', '.join(asked)} into {FILE}")
