"""From runs to a contest: lengths, phases and pairs, what contradicts, and what could not be checked."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairstep.analysis import Trials
from fairstep.analysis.laws.slope import Slope
from fairstep.analysis.trials import NO_SEED
from fairstep.imported.phases import Grade, Split, seed_order, split
from fairstep.imported.remarks import FAILED, RUNNING, not_checked, remarks
from fairstep.imported.rows import FoundRun
from fairstep.imported.source import InputError, listed, near_or_all
from fairstep.runs import Design, Phase
from fairstep.runs.table import TRIAL_COLUMNS

COPIED = 3
"""Evaluations that two runs must share to be copies; two losses may agree by chance."""

EMPTY: dict[str, Any] = dict.fromkeys(TRIAL_COLUMNS)


@dataclass(frozen=True)
class Imported:
    """Runs as trials. ``understood``: a line for each source. ``notes``: what was left out or is peculiar.

    ``not_checked``: what the input cannot tell. ``unit``: of lengths (tokens, steps, empty where none is known).
    ``grades``: by contestant. ``edges``: contestant -> hyperparameters whose choice is the outermost value tried.
    ``steps``: run -> last step. ``fixed``: contestants whose loss is read at a step that the user named. ``sources``:
    the paths, as the user named them."""

    trials: Trials
    grades: Mapping[str, Grade]
    unit: str
    understood: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    not_checked: tuple[str, ...] = ()
    edges: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    steps: Mapping[str, float] = field(default_factory=dict)
    fixed: frozenset[str] = frozenset()
    sources: tuple[str, ...] = ()


def contest_of(
    runs: Sequence[FoundRun],
    baseline: str,
    slope: Slope | None = None,
    design: Design | None = None,
    at: dict[str, float] | None = None,
) -> Imported:
    """Raises InputError where the runs contradict one another or make no contest."""
    if not runs:
        raise InputError("there are no runs to judge")
    members: dict[str, list[FoundRun]] = {}
    for run in runs:
        members.setdefault(run.contestant, []).append(run)
    base = baseline_of(members, baseline)
    notes = [note for name, group in members.items() if (note := _once(name, group))]
    runs = [run for group in members.values() for run in group]
    _read_at(members, at or {})
    unit = _lengths(runs, slope)
    _identify(runs)
    for run in runs:
        run.length = _length(run, unit)
    lengths = _contest_lengths(members, base, unit, slope)
    splits: dict[str, Split] = {}
    rows: list[dict[str, Any]] = []
    made = _Rows()
    for name, group in members.items():
        mine = [run for run in group if run.length in (None, lengths[name])]
        one = splits[name] = split(name, mine)
        notes += one.notes
        _check_duplicates(name, one.final)
        rows += made.rows(one.search, "tune", lengths[name], one.varied)
        rows += made.rows(one.final, "final", lengths[name], one.varied)
        if name == base:
            rest: dict[Any, list[FoundRun]] = {}
            for run in group:
                if run.length not in (None, lengths[name]):
                    rest.setdefault(run.length, []).append(run)
            if rest:
                counts = ", ".join(f"{len(group)} of {length:.15g}" for length, group in sorted(rest.items()))
                notes.append(f"{name}: runs of other {unit} ({counts}) are budgets that turn losses into {unit}.")
            for length, at_length in sorted(rest.items()):
                there = split(name, at_length, one.chosen)
                used = made.rows(there.final or there.search, "budget", length, ())
                rows += [row | {"init_seed": number, "data_seed": number} for number, row in enumerate(used, 1)]
    unpaired = design is None
    known_seeds = {run.seed for run in runs} != {None}
    if design is not None and not known_seeds:
        raise InputError("a design of seeds (--seeds) needs a column for the seed; name it with --seed")
    trials = Trials(
        tuple(rows),
        base,
        unpaired=unpaired,
        slope=slope,
        design=design,
        curves={run.identity: _scaled(run, unit) for run in runs if len(run.curve) > 1},
    )
    notes += remarks(members)
    steps = {run.identity: run.step for run in runs if run.step is not None}
    edges = {name: one.edges for name, one in splits.items() if one.edges}
    grades: dict[str, Grade] = {name: one.grade for name, one in splits.items()}
    if len(set(grades.values())) > 1:
        searched = [name for name, grade in grades.items() if grade == "B"]
        notes.append(f"Only {listed(searched)} comes with a search; the others may have been tuned more or less.")
    return Imported(
        trials, grades, unit, notes=tuple(notes), not_checked=tuple(not_checked(runs, unit)), edges=edges, steps=steps
    )


def baseline_of(names: Iterable[str], wanted: str) -> str:
    """The baseline by its name, but for case. Raises InputError that names the nearest."""
    known = list(names)
    if len(known) < 2:
        raise InputError(
            f"there is one contestant only, {known[0]}; a verdict needs two (--contestant names the column that tells "
            "them apart, perhaps several with commas between)"
        )
    wanted_or_default = wanted or "adamw"
    alike = [name for name in known if name == wanted_or_default] or [
        name for name in known if name.lower() == wanted_or_default.lower()
    ]
    if len(alike) == 1:
        return alike[0]
    if not wanted:
        raise InputError(f"name the baseline with --baseline; the contestants are {listed(known)}")
    raise InputError(f"no contestant is named {wanted!r}; {near_or_all(wanted, known, 'contestants')}")


def _read_at(members: dict[str, list[FoundRun]], at: dict[str, float]) -> None:
    """Read the losses of some contestants (or of all: the key is empty) at a step before the end."""
    for name in at:
        if name and name not in members:
            hint = near_or_all(name, list(members), "contestants")
            raise InputError(f"--at names the contestant {name!r}, which is not there; {hint}")
    for name, group in members.items():
        step = at.get(name, at.get(""))
        if step is None:
            continue
        for run in group:
            points = dict(run.curve)
            if step not in points:
                raise InputError(f"{run.at}: {name} has no evaluation at step {step:g}, which --at names")
            run.loss = points[step]
            if run.tokens is not None and run.step:
                run.tokens *= step / run.step
            run.planned, run.step = run.planned or run.step, step
            run.curve = tuple(point for point in run.curve if point[0] <= step)


def _lengths(runs: Sequence[FoundRun], slope: Slope | None) -> str:
    """The unit that all runs have a length in."""
    ended = [run for run in runs if run.loss is not None]
    if all(run.tokens is not None or (run.step is not None and run.batch_tokens) for run in ended):
        unit = "tokens"
    else:
        unit = "steps" if all(run.step is not None for run in ended) else ""
    gaps = [run for run in ended if run.step is None and run.tokens is None]
    if not unit and len(gaps) < len(ended):
        gap = gaps[0] if gaps else next(run for run in ended if run.step is None)
        other = next(run for run in ended if run is not gap and run.step is not None)
        what = "other runs have one" if gaps else f"{other.contestant} no tokens ({other.at}); all need one of the two"
        raise InputError(f"{gap.at}: {gap.contestant} has no step there, and {what}")
    if slope is not None and slope.unit == "steps" and all(run.step is not None for run in ended):
        return "steps"
    if slope is not None and slope.unit != unit:
        have = f"their lengths are in {unit}" if unit else "no column gives their length"
        option = {"steps": "--step", "tokens": "--tokens"}[slope.unit]
        raise InputError(f"the slope is in {slope.unit}, and of the runs {have}; name a column with {option}")
    return unit


def _length(run: FoundRun, unit: str) -> float | None:
    """None for a run that did not come to its end, so that its length says nothing."""
    if run.loss is None or not math.isfinite(run.loss) or run.status in (*FAILED, *RUNNING):
        return None
    if unit == "tokens":
        return run.tokens if run.tokens is not None else (run.step or 0) * (run.batch_tokens or 0)
    return run.step if unit == "steps" else 1.0


def _contest_lengths(
    members: dict[str, list[FoundRun]],
    base: str,
    unit: str,
    slope: Slope | None,
) -> dict[str, float]:
    """The length at which each contestant is judged: one for all, unless there is a slope."""
    found: dict[str, dict[float, list[FoundRun]]] = {}
    for name, group in members.items():
        for run in group:
            if run.length is not None:
                found.setdefault(name, {}).setdefault(run.length, []).append(run)
    for name, lengths in found.items():
        if min(lengths) < 1:
            run = lengths[min(lengths)][0]
            raise InputError(f"{run.at}: {name} ends after {min(lengths):g} {unit}; a run needs a length of at least 1")
        if name != base and len(lengths) > 1:
            column = "step" if unit == "steps" else "tokens"
            each = ", ".join(f"{length:.15g} ({len(ends)}, {ends[0].at})" for length, ends in sorted(lengths.items()))
            most = max(lengths, key=lambda length: len(lengths[length]))
            raise InputError(
                f"the runs of {name} end at different {unit}: {each}; keep one with --where '{column} == {most:.15g}', "
                f"or make them contestants of their own with --contestant NAME,{column}"
            )
    others = {length: name for name, lengths in found.items() if name != base for length in lengths}
    mine = found.get(base, {})
    if slope is None and len(others) > 1:
        each = ", ".join(f"{name} {length:.15g}" for length, name in others.items())
        raise InputError(
            f"runs of different {unit} cannot be compared ({each}); a --slope would carry one to the other"
        )
    if len(others) == 1 and next(iter(others)) in mine:
        chosen = next(iter(others))
    elif mine and (slope is not None or not others):
        chosen = max(mine, key=lambda length: (len(mine[length]), length))
    elif mine:
        length, name = next(iter(others.items()))
        each = ", ".join(f"{one:.15g}" for one in sorted(mine))
        within = any(length == x for run in members[base] for x, _ in run.curve)
        hint = "; or say --rows run, if each row is a run that was trained to its end" if within else ""
        raise InputError(
            f"runs of different {unit} cannot be compared: {name} ends at {length:.15g}, {base} at {each}; a --slope "
            f"would carry one to the other{hint}"
        )
    else:
        chosen = next(iter(others), 1.0)
    return {name: next(iter(found.get(name, {})), chosen) if name != base else chosen for name in members}


class _Seeds:
    """Labels of seeds as whole numbers: themselves where they are, else numbers that nobody shares."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.alone = 2 * NO_SEED

    def of(self, label: str | None) -> int:
        if label is None:
            self.alone += 1
            return self.alone
        if label.isdecimal() and int(label) < NO_SEED:
            return int(label)
        return self.numbers.setdefault(label, NO_SEED + len(self.numbers))


