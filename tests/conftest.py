"""Fixtures that several rooms' tests share: synthetic stores, written through the runs API without any training."""

from __future__ import annotations

import gc
import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fairstep.cost import precision
from fairstep.runs import (
    Cell,
    Choice,
    DataSpec,
    Design,
    EvaluationSpec,
    Ledger,
    ModelSpec,
    OptimizerChoice,
    Phase,
    Run,
    RunSpec,
    ScheduleSpec,
    Store,
    Summary,
    Trial,
    write_atomic,
)


@pytest.fixture(scope="module", autouse=True)
def frozen() -> Iterator[None]:
    """What is loaded by now stays: a collection of garbage, which every run begins with, need not look at it again."""
    gc.collect()
    gc.freeze()
    yield


@pytest.fixture(scope="session", autouse=True)
def no_power_cut() -> Iterator[None]:
    """What a test writes need not reach the disk before the test goes on: it is read by this machine and removed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def gain() -> Iterator[None]:
    """A processor that knows bf16 is taken to be faster in it: whoever first reads a study would measure that for
    seconds. ``tests/cost/test_precision.py`` has the measurement."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "_measured_gain", lambda: 2.0)
        yield


BATCH_SEQUENCES, CONTEXT = 16, 64
BATCH_TOKENS = BATCH_SEQUENCES * CONTEXT


class FakeContest:
    """A store and a ledger that grow by ``add``; every run has the losses it is told to have."""

    def __init__(self, folder: Path, baseline: str = "adamw", tokens: int = 1000 * BATCH_TOKENS) -> None:
        self.store = Store(folder).writable()
        self.baseline = baseline
        self.tokens = tokens
        self.design: Design | None = None
        self.trials: list[Trial] = []
        self.choices: dict[str, Choice] = {}

    @property
    def ledger(self) -> Ledger:
        return Ledger(
            name="contest",
            command="fairstep compare adamw muon --preset 200k --budget 1x",
            baseline=self.baseline,
            contestants=tuple(dict.fromkeys([self.baseline, *(trial.contestant for trial in self.trials)])),
            cell=Cell(
                model="200k",
                parameters_matrix=212_992,
                parameters=245_824,
                tokens=self.tokens,
                batch_tokens=BATCH_TOKENS,
                steps=self.tokens // BATCH_TOKENS,
                data="standard library",
                fingerprint="5f" * 8,
                vocabulary=512,
                precision="bf16",
            ),
            choices=self.choices,
            trials=tuple(self.trials),
            design=self.design,
        )

    def add(
        self,
        contestant: str,
        phase: Phase,
        loss: float | None,
        *,
        lr: float = 1e-3,
        seed: int = 0,
        tokens: int | None = None,
        status: str = "done",
        step_seconds: float = 0.01,
        message: str = "",
        **changes: Any,
    ) -> Run:
        """A run of the contestant that ended at ``loss`` (None: it has none), and its place in the ledger."""
        spec = RunSpec(
            model=ModelSpec(preset="200k", layers=4, width=64, heads=1, mlp_width=192, vocabulary=512, context=CONTEXT),
            data=DataSpec(name="standard library", fingerprint="5f" * 8, vocabulary=512),
            optimizer=OptimizerChoice(name=contestant, hyperparameters={"lr": lr, "weight_decay": 0.1}),
            schedule=ScheduleSpec(warmup_steps=10),
            evaluation=changes.pop("evaluation", EvaluationSpec()),
            batch_sequences=BATCH_SEQUENCES,
            tokens=tokens or self.tokens,
            precision=changes.pop("precision", "bf16"),
            init_seed=seed,
            data_seed=seed,
        )
        run = self.store.run(spec)
        write_atomic(run.directory / "spec.json", spec.to_json())
        write_atomic(
            run.directory / "env.json", json.dumps({"python": "3.11.7", "torch": "2.13.0", "processor": "CPU"})
        )
        write_atomic(run.directory / "metrics.jsonl", _metrics(spec, loss, status))
        if status != "unfinished":
            run.write_summary(_summary(spec, loss, status, step_seconds, message))
        self.trials.append(Trial(contestant=contestant, phase=phase, run=run.id, hyperparameters={"lr": lr}))
        return run

    def contestant(
        self, name: str, finals: list[float | None], *, lr: float = 1e-3, grid: int = 5, step_seconds: float = 0.01
    ) -> None:
        """A whole contestant: a sweep around ``lr`` whose largest value diverged, and finals (None: diverged)."""
        centre = min((loss for loss in finals if loss is not None), default=3.0)
        for place in range(grid):
            offset = place - grid // 2
            diverged = offset == grid // 2
            loss = None if diverged else centre + 0.03 * offset**2
            status = "diverged" if diverged else "done"
            self.add(name, "tune", loss, lr=lr * 2.0**offset, status=status, step_seconds=step_seconds)
        for seed, final in enumerate(finals, start=1):
            status = "diverged" if final is None else "done"
            self.add(name, "final", final, lr=lr, seed=seed, status=status, step_seconds=step_seconds)
        self.choices[name] = Choice(hyperparameters={"lr": lr})

    def budgets(self, losses: dict[float, list[float]], *, lr: float = 1e-3) -> None:
        """The baseline's runs at multiples of the contest's tokens."""
        for ratio, runs in losses.items():
            for seed, loss in enumerate(runs, start=1):
                self.add(self.baseline, "budget", loss, lr=lr, seed=seed, tokens=int(ratio * self.tokens))


