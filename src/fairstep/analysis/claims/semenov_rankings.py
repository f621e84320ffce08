"""Claims of S (arXiv 2509.01440) about who is ahead: by size, batch, length, and on a mixture of experts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from fairstep.analysis.claims.claim import (
    SEED,
    Finding,
    Part,
    below,
    claim,
    every,
    found_in,
    level,
    lowest,
    missing,
    mostly,
    needs,
    order,
    shrinks,
    sign,
)
from fairstep.analysis.claims.evidence import Cell, Evidence

HIDDEN = "Markers that a figure hides are not compared."
KEEP = "separated pairs keep their order"
LEVEL = 0.005
"""Nats within which two of S's losses are called level here: the reading of two points from a figure."""


def dense(evidence: Evidence, but: tuple[str, ...] = ()) -> list[Cell]:
    """S's dense comparisons on the full split, without some records; a store's cells, all of dense models."""
    cells = evidence.select(metric="main")
    if evidence.from_store:
        return [cell for cell in cells if not cell.experts]
    return [cell for cell in cells if cell.size != "moe-520m" and cell.key not in but]


def get(evidence: Evidence, key: str) -> Cell:
    cell = evidence.cell(key)
    assert cell is not None, key
    return cell


def same_order(first: Cell, second: Cell, but: tuple[str, ...] = ()) -> list[Part]:
    """Every pair that is separated in ``first`` has its order in ``second``."""
    parts = []
    names = [name for name in first.ranked() if name in second.losses and name not in but]
    for better, worse in itertools.combinations(names, 2):
        before, after = first.gap(better, worse), second.gap(better, worse)
        if before is not None and after is not None and before.low > 0:
            parts.append(
                Part(sign(after), f"{better} below {worse} by {before} at {first.label}, {after} at {second.label}")
            )
    return parts


@claim("F0", "Which optimizer is best depends on size, batch and length.", "all settings", "abstract")
def no_single_best(evidence: Evidence) -> Finding:
    """Two settings that differ in one of the three alone have two clear winners, and each winner ran in both."""
    cells = evidence.select(metric="main")
    parts = [_contrast(cells, axis) for axis in ("size", "batch", "length")]
    if all(part.state == "missing" for part in parts):
        return missing("contests in two or more settings that differ in size, batch or length alone")
    return every(parts, "" if evidence.from_store else f"{SEED} {HIDDEN}")


def _contrast(cells: Sequence[Cell], axis: str) -> Part:
    """Whether the winner changes with one axis while the other two, the data and the rivals stay."""
    pairs = [pair for pair in itertools.combinations(cells, 2) if _only(axis, *pair)]
    for first, second in pairs:
        best = [next((n for n in cell.losses if lowest(cell, n).state == "yes"), None) for cell in (first, second)]
        if None not in best and best[0] != best[1] and best[1] in first.losses and best[0] in second.losses:
            return Part("yes", f"{axis}: {best[0]} is clearly first at {first.label}, {best[1]} at {second.label}")
    if not pairs:
        return Part("missing", f"{axis}: two settings that differ in nothing else")
    return Part("open", f"{axis}: none of {len(pairs)} pairs of settings has two clear winners that ran in both")


def _only(axis: str, first: Cell, second: Cell) -> bool:
    name = {"size": "size", "batch": "batch_tokens", "length": "tokens"}[axis]
    return first.only_differs(second, name) and not first.only_differs(second)


@claim(
    "F1",
    "AdEMAMix has the lowest loss in every dense setting but the shortest runs, and SOAP has it on the long MoE run.",
    "exceptions: 124M 32x512 at 1B (D-Muon, SOAP, ADOPT) and 2.1B (level), 720M at 8B (MARS), MoE at 44B",
    "Figs 1, 5, 6, 13, 19; takeaways 1, 10",
)
def ademamix_first(evidence: Evidence) -> Finding:
    exceptions = ("124m_b32_64k", "124m_b32_128k", "720m_b1984_8k")
    parts = [lowest(cell, "ademamix") for cell in dense(evidence, exceptions) if "ademamix" in cell.losses]
    if evidence.from_store:
        return every(parts) if parts else missing("a contest with AdEMAMix")
    short = get(evidence, "124m_b32_64k")
    parts += [below(short, name, "ademamix") for name in ("d-muon", "soap", "adopt")]
    parts.append(level(get(evidence, "124m_b32_128k"), "ademamix", "d-muon", LEVEL))
    parts.append(below(get(evidence, "720m_b1984_8k"), "mars", "ademamix"))
    parts.append(below(get(evidence, "moe520m_b256_336k"), "soap", "ademamix"))
    return every(parts, f"{SEED} {HIDDEN}")


