"""Claims of S (arXiv 2509.01440) about single methods. Most of them rest on figures that were not read off."""

from __future__ import annotations

import math
from collections.abc import Iterator

from fairstep.analysis.claims.claim import Finding, Part, State, below, claim, every, inside, not_printed, swept
from fairstep.analysis.claims.evidence import SOPHIA, Cell, Evidence, gap
from fairstep.analysis.claims.semenov_rankings import EQUAL
from fairstep.analysis.claims.settings_on_stores import by_schedule, lower
from fairstep.analysis.statistics import mean_interval

NEAR = 2.0
"""Times: a step of the grids on which learning rates are searched."""


def _with_sophia(evidence: Evidence) -> Iterator[Part]:
    for cell in evidence.cells:
        for name in (name for name in SOPHIA if name in cell.losses):
            yield Part("yes" if cell.losses[name].diverged else "no", f"{name} at {cell.label}")


@claim(
    "F5",
    "Sophia diverges in long small-batch runs and in a 33.6B-token run, and trains to the end on the MoE model.",
    "124M, 32x512 after 128k steps; 256x512 at step 129,720; MoE 336k steps",
    "Figs 31, 32; takeaway 16",
    _with_sophia,
    "a contest with Sophia",
)
def sophia_diverges(evidence: Evidence) -> Finding:
    moe = evidence.cell("moe520m_b256_336k").losses.get("sophia")
    parts = [
        Part("yes" if moe and not moe.diverged else "no", f"MoE, 336k steps: ends at {moe.value if moe else 0:.3f}")
    ]
    parts += [Part("missing", f"the diverged run at {where}: left out of the panel") for where in ("32x512", "33.6B")]
    return every(parts)


@not_printed(
    "F13",
    "With small batches AdamW under cosine beats SF-AdamW, which can beat AdamW under WSD.",
    "124M, OpenWebText2, 32x512",
    "Fig. 25",
    "a contest with SF-AdamW",
)
def schedule_free(evidence: Evidence) -> Iterator[Part]:
    cells = [cell for cell in evidence.cells if "sf-adamw" in cell.losses]
    yield from (below(cell, "adamw", "sf-adamw") for cell in cells)
    for cell in evidence.cells if cells else ():
        free, wsd = cell.variants.get("sf-adamw"), by_schedule(cell, "adamw").get("wsd")
        if free and wsd:
            yield lower(cell, "wsd", "sf-adamw", free[0], "adamw", wsd)


@not_printed(
    "F21",
    "SF-AdamW needs clipping.",
    "124M, 256x512, 16.8B tokens",
    "Fig. 33; takeaway 17",
    "SF-AdamW with and without clipping",
)
def schedule_free_clipping(evidence: Evidence) -> Iterator[Part]:
    for cell in evidence.cells:
        table = cell.beside("sf-adamw", "clip_norm")
        norm = min((norm for norm in table if norm), default=0)
        if norm and 0.0 in table:
            yield lower(cell, "sf-adamw", f"clipped to {norm:g}", table[norm], "not clipped", table[0.0])


@not_printed(
    "F22",
    "The best betas of SF-AdamW are (0.9, 0.9999).",
    "124M",
    "Fig. 36; takeaway 18",
    "sf-adamw with beta2 0.9999 and 0.99",
)
def schedule_free_betas(evidence: Evidence) -> Iterator[Part]:
    return _swept(evidence, "sf-adamw", "beta2", 0.9999, 0.99)


@not_printed(
    "F23",
    "Prodigy diverges with beta2 0.9999 unless bias-corrected, and finds a rate near the best one of AdamW.",
    "124M, 32x512",
    "Figs 35, 40; takeaways 18, 21, 22",
    "Prodigy with two beta2, and its effective learning rate",
)
def prodigy(evidence: Evidence) -> list[Part]:
    parts = []
    for cell in evidence.cells:
        for corrected, variant in cell.beside("prodigy", "bias_correction", beta2=0.9999).items():
            text = f"{'with' if corrected else 'without'} bias correction Prodigy with beta2 0.9999"
            end = "diverges" if variant.loss.diverged else f"ends at {variant.loss.value:.4f}"
            parts.append(Part("no" if variant.loss.diverged == corrected else "yes", f"{text} {end} at {cell.label}"))
    rates = [part for cell in evidence.cells for part in _estimated_rate(cell)]
    unknown = [Part("missing", "its effective learning rate, which packed stores keep from format 3 on")]
    return parts and [*parts, *(rates or unknown)]


