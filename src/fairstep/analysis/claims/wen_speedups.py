"""Claims of W (arXiv 2509.02046) about speedups: how large, where, and what becomes of them with size."""

from __future__ import annotations

import math

import numpy as np

from fairstep.analysis.claims import wen_tables
from fairstep.analysis.claims.claim import (
    Finding,
    Part,
    State,
    claim,
    every,
    inside,
    missing,
    needs,
    number,
    sign,
)
from fairstep.analysis.claims.evidence import MATRIX, SCALAR, Evidence, Gap
from fairstep.analysis.laws.law import joint_law
from fairstep.analysis.laws.trend import size_trend, straight_line
from fairstep.analysis.statistics import AnalysisError
from fairstep.analysis.verdict.paired import compare
from fairstep.published import wen

POINTS = 1.0
"""Percentage points of mean accuracy within which two optimizers are called equal downstream."""


@claim(
    "W3a",
    "Against a tuned AdamW no optimizer is more than 1.4 times as fast in tokens.",
    "ratios 1 to 8",
    "abstract; finding 3",
)
def modest_speedups(evidence: Evidence) -> Finding:
    """No speedup above 1.4 (W says 'up to 1.4x'; 1.45 rounds to it)."""
    speedups = [
        (v, cell.label, name) for cell in evidence.cells for name, v in cell.speedups.items() if cell.ratio < 12
    ]
    if not speedups:
        return missing("speedups: a baseline trained at several budgets and another optimizer")
    parts = []
    for (value, low, high), label, name in sorted(speedups, reverse=True)[:5]:
        state: State = "yes" if value <= 1.45 else "no" if low > 1.45 else "open"
        parts.append(Part(state, f"{name} {number(value, low, high)} at {label}"))
    return every(parts, f"The largest 5 of {len(speedups)} speedups.")


@claim(
    "W3b",
    "Muon and SOAP gain less at 1.2B than at 130M.",
    "the smallest against the largest size, at equal data ratio",
    "abstract; finding 3",
)
def less_at_scale(evidence: Evidence) -> Finding:
    sizes = sorted(evidence.sizes, key=lambda size: evidence.sizes[size])
    parts = []
    for name in sorted(MATRIX):
        rows = {(row["model_size"], row["chinchilla_ratio"]): row for row in evidence.speedups(name)}
        for ratio in sorted({ratio for _, ratio in rows}):
            small, large = rows.get((sizes[0], ratio)), rows.get((sizes[-1], ratio))
            if small and large and len(sizes) > 1:
                state: State = (
                    "yes" if large["high"] < small["low"] else "no" if large["low"] > small["high"] else "open"
                )
                values = [number(row["speedup"], row["low"], row["high"]) for row in (small, large)]
                parts.append(
                    Part(state, f"{name} at {ratio:g}x: {values[0]} at {sizes[0]}, {values[1]} at {sizes[-1]}")
                )
    return every(parts) if parts else missing("speedups of a matrix optimizer at two model sizes and one data ratio")


@claim(
    "W3c",
    "The speedup of matrix optimizers falls steadily as the model grows.",
    "130M to 1.2B",
    "abstract; finding 3",
)
def shrinking(evidence: Evidence) -> Finding:
    """The matrix optimizers' speedup falls with size."""
    parts = []
    for name in sorted(MATRIX):
        rows = evidence.speedups(name)
        ratios = [r for r in (1.0, 2.0, 4.0, 8.0) if any(row["chinchilla_ratio"] == r for row in rows)]
        ratios = ratios or sorted({row["chinchilla_ratio"] for row in rows})
        try:
            trend = size_trend(rows, evidence.sizes, ratios)
        except AnalysisError as error:
            if rows and evidence.from_store:
                parts.append(Part("missing", f"{name}: {error}"))
            continue
        state: State = "yes" if trend.high < 1 else "no" if trend.low > 1 else "open"
        text = f"{name}: a doubling of size multiplies the speedup by {number(trend.factor, trend.low, trend.high)}"
        parts.append(Part(state, f"{text} over {trend.sizes} sizes"))
    return every(parts) if parts else missing("speedups of a matrix optimizer at two or more model sizes")


@claim(
    "W3d",
    "The best speedup at 1.2B is about 1.1.",
    "1.2B, 1x to 8x",
    "abstract; finding 3",
)
def one_tenth_at_1b(evidence: Evidence) -> Finding:
    """About 1.1x at the largest size; 1.05 to 1.15 counts as 1.1."""
    if lacking := needs(evidence, "speedups at 1.2B parameters"):
        return lacking
    parts = []
    for cell in evidence.select(size="1.2b"):
        name = max(cell.speedups, key=lambda n: cell.speedups[n][0])
        value, low, high = cell.speedups[name]
        state: State = "yes" if inside(value, value, 1.05, 1.15) == "yes" else inside(low, high, 1.05, 1.15)
        parts.append(Part(state, f"best is {name}, {number(value, low, high)} at {cell.label}"))
    latest = [row for row in wen_tables.speedups("latest_fit_1_2_4_8") if row["model_size"] == "1.2b"]
    best = max(latest, key=lambda row: row["speedup"])
    where = (
        f"{best['optimizer']} at {best['chinchilla_ratio']}x has {number(best['speedup'], best['low'], best['high'])}"
    )
    return every(parts, f"From the losses of 2025-05, as the paper; with the losses of 2025-08 {where}.")


