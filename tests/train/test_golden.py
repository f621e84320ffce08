"""The golden run: a refactor keeps these losses to the bit.

``golden.json`` holds, for each machine that measured them, the losses of one small run per optimizer. On such a machine
(same processor, torch and kernels) the losses must be equal to the bit. On another one, whose matrix products round
differently, they must agree to ``TOLERANCE``.

Losses that depend on more than rounding cannot be golden. SOAP and its kin rotate by the eigenvectors of L = g g^T and
R = g^T g: where these are not of full rank, LAPACK chooses the basis of the null space, and makes of processors differ.
Their runs therefore have square matrices only, whose first gradients have full rank, and are in float64 from the first
draw on, because the condition of L is the square of the gradient's (up to 1e8 here).

After a change that is meant to change numbers, write this machine's losses anew with
``python -m tests.train.test_golden``, delete the losses of other machines that no longer hold, and say why in the
commit.
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
FULL_RANK = ("kl-shampoo", "kl-soap", "moso", "rekls", "shampoo", "soap", "soap-muon")
"""Optimizers whose steps depend on a basis of their factors' null space."""
DOUBLE = (*FULL_RANK, "adamuon")
"""In float64: weights, products and all. AdaMuon takes the sign of small elements, and SOAP-Muon whitens them before it
orthogonalises: float32 rounding, of the first weights too, grew to 1.2e-3 between two processors."""
AT_WORK: dict[str, Any] = {"state_min_elements": 256, "qk_threshold": 0.5}
"""Settings with which 8-bit state and QK-clip do something in so small a model."""
TOLERANCE = 1e-3
DOUBLE_TOLERANCE = 1e-6
"""Largest relative difference between processors. With torch's and MKL's oldest kernels, and with those for AVX2, it is
1.1e-4 (Muon with 8-bit state; 4e-6 without) and 1.5e-8 beside those for AVX-512."""


def golden_losses(name: str, device: str = "cpu") -> list[float]:
    """Losses of a tiny model on fixed random tokens that repeat, so that there is something to learn."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    square, dtype = name in FULL_RANK, torch.float64 if name in DOUBLE else torch.float32
    config = ModelConfig(layers=2, width=32, heads=2, mlp_width=32 if square else 64, vocabulary=64, context=32)
    model = Llama(config).to(dtype)
    if dtype == torch.float64:
        _draw_again(model)
    model.to(device)
    tokens = torch.randint(0, 64, (4, 17), generator=torch.Generator().manual_seed(1)).repeat(1, 2)[:, :33].to(device)
    spec = optim.get(name)
    dtypes = dict.fromkeys(spec.product_dtypes, str(dtype).removeprefix("torch."))  # not the processor's choice
    at_work = {key: value for key, value in AT_WORK.items() if key in spec.hyperparameters}
    optimizer: Any = optim.build(name, model, lr=spec.search_space["lr"].values[1], **dtypes, **at_work)
    signals = Signals(optimizer, model, model.logits, micro=4, seeds=(0,), model=model)
    peaks = [group["lr"] for group in optimizer.param_groups]
    losses = []
    for step in range(STEPS):
        fraction = learning_rate_fraction(ScheduleSpec(warmup_steps=3), step, STEPS)
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * fraction
        loss = model(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scale = (1 / (norm + 1e-6)).clamp(max=1.0)
        signals.supply(step, tokens[:, :-1], tokens[:, 1:], scale, loss.item())
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def _draw_again(model: Llama) -> None:
    """Draw in float64 what was drawn in float32, where kernels of processors round differently."""
    generator = torch.Generator().manual_seed(0)
    for p in model.parameters():
        if p.std() > 0:
            p.data = torch.randn(p.shape, generator=generator, dtype=p.dtype) * 0.1


def this_machine() -> dict[str, str]:
    return {
        "processor": machine().processor,
        "torch": torch.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }


@pytest.mark.parametrize("name", sorted(optim.names()))
def test_golden_losses(name: str) -> None:
    goldens = [record for record in json.loads(FILE.read_text()) if name in record["losses"]]
    assert goldens, f"{name} has no golden run; python -m tests.train.test_golden writes it"
    losses = golden_losses(name)
    for record in goldens:
        golden = record["losses"][name]
        if record["machine"] == this_machine():
            assert losses == golden
        assert losses == pytest.approx(golden, rel=DOUBLE_TOLERANCE if name in DOUBLE else TOLERANCE)
    # Prodigy spends most of these steps on growing d from 1e-6.
    assert losses[-1] < losses[0] - (0.02 if name == "prodigy" else 0.1)


if __name__ == "__main__":
    # With names of optimizers it writes these and keeps the others.
    import sys

    records = json.loads(FILE.read_text())
    here = next((record for record in records if record["machine"] == this_machine()), None)
    if here is None:
        here = {"machine": this_machine(), "losses": {}}
        records.append(here)
    asked = sys.argv[1:] or sorted(optim.names())
    here["losses"] = dict(sorted({**here["losses"], **{name: golden_losses(name) for name in asked}}.items()))
    FILE.write_text(json.dumps(records, indent=1) + "\n")
    print(f"wrote {', '.join(asked)} into {FILE}")