def _identify(runs: Sequence[FoundRun]) -> None:
    """A name for each run: its own where no other has it, else where it begins."""
    counts = Counter(run.name for run in runs)
    for run in runs:
        run.identity = run.name if run.name and counts[run.name] == 1 else run.at


class _Rows:
    """Runs as rows of trials. Their JSON is written once for each different value, which runs share."""

    def __init__(self) -> None:
        self.seeds = _Seeds()
        self.written: dict[tuple[Any, ...], str] = {}

    def rows(
        self, runs: Iterable[FoundRun], phase: Phase, length: float, names: Sequence[str]
    ) -> Iterator[dict[str, Any]]:
        """Of runs of one contestant. ``names``: hyperparameters that the search of the contestant varied."""
        shared: dict[tuple[int, int], dict[str, Any]] = {}
        for run in runs:
            key = id(run.hyperparameters), id(run.workload)
            if key not in shared:
                shared[key] = self._shared(run, phase, length, names)
            seed, status = self.seeds.of(run.seed), _status(run)
            yield shared[key] | {
                "run": run.identity,
                "status": status,
                "init_seed": seed,
                "data_seed": seed,
                "final_loss": run.loss if status == "done" else None,
                "message": f"its status is {run.status}" if status == "failed" else "",
            }

    def _shared(self, run: FoundRun, phase: Phase, length: float, names: Sequence[str]) -> dict[str, Any]:
        """What the row of a run has from its configuration."""
        tuned = self._json(run.hyperparameters, tuple(names))
        lr = run.hyperparameters.get("lr")
        return EMPTY | {
            "contestant": run.contestant,
            "phase": phase,
            "varied": tuned,
            "hyperparameters": tuned if phase == "final" else self._json(run.hyperparameters),
            "lr": float(lr) if isinstance(lr, int | float) else None,
            "tokens": round(length),
            "budget_tokens": round(length),
            "workload": self._json(run.workload),
        }

    def _json(self, values: dict[str, Any], names: tuple[str, ...] | None = None) -> str:
        """Of all of the values, or of these."""
        key = id(values), names
        if key not in self.written:
            chosen = values if names is None else {name: values.get(name) for name in names}
            self.written[key] = json.dumps(chosen, sort_keys=True, default=str)
        return self.written[key]