def _summary(spec: RunSpec, loss: float | None, status: str, step_seconds: float, message: str) -> Summary:
    steps = spec.steps if status == "done" else spec.steps // 10
    return Summary(
        status=status,
        final_loss=loss,
        steps=steps,
        tokens=steps * spec.batch_tokens,
        train_seconds=steps * step_seconds,
        step_seconds=step_seconds,
        optimizer_seconds=step_seconds / 8,
        tokens_per_second=spec.batch_tokens / step_seconds,
        state_bytes=1_966_592,
        parameters=245_824,
        parameters_matrix=212_992,
        message=message,
    )


def _metrics(spec: RunSpec, loss: float | None, status: str) -> str:
    """Training rows and evaluations of a curve that falls to the final loss, with noise of its own seed."""
    rng = np.random.default_rng(spec.init_seed)
    end = 3.0 if loss is None else loss
    rows = []
    for step in range(0, spec.steps + 1, max(spec.steps // 20, 1)):
        value = end + (math.log(spec.model.vocabulary) - end) * (1 + step / 8) ** -0.9 * (1 - step / spec.steps)
        tokens = step * spec.batch_tokens
        rows.append({"kind": "evaluation", "step": step, "tokens": tokens, "loss": value, "windows": 128})
        rows.append({"kind": "train", "step": step, "tokens": tokens, "loss": value + 0.05 * rng.normal(), "lr": 1e-3})
        if status != "done" and step > spec.steps // 10:
            break
    if status == "done":
        # At the end the whole evaluation set counts, whose loss is another one than that of its first windows.
        tokens = spec.steps * spec.batch_tokens
        rows.append({"kind": "evaluation", "step": spec.steps, "tokens": tokens, "loss": end + 0.4, "windows": 1024})
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def fake_contest(tmp_path: Path) -> FakeContest:
    """An empty contest in a fresh store."""
    return FakeContest(tmp_path / "store")


@pytest.fixture(scope="session")
def written_demo(tmp_path_factory: pytest.TempPathFactory) -> FakeContest:
    """What ``demo_contest`` copies: writing 52 runs takes ten times as long as copying them."""
    contest = FakeContest(tmp_path_factory.mktemp("demo") / "store")
    fill_demo(contest)
    return contest


@pytest.fixture
def demo_contest(written_demo: FakeContest, fake_contest: FakeContest) -> FakeContest:
    """A contest with every verdict in it: soap and muon faster, lion not separable, sgd slower, wild diverged."""
    shutil.copytree(written_demo.store.path, fake_contest.store.path, dirs_exist_ok=True)
    fake_contest.trials, fake_contest.choices = list(written_demo.trials), dict(written_demo.choices)
    return fake_contest


def fill_demo(contest: FakeContest) -> None:
    rng = np.random.default_rng(7)

    def noisy(mean: float, sigma: float = 0.015) -> list[float | None]:
        return [float(value) for value in mean + sigma * rng.normal(size=3)]

    contest.contestant("adamw", noisy(2.80), lr=8e-3)
    contest.contestant("muon", noisy(2.64), lr=1.6e-2, step_seconds=0.012)
    contest.contestant("soap", noisy(2.58), lr=8e-3, step_seconds=0.016)
    contest.contestant("lion", noisy(2.79), lr=1e-3)
    contest.contestant("sgd", noisy(3.05), lr=0.5)
    contest.contestant("wild", [2.9, None, 2.95], lr=0.1)
    contest.budgets({0.5: [3.06], 1.5: [2.67], 2.0: [2.60]}, lr=8e-3)
