"""What a run measures and where it goes: rows, timings, sizes by role, trackers."""

from __future__ import annotations

import json
import math
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest
import torch

from fairstep.model import Llama, ModelConfig
from fairstep.runs import Execution, Store, machine
from fairstep.train import measure, train
from fairstep.train.measure import Sizes, peak_memory, reset_peak_memory
from fairstep.train.rate import matmul_rate
from fairstep.train.step import Trainer
from fairstep.train.tracking import Recorder

CPU = torch.device("cpu")


def test_a_row_says_what_the_spec_decides_and_timings_what_the_machine_took(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure.Predecessors, "peak", 0)  # the process of the tests has trained larger runs
    run = train(tiny(clip_norm=0.9), Store(tmp_path))
    rows = [row for row in run.metrics() if row["kind"] == "train"]
    timings = run.timings()
    assert [row["step"] for row in timings] == [row["step"] for row in rows]
    for row in rows:
        assert row["gradient_norm"] <= row["gradient_norm_max"]
        assert 0 <= row["clipped"] <= 1
        assert row["weight_rms"].keys() == row["update_rms"].keys() == {"embedding", "matrix", "vector", "head"}
        assert not any("seconds" in key for key in row)
    for row in timings:
        assert 0 < row["data_seconds"] + row["optimizer_seconds"] < row["step_seconds"]
        assert 0 < row["utilisation"] < 2
        assert row["peak_memory_bytes"] > 2**20
    summary = run.summary
    assert summary is not None
    assert summary.clip_fraction == pytest.approx(sum(row["clipped"] for row in rows) / len(rows))
    assert 0 < summary.clip_fraction < 1
    assert summary.tokens_per_second == pytest.approx(128 / summary.step_seconds)
    assert summary.peak_memory_bytes == max(row["peak_memory_bytes"] for row in timings)


def test_rows_have_the_learning_rate_that_prodigy_estimated(tiny: Any, tmp_path: Path) -> None:
    """d lr b, as in S's figure 40."""
    rows = [row for row in train(tiny("prodigy"), Store(tmp_path)).metrics() if row["kind"] == "train"]
    trainer = Trainer(tiny("prodigy"))
    for step in range(rows[0]["step"]):
        trainer.step(step)
    group = trainer.optimizer.param_groups[0]
    numbers, beta1, beta2 = group["shared"], group["beta1"], group["beta2"]
    correction = (1 - beta2 ** numbers["steps"]) ** 0.5 / (1 - beta1 ** numbers["steps"])
    assert rows[0]["effective_lr"] == group["lr"] * numbers["last_d"] * correction
    assert "effective_lr" not in Trainer(tiny("adamw")).rates()


def test_sizes_are_those_of_weights_and_updates() -> None:
    model = Llama(ModelConfig(layers=1, width=16, heads=2, mlp_width=32, vocabulary=64, context=16))
    sizes = Sizes(model, angles=True)
    sizes.before()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.5)
    row = sizes.after()
    head = model.head.weight.detach().clone()
    assert row["weight_rms"]["head"] == pytest.approx(head.square().mean().sqrt().item())
    assert row["update_rms"]["head"] == pytest.approx(row["weight_rms"]["head"] / 3)
    assert row["angle"]["matrix"] == pytest.approx(0, abs=1e-6)  # longer, not turned
    sizes.before()
    with torch.no_grad():
        model.head.weight.add_(0.02 * torch.randn(head.shape, generator=torch.Generator().manual_seed(0)))
    row, new = sizes.after(), model.head.weight.detach().double()
    cosine = (head.double() * new).sum() / head.double().norm() / new.norm()
    assert row["angle"]["head"] == pytest.approx(math.acos(cosine.item()), rel=1e-6)
    rows = torch.nn.functional.cosine_similarity(head.double(), new, dim=-1).acos()
    assert row["row_angle"]["head"] == pytest.approx(rows.mean().item(), rel=1e-6)


@pytest.mark.parametrize("kernel_forgets", [True, False])
def test_peak_memory_is_of_this_run_alone(kernel_forgets: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the C library keeps what was freed, and where the kernel does not begin its mark anew."""
    if not kernel_forgets:
        monkeypatch.setattr(measure, "_forget_peak", lambda: None)
    blocks = [torch.ones(2**22) for _ in range(20)]  # 16 MiB each
    del blocks
    reset_peak_memory(CPU)
    assert kernel_forgets or measure._sampler is not None
    before = peak_memory(CPU)
    block = torch.ones(2**25)  # 128 MiB
    assert 2**25 < peak_memory(CPU) - before < 2**29
    assert block.numel() == 2**25


def test_a_peak_between_two_looks_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_forget_peak", lambda: None)
    torch.ones(2**26)  # the mark of an earlier run
    reset_peak_memory(CPU)
    assert measure._sampler is not None
    before = peak_memory(CPU)
    block = torch.ones(2**25)
    time.sleep(0.2)
    del block
    measure._return_freed_memory()
    assert peak_memory(CPU) - before > 2**25


def test_the_rate_is_measured_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FAIRSTEP_CACHE", str(tmp_path))
    rate = matmul_rate(CPU, "float32")
    known = json.loads((tmp_path / "rates.json").read_text())
    assert list(known.values()) == [rate]
    assert machine().processor in next(iter(known))
    (tmp_path / "rates.json").write_text(json.dumps(dict.fromkeys(known, 7.0)))
    assert matmul_rate(CPU, "float32") == 7.0


class FakeWandb(types.ModuleType):
    """The few calls that the adapter makes."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.ended = 0

    def init(self, **settings: Any) -> FakeWandb:
        print("something that a tracker prints")
        self.settings = settings
        return self

    def log(self, values: dict[str, float], step: int) -> None:
        self.rows.append((step, values))

    def finish(self) -> None:
        self.ended += 1


def test_a_tracker_gets_every_row_flat(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    spec = tiny(execution=Execution(threads=1, compile=False, trackers=("wandb",)))
    run = train(spec, Store(tmp_path))
    assert fake.settings["id"] == run.id
    assert fake.ended == 1
    assert len(fake.rows) == len(run.metrics()) + len(run.timings())
    merged: dict[str, float] = {}
    for _, values in fake.rows:
        merged |= values
    assert {"train/loss", "evaluation/loss", "train/update_rms/matrix", "step_seconds"} <= merged.keys()
    assert all(isinstance(value, int | float) for value in merged.values())
    assert capsys.readouterr().out == ""
    assert run.id == tiny().identity  # trackers are not part of a run's identity


def test_a_missing_tracker_is_one_line(tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    spec = tiny(execution=Execution(threads=1, compile=False, trackers=("trackio",)))
    with pytest.raises(ValueError, match=r"trackio needs the package trackio; .*fairstep\[track\]"):
        train(spec, Store(tmp_path))


def test_a_file_that_was_cut_back_is_as_long_as_it_is(tiny: Any, tmp_path: Path) -> None:
    """A checkpoint between a cut and the next row once had the size before it, and a later resume kept too much."""
    run = Store(tmp_path).run(tiny())
    run.directory.mkdir(parents=True)
    recorder = Recorder(run, tiny())
    recorder.rewind({})
    recorder.write("metrics", {"kind": "train", "step": 10})
    before = recorder.sync()
    recorder.write("metrics", {"kind": "train", "step": 20})
    recorder.close()
    again = Recorder(run, tiny())
    again.rewind(before)
    assert again.sync() == before
    again.close()
