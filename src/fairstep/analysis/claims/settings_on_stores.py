"""What S's claims on settings say of a store, by the variants of its contests (``variants.py``).

Values are the store's own: the shortest warm-up takes the place of S's 2,000 steps, and so on. Each function gives the
parts of one claim, none where the store has not what the claim is about.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from fairstep.analysis.claims.claim import Part, State, inside, mostly, sign
from fairstep.analysis.claims.evidence import SOPHIA, Cell, Curve, Evidence, Gap, Variant, apart, gap
from fairstep.analysis.statistics import paired_difference

TENTH = 0.1
"""Final learning rate, as a part of the peak, that S calls too high."""
SCHEDULES = ("cosine", "linear", "wsd")
TWICE = 1.9
"""Times the steps that count as about twice as many, as in the check of W's own numbers."""


def warmups(evidence: Evidence) -> list[Part]:
    """F11. The four want a longer warm-up than the shortest, the best of the longer ones; others lose by the next."""
    wanting = ("signum", "sf-adamw", "lion", *SOPHIA)
    parts = []
    for cell in evidence.cells:
        tables = {name: cell.beside(name, "warmup_steps") for name in cell.variants}
        for name, table in tables.items():
            shortest, *longer = sorted(table) or [0]
            if longer and name in wanting:
                best = min(longer, key=lambda steps: _loss(table[steps]))
                parts.append(_lower(cell, name, f"warm-up of {best}", table[best], f"of {shortest}", table[shortest]))
            elif longer:
                text = f"warm-up of {shortest}"
                parts.append(_lower(cell, name, text, table[shortest], f"of {longer[0]}", table[longer[0]]))
        lion, adamw = (tables.get(name, {}) for name in ("lion", "adamw"))
        shared = sorted(lion.keys() & adamw.keys())[1:]
        parts += [_lower(cell, f"warm-up of {n}", "lion", lion[n], "adamw", adamw[n]) for n in shared]
    return parts


def schedules(evidence: Evidence, level: float) -> list[Part]:
    """F12. Most have cosine below linear and WSD; the four are no worse under linear, Muon is no worse under WSD."""
    cases, parts = [], []
    for cell in evidence.cells:
        for name in cell.variants:
            table = _schedules(cell, name)
            if set(SCHEDULES) <= table.keys():
                rivals = [(kind, gap(table["cosine"].loss, table[kind].loss)) for kind in SCHEDULES[1:]]
                kind, least = min(rivals, key=lambda rival: rival[1].low)
                cases.append(Part(sign(least), f"{name}: cosine below {kind} by {least} at {cell.label}"))
                worse = "linear" if name in ("signum", "lion", "soap", "mars") else "wsd" if name == "muon" else ""
                if worse:
                    cost = gap(table["cosine"].loss, table[worse].loss)
                    state: State = "yes" if cost.high <= level else "no" if cost.low > level else "open"
                    parts.append(Part(state, f"{name}: {worse} above cosine by {cost} at {cell.label}"))
    return [*mostly(cases, "have cosine as the best schedule"), *parts]


def ahead_of_wsd(evidence: Evidence) -> list[Part]:
    """The second half of F13: SF-AdamW below AdamW under WSD."""
    parts = []
    for cell in evidence.cells:
        free, wsd = cell.variants.get("sf-adamw"), _schedules(cell, "adamw").get("wsd")
        if free and wsd:
            parts.append(_lower(cell, "wsd", "sf-adamw", free[0], "adamw", wsd))
    return parts


def final_rates(evidence: Evidence) -> list[Part]:
    """F14. Under each schedule the lowest final learning rate of a fifth of the tenth, or less, below the tenth."""
    parts = []
    for cell, kind in itertools.product(evidence.cells, SCHEDULES):
        for name in cell.variants:
            table = cell.beside(name, "final_fraction", but=("lr",), schedule=kind)
            low = min(table, default=TENTH)
            if TENTH in table and low <= TENTH / 5:
                texts = f"{kind} ending at {low:g}", f"at {TENTH:g}"
                parts.append(_lower(cell, name, texts[0], table[low], texts[1], table[TENTH]))
    return parts


