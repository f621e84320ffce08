"""What claims on settings and on the course of runs say of a store, by its contests' variants (``variants.py``).

Values are the store's own: the shortest warm-up takes the place of S's 2,000 steps, and so on. Each function gives the
parts of one claim, none where the store has not what the claim is about.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from fairstep.analysis.claims.claim import Part, State, best, inside, mostly, not_printed, sign
from fairstep.analysis.claims.evidence import SOPHIA, Cell, Curve, Evidence, Gap, Variant, apart, gap
from fairstep.analysis.claims.semenov_rankings import EQUAL, series_of_lengths
from fairstep.analysis.statistics import paired_difference

TENTH = 0.1
"""Final learning rate, as a part of the peak, that S calls too high."""
SCHEDULES = ("cosine", "linear", "wsd")
ALIKE = 0.02
"""Nats: the margin within which a baseline of another machine is the same (``fairstep compare --baseline-from``)."""
TWICE = 1.9
"""Times the steps that count as about twice as many, as in the check of W's own numbers."""


def warmups(evidence: Evidence) -> Iterator[Part]:
    """F11. The four want a longer warm-up than the shortest, the best of the longer ones; others lose by the next."""
    wanting = ("signum", "sf-adamw", "lion", *SOPHIA)
    for cell in evidence.cells:
        tables = {name: cell.beside(name, "warmup_steps") for name in cell.variants}
        for name, table in tables.items():
            shortest, *longer = sorted(table) or [0]
            if longer and name in wanting:
                steps = best({steps: table[steps].loss for steps in longer})
                yield lower(cell, name, f"warm-up of {steps}", table[steps], f"of {shortest}", table[shortest])
            elif longer:
                text = f"warm-up of {shortest}"
                yield lower(cell, name, text, table[shortest], f"of {longer[0]}", table[longer[0]])
        lion, adamw = (tables.get(name, {}) for name in ("lion", "adamw"))
        shared = sorted(lion.keys() & adamw.keys())[1:]
        yield from (lower(cell, f"warm-up of {n}", "lion", lion[n], "adamw", adamw[n]) for n in shared)


def schedules(evidence: Evidence) -> list[Part]:
    """F12. Most have cosine below linear and WSD; the four are no worse under linear, Muon is no worse under WSD."""
    cases, parts = [], []
    for cell in evidence.cells:
        for name in cell.variants:
            table = by_schedule(cell, name)
            if set(SCHEDULES) <= table.keys():
                rivals = [(kind, gap(table["cosine"].loss, table[kind].loss)) for kind in SCHEDULES[1:]]
                kind, least = min(rivals, key=lambda rival: rival[1].low)
                cases.append(Part(sign(least), f"{least.said(f'{name}: cosine below {kind}')} at {cell.label}"))
                worse = "linear" if name in ("signum", "lion", "soap", "mars") else "wsd" if name == "muon" else ""
                if worse:
                    cost = gap(table["cosine"].loss, table[worse].loss)
                    state: State = "yes" if cost.high <= EQUAL else "no" if cost.low > EQUAL else "open"
                    parts.append(Part(state, f"{cost.said(f'{name}: {worse} above cosine')} at {cell.label}"))
    return [*mostly(cases, "have cosine as the best schedule"), *parts]


def final_rates(evidence: Evidence) -> Iterator[Part]:
    """F14. Under each schedule the lowest final learning rate of a fifth of the tenth, or less, below the tenth."""
    for cell, kind in itertools.product(evidence.cells, SCHEDULES):
        for name in cell.variants:
            table = cell.beside(name, "final_fraction", but=("lr",), schedule=kind)
            low = min(table, default=TENTH)
            if TENTH in table and low <= TENTH / 5:
                texts = f"{kind} ending at {low:g}", f"at {TENTH:g}"
                yield lower(cell, name, texts[0], table[low], texts[1], table[TENTH])


