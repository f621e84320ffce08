"""A claim: what a paper says, under which conditions, and the check that decides it from evidence.

A check cuts a statement into **parts**. The evidence supports a part (``yes``), contradicts it (``no``), leaves it
``open`` because its interval contains both, or says nothing about it (``missing``). The claim *holds* if every part is
supported, *fails* if one is contradicted, and is *inconclusive* otherwise. A check computes all parts before any
verdict is known. A statement about most of many cases (``mostly``) has one part, the share; the cases that are not
clear stand beside it. A check whose numbers were chosen by the statement itself is circular: its part is missing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fairstep.analysis.claims.evidence import Cell, Evidence, Gap, Measured, gap

Outcome = Literal["holds", "fails", "inconclusive"]
State = Literal["yes", "no", "open", "missing"]
Paper = Literal["wen", "semenov", "track3", "qiu"]
ACCEPT = 3e-3
"""Nats: W's threshold for taking a new value in tuning. Smaller gaps are below its resolution, and count as level."""

TINY = 1e-9
"""Nats: what rounding adds to a difference of printed numbers."""

SEED = "One seed a setting: the intervals are of the reading, not of the noise of training."
"""Note of every check of S's numbers."""

NOT_PRINTED = "losses of this ablation: the paper shows them in a figure that was not read off, or in words only"
SHOWN = 4
"""Supported parts that the evidence spells out. The others decide, and all of them are shown."""


@dataclass(frozen=True)
class Part:
    """One thing that a claim says, as the evidence has it, with its numbers in ``text``."""

    state: State
    text: str


@dataclass(frozen=True)
class Finding:
    """What the evidence says about a claim. ``answered``: whether it says something about any part."""

    verdict: Outcome
    evidence: str
    answered: bool = True


Check = Callable[[Evidence], Finding]
Parts = Callable[[Evidence], Iterable[Part]]


@dataclass(frozen=True)
class Claim:
    """``statement`` is in our own words; ``conditions``: where the paper says so; ``source``: where in the paper.

    ``check`` decides it on the published numbers. It does so on a store too, unless the claim says what a store
    ``needs`` for it: then ``on_store`` gives the parts there.
    """

    id: str
    paper: Paper
    statement: str
    conditions: str
    source: str
    check: Check
    on_store: Parts = lambda evidence: ()
    needs: str = ""

    def on(self, evidence: Evidence) -> Finding:
        if not (evidence.from_store and self.needs):
            return self.check(evidence)
        return every(self.on_store(evidence), lacking=f"{evidence.source} would need {self.needs}")


def claim(
    name: str, statement: str, conditions: str, source: str, on_store: Parts = lambda evidence: (), needs: str = ""
) -> Callable[[Check], Claim]:
    """Makes a check the claim that it decides. A name with W is of Wen et al., with T of the optimization track, with Q
    of Qiu et al., others of Semenov et al."""
    papers: dict[str, Paper] = {"W": "wen", "T": "track3", "Q": "qiu"}
    paper = papers.get(name[0], "semenov")
    return lambda check: Claim(name, paper, statement, conditions, source, check, on_store, needs)


def not_printed(name: str, statement: str, conditions: str, source: str, needs: str) -> Callable[[Parts], Claim]:
    """Makes the parts on a store a claim whose losses no paper prints."""
    return lambda on_store: claim(name, statement, conditions, source, on_store, needs)(lambda _: missing(NOT_PRINTED))


def every(
    parts: Iterable[Part], note: str = "", lacking: str = "no cell of this evidence has what the claim is about"
) -> Finding:
    """All parts must hold. ``note`` is added to the evidence, for what a reader must know beside the numbers.
    ``lacking``: what would be needed, where there are no parts."""
    listed = list(parts)
    if not listed:
        return missing(lacking)
    by = {state: [part.text for part in listed if part.state == state] for state in ("no", "open", "missing", "yes")}
    outcome: Outcome = "fails" if by["no"] else "inconclusive" if by["open"] or by["missing"] else "holds"
    words = {"no": "contradicted", "open": "within uncertainty", "missing": "missing", "yes": "supported"}
    texts = [
        f"{words[state]} ({len(lines)} of {len(listed)}): {_some(lines) if state == 'yes' else '; '.join(lines)}"
        for state, lines in by.items()
        if lines
    ]
    return Finding(outcome, f"{'; '.join(texts)}. {note}".rstrip(), len(by["missing"]) < len(listed))


