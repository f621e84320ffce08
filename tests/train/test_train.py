"""A run as a function of its spec: same losses to the bit, results that survive, divergence as a result."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.forked_ranks import TOGETHER

from fairstep import optim
from fairstep.data import Corpus, DataError, validation_windows
from fairstep.runs import DataSpec, Execution, RunSpec, Store
from fairstep.train import Progress, train
from fairstep.train.evaluate import evaluate
from fairstep.train.objective import Objective
from fairstep.train.step import Trainer

QUICK = ("adamw", "kron", "muon", "soap", "sophia-g")
"""What the fast tests train; the slow ones train every optimizer."""
OPTIMIZERS = [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in sorted(optim.names())]


def losses(store: Store, spec: RunSpec) -> list[tuple[str, int, float]]:
    return [(row["kind"], row["step"], row["loss"]) for row in train(spec, store).metrics()]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_spec_gives_one_curve_to_the_bit(name: str, tiny: Any, tmp_path: Path) -> None:
    """Twelve steps have all that is done every ten."""
    spec = tiny(name, tokens=8 * 16 * 12)
    torch.randn(7)  # the state of the global generator must not matter
    assert losses(Store(tmp_path / "a"), spec) == losses(Store(tmp_path / "b"), spec)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_learns(name: str, tiny: Any, tmp_path: Path) -> None:
    lr = optim.get(name).search_space["lr"].values[1]
    steps = 60 if name == "prodigy" else 30  # Prodigy spends half of them on growing d from 1e-6
    run = train(tiny(name, lr=lr, tokens=8 * 16 * steps), Store(tmp_path))
    rows = [row["loss"] for row in run.metrics() if row["kind"] == "train"]
    assert rows[-1] < rows[0] - 0.3


def test_summary_metrics_and_environment_agree(tiny: Any, tmp_path: Path) -> None:
    spec = tiny()
    seen: list[Progress] = []
    run = train(spec, Store(tmp_path), seen.append)
    summary, rows = run.summary, run.metrics()
    assert summary is not None
    assert summary.status == run.status == "done"
    assert run.id == spec.identity
    assert run.spec == spec
    assert rows[-1]["kind"] == "evaluation"
    assert rows[-1]["loss"] == summary.final_loss
    assert summary.tokens == rows[-1]["tokens"] == 60 * 128
    assert [row["step"] for row in rows if row["kind"] == "train"] == [10, 20, 30, 40, 50, 60]
    assert [event.step for event in seen] == [10, 20, 30, 40, 50, 60]
    assert summary.parameters_matrix == 4 * 16**2 + 3 * 16 * 32
    assert summary.state_bytes == 2 * 4 * summary.parameters
    assert 0 < summary.optimizer_seconds < summary.step_seconds
    assert run.environment["torch"] == torch.__version__
    assert run.environment["compiled"] is False


def test_accumulated_micro_batches_are_one_batch(tiny: Any, tmp_path: Path) -> None:
    whole = losses(Store(tmp_path / "a"), tiny())
    parts = losses(Store(tmp_path / "b"), tiny(execution=Execution(threads=1, compile=False, micro_batch_sequences=2)))
    assert [loss for *_, loss in parts] == pytest.approx([loss for *_, loss in whole], rel=1e-4)


def test_evaluation_does_not_depend_on_the_batch(corpus: Corpus, tiny: Any) -> None:
    windows = validation_windows(corpus.validation(), context=16, max_tokens=1000)
    table = torch.randn(300, 300, generator=torch.Generator().manual_seed(0))

    def bigram(tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(table[tokens].flatten(0, 1), targets.flatten())

    cpu = torch.device("cpu")
    objective = Objective(tiny().model, cpu)
    results = [evaluate(bigram, objective, windows, size, cpu) for size in (1, 7, 8, len(windows), 100)]
    assert results == pytest.approx([results[0]] * 5, rel=1e-6)
    assert isinstance(windows, np.ndarray)


def test_a_finished_run_is_not_trained_again(tiny: Any, tmp_path: Path) -> None:
    store, spec = Store(tmp_path), tiny()
    before = (train(spec, store).directory / "metrics.jsonl").stat().st_mtime_ns
    assert (train(spec, store).directory / "metrics.jsonl").stat().st_mtime_ns == before


def test_an_unfinished_run_starts_again_and_gives_the_same_curve(tiny: Any, tmp_path: Path) -> None:
    store, spec = Store(tmp_path), tiny()
    whole = losses(store, spec)
    run = store.run(spec)
    (run.directory / "summary.json").unlink()
    (run.directory / "metrics.jsonl").write_text('{"kind": "train", "step": 10, "lo')
    assert run.status == "unfinished"
    assert losses(store, spec) == whole


def test_a_diverged_run_stops_early_and_is_a_result(tiny: Any, tmp_path: Path) -> None:
    run = train(tiny(lr=100.0, clip_norm=0.0), Store(tmp_path))
    summary = run.summary
    assert summary is not None
    assert summary.status == "diverged"
    assert summary.final_loss is None
    assert summary.steps < 60
    assert "loss" in summary.message
    assert run.finished


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_is_a_divergence(
    tiny: Any, tmp_path: Path, bad: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a finite loss, for a sign rule too, whose weights would stay finite and never move again."""
    step = Trainer.step

    def spoil(self: Trainer, number: int, measure: bool = False) -> Any:
        weight = next(p for p in self.model.parameters() if p.ndim == 2)
        hook = weight.register_hook(lambda grad: grad.clone().index_fill_(0, torch.tensor([0]), bad))
        try:
            return step(self, number, measure)
        finally:
            hook.remove()

    monkeypatch.setattr(Trainer, "step", spoil)
    summary = train(tiny("lion"), Store(tmp_path)).summary
    assert summary is not None
    assert (summary.status, summary.steps, summary.final_loss) == ("diverged", 1, None)
    assert re.fullmatch("the gradient's norm became (nan|inf) at step 1", summary.message)