def setups(evidence: Evidence) -> Iterator[Part]:
    """F16. AdamW and SOAP with z-loss and a final learning rate of a tenth, against a cell with neither."""
    for own, other in itertools.permutations(evidence.cells, 2):
        pairs = {name: (own.variants.get(name), other.variants.get(name)) for name in ("adamw", "soap")}
        models = [dict(cell.model).get("z_loss", 0) for cell in (own, other)]
        if models[0] or not models[1] or not own.only_differs(other, "model"):
            continue
        found = {name: (a[0], b[0]) for name, (a, b) in pairs.items() if a and b}
        if len(found) < 2 or any(b.settings["final_fraction"] < TENTH for _, b in found.values()):
            continue
        for name, (mine, theirs) in found.items():
            yield lower(own, name, "own setup", mine, "the common one", theirs)
        leads = [gap(found["adamw"][place].loss, found["soap"][place].loss) for place in (0, 1)]
        signs = [1 if lead.low > 0 else -1 if lead.high < 0 else 0 for lead in leads]
        state: State = "open" if 0 in signs else "yes" if signs[0] != signs[1] else "no"
        own_lead, common_lead = (lead.said("adamw below soap") for lead in leads)
        yield Part(state, f"{own_lead} in its own setup, {common_lead} in the common one")


def betas_by_length(evidence: Evidence) -> Iterator[Part]:
    """F20. What the largest beta2 gains over the smallest grows from the shortest to the longest runs."""
    for first, last in ((cells[0], cells[-1]) for cells in series_of_lengths(evidence)):
        for name in first.variants:
            short, long = first.beside(name, "beta2"), last.beside(name, "beta2")
            values = sorted(short.keys() & long.keys())
            if len(values) > 1:
                gains = [gap(table[values[-1]].loss, table[values[0]].loss) for table in (long, short)]
                words = f"beta2 {values[-1]:g} below {values[0]:g}"
                text = f"{gains[1].said(words)} at {first.label}, {gains[0].said(words)} at {last.label}"
                yield Part(sign(apart(*gains)), f"{name}: {text}")


@not_printed(
    "F26",
    "A small initial std needs more warm-up, and with enough of it is better than 0.02.",
    "AdamW, 210M",
    "Fig. 42; takeaway 23",
    "runs with two initialisations and several warm-ups",
)
def initial_deviations(evidence: Evidence) -> Iterator[Part]:
    """The longest warm-up gains more over the shortest at the smaller deviation; with it, the smaller one is below
    the best of the larger."""
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
            words = f"warm-up of {steps[-1]} below {steps[0]}"
            text = f"{gains[0].said(words)} with std {stds[0]:g}, {gains[1].said(words)} with {stds[1]:g}"
            yield Part(sign(apart(*gains)), f"{name}: {text}")
            own = best({length: tables[1][length].loss for length in steps})
            texts = f"std {stds[0]:g} and warm-up of {steps[-1]}", f"{stds[1]:g} and {own}"
            yield lower(small, name, texts[0], tables[0][steps[-1]], texts[1], tables[1][own])


@not_printed(
    "F27",
    "Gradient norms grow under cosine and linear and stay flatter under WSD.",
    "124M, 16.8B",
    "Figs 12, 27-29; takeaway 15",
    "gradient norms along runs under several schedules",
)
def gradient_norms(evidence: Evidence) -> Iterator[Part]:
    """From the second quarter of a run to the last one the gradient's norm grows under cosine and linear, and less
    under WSD."""
    for cell in evidence.cells:
        for name in cell.variants:
            table = {kind: _growths(variant) for kind, variant in by_schedule(cell, name).items()}
            if not all(table.get(kind) for kind in SCHEDULES):
                continue
            for kind in SCHEDULES[:2]:
                zero = dict.fromkeys(table[kind], 0.0)
                grows, less = _difference(table[kind], zero), _difference(table[kind], table["wsd"])
                yield Part(sign(grows), f"{grows.said(f'{name}: ln of the norm grows')} under {kind} at {cell.label}")
                text = f"{name}: the growth under wsd below the growth under {kind}"
                yield Part(sign(less), f"{less.said(text)} at {cell.label}")


