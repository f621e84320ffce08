"""W's published losses through our functions: the noise in its records, and its speedups in every variant."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from fairstep.analysis.laws.law import Noise
from fairstep.analysis.statistics import plain
from fairstep.analysis.verdict.law_speedup import speedup_rows
from fairstep.published import wen

VARIANTS: dict[str, tuple[str, tuple[int, ...], str]] = {
    f"{losses}_{name}": (column, ratios, key)
    for losses, column in (("snapshot", "loss_snapshot_2025_05"), ("latest", "loss"))
    for name, ratios, key in (
        ("fit_1_2_4_8", (1, 2, 4, 8), "speedup"),
        ("fit_with_16x", wen.RATIOS, "speedup"),
        ("interpolation", wen.RATIOS, "straight"),
    )
}
"""Variant of ``wen.speedups`` -> column of losses, ratios that the law is fitted to, which number of a row."""


@functools.cache
def noise() -> Noise:
    """Standard deviation of one of W's losses, from runs that differ in nothing that should matter: Adam's epsilon.

    W has one seed per configuration. Changes of an epsilon far below the gradients alter the rounding and so the whole
    trajectory; half of those that change anything at all move the loss by less than 1.2e-3 nats. A robust sigma,
    median |difference| / (0.6745 sqrt(2)), leaves out the few where epsilon did matter. It is a lower bound: new data
    order and initialisation would add to it, and W's reported best of many trials is below its own mean.
    """
    rows = [row for row in wen.sweeps().iter_rows(named=True) if row["hyperparameter"] in (None, "epsilon")]
    centres = {_record(row): row["loss"] for row in rows if row["hyperparameter"] is None}
    differences = {
        (*_record(row), round(row["loss"] - centres[_record(row)], 12)) for row in rows if row["hyperparameter"]
    }
    sizes = np.array([abs(key[-1]) for key in differences if key[-1] != 0])
    return Noise(float(np.median(sizes)) / 0.6745 / math.sqrt(2), len(sizes))


def losses(column: str = "loss") -> dict[tuple[str, str, float], float]:
    """(optimizer, size, ratio) -> published loss in nats; ``column`` loss or loss_snapshot_2025_05."""
    table = wen.results().select("optimizer", "model_size", "chinchilla_ratio", column)
    return {(optimizer, size, ratio): loss for optimizer, size, ratio, loss in table.iter_rows()}


@functools.cache
def speedups(variant: str = "latest_fit_1_2_4_8") -> tuple[dict[str, Any], ...]:
    """Rows of ``speedup_rows`` for a variant, ``speedup`` being the variant's number (interpolation: no interval)."""
    column, ratios, key = VARIANTS[variant]
    rows = speedup_rows(losses(column), "adamw", noise(), ratios)
    if key == "straight":
        rows = [row | {"speedup": row["straight"], "low": math.nan, "high": math.nan} for row in rows]
    return tuple(row for row in rows if not math.isnan(float(row["speedup"])))  # type: ignore[arg-type]


def published_speedups() -> list[dict[str, Any]]:
    """The paper's 114 figure points and every variant computed here: ``optimizer, model_size, chinchilla_ratio,
    variant, speedup, low, high, per_millinat``.

    ``low`` and ``high`` are from ``noise``, for a figure point by the same law (at ratio 16 the one that includes
    16); null where there is none.
    """
    rows = []
    for variant in VARIANTS:
        rows += [row | {"variant": variant} for row in speedups(variant)]
    by_cell = {(row["variant"], *_cell(row)): row for row in rows}
    for point in wen.speedups().filter(variant="figure_2025_05").iter_rows(named=True):
        fit = "snapshot_fit_with_16x" if point["chinchilla_ratio"] == 16 else "snapshot_fit_1_2_4_8"
        rows.append(by_cell[(fit, *_cell(point))] | point)
    order = {"figure_2025_05": -1} | {variant: place for place, variant in enumerate(VARIANTS)}
    keys = ("optimizer", "model_size", "chinchilla_ratio", "variant", "speedup", "low", "high", "per_millinat")
    rows.sort(key=lambda row: order[row["variant"]])
    return [{key: plain(row[key]) for key in keys} for row in rows]


def _record(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[key]) for key in ("optimizer", "model_size", "chinchilla_ratio", "record"))


def _cell(row: dict[str, Any]) -> tuple[str, str, float]:
    return row["optimizer"], row["model_size"], row["chinchilla_ratio"]
