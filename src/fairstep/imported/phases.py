"""What the runs of a contestant were for, where nobody wrote it down: search, final or another length; and the grade.

As in our protocols, the search chooses by its own seed and the choice is judged on other seeds. Where several
configurations were run on one seed, that seed is the search's: the configuration with the lowest loss on it is chosen,
and its runs on seeds that no choice rests on are the final runs. With the whole grid on every seed, the lowest seed is
the search's.

Grades of evidence: A, tuned under a ledger with its digest; B, the search is in the input; C, finished runs alone.
"""

from __future__ import annotations

import functools
import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from fairstep.imported.rows import FoundRun
from fairstep.runs.certificate import value_text
from fairstep.runs.frozen import is_number

Grade = Literal["A", "B", "C"]

MEANING = {
    "A": "tuned under a ledger that holds every trial",
    "B": "its search is in the input, and the choice is judged on fresh seeds",
    "C": "finished runs alone, which says nothing about how hard each side was tuned",
}


@dataclass(frozen=True)
class Split:
    """``search`` chose ``chosen`` among ``configurations``; ``final`` are its runs on fresh seeds. ``varied``:
    hyperparameters with several values among the runs. ``edges``: the numeric ones whose chosen value is the outermost
    one tried. ``notes``: sentences."""

    final: tuple[FoundRun, ...]
    search: tuple[FoundRun, ...] = ()
    chosen: str = "{}"
    configurations: int = 1
    varied: tuple[str, ...] = ()
    edges: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def grade(self) -> Grade:
        return "B" if self.configurations > 1 else "C"


def _varied(same: Iterable[Sequence[FoundRun]]) -> tuple[str, ...]:
    """Of groups of runs that share their hyperparameters."""
    values: dict[str, set[str]] = {}
    given: Counter[str] = Counter()
    total = 0
    for members in same:
        total += len(members)
        for name, value in members[0].hyperparameters.items():
            values.setdefault(name, set()).add(str(value))
            given[name] += len(members)
    return tuple(name for name, found in values.items() if len(found) > 1 or given[name] < total)


def _configuration(run: FoundRun, names: Sequence[str]) -> str:
    return json.dumps({name: run.hyperparameters.get(name) for name in names}, sort_keys=True)


def split(name: str, runs: Sequence[FoundRun], prefer: str | None = None) -> Split:
    """The runs of one contestant at one length by what they were for. ``prefer``: the configuration that was chosen at
    the contest's length, for the baseline's other lengths."""
    same: dict[int, list[FoundRun]] = {}
    for run in runs:
        same.setdefault(id(run.hyperparameters), []).append(run)
    names = _varied(same.values())
    if not names:
        return Split(tuple(runs))
    groups: dict[str, list[FoundRun]] = {}
    for members in same.values():
        groups.setdefault(_configuration(members[0], names), []).extend(members)
    chosen_by = _chosen_by(groups)
    first = {key: next((run for run in members if run in chosen_by), None) for key, members in groups.items()}
    losses = {key: _score(run) for key, run in first.items()}
    chosen = prefer if prefer in groups else min(losses, key=lambda key: losses[key])
    notes = []
    if math.isinf(losses[chosen]):
        notes.append(f"Every configuration of {name} diverged in its search.")
    final = tuple(run for run in groups[chosen] if run not in chosen_by)
    search = tuple(run for members in groups.values() for run in members if run in chosen_by)
    beside = [run for key, members in groups.items() if key != chosen for run in members if run not in chosen_by]
    if beside:
        notes.append(
            f"{name}: {len(beside)} further runs of configurations that the search did not choose count as its trials, "
            "and their losses are not used."
        )
    if not final:
        notes.append(
            f"{name}: its choice {_words(chosen)} has no run beside the one that it was chosen by; run it on fresh "
            "seeds."
        )
    edges = _edges(chosen, groups)
    return Split(final, (*search, *beside), chosen, len(groups), names, edges, tuple(notes))


def _chosen_by(groups: dict[str, list[FoundRun]]) -> set[FoundRun]:
    """The runs by which the search chose.

    Without seeds the first run of every configuration, in the order of the input. With them the runs on seeds that
    several configurations share, unless that leaves no configuration with a fresh seed: then the lowest shared seed. A
    configuration that was not run on these is judged by its lowest seed. Sorts configurations with seeds by them.
    """
    counts = Counter(run.seed for members in groups.values() for run in members)
    if None in counts:
        return {members[0] for members in groups.values()}
    shared = sorted((seed for seed, count in counts.items() if count > 1), key=seed_order)
    taken = set(shared if len(counts) > len(shared) else shared[:1])
    chosen_by: set[FoundRun] = set()
    for members in groups.values():
        members.sort(key=lambda run: seed_order(run.seed))
        chosen_by.update([run for run in members if run.seed in taken] or members[:1])
    return chosen_by


@functools.lru_cache(maxsize=1 << 16)
def seed_order(seed: str | None) -> tuple[int, int, str]:
    text = seed or ""
    return (0, int(text), "") if text.removeprefix("-").isdecimal() else (1, 0, text)


def _score(run: FoundRun | None) -> float:
    """A search's loss; infinite where it diverged or did not end."""
    if run is None or run.loss is None or run.length is None:
        return math.inf
    return run.loss


def _edges(chosen: str, groups: dict[str, list[FoundRun]]) -> tuple[str, ...]:
    tried: dict[str, set[float]] = {}
    for key in groups:
        for name, value in json.loads(key).items():
            if is_number(value):
                tried.setdefault(name, set()).add(float(value))
    picked = json.loads(chosen)
    return tuple(
        name for name, values in tried.items() if len(values) > 1 and picked.get(name) in (min(values), max(values))
    )


def _words(chosen: str) -> str:
    values = json.loads(chosen).items()
    return ", ".join(f"{name} {value_text(value)}" for name, value in values) or "(one configuration)"