def shared_behaviour(evidence: Evidence) -> list[Part]:
    """W8. While the learning rate decays, the gradient's norm grows and the loss falls. With weight decay the matrices
    grow from the first quarter of a run to the second one, and shrink from that to the last. The distance from the loss
    of a run's last batches to its loss on fresh text is AdamW's, within ``ALIKE``."""
    parts, sized = [], False
    for cell in evidence.cells:
        own = {name: variants[0] for name, variants in cell.variants.items()}
        beyond = {name: _beyond_training(variant) for name, variant in own.items()}
        for name, variant in own.items():
            norms, losses = _growths(variant), _growths(variant, "loss")
            if variant.settings.get("schedule") in SCHEDULES and len(norms) > 1 and norms.keys() == losses.keys():
                zero = dict.fromkeys(norms, 0.0)
                grows, falls = _difference(norms, zero), _difference(zero, losses)
                text = f"{name}: while the rate decays ln of"
                parts.append(Part(sign(grows), f"{grows.said(f'{text} the norm grows')} at {cell.label}"))
                parts.append(Part(sign(falls), f"{falls.said(f'{text} the loss falls')} at {cell.label}"))
            before, after = _growths(variant, "matrix_rms", 0, 1), _growths(variant, "matrix_rms")
            decays = variant.settings.get("weight_decay") or 0
            if variant.settings.get("schedule") in SCHEDULES and decays > 0 and len(before.keys() & after.keys()) > 1:
                sized, zero = True, dict.fromkeys(after, 0.0)
                for text, change in (
                    ("in the first half of the run ln of the matrices' RMS grows", _difference(before, zero)),
                    ("while the rate decays ln of the matrices' RMS falls", _difference(zero, after)),
                ):
                    parts.append(Part(sign(change), f"{change.said(f'{name}: {text}')} at {cell.label}"))
            if name != "adamw" and len(beyond[name].keys() & beyond.get("adamw", {}).keys()) > 1:
                more = _difference(beyond[name], beyond["adamw"])
                text = more.said(f"{name}: its loss on fresh text over the training's is above AdamW's")
                parts.append(Part(inside(more.low, more.high, -ALIKE, ALIKE), f"{text} at {cell.label}"))
    if parts and not sized:
        parts.append(Part("missing", "norms of the parameters, which packed stores keep from format 3 on"))
    return parts


def common_rate(evidence: Evidence, rate: float) -> Iterator[Part]:
    """W1. AdamW with this learning rate is above its own at half the length."""
    for short, long in itertools.permutations(evidence.cells, 2):
        tables = [cell.beside("adamw", "lr") for cell in (short, long)]
        if rate not in tables[1] or not tables[0] or not short.only_differs(long, "tokens"):
            continue
        ratio, own = long.tokens / short.tokens, next(iter(tables[0]))
        if ratio >= TWICE and own > rate:
            left = gap(tables[0][own].loss, tables[1][rate].loss)
            text = left.said(f"lr {rate:g} after {ratio:.2f} times the steps above lr {own:g}")
            yield Part(sign(left), f"{text} at {short.label}")


def lower(cell: Cell, of: str, text: str, first: Variant, other: str, second: Variant) -> Part:
    distance = gap(first.loss, second.loss)
    return Part(sign(distance), f"{distance.said(f'{of}: {text} below {other}')} at {cell.label}")


def by_schedule(cell: Cell, name: str) -> dict[str, Variant]:
    """By schedule; each may have a peak of its own."""
    return cell.beside(name, "schedule", but=("lr",))


def _beyond_training(variant: Variant) -> dict[object, float]:
    """Seed -> final loss minus the mean over the batches of the last tenth of the run."""
    return {
        seed: variant.loss.runs[seed] - float(np.mean([loss for tokens, loss in curve if tokens > 0.9 * curve[-1][0]]))
        for seed, curve in variant.curves("loss").items()
        if seed in variant.loss.runs
    }


def _growths(variant: Variant, what: str = "gradient_norm", first: int = 1, last: int = 3) -> dict[object, float]:
    """Seed -> ln of its mean over one quarter of the run over the mean of an earlier one. Quarters count from 0."""
    return {seed: growth for seed, curve in variant.curves(what).items() for growth in _growth(curve, first, last)}


def _growth(curve: Curve, first: int, last: int) -> Iterator[float]:
    tokens, norms = np.array(curve, dtype=float).T
    quarter = np.ceil(4 * tokens / tokens[-1]) - 1
    early, late = norms[quarter == first], norms[quarter == last]
    if len(early) and len(late) and min(early.mean(), late.mean()) > 0:
        yield float(np.log(late.mean() / early.mean()))


def _difference(first: dict[object, float], second: dict[object, float]) -> Gap:
    return Gap.of(paired_difference(first, second))