def _estimated_rate(cell: Cell) -> Iterator[Part]:
    """The highest effective learning rate of Prodigy's runs is within ``NEAR`` times that of AdamW."""
    adamw, prodigy = ([*cell.variants.get(name, ())] for name in ("adamw", "prodigy"))
    if not adamw or not prodigy:
        return
    own = adamw[0].settings["lr"]
    highest = [max(rate for _, rate in curve) for curve in prodigy[0].curves("effective_lr").values()]
    if len(highest) > 1 and min(highest) > 0:
        ratio = mean_interval(math.log(rate / own) for rate in highest)
        low, value, high = (math.exp(x) for x in (ratio.low, ratio.value, ratio.high))
        text = f"Prodigy's highest effective rate is {value:.2f} [{low:.2f}, {high:.2f}] times AdamW's {own:g}"
        yield Part(inside(low, high, 1 / NEAR, NEAR), f"{text} at {cell.label}")


@not_printed(
    "F24",
    "ADOPT depends on beta2 and on eps above 1e-6.",
    "124M; 210M",
    "Figs 34, 41; takeaway 18",
    "adopt with beta2 0.999 and 0.5",
)
def adopt(evidence: Evidence) -> Iterator[Part]:
    """An eps of at least 1e-4 is no longer level with 1e-6."""
    yield from (parts := list(_swept(evidence, "adopt", "beta2", 0.999, 0.5)))
    for cell in evidence.cells if parts else ():
        table = cell.beside("adopt", "eps")
        large = max(table, default=0)
        if 1e-6 in table and large >= 1e-4:
            change = gap(table[1e-6].loss, table[large].loss)
            state: State = "yes" if change.low > 0 or change.high < 0 else "open"
            yield Part(state, f"{change.said(f'adopt: eps {large:g} above 1e-06')} at {cell.label}")


@not_printed(
    "F25",
    "Newton-Schulz with 5, 10 or 20 steps is equal, with 1 much worse.",
    "Muon, 124M, 2.1B",
    "Fig. 37",
    "muon with ns_steps 5 and 1",
)
def newton_schulz(evidence: Evidence) -> Iterator[Part]:
    yield from (parts := list(_swept(evidence, "muon", "ns_steps", 5, 1)))
    for cell in evidence.cells if parts else ():
        table = cell.beside("muon", "ns_steps")
        for steps in sorted(table.keys() & {10, 20}) if 5 in table else ():
            change = gap(table[steps].loss, table[5].loss)
            state = inside(change.low, change.high, -EQUAL, EQUAL)
            yield Part(state, f"muon: ns_steps {steps} within {EQUAL} of 5: {change} at {cell.label}")


@not_printed(
    "F8",
    "More decay hurts Muon and MARS, where it reaches only a part of the weights, even in short runs of Muon.",
    "124M, weight decay 0.5 against 0.1",
    "Fig. 23",
    "muon or mars with weight_decay 0.1 and 0.5",
)
def decay_of_parts(evidence: Evidence) -> Iterator[Part]:
    for name in ("muon", "mars"):
        yield from _swept(evidence, name, "weight_decay", 0.1, 0.5)


def _swept(evidence: Evidence, optimizer: str, hyper: str, better: float, worse: float) -> Iterator[Part]:
    """Wherever both values were tried."""
    for cell in evidence.cells:
        if {better, worse} <= cell.sweeps.get((optimizer, hyper), {}).keys():
            yield swept(cell, optimizer, hyper, better, worse)
