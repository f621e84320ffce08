"""Claims of S (arXiv 2509.01440) about who is ahead: by size, batch, length, and on a mixture of experts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

from fairstep.analysis.claims.claim import (
    SEED,
    Finding,
    Part,
    Parts,
    below,
    claim,
    every,
    level,
    lowest,
    missing,
    mostly,
    order,
    shrinks,
    sign,
)
from fairstep.analysis.claims.evidence import Cell, Evidence

HIDDEN = "Markers that a figure hides are not compared."
KEEP = "separated pairs keep their order"
EQUAL = 0.005
"""Nats within which two of S's losses are called level here: the reading of two points from a figure."""


def dense(evidence: Evidence, but: tuple[str, ...] = ()) -> list[Cell]:
    """S's dense comparisons on the full split, without some records; a store's cells, all of dense models."""
    cells = evidence.select(metric="main")
    if evidence.from_store:
        return [cell for cell in cells if not cell.experts]
    return [cell for cell in cells if cell.size != "moe-520m" and cell.key not in but]


def same_order(first: Cell, second: Cell, but: tuple[str, ...] = ()) -> list[Part]:
    """Every pair that is separated in ``first`` has its order in ``second``."""
    parts = []
    names = [name for name in first.ranked() if name in second.losses and name not in but]
    for better, worse in itertools.combinations(names, 2):
        before, after = first.gap(better, worse), second.gap(better, worse)
        if before is not None and after is not None and before.low > 0:
            parts.append(
                Part(
                    sign(after),
                    f"{before.said(f'{better} below {worse}')} at {first.label}, "
                    f"{after.said(f'{better} below {worse}')} at {second.label}",
                )
            )
    return parts


def keeps_order(larger: Callable[[Cell], float], *but: str) -> Parts:
    """The one rule for rankings that stay, over pairs of cells that differ in ``but`` alone: most pairs of optimizers
    that are separated in the first cell keep their order in the second one, which is ``larger``."""

    def parts(evidence: Evidence) -> list[Part]:
        pairs = itertools.permutations(evidence.cells, 2)
        kept = [pair for pair in pairs if larger(pair[0]) < larger(pair[1]) and pair[0].only_differs(pair[1], *but)]
        return mostly((part for pair in kept for part in same_order(*pair)), KEEP)

    return parts


@claim("F0", "Which optimizer is best depends on size, batch and length.", "all settings", "abstract")
def no_single_best(evidence: Evidence) -> Finding:
    """Two settings that differ in one of the three alone have two clear winners, and each winner ran in both."""
    cells = evidence.select(metric="main")
    parts = [_contrast(cells, axis) for axis in ("size", "batch", "length")]
    found = parts if any(part.state != "missing" for part in parts) else []
    lacking = "contests in two or more settings that differ in size, batch or length alone"
    return every(found, "" if evidence.from_store else f"{SEED} {HIDDEN}", lacking)


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
        return every(parts, lacking="a contest with AdEMAMix")
    short = evidence.cell("124m_b32_64k")
    parts += [below(short, name, "ademamix") for name in ("d-muon", "soap", "adopt")]
    parts.append(level(evidence.cell("124m_b32_128k"), "ademamix", "d-muon", EQUAL))
    parts.append(below(evidence.cell("720m_b1984_8k"), "mars", "ademamix"))
    parts.append(below(evidence.cell("moe520m_b256_336k"), "soap", "ademamix"))
    return every(parts, f"{SEED} {HIDDEN}")


LATE = ("signum", "lion", "mars")
"""Far behind AdamW with small batches."""


def _closing(evidence: Evidence) -> Iterator[Part]:
    for name, series in itertools.product(LATE, series_of_batches(evidence)):
        gaps = [cell.gap("adamw", name) for cell in series]
        yield shrinks(f"{name} behind adamw from {series[0].label} to {series[-1].label}", gaps)


@claim(
    "F2",
    "Signum, Lion and MARS are far behind AdamW with small batches and close or remove the gap with larger ones.",
    "124M, 16.8B tokens, batches of 16k, 131k and 262k tokens",
    "Figs 5, 6; takeaways 1, 2",
    _closing,
    "AdamW and one of the three at two batch sizes and equal tokens",
)
def batch_closes_the_gap(evidence: Evidence) -> Finding:
    small, middle, large = (evidence.cell(key) for key in ("124m_b32_1024k_curve", "124m_b256_128k", "124m_b512_64k"))
    parts = []
    for name in LATE:
        parts.append(below(small, "adamw", name, by_at_least=0.03))
        parts.append(
            shrinks(f"{name} behind adamw, 16k to 131k", [small.gap("adamw", name), middle.gap("adamw", name)])
        )
        final = level(large, name, "adamw", EQUAL)
        parts.append(final if final.state == "yes" else below(large, name, "adamw"))
    return every(parts, SEED)


def _first_and_last(first: Cell, last: Cell) -> Iterator[Part]:
    yield lowest(first, "d-muon")
    yield below(last, "ademamix", "adamw")
    yield from (below(last, "adamw", name) for name in last.losses if name not in ("ademamix", "adamw"))


def _smallest_batches(evidence: Evidence) -> Iterator[Part]:
    """In the shortest and the longest runs of the store's smallest batch."""
    for first, *_, last in series_of_lengths(evidence):
        if first.batch_tokens == _smallest_batch(evidence) and {"adamw", "ademamix", "d-muon"} <= last.losses.keys():
            yield from _first_and_last(first, last)


