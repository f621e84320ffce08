"""Published numbers as evidence for the claims made of them."""

from __future__ import annotations

import functools
import json
import math
from typing import Any

from fairstep.analysis.claims import wen_tables
from fairstep.analysis.claims.claim import Paper
from fairstep.analysis.claims.evidence import Cell, Evidence, Measured
from fairstep.analysis.statistics import t_quantile
from fairstep.published import semenov, wen

FIGURES = "snapshot_fit_1_2_4_8"
"""The variant behind the paper's figures at ratios 1 to 8; those at 16 are from laws that include 16."""

OUTSIDE_EMBEDDING = {"124m": 84_953_856, "210m": 169_906_944, "583m": 486_648_960, "720m": 616_613_888}
"""S's parameters outside the embedding: layers (4 d^2 + 3 d h + 2 d) + d (its model table)."""


def published_evidence(paper: Paper) -> Evidence:
    """The numbers of a paper, or of the track. The track's checks read its results by their numbers, and of Qiu et al.
    no numbers are here, so that their evidence has no cells."""
    if paper in ("track3", "qiu"):
        return Evidence(f"published: {paper}", ())
    return wen_evidence() if paper == "wen" else semenov_evidence()


@functools.cache
def wen_evidence() -> Evidence:
    """W's cells with the losses of 2025-08, its sweeps, and the speedups of its figures."""
    noise = wen_tables.noise()
    error = t_quantile(noise.degrees) * noise.sigma
    parameters = dict(wen.models().select("model_size", "parameters_matrix").iter_rows())
    losses: dict[tuple[str, int], dict[str, Measured]] = {}
    for (optimizer, size, ratio), loss in wen_tables.losses().items():
        losses.setdefault((size, int(ratio)), {})[optimizer] = Measured(loss, error)
    sweeps = _wen_sweeps(error)
    speedups: dict[tuple[str, int], dict[str, tuple[float, float, float]]] = {}
    for variant, sixteen in ((FIGURES, False), ("snapshot_fit_with_16x", True)):
        for row in wen_tables.speedups(variant):
            if (row["chinchilla_ratio"] == 16) == sixteen:
                at = speedups.setdefault((row["model_size"], int(row["chinchilla_ratio"])), {})
                at[row["optimizer"]] = (row["speedup"], row["low"], row["high"])
    cells = [
        Cell(
            f"{size} {ratio}x",
            size,
            parameters[size],
            math.nan,
            20 * parameters[size] * ratio,
            measured,
            sweeps.get((size, ratio), {}),
            speedups.get((size, ratio), {}),
            key=f"{size}@{ratio}x",
            data="wen",
        )
        for (size, ratio), measured in losses.items()
    ]
    return Evidence("published: wen", tuple(cells))


def _wen_sweeps(error: float) -> dict[tuple[str, int], dict[tuple[str, str], dict[float, Measured]]]:
    """Every one-dimensional sweep with its centre, whose own value is in the centre's configuration."""
    centres = {
        (c["optimizer"], c["model_size"], c["chinchilla_ratio"], centre["record"]): centre
        for c in wen.cell_records()
        for centre in c["centres"]
    }
    sweeps: dict[tuple[str, int], dict[tuple[str, str], dict[float, Measured]]] = {}
    for row in wen.sweeps().filter(record="ablation record 2025-05/08").iter_rows(named=True):
        name, value = row["hyperparameter"], json.loads(row["value"]) if row["value"] else None
        if name is None or isinstance(value, bool):
            continue
        optimizer, size, ratio = row["optimizer"], row["model_size"], row["chinchilla_ratio"]
        centre = centres[optimizer, size, ratio, row["record"]]
        table = sweeps.setdefault((size, ratio), {}).setdefault((optimizer, name), {})
        centre_value = centre["hyperparameters"].get(name)
        if centre_value is not None:
            table[float(centre_value)] = Measured(centre["loss"], error)
        table[float(str(value))] = Measured(row["loss"] if row["loss"] < wen.DIVERGED else math.nan, error)
    return sweeps


@functools.cache
def semenov_evidence() -> Evidence:
    """S's records as cells, one for each metric and setting; sweeps of warm-up and learning rate in their cell."""
    cells = []
    for record in semenov.record_list():
        if record["metric"] not in (semenov.FULL, semenov.SUBSET) or not record["scale"]:
            continue
        losses = {row[0]: _measured(row) for row in record["values"] if not row[4]}
        cells.append(
            Cell(
                f"{record['scale']} {record['batch_sequences'] or '?'}x512 {(record['tokens'] or 0) / 1e9:.3g}B",
                record["scale"],
                OUTSIDE_EMBEDDING.get(record["scale"], math.nan),
                (record["batch_sequences"] or 0) * record["context"],
                record["tokens"] or 0,
                losses,
                _semenov_sweeps(record),
                key=record["id"],
                metric=_kind(record),
                steps=record["steps"] or 0,
                data="semenov",
            )
        )
    return Evidence("published: semenov", tuple(cells))


def _kind(record: dict[str, Any]) -> str:
    """``main`` for the panels that compare optimizers on the full split, ``curve`` on the subset, else ``ablation``."""
    if record["warmup_steps"] not in (None, 2000) or any(row[4] for row in record["values"]) or not record["values"]:
        return "ablation"
    if record["id"] == "583m_zloss":
        return "ablation"
    return "main" if record["metric"] == semenov.FULL else "curve"


def _semenov_sweeps(record: dict[str, Any]) -> dict[tuple[str, str], dict[float, Measured]]:
    sweeps: dict[tuple[str, str], dict[float, Measured]] = {}
    for row in record["values"]:
        for name, value in row[4].items():
            if name in ("lr", "weight_decay") and set(row[4]) <= {"lr", "weight_decay"}:
                sweeps.setdefault((row[0], name), {})[float(value)] = _measured(row)
    if record["id"] == "124m_b256_128k":
        for other in semenov.record_list():
            if other["id"] in ("124m_b256_128k", "124m_warmup_8k", "124m_warmup_32k"):
                for row in other["values"]:
                    at = sweeps.setdefault((row[0], "warmup_steps"), {})
                    at[float(other["warmup_steps"])] = _measured(row)
    return sweeps


def _measured(row: list[Any]) -> Measured:
    _, value, status, uncertainty, _, *offset = row
    value = math.nan if status == "diverged" else value
    return Measured(value, uncertainty or 0.0, True, offset[0] if offset else 0.0)