@claim(
    "F2",
    "Signum, Lion and MARS are far behind AdamW with small batches and close or remove the gap with larger ones.",
    "124M, 16.8B tokens, batches of 16k, 131k and 262k tokens",
    "Figs 5, 6; takeaways 1, 2",
)
def batch_closes_the_gap(evidence: Evidence) -> Finding:
    parts = []
    for name in ("signum", "lion", "mars"):
        if evidence.from_store:
            for series in series_of_batches(evidence):
                gaps = [cell.gap("adamw", name) for cell in series]
                parts.append(shrinks(f"{name} behind adamw from {series[0].label} to {series[-1].label}", gaps))
            continue
        small, middle, large = (
            get(evidence, key) for key in ("124m_b32_1024k_curve", "124m_b256_128k", "124m_b512_64k")
        )
        parts.append(below(small, "adamw", name, by_at_least=0.03))
        parts.append(
            shrinks(f"{name} behind adamw, 16k to 131k", [small.gap("adamw", name), middle.gap("adamw", name)])
        )
        final = level(large, name, "adamw", LEVEL)
        parts.append(final if final.state == "yes" else below(large, name, "adamw"))
    return (
        every(parts, "" if evidence.from_store else SEED)
        if parts
        else missing("AdamW and one of the three at two batch sizes and equal tokens")
    )


@claim(
    "F3",
    "With 16k-token batches D-Muon is best in the shortest run, and AdamW second only to AdEMAMix in the longest.",
    "124M, 32x512, 1B to 16.8B tokens",
    "Sec. 4.1, Fig. 5(a)",
)
def small_batch(evidence: Evidence) -> Finding:
    """In a store: at its smallest batch, in the shortest and the longest runs."""
    if evidence.from_store:
        parts = []
        for series in series_of_lengths(evidence):
            first, last = series[0], series[-1]
            if (
                first.batch_tokens == _smallest_batch(evidence)
                and {"adamw", "ademamix", "d-muon"} <= last.losses.keys()
            ):
                behind = [name for name in last.losses if name not in ("ademamix", "adamw")]
                parts += [lowest(first, "d-muon"), below(last, "ademamix", "adamw")]
                parts += [below(last, "adamw", name) for name in behind]
        return every(parts) if parts else missing("AdamW, AdEMAMix and D-Muon at two lengths of one batch")
    long = get(evidence, "124m_b32_1024k_curve")
    others = [name for name in long.losses if name not in ("ademamix", "adamw")]
    parts = [lowest(get(evidence, "124m_b32_64k"), "d-muon"), below(long, "ademamix", "adamw")]
    return every(parts + [below(long, "adamw", name) for name in others], SEED)


@claim(
    "F4",
    "At 131k tokens a batch all but SF-AdamW and Sophia beat AdamW in short runs, and four still do in long ones.",
    "124M, 256x512",
    "Sec. 4.1",
)
def middle_batch(evidence: Evidence) -> Finding:
    """In a store: in the shortest and the longest runs of batches at least 8 times its smallest one (131k is 8 times
    16k tokens)."""
    if evidence.from_store:
        series = [
            cells
            for cells in series_of_lengths(evidence)
            if cells[0].batch_tokens >= 8 * _smallest_batch(evidence) and "adamw" in cells[0].losses
        ]
        if not series:
            return missing("AdamW and others at two lengths of a batch 8 times as large as the smallest one")
        short, long = [cells[0] for cells in series], [cells[-1] for cells in series]
        return every(
            [part for cell in short for part in _ahead_early(cell)] + [p for c in long for p in _ahead_late(c)]
        )
    parts = [part for key in ("124m_b256_8k", "124m_b256_16k") for part in _ahead_early(get(evidence, key))]
    parts += [part for key in ("124m_b256_64k", "124m_b256_128k") for part in _ahead_late(get(evidence, key))]
    return every(parts, f"{SEED} {HIDDEN}")


def _ahead_early(cell: Cell) -> list[Part]:
    slow = ("sf-adamw", "sophia", "adamw")
    parts = [below(cell, name, "adamw") for name in cell.losses if name not in slow]
    return parts + [below(cell, "adamw", name) for name in slow[:2] if name in cell.losses]


def _ahead_late(cell: Cell) -> list[Part]:
    return [below(cell, n, "adamw") for n in ("adopt", "d-muon", "soap", "ademamix") if n in cell.losses]


@claim(
    "F6",
    "Twice as many steps keep the ranking.",
    "124M, 256x512, 16.8B to 33.6B tokens, without Sophia",
    "Fig. 6; takeaway 2",
)
def longer_keeps_order(evidence: Evidence) -> Finding:
    if not evidence.from_store:
        return _almost(same_order(get(evidence, "124m_b256_128k"), get(evidence, "124m_b256_256k"), ("sophia",)), SEED)
    parts = []
    for first, second in itertools.permutations(evidence.cells, 2):
        if first.only_differs(second, "tokens", "data") and first.tokens < second.tokens:
            parts += same_order(first, second)
    return _almost(parts) if parts else missing("one contest at two lengths, with a separated pair")