def test_bf16_computes_in_bf16_and_keeps_float32(tiny: Any, tmp_path: Path) -> None:
    float32 = losses(Store(tmp_path), tiny())
    bf16 = losses(Store(tmp_path), tiny(precision="bf16"))
    assert bf16 != float32
    assert [loss for *_, loss in bf16] == pytest.approx([loss for *_, loss in float32], rel=0.02)


def test_a_missing_corpus_is_named(tiny: Any, tmp_path: Path) -> None:
    spec = tiny(data=DataSpec(name="gone", fingerprint="0" * 64, vocabulary=300))
    with pytest.raises(DataError, match="0000"):
        train(spec, Store(tmp_path))


@pytest.mark.slow
def test_a_run_that_is_not_compiled_does_not_load_the_compiler(tiny: Any, tmp_path: Path) -> None:
    """It takes a worker as long to load as torch itself."""
    spec = tiny("muon", tokens=8 * 16 * 12)
    run = Store(tmp_path).run(spec)
    run.directory.mkdir(parents=True)
    (run.directory / "spec.json").write_text(spec.to_json())
    worker = "import sys; from fairstep.train.__main__ import main; main(sys.argv[1:])"
    worker += "; sys.exit('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", worker, str(run.directory)], capture_output=True, check=False)
    assert (run.status, done.returncode) == ("done", 0)


def _train_in_process(text: str, path: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)  # a fork has that of the process which it is a fork of
    train(RunSpec.from_json(text), Store(path))


@pytest.mark.slow
def test_two_processes_train_one_run_once(tiny: Any, tmp_path: Path) -> None:
    spec = tiny(tokens=8 * 16 * 200)
    pair = [
        TOGETHER.Process(target=_train_in_process, args=(spec.to_json(), str(tmp_path), dict(os.environ)))
        for _ in range(2)
    ]
    for process in pair:
        process.start()
    for process in pair:
        process.join()
        assert process.exitcode == 0
    rows = Store(tmp_path).run(spec).metrics()
    assert [row["step"] for row in rows if row["kind"] == "train"] == list(range(10, 201, 10))
