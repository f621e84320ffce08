"""Losses of two optimizers with three seeds each, with a curve each: what every format's test writes down."""

from __future__ import annotations

from pathlib import Path

import polars as pl

STEPS = (50, 100, 150)
FINAL = {
    ("adamw", 0): 3.3125,
    ("adamw", 1): 3.328125,
    ("adamw", 2): 3.296875,
    ("muon", 0): 3.25,
    ("muon", 1): 3.2578125,
    ("muon", 2): 3.2265625,
}
"""(contestant, seed) -> final loss; exact in float32, which TensorBoard keeps."""


def curve(contestant: str, seed: int) -> list[tuple[int, float]]:
    """(step, loss); the last is final."""
    end = FINAL[contestant, seed]
    return [(step, end + (STEPS[-1] - step) / 128) for step in STEPS]


def evaluations() -> pl.DataFrame:
    """One row an evaluation."""
    return pl.DataFrame(
        [
            {"optimizer": name, "seed": seed, "step": step, "val_loss": loss}
            for name, seed in FINAL
            for step, loss in curve(name, seed)
        ]
    )


def finals() -> pl.DataFrame:
    """One row a run."""
    return evaluations().filter(pl.col("step") == STEPS[-1])


def csv(folder: Path, text: str, name: str = "results.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path
