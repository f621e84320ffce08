"""Files that the trackers' own packages wrote come out as the verdict that a plain CSV of the same losses gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.imported.losses import FINAL, STEPS, curve, evaluations

import fairstep

pytestmark = pytest.mark.oracle

NUMBERS = ("loss", "difference", "difference_low", "difference_high", "probability", "verdict", "pairs", "seeds")


def numbers(judged: Any) -> dict[str, list[Any]]:
    return {verdict.name: [getattr(verdict, key) for key in NUMBERS] for verdict in judged}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    path = tmp_path_factory.mktemp("plain") / "results.csv"
    evaluations().write_csv(path)
    judged = numbers(fairstep.judge(path, "adamw"))
    assert judged["muon"][5] == "faster"
    return judged


def run(code: str, folder: Path, **environment: str) -> None:
    """In a process of its own, because trackers leave threads and handlers behind."""
    runs = [[name, seed, curve(name, seed)] for name, seed in FINAL]
    head = f"import json\nRUNS = json.loads({json.dumps(json.dumps(runs))})\n"
    quiet = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    subprocess.run(
        [sys.executable, "-c", head + code],
        cwd=folder,
        env=os.environ | quiet | environment,
        check=True,
        capture_output=True,
        timeout=300,
    )


def test_wandb_offline(tmp_path: Path, expected: dict[str, list[Any]]) -> None:
    code = """
import wandb
for name, seed, points in RUNS:
    run = wandb.init(project="p", config={"optimizer": name, "seed": seed, "lr": 0.001, "model": {"layers": 2}})
    for step, loss in points:
        run.log({"train/loss": loss + 0.1}, step=step - 1)
        run.log({"val/loss": loss}, step=step)
    run.finish()
"""
    run(code, tmp_path, WANDB_DIR=str(tmp_path))
    judged = fairstep.judge(tmp_path / "wandb", "adamw")
    assert numbers(judged) == expected
    assert judged["muon"].lr == 0.001


def test_trackio(tmp_path: Path, expected: dict[str, list[Any]]) -> None:
    code = """
import trackio
for name, seed, points in RUNS:
    trackio.init(project="speed", name=f"{name}-{seed}", config={"optimizer": name, "seed": seed, "lr": 0.001})
    for step, loss in points:
        trackio.log({"val_loss": loss}, step=step)
    trackio.finish()
"""
    run(code, tmp_path, TRACKIO_DIR=str(tmp_path / "trackio"))
    assert numbers(fairstep.judge(tmp_path / "trackio", "adamw")) == expected


def test_tensorboard(tmp_path: Path, expected: dict[str, list[Any]]) -> None:
    code = """
from torch.utils.tensorboard import SummaryWriter
for name, seed, points in RUNS:
    with SummaryWriter(f"runs/{name}/seed{seed}") as writer:
        for step, loss in points:
            writer.add_scalar("train/loss", loss + 0.1, step)
            writer.add_scalar("val/loss", loss, step)
"""
    run(code, tmp_path)
    assert numbers(fairstep.judge(tmp_path / "runs", "adamw")) == expected


def test_the_trainer(tmp_path: Path, expected: dict[str, list[Any]]) -> None:
    """A Trainer trains a model of one number, and its evaluation gives the losses of the test."""
    code = f"""
import torch
from transformers import Trainer, TrainingArguments
STEPS = {STEPS}

class One(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
    def forward(self, x, labels=None):
        return dict(loss=(self.weight - x.mean()) ** 2, logits=x)

class Told(Trainer):
    def evaluation_loop(self, *arguments, **options):
        output = super().evaluation_loop(*arguments, **options)
        output.metrics["eval_loss"] = self.told[self.state.global_step]
        return output

data = [dict(x=torch.ones(1), labels=torch.ones(1)) for _ in range(4)]
for name, seed, points in RUNS:
    arguments = TrainingArguments(
        f"out/{{name}}-seed{{seed}}", max_steps=STEPS[-1], eval_strategy="steps", eval_steps=STEPS[0],
        save_steps=STEPS[1], logging_steps=25, report_to=[], seed=seed, use_cpu=True,
        disable_tqdm=True, dataloader_pin_memory=False,
    )
    trainer = Told(One(), arguments, train_dataset=data, eval_dataset=data)
    trainer.told = dict(map(tuple, points))
    trainer.train()
    trainer.save_state()
"""
    run(code, tmp_path)
    judged = fairstep.judge(tmp_path / "out", "adamw")
    assert numbers(judged) == expected
    assert any("earlier state of the run" in note for note in judged.notes)