def mostly(cases: Iterable[Part], what: str) -> list[Part]:
    """One part for a statement about most cases; no parts without cases.

    Supported: at least half of the cases are, and at most one in ten is contradicted. Contradicted: more cases
    contradict than support. ``what`` is true of a supported case.
    """
    listed = list(cases)
    if not listed:
        return []
    by = {state: [case.text for case in listed if case.state == state] for state in ("yes", "no", "open")}
    yes, no = len(by["yes"]), len(by["no"])
    state: State = "yes" if 10 * no <= len(listed) and 2 * yes >= len(listed) else "no" if yes < no else "open"
    unclear = [
        f"{word} {len(by[key])} ({'; '.join(by[key])})"
        for key, word in (("no", "contradicted"), ("open", "within uncertainty"))
        if by[key]
    ]
    return [Part(state, ", ".join([f"{yes} of {len(listed)} {what}", *unclear]))]


def missing(what: str) -> Finding:
    """No verdict, and what would be needed for one."""
    return Finding("inconclusive", f"missing: {what}.", answered=False)


def below(cell: Cell, first: str, second: str, by_at_least: float = 0.0) -> Part:
    """``first`` ends lower than ``second``, by more than ``by_at_least`` nats."""
    distance = cell.gap(first, second)
    if distance is None:
        return Part("missing", f"{first} and {second} at {cell.label}")
    return Part(sign(distance, by_at_least), f"{distance.said(f'{first} below {second}')} at {cell.label}")


def printed(text: str, value: float, error: float) -> Part:
    """A gap of printed numbers, known to ``error`` nats, lies above 0."""
    distance = Gap(value, value - error, value + error)
    return Part(sign(distance), distance.said(text))


def sign(distance: Gap, limit: float = 0.0) -> State:
    """Whether a gap lies above ``limit``."""
    return "yes" if distance.low > limit + TINY else "no" if distance.high <= limit else "open"


def inside(low: float, high: float, least: float, most: float) -> State:
    """Whether an interval lies within [least, most], wholly outside, or across an end."""
    return "yes" if least <= low and high <= most else "no" if high < least or low > most else "open"


def level(cell: Cell, first: str, second: str, within: float) -> Part:
    """The two differ by no more than ``within`` nats."""
    distance = cell.gap(first, second)
    if distance is None:
        return Part("missing", f"{first} and {second} at {cell.label}")
    state = inside(distance.low, distance.high, -within, within)
    return Part(state, f"{first} within {within} of {second}: {distance} at {cell.label}")


def lowest(cell: Cell, name: str) -> Part:
    """``name`` has the lowest loss of all in its cell: compared with each other one, the closest decides."""
    others = [other for other in cell.losses if other != name]
    if name not in cell.losses or not others:
        return Part("missing", f"{name} and others at {cell.label}")
    parts = [below(cell, name, other) for other in others]
    rank = {"no": 0, "open": 1, "missing": 2, "yes": 3}
    worst = min(parts, key=lambda part: rank[part.state])
    return worst if worst.state != "yes" else below(cell, name, cell.ranked(others)[0] if cell.ranked(others) else name)


def order(cell: Cell, names: Sequence[str]) -> list[Part]:
    """Each below the next."""
    return [below(cell, first, second) for first, second in itertools.pairwise(names)]


def shrinks(label: str, gaps: Sequence[Gap | None]) -> Part:
    """The last gap is smaller than the first one."""
    if len(gaps) < 2 or gaps[0] is None or gaps[-1] is None:
        return Part("missing", f"{label}: needs two settings")
    first, last = gaps[0], gaps[-1]
    width = (first.high - first.low + last.high - last.low) / 2
    change = Gap(first.value - last.value, first.value - last.value - width, first.value - last.value + width)
    return Part(sign(change), change.said(f"{label}: the gap falls"))


def swept(cell: Cell, optimizer: str, name: str, better: float, worse: float) -> Part:
    """``better`` gives a lower loss than ``worse`` as the value of a hyperparameter."""
    table = cell.sweeps.get((optimizer, name), {})
    if better not in table or worse not in table:
        return Part("missing", f"{optimizer} with {name} {better:g} and {worse:g}")
    distance = gap(table[better], table[worse])
    return Part(sign(distance), f"{distance.said(f'{optimizer}: {name} {better:g} below {worse:g}')} at {cell.label}")


def best(table: Mapping[float, Measured]) -> float:
    """The value of a sweep that has the lowest loss."""
    return min(table, key=lambda value: math.inf if table[value].diverged else table[value].value)


def _some(texts: Sequence[str]) -> str:
    more = f"; and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return "; ".join(texts[:SHOWN]) + more


def number(value: float, low: float, high: float, digits: int = 2) -> str:
    """A value with its interval, for evidence."""
    interval = f" [{low:.{digits}f}, {high:.{digits}f}]" if math.isfinite(low + high) else ""
    return f"{value:.{digits}f}{interval}"