def _status(run: FoundRun) -> str:
    if (run.loss is not None and not math.isfinite(run.loss)) or run.status == "diverged":
        return "diverged"
    if run.status in FAILED:
        return "failed"
    return "unfinished" if run.loss is None or run.status in RUNNING else "done"


def _once(name: str, runs: list[FoundRun]) -> str:
    """Leave out runs whose evaluations are all of another one's too, such as a summary in the log, and say so."""
    same_end: dict[tuple[Any, ...], list[FoundRun]] = {}
    copies: dict[FoundRun, FoundRun] = {}
    for run in sorted(runs, key=lambda run: -len(run.curve)):
        if len(run.curve) < COPIED:
            break
        others = same_end.setdefault((run.curve[-1], repr(run.hyperparameters)), [])
        original = next((other for other in others if set(run.curve) <= set(other.curve)), None)
        if original is None:
            others.append(run)
        else:
            copies[run] = original
    if not copies:
        return ""
    count = len(runs)
    runs[:] = [run for run in runs if run not in copies]
    copy, original = next(iter(copies.items()))
    return (
        f"{name}: {len(copies)} of {count} runs have no evaluation that another one has not to the last digit, and are "
        f"left out: a run counts once (such as {copy.at}, of {original.at})."
    )


def _check_duplicates(name: str, runs: Sequence[FoundRun]) -> None:
    seen: dict[str, FoundRun] = {}
    for run in sorted((run for run in runs if run.seed is not None), key=lambda run: seed_order(run.seed)):
        other = seen.setdefault(run.seed or "", run)
        if other is run:
            continue
        differ = [key for key, value in run.others.items() if value != other.others.get(key)]
        hint = (
            f"they differ in {listed(differ, 6)}: if a search varied one of these, name it with --hyperparameters"
            if differ
            else "each seed counts once"
        )
        here, there = run.at.partition(", row")[0], other.at.partition(", row")[0]
        if here != there:
            hint += f" (--where \"'{Path(here).name}' not in file\" leaves a file out)"
        raise InputError(f"{run.at}: {name} has another run on seed {run.seed} ({other.at}); {hint}")


def _scaled(run: FoundRun, unit: str) -> tuple[tuple[float, float], ...]:
    """The curve of a run over the unit of the lengths."""
    end = run.curve[-1][0]
    factor = run.length / end if unit == "tokens" and run.length and end and run.step == end else 1.0
    return tuple((x * factor, y) for x, y in run.curve)