@claim(
    "F3",
    "With 16k-token batches D-Muon is best in the shortest run, and AdamW second only to AdEMAMix in the longest.",
    "124M, 32x512, 1B to 16.8B tokens",
    "Sec. 4.1, Fig. 5(a)",
    _smallest_batches,
    "AdamW, AdEMAMix and D-Muon at two lengths of one batch",
)
def small_batch(evidence: Evidence) -> Finding:
    return every(_first_and_last(evidence.cell("124m_b32_64k"), evidence.cell("124m_b32_1024k_curve")), SEED)


def _larger_batches(evidence: Evidence) -> list[Part]:
    """In the shortest and the longest runs of batches at least 8 times the store's smallest one (131k is 8 times 16k
    tokens)."""
    series = [
        cells
        for cells in series_of_lengths(evidence)
        if cells[0].batch_tokens >= 8 * _smallest_batch(evidence) and "adamw" in cells[0].losses
    ]
    early = [part for cells in series for part in _ahead_early(cells[0])]
    return early + [part for cells in series for part in _ahead_late(cells[-1])]


@claim(
    "F4",
    "At 131k tokens a batch all but SF-AdamW and Sophia beat AdamW in short runs, and four still do in long ones.",
    "124M, 256x512",
    "Sec. 4.1",
    _larger_batches,
    "AdamW and others at two lengths of a batch 8 times as large as the smallest one",
)
def middle_batch(evidence: Evidence) -> Finding:
    parts = [part for key in ("124m_b256_8k", "124m_b256_16k") for part in _ahead_early(evidence.cell(key))]
    parts += [part for key in ("124m_b256_64k", "124m_b256_128k") for part in _ahead_late(evidence.cell(key))]
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
    keeps_order(lambda cell: cell.tokens, "tokens", "data"),
    "one contest at two lengths, with a separated pair",
)
def longer_keeps_order(evidence: Evidence) -> Finding:
    parts = same_order(evidence.cell("124m_b256_128k"), evidence.cell("124m_b256_256k"), ("sophia",))
    return every(mostly(parts, KEEP), SEED)


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
    return every(parts, SEED if not evidence.from_store else "", "a contest with Muon and D-Muon")


@claim(
    "F15",
    "At 210M the ranking is almost the same as at 124M.",
    "256x512, 16.8B tokens; same hyperparameters but the learning rate of Lion and Signum",
    "Fig. 13; takeaway 7",
    keeps_order(lambda cell: cell.parameters, "size", "tokens", "data"),
    "contests at two sizes and one batch, with a separated pair",
)
def size_keeps_order(evidence: Evidence) -> Finding:
    parts = same_order(evidence.cell("124m_b256_128k"), evidence.cell("210m_b256_128k"))
    return every(mostly(parts, KEEP), SEED)


@claim(
    "F17",
    "With 1M-token batches AdEMAMix and MARS lead; SOAP is ahead of AdamW up to Chinchilla length, and then behind.",
    "720M, 1984x512, 8B, 16B and 48B tokens",
    "Figs 1, 17; takeaway 10",
    needs="the eleven optimizers at 720M and three lengths",
)
def large_model(evidence: Evidence) -> Finding:
    short, middle, long = (evidence.cell(f"720m_b1984_{steps}k") for steps in (8, 16, 48))
    parts = []
    for cell in (short, middle, long):
        third = cell.ranked([name for name in cell.losses if name not in ("ademamix", "mars")])[0]
        parts += [below(cell, name, third) for name in ("ademamix", "mars")]
        parts += [below(cell, "adamw", name) for name in ("lion", "signum", "sf-adamw", "prodigy")]
    parts += [below(short, "soap", "adamw"), below(middle, "soap", "adamw"), below(long, "adamw", "soap")]
    parts += [level(short, "sophia", "adamw", EQUAL), below(middle, "adamw", "sophia"), below(long, "adamw", "sophia")]
    parts += [p for cell in (middle, long) for p in order(cell, ("mars", "d-muon", "adamw"))]
    return every(parts, SEED)


@claim(
    "F19",
    "Dense rankings carry over to a mixture of experts without tuning anew.",
    "520M MoE against 124M, 256x512",
    "Fig. 19; takeaway 12",
    keeps_order(lambda cell: cell.experts > 0, "size", "model"),
    "the same contest on a dense model and on a mixture of experts",
)
def moe_keeps_order(evidence: Evidence) -> Finding:
    parts = same_order(evidence.cell("124m_b256_128k"), evidence.cell("moe520m_b256_336k"))
    return every(mostly(parts, KEEP), SEED)


@claim(
    "F29",
    "Another study finds matrix methods ahead and explains the order here by batches below 0.4M tokens.",
    "external: W",
    "third-party discussion",
)
def explained_by_batches(evidence: Evidence) -> Finding:
    return missing("a statement of S: this is a third party's remark on S; W12 is the claim, with its check")


def series_of_lengths(evidence: Evidence) -> list[list[Cell]]:
    """Cells of one model, data and batch at two or more lengths, shortest first."""
    return _series(evidence, lambda cell: cell.batch_tokens, lambda cell: cell.tokens)


def _smallest_batch(evidence: Evidence) -> float:
    return min(cell.batch_tokens for cell in evidence.cells)


def series_of_batches(evidence: Evidence) -> list[list[Cell]]:
    """Cells of one model, data and length at two or more batches, smallest first."""
    return _series(evidence, lambda cell: round(cell.tokens / 5e4), lambda cell: cell.batch_tokens)


def _series(evidence: Evidence, fixed: Callable[[Cell], float], along: Callable[[Cell], float]) -> list[list[Cell]]:
    groups: dict[tuple[object, ...], list[Cell]] = {}
    for cell in evidence.cells:
        groups.setdefault((cell.size, cell.data, cell.model, fixed(cell)), []).append(cell)
    ordered = [sorted(cells, key=along) for cells in groups.values()]
    return [cells for cells in ordered if along(cells[0]) < along(cells[-1])]