def setups(evidence: Evidence) -> list[Part]:
    """F16. AdamW and SOAP with z-loss and a final learning rate of a tenth, against a cell with neither."""
    parts = []
    for own, other in itertools.permutations(evidence.cells, 2):
        pairs = {name: (own.variants.get(name), other.variants.get(name)) for name in ("adamw", "soap")}
        models = [dict(cell.model).get("z_loss", 0) for cell in (own, other)]
        if models[0] or not models[1] or not own.only_differs(other, "model"):
            continue
        found = {name: (a[0], b[0]) for name, (a, b) in pairs.items() if a and b}
        if len(found) < 2 or any(b.settings["final_fraction"] < TENTH for _, b in found.values()):
            continue
        for name, (mine, theirs) in found.items():
            parts.append(_lower(own, name, "own setup", mine, "the common one", theirs))
        leads = [gap(found["adamw"][place].loss, found["soap"][place].loss) for place in (0, 1)]
        signs = [1 if lead.low > 0 else -1 if lead.high < 0 else 0 for lead in leads]
        state: State = "open" if 0 in signs else "yes" if signs[0] != signs[1] else "no"
        parts.append(Part(state, f"adamw below soap by {leads[0]} in its own setup and {leads[1]} in the common one"))
    return parts


def betas_by_length(series: Sequence[Sequence[Cell]]) -> list[Part]:
    """F20. What the largest beta2 gains over the smallest grows from the shortest to the longest runs."""
    parts = []
    for first, last in ((cells[0], cells[-1]) for cells in series):
        for name in first.variants:
            short, long = first.beside(name, "beta2"), last.beside(name, "beta2")
            values = sorted(short.keys() & long.keys())
            if len(values) > 1:
                gains = [gap(table[values[-1]].loss, table[values[0]].loss) for table in (long, short)]
                text = f"{name}: beta2 {values[-1]:g} below {values[0]:g} by {gains[1]} at {first.label}, {gains[0]} at"
                parts.append(Part(sign(apart(*gains)), f"{text} {last.label}"))
    return parts


def clipping(evidence: Evidence) -> list[Part]:
    """F21. SF-AdamW with clipping below SF-AdamW without."""
    parts = []
    for cell in evidence.cells:
        table = cell.beside("sf-adamw", "clip_norm")
        norm = min((norm for norm in table if norm), default=0)
        if norm and 0.0 in table:
            parts.append(_lower(cell, "sf-adamw", f"clipped to {norm:g}", table[norm], "not clipped", table[0.0]))
    return parts


def prodigy(evidence: Evidence) -> list[Part]:
    """F23. With beta2 0.9999 Prodigy diverges without bias correction, and does not with it."""
    parts = []
    for cell in evidence.cells:
        table = cell.beside("prodigy", "bias_correction", beta2=0.9999)
        for corrected, variant in table.items():
            text = f"{'with' if corrected else 'without'} bias correction Prodigy with beta2 0.9999"
            end = "diverges" if variant.loss.diverged else f"ends at {variant.loss.value:.4f}"
            parts.append(Part("no" if variant.loss.diverged == corrected else "yes", f"{text} {end} at {cell.label}"))
    return parts and [*parts, Part("missing", "its effective learning rate: runs do not log it")]


def adopts_eps(evidence: Evidence) -> list[Part]:
    """The second half of F24: an eps of at least 1e-4 is no longer level with 1e-6."""
    parts = []
    for cell in evidence.cells:
        table = cell.beside("adopt", "eps")
        large = max(table, default=0)
        if 1e-6 in table and large >= 1e-4:
            change = gap(table[1e-6].loss, table[large].loss)
            state: State = "yes" if change.low > 0 or change.high < 0 else "open"
            parts.append(Part(state, f"adopt: eps {large:g} above 1e-06 by {change} at {cell.label}"))
    return parts


def more_steps_are_level(evidence: Evidence, within: float) -> list[Part]:
    """The first half of F25: Muon with 10 or 20 steps of Newton-Schulz is level with 5."""
    parts = []
    for cell in evidence.cells:
        table = cell.beside("muon", "ns_steps")
        for steps in sorted(table.keys() & {10, 20}) if 5 in table else ():
            change = gap(table[steps].loss, table[5].loss)
            state = inside(change.low, change.high, -within, within)
            parts.append(Part(state, f"muon: ns_steps {steps} within {within} of 5: {change} at {cell.label}"))
    return parts


