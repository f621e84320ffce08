"""A cut of modded-nanogpt's track (2 layers, width 64) trains: its first loss, its bf16 embedding, its checkpoints."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.train.interruption import TOKENS, execution, interrupted, same_files
from tests.train.test_parallel import processes

from fairstep.cost import cost, device
from fairstep.model import preset
from fairstep.optim import build as build_optimizer
from fairstep.runs import RunSpec, ScheduleSpec, Store
from fairstep.runs.schedule import learning_rate_fraction
from fairstep.train import train
from fairstep.train.export import export_hf
from fairstep.train.step import Trainer

pytestmark = pytest.mark.slow

CUT = (
    preset("track3/124m")
    .config(300)
    .model_copy(update={"layers": 2, "width": 64, "heads": 2, "mlp_width": 256, "context": 16})
)


def cut(tiny: Any, optimizer: str = "muon", **changes: Any) -> RunSpec:
    schedule = ScheduleSpec(kind="wsd", decay_fraction=0.7, decay_shape="linear")
    rest = {"model": CUT, "schedule": schedule, "clip_norm": 0.0, "tokens": 8 * 16 * 20}
    spec: RunSpec = tiny(optimizer, lr=0.02, **rest | changes)
    return spec


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_it_trains_from_a_uniform_guess(tiny: Any, tmp_path: Path, precision: str) -> None:
    spec = cut(tiny, precision=precision)
    run = train(spec, Store(tmp_path))
    assert run.summary is not None and run.status == "done"
    assert Trainer(spec).step(0)[0] == pytest.approx(math.log(spec.model.vocabulary), rel=1e-6)
    assert run.summary.final_loss is not None
    assert run.summary.final_loss < math.log(spec.model.vocabulary) - 1


def test_it_resumes_to_the_byte_with_its_embedding_in_bf16(tiny: Any, tmp_path: Path) -> None:
    spec = cut(tiny, "adamw", tokens=TOKENS, execution=execution(save_weights=True))
    whole = train(spec, Store(tmp_path / "a"))
    store = Store(tmp_path / "b")
    interrupted(spec, store)
    same_files(whole, train(spec, store))
    weights = load_file(whole.directory / "weights.safetensors")
    assert torch.equal(weights["embedding.weight"], weights["embedding.weight"].bfloat16().float())
    with pytest.raises(ValueError, match="Transformers has no model like track3"):
        export_hf(whole, tmp_path / "exported")


@pytest.mark.parametrize("optimizer", ["soap", "kron", "sophia-g", "schedule-free-adamw"])
def test_other_optimizers_start_from_zero_outputs(tiny: Any, tmp_path: Path, optimizer: str) -> None:
    """In the first step nothing but the head has a gradient."""
    run = train(cut(tiny, optimizer, tokens=8 * 16 * 5), Store(tmp_path))
    assert run.status == "done", run.summary


@pytest.mark.dist
@pytest.mark.parametrize("mode", ["ddp-sharded", "fsdp"])
def test_two_processes_train_the_weights_of_one(tiny: Any, tmp_path: Path, mode: str) -> None:
    """The embedding's gradient is bf16, so sums over ranks are rounded to 2^-8."""
    narrow = execution(micro_batch_sequences=4, parallel=mode)
    spec = cut(tiny, "muon", tokens=8 * 16 * 10, execution=narrow)
    code, output, _ = processes(spec, tmp_path / "two", 2)
    assert code == 0, output
    alone, shared = train(spec, Store(tmp_path / "one")), Store(tmp_path / "two").run(spec)
    assert alone.summary is not None and shared.summary is not None and alone.summary.final_loss is not None
    assert shared.summary.final_loss == pytest.approx(alone.summary.final_loss, abs=0.01)


def test_its_cost_is_counted(tiny: Any) -> None:
    spec = cut(tiny)
    found = cost(spec, device("h100"))
    assert found.parameters_total == sum(p.numel() for p in Trainer(spec).model.parameters())
    assert found.flops == spec.tokens * (6 * (2 * 12 * 64**2 + CUT.vocabulary * 64) + 12 * 2 * 64 * 16)


def test_a_sum_of_losses_is_a_mean_with_another_eps() -> None:
    """The track's gradients are 2^19 times these, so its eps of 1e-10 is 1e-10 / 2^19 here, to the bit."""
    weights = []
    for scale, eps in ((2.0**19, 1e-10), (1.0, 1.9073486328125e-16)):
        w = torch.nn.Parameter(torch.ones(50, dtype=torch.float64))
        optimizer = build_optimizer("adamw", [("w", w)], lr=0.015, eps=eps, weight_decay=0.0)
        draw = torch.Generator().manual_seed(0)
        for _ in range(5):
            w.grad = torch.randn(50, generator=draw, dtype=torch.float64) * 1e-9 * scale
            optimizer.step()
        weights.append(w.detach().clone())
    assert torch.equal(*weights)


def test_the_schedule_is_the_tracks() -> None:
    """1 in the first 0.3 of the steps, then (1 - t/T) / 0.7."""
    schedule = ScheduleSpec(kind="wsd", decay_fraction=0.7, decay_shape="linear")
    for step in range(3250):
        theirs = 1.0 if step / 3250 < 0.3 else (1 - step / 3250) / 0.7
        assert learning_rate_fraction(schedule, step, 3250) == pytest.approx(theirs, rel=1e-12, abs=1e-12)
