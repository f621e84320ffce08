"""Claims of W (arXiv 2509.02046) about speedups: how large, where, and what becomes of them with size."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from fairstep.analysis.claims import wen_tables
from fairstep.analysis.claims.claim import (
    Finding,
    Part,
    State,
    claim,
    every,
    inside,
    number,
    sign,
)
from fairstep.analysis.claims.evidence import MATRIX, SCALAR, Evidence, Gap, apart
from fairstep.analysis.laws.law import joint_law
from fairstep.analysis.laws.trend import size_trend
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
    parts = []
    for (value, low, high), label, name in sorted(speedups, reverse=True)[:5]:
        state: State = "yes" if value <= 1.45 else "no" if low > 1.45 else "open"
        parts.append(Part(state, f"{name} {number(value, low, high)} at {label}"))
    lacking = "speedups: a baseline trained at several budgets and another optimizer"
    return every(parts, f"The largest 5 of {len(speedups)} speedups.", lacking)


@claim(
    "W3b",
    "Muon and SOAP gain less at 1.2B than at 130M.",
    "the smallest against the largest size, at equal data ratio",
    "abstract; finding 3",
)
def less_at_scale(evidence: Evidence) -> Finding:
    sizes = sorted(evidence.sizes, key=lambda size: evidence.sizes[size])
    parts = []
    for name, ratio, rows in _by_ratio(evidence):
        small, large = rows.get(sizes[0]), rows.get(sizes[-1])
        if small and large and len(sizes) > 1:
            state: State = "yes" if large["high"] < small["low"] else "no" if large["low"] > small["high"] else "open"
            values = [number(row["speedup"], row["low"], row["high"]) for row in (small, large)]
            parts.append(Part(state, f"{name} at {ratio:g}x: {values[0]} at {sizes[0]}, {values[1]} at {sizes[-1]}"))
    return every(parts, lacking="speedups of a matrix optimizer at two model sizes and one data ratio")


def _by_ratio(evidence: Evidence) -> Iterator[tuple[str, float, dict[str, dict[str, Any]]]]:
    """(matrix optimizer, data ratio, model size -> its row), sizes rising."""
    for name in sorted(MATRIX):
        rows = sorted(evidence.speedups(name), key=lambda row: evidence.sizes[row["model_size"]])
        for ratio in sorted({row["chinchilla_ratio"] for row in rows}):
            yield name, ratio, {row["model_size"]: row for row in rows if row["chinchilla_ratio"] == ratio}


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
    steps = [
        pair["speedup"] < before["speedup"]
        for _, _, rows in _by_ratio(evidence)
        for before, pair in itertools.pairwise(rows.values())
    ]
    note = f"From one size to the next {sum(steps)} of {len(steps)} speedups fall; W3b compares the ends."
    return every(parts, note, "speedups of a matrix optimizer at two or more model sizes")


@claim(
    "W3d",
    "The best speedup at 1.2B is about 1.1.",
    "1.2B, 1x to 8x",
    "abstract; finding 3",
    needs="speedups at 1.2B parameters",
)
def one_tenth_at_1b(evidence: Evidence) -> Finding:
    """About 1.1x at the largest size, on both states of the losses; 1.05 to 1.15 counts as 1.1."""
    parts = []
    for variant, state_of in (("snapshot_fit_1_2_4_8", "2025-05, as the paper"), ("latest_fit_1_2_4_8", "2025-08")):
        rows = [row for row in wen_tables.speedups(variant) if row["model_size"] == "1.2b"]
        for ratio in sorted({row["chinchilla_ratio"] for row in rows}):
            best = max((r for r in rows if r["chinchilla_ratio"] == ratio), key=lambda row: row["speedup"])
            value, low, high = best["speedup"], best["low"], best["high"]
            state: State = "yes" if inside(value, value, 1.05, 1.15) == "yes" else inside(low, high, 1.05, 1.15)
            text = f"best is {best['optimizer']}, {number(value, low, high)} at 1.2b {ratio}x (losses of {state_of})"
            parts.append(Part(state, text))
    return every(parts, "W4 and W5 use the losses of 2025-08.")


@claim(
    "W3e",
    "The gain of matrix optimizers is inversely proportional to model size.",
    "130M to 1.2B",
    "abstract",
)
def inverse_size(evidence: Evidence) -> Finding:
    """'Inversely proportional' taken at its word: from the smallest to the largest size the gain over 1 falls as the
    size grows. Within a quarter of that counts as it."""
    parts = []
    for name, ratio, rows in _by_ratio(evidence):
        if ratio < 12 and len(rows) > 1:
            small, *_, large = rows.values()
            factor = evidence.sizes[large["model_size"]] / evidence.sizes[small["model_size"]]
            least, wanted, most = ((small[key] - 1) / factor for key in ("low", "speedup", "high"))
            low, gain, high = (large[key] - 1 for key in ("low", "speedup", "high"))
            within = inside(low, high, wanted / 1.25, wanted * 1.25)
            state: State = "no" if low > most or high < least else "yes" if within == "yes" else "open"
            text = f"gain {number(gain, low, high, 3)} at {large['model_size']}, the gain at {small['model_size']}"
            parts.append(
                Part(state, f"{name} at {ratio:g}x: {text} over {factor:.0f} is {number(wanted, least, most, 3)}")
            )
    return every(parts, lacking="speedups of a matrix optimizer at two model sizes and one data ratio")


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
    note = "A value outside whose interval reaches inside counts as within uncertainty."
    return every(parts, note, "speedups of a scalar method")


@claim(
    "W11",
    "By a joint law of size and tokens, Muon is slightly worse than AdamW at 7B and 1x.",
    "extrapolation",
    "finding 11",
    needs="losses at several sizes and budgets for a joint law",
)
def muon_at_7b(evidence: Evidence) -> Finding:
    """By the joint law of each optimizer, with and without the 1.2B cells, on both states of the losses."""
    size, parameters = 7_207_959_552.0, evidence.sizes
    parts = []
    for column in ("loss_snapshot_2025_05", "loss"):
        table = wen_tables.losses(column)
        for sizes in (wen.SIZES[:3], wen.SIZES):
            keys = [(s, r) for s in sizes for r in (1, 2, 4, 8)]
            places = [parameters[s] for s, _ in keys], [20 * r * parameters[s] for s, r in keys]
            muon, adamw = (
                joint_law(*places, [table[name, *key] for key in keys], wen_tables.noise())
                for name in ("muon", "adamw")
            )
            gap = apart(*(Gap(law.at(size, 20 * size), *law.interval_at(size, 20 * size)) for law in (muon, adamw)))
            parts.append(Part(sign(gap), f"{gap.said('Muon above AdamW')} from {len(keys)} points ({column})"))
    return every(parts)


@claim(
    "W10",
    "At 1.2B and 8x the downstream scores of the optimizers do not differ.",
    "1.2B, 8x, ten tasks",
    "finding 10",
    needs="scores of downstream tasks",
)
def downstream(evidence: Evidence) -> Finding:
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