@claim(
    "F9",
    "D-Muon, which decays its matrices, beats Muon, which does not, in all but very short runs.",
    "124M, 210M, 720M",
    "Sec. 4.1; Figs 4, 8",
)
def decayed_muon(evidence: Evidence) -> Finding:
    parts = [below(c, "d-muon", "muon") for c in dense(evidence) if {"d-muon", "muon"} <= c.losses.keys()]
    if not evidence.from_store:
        parts += [Part("missing", f"Muon's loss at {size}: shown as a curve only") for size in ("210m", "720m")]
    return every(parts, SEED if not evidence.from_store else "") if parts else missing("a contest with Muon and D-Muon")


@claim(
    "F15",
    "At 210M the ranking is almost the same as at 124M.",
    "256x512, 16.8B tokens; same hyperparameters but the learning rate of Lion and Signum",
    "Fig. 13; takeaway 7",
)
def size_keeps_order(evidence: Evidence) -> Finding:
    if not evidence.from_store:
        return _almost(same_order(get(evidence, "124m_b256_128k"), get(evidence, "210m_b256_128k")), SEED)
    parts = []
    for first, second in itertools.permutations(evidence.cells, 2):
        if first.only_differs(second, "size", "tokens", "data") and first.parameters < second.parameters:
            parts += same_order(first, second)
    return _almost(parts) if parts else missing("contests at two sizes and one batch, with a separated pair")


@claim(
    "F17",
    "With 1M-token batches AdEMAMix and MARS lead; SOAP is ahead of AdamW up to Chinchilla length, and then behind.",
    "720M, 1984x512, 8B, 16B and 48B tokens",
    "Figs 1, 17; takeaway 10",
)
def large_model(evidence: Evidence) -> Finding:
    if lacking := needs(evidence, "the eleven optimizers at 720M and three lengths"):
        return lacking
    short, middle, long = (get(evidence, f"720m_b1984_{steps}k") for steps in (8, 16, 48))
    parts = []
    for cell in (short, middle, long):
        third = cell.ranked([name for name in cell.losses if name not in ("ademamix", "mars")])[0]
        parts += [below(cell, name, third) for name in ("ademamix", "mars")]
        parts += [below(cell, "adamw", name) for name in ("lion", "signum", "sf-adamw", "prodigy")]
    parts += [below(short, "soap", "adamw"), below(middle, "soap", "adamw"), below(long, "adamw", "soap")]
    parts += [level(short, "sophia", "adamw", LEVEL), below(middle, "adamw", "sophia"), below(long, "adamw", "sophia")]
    parts += [p for cell in (middle, long) for p in order(cell, ("mars", "d-muon", "adamw"))]
    return every(parts, SEED)


@claim(
    "F19",
    "Dense rankings carry over to a mixture of experts without tuning anew.",
    "520M MoE against 124M, 256x512",
    "Fig. 19; takeaway 12",
)
def moe_keeps_order(evidence: Evidence) -> Finding:
    if evidence.from_store:
        pairs = [pair for pair in itertools.permutations(evidence.cells, 2) if pair[1].experts > pair[0].experts == 0]
        beside = [pair for pair in pairs if pair[0].only_differs(pair[1], "size", "model")]
        parts = [part for pair in beside for part in same_order(*pair)]
        share = mostly(parts, KEEP)
        return found_in(evidence, share, "the same contest on a dense model and on a mixture of experts")
    return _almost(same_order(get(evidence, "124m_b256_128k"), get(evidence, "moe520m_b256_336k")), SEED)


@claim(
    "F29",
    "Another study finds matrix methods ahead and explains the order here by batches below 0.4M tokens.",
    "external: W",
    "third-party discussion",
)
def explained_by_batches(evidence: Evidence) -> Finding:
    return missing("a statement of S: this is a third party's remark on S; W12 is the claim, with its check")


def _almost(parts: list[Part], note: str = "") -> Finding:
    """The one rule for rankings that stay: most pairs that are separated in the first setting keep their order."""
    return every(mostly(parts, KEEP), note)


def series_of_lengths(evidence: Evidence) -> list[list[Cell]]:
    """Cells of one model, data and batch at two or more lengths, shortest first."""
    groups: dict[tuple[object, ...], list[Cell]] = {}
    for cell in evidence.cells:
        groups.setdefault((cell.size, cell.data, cell.model, cell.batch_tokens), []).append(cell)
    lengths = [sorted(cells, key=lambda cell: cell.tokens) for cells in groups.values()]
    return [cells for cells in lengths if cells[0].tokens < cells[-1].tokens]


def _smallest_batch(evidence: Evidence) -> float:
    return min(cell.batch_tokens for cell in evidence.cells)


def series_of_batches(evidence: Evidence) -> list[list[Cell]]:
    """Cells of one model, data and length at two or more batches, smallest first."""
    groups: dict[tuple[object, ...], list[Cell]] = {}
    for cell in evidence.cells:
        groups.setdefault((cell.size, cell.data, cell.model, round(cell.tokens / 5e4)), []).append(cell)
    batches = [sorted(cells, key=lambda cell: cell.batch_tokens) for cells in groups.values()]
    return [cells for cells in batches if cells[0].batch_tokens < cells[-1].batch_tokens]