def initial_deviations(evidence: Evidence) -> list[Part]:
    """F26. The longest warm-up gains more over the shortest at the smaller deviation; with it, the smaller one is below
    the best of the larger."""
    parts = []
    for small, large in itertools.permutations(evidence.cells, 2):
        stds = [dict(cell.model).get("init_std", 0.0) for cell in (small, large)]
        if not 0 < stds[0] < stds[1] or not small.only_differs(large, "model"):
            continue
        for name in small.variants:
            tables = [cell.beside(name, "warmup_steps") for cell in (small, large)]
            steps = sorted(tables[0].keys() & tables[1].keys())
            if len(steps) < 2:
                continue
            gains = [gap(table[steps[-1]].loss, table[steps[0]].loss) for table in tables]
            text = f"{name}: warm-up of {steps[-1]} below {steps[0]} by {gains[0]} with std {stds[0]:g}"
            parts.append(Part(sign(apart(*gains)), f"{text}, by {gains[1]} with {stds[1]:g}"))
            best = min(steps, key=lambda length: _loss(tables[1][length]))
            texts = f"std {stds[0]:g} and warm-up of {steps[-1]}", f"{stds[1]:g} and {best}"
            parts.append(_lower(small, name, texts[0], tables[0][steps[-1]], texts[1], tables[1][best]))
    return parts


def gradient_norms(evidence: Evidence) -> list[Part]:
    """F27. From the second quarter of a run to the last one the gradient's norm grows under cosine and linear, and less
    under WSD."""
    parts = []
    for cell in evidence.cells:
        for name in cell.variants:
            table = {kind: _growths(variant) for kind, variant in _schedules(cell, name).items()}
            if not all(table.get(kind) for kind in SCHEDULES):
                continue
            for kind in SCHEDULES[:2]:
                zero = dict.fromkeys(table[kind], 0.0)
                grows, less = _difference(table[kind], zero), _difference(table[kind], table["wsd"])
                parts.append(Part(sign(grows), f"{name}: ln of the norm grows by {grows} under {kind} at {cell.label}"))
                parts.append(Part(sign(less), f"{name}: by {less} less under wsd than under {kind} at {cell.label}"))
    return parts


def common_rate(evidence: Evidence, rate: float) -> list[Part]:
    """W1. AdamW with this learning rate is above its own at half the length."""
    parts = []
    for short, long in itertools.permutations(evidence.cells, 2):
        tables = [cell.beside("adamw", "lr") for cell in (short, long)]
        if rate not in tables[1] or not tables[0] or not short.only_differs(long, "tokens"):
            continue
        ratio, own = long.tokens / short.tokens, next(iter(tables[0]))
        if ratio >= TWICE and own > rate:
            left = gap(tables[0][own].loss, tables[1][rate].loss)
            text = f"lr {rate:g} is {left} above after {ratio:.2f} times the steps of lr {own:g}"
            parts.append(Part(sign(left), f"{text} at {short.label}"))
    return parts


def _lower(cell: Cell, of: str, text: str, first: Variant, other: str, second: Variant) -> Part:
    distance = gap(first.loss, second.loss)
    return Part(sign(distance), f"{of}: {text} below {other} by {distance} at {cell.label}")


def _schedules(cell: Cell, name: str) -> dict[str, Variant]:
    """By schedule; each may have a peak of its own."""
    return cell.beside(name, "schedule", but=("lr",))


def _loss(variant: Variant) -> float:
    return math.inf if variant.loss.diverged else variant.loss.value


def _growths(variant: Variant) -> dict[object, float]:
    """Seed -> ln of the mean norm of the last quarter over that of the second one."""
    return {seed: growth for seed, curve in variant.norms().items() for growth in _growth(curve)}


def _growth(curve: Curve) -> Iterator[float]:
    tokens, norms = np.array(curve, dtype=float).T
    part = tokens / tokens[-1]
    early, late = norms[(part > 0.25) & (part <= 0.5)], norms[part > 0.75]
    if len(early) and len(late):
        yield float(np.log(late.mean() / early.mean()))


def _difference(first: dict[object, float], second: dict[object, float]) -> Gap:
    found = paired_difference(first, second)
    return Gap(found.value, found.low, found.high)