@claim(
    "W3e",
    "The gain of matrix optimizers is inversely proportional to model size.",
    "130M to 1.2B",
    "abstract",
)
def inverse_size(evidence: Evidence) -> Finding:
    """'Inversely proportional' taken at its word: the gain over 1 times the size is constant."""

    parts = []
    for name in sorted(MATRIX):
        by_size: dict[str, list[float]] = {}
        for row in evidence.speedups(name):
            if row["chinchilla_ratio"] < 12 and row["speedup"] > 1:
                by_size.setdefault(row["model_size"], []).append(math.log(row["speedup"] - 1))
        if len(by_size) >= 3:
            x = np.log([evidence.sizes[size] for size in by_size])
            slope = straight_line(x, np.array([float(np.mean(v)) for v in by_size.values()]))
            state: State = "no" if slope.low > -1 or slope.high < -1 else "open"
            text = f"{name}: gain ~ size^{number(slope.value, slope.low, slope.high)} over {len(by_size)} sizes"
            parts.append(Part("yes" if abs(slope.value + 1) < 0.15 and slope.low < -1 < slope.high else state, text))
    return every(parts, "The exponent would be -1.") if parts else missing("speedups above 1 at three or more sizes")


@claim(
    "W3f",
    "Scalar methods are 0.9 to 1.2 times as fast as AdamW.",
    "ratios 1 to 8",
    "finding 3",
)
def scalar_range(evidence: Evidence) -> Finding:
    """Speedups of scalar methods lie between 0.9 and 1.2."""
    parts = []
    for cell in evidence.cells:
        for name, (value, low, high) in cell.speedups.items():
            if name in SCALAR and cell.ratio < 12:
                state: State = "yes" if 0.885 <= value < 1.205 else "no" if low >= 1.205 or high < 0.885 else "open"
                parts.append(Part(state, f"{name} {number(value, low, high)} at {cell.label}"))
    return every(parts, "A value outside whose interval reaches inside counts as within uncertainty.")


@claim(
    "W11",
    "By a joint law of size and tokens, Muon is slightly worse than AdamW at 7B and 1x.",
    "extrapolation",
    "finding 11",
)
def muon_at_7b(evidence: Evidence) -> Finding:
    """By the joint law of each optimizer, with and without the 1.2B cells, on both states of the losses."""

    if lacking := needs(evidence, "losses at several sizes and budgets for a joint law"):
        return lacking
    size = 7_207_959_552.0
    parts, signs, parameters = [], set(), evidence.sizes
    for column in ("loss_snapshot_2025_05", "loss"):
        table = wen_tables.losses(column)
        for sizes in (wen.SIZES[:3], wen.SIZES):
            ends = {}
            for name in ("adamw", "muon"):
                keys = [(s, r) for s in sizes for r in (1, 2, 4, 8)]
                law = joint_law(
                    [parameters[s] for s, _ in keys],
                    [20 * r * parameters[s] for s, r in keys],
                    [table[name, s, r] for s, r in keys],
                    wen_tables.noise(),
                )
                ends[name] = (law.at(size, 20 * size), *law.interval_at(size, 20 * size))
            (muon, low, high), (adamw, least, most) = ends["muon"], ends["adamw"]
            found_gap = Gap(muon - adamw, low - most, high - least)
            text = f"Muon above AdamW by {found_gap} from {len(sizes) * 4} points ({column})"
            parts.append(Part(sign(found_gap), text))
            signs.add(muon > adamw)
    flips = "The published data contradict it: the sign agrees with the statement only with the 1.2B cells in the fit."
    return every(parts, flips if len(signs) > 1 else "")


@claim(
    "W10",
    "At 1.2B and 8x the downstream scores of the optimizers do not differ.",
    "1.2B, 8x, ten tasks",
    "finding 10",
)
def downstream(evidence: Evidence) -> Finding:
    if lacking := needs(evidence, "scores of downstream tasks"):
        return lacking
    scores = {name: ratios["8"] for name, ratios in wen.facts()["downstream_1.2b"].items() if "8" in ratios}
    parts = []
    for name in scores:
        if name != "adamw":
            tasks = [task for task in scores["adamw"] if task != "mean_of_10" and task in scores[name]]
            theirs, base = ({t: 100 * scores[who][t] for t in tasks} for who in (name, "adamw"))
            d = compare(theirs, base).difference
            text = f"{name} {d.value:+.2f} points [{d.low:+.2f}, {d.high:+.2f}] over {d.count} tasks"
            parts.append(Part(inside(d.low, d.high, -POINTS, POINTS), text))
    return every(parts, f"Tasks are paired; no difference means within {POINTS:g} point of accuracy.")
