"""Paces of runs on this machine, measured by short runs, as many at a time as in a study, and kept in the cache."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import random
import statistics
import string
import tempfile
import time
from collections.abc import Hashable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

from fairstep.cli.shared import screen
from fairstep.cost.pace import WARM_STEPS, Pace, mean, pace_of, short, steps_for
from fairstep.cost.run_cost import Cost
from fairstep.data import cache_directory, prepare
from fairstep.runs import DataSpec, Run, RunSpec, Store, machine, read_json, write_atomic
from fairstep.study import Layout, LocalLauncher

Place = TypeVar("Place", bound=Hashable)
Wanted = Mapping[str, tuple[RunSpec, int]]
"""Runs to be timed, and the steps for it."""

LONGEST_STEP = 10.0
"""Seconds that a step may be expected to take: what takes longer is no small model, and nobody waits for it here."""

HINT = "Small models take several times as long; --measure times short runs here, and later plans rest on them."


def paced(
    costs: Mapping[Place, Cost], specs: Mapping[Place, RunSpec], division: Layout, measure: bool
) -> dict[Place, Cost]:
    """Costs at the paces of this machine: taken now with ``measure``, else as they were taken before; where one is not
    known, all stay as they are. Raises ValueError for a run that is too slow to be timed, or fails."""
    keys = {place: key(spec, division) for place, spec in specs.items()}
    path = cache_directory() / "paces.json"
    kept = known(path)
    if measure:
        wanted = {keys[place]: (spec, steps_of(costs[place], spec)) for place, spec in specs.items()}
        kept |= taken(wanted, division)
        with contextlib.suppress(OSError):  # without a cache every plan has to measure
            write_atomic(path, json.dumps({name: asdict(pace) for name, pace in kept.items()}, indent=1))
    if not all(name in kept for name in keys.values()):
        return dict(costs)
    return {
        place: replace(one, pace=kept[keys[place]], seconds_expected=kept[keys[place]].seconds(specs[place]))
        for place, one in costs.items()
    }


def known(path: Path) -> dict[str, Pace]:
    """What was measured before; of a file that is not as this version writes it, nothing."""
    try:
        paces = {name: Pace(**pace) for name, pace in (read_json(path) or {}).items()}
    except (AttributeError, TypeError):
        return {}
    return {name: pace for name, pace in paces.items() if all(map(_measured, asdict(pace).values()))}


def _measured(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value < 1e12


def basis(*paces: Pace) -> str:
    """What times rest on that were measured."""
    loads = list(dict.fromkeys(f"{load:.1f}" for load in sorted(pace.load for pace in paces)))
    load = " to ".join(dict.fromkeys((loads[0], loads[-1])))
    at_once = f"{paces[0].at_once} at a time" if paces[0].at_once > 1 else "one at a time"
    return f"measured on this machine by short runs, {at_once}, at a load of {load} before; evaluations are counted"


def steps_of(one: Cost, spec: RunSpec) -> int:
    """How many steps are timed. Raises ValueError for a model whose steps take too long."""
    expected = one.seconds_expected / one.steps
    if expected > LONGEST_STEP:
        raise ValueError(
            f"a step of {spec.model.preset or 'the model'} would take {expected:.0f} s on this machine, and more than "
            f"{LONGEST_STEP:.0f} s are not timed; leave --measure out"
        )
    return steps_for(expected)


def key(spec: RunSpec, division: Layout) -> str:
    """What a pace is of: the machine and its division, torch, and the run but for its length, text and schedule."""
    compiled = "compiled" if spec.execution.compile else "uncompiled"
    how = f"{division.workers} x {division.threads} threads, {compiled}"
    micro = spec.execution.micro_batch_sequences or spec.batch_sequences
    torch = importlib.metadata.version("torch")
    return f"{machine().processor}, {how}, micro-batch {micro}, torch {torch}, {short(spec, WARM_STEPS).identity}"


def taken(wanted: Wanted, division: Layout) -> dict[str, Pace]:
    """Every pace, by what ``key`` calls it. In every worker a first run compiles the model, and a second one counts;
    all workers have the same to do at the same time, as in a study."""
    load = os.getloadavg()[0]
    paces: dict[str, Pace] = {}
    with tempfile.TemporaryDirectory(prefix="fairstep-pace-") as folder, screen.progress() as bar:
        task = bar.add_task("timing short runs", total=len(wanted))
        cache = Path(folder, "cache")
        data = text(cache, {name: (short(spec, steps), steps) for name, (spec, steps) in wanted.items()})
        store = Store(folder).writable()
        with LocalLauncher(machine(), division, {"FAIRSTEP_CACHE": str(cache)}) as launcher:

            def wall_times(spec: RunSpec, steps: int, first_seed: int) -> dict[Run, float]:
                seeds = range(first_seed, first_seed + division.workers)
                return walls(launcher, [written(store, short(spec, steps, seed, data)) for seed in seeds])

            for name, (spec, steps) in wanted.items():
                warm, timed = wall_times(spec, WARM_STEPS, 0), wall_times(spec, steps, division.workers)
                pace = mean([pace_of(run, wall, division.workers, load) for run, wall in timed.items()])
                first = statistics.fmean(warm.values()) - pace.seconds(short(spec, WARM_STEPS))
                paces[name] = replace(pace, first=max(0.0, first))
                bar.advance(task)
    return paces


def walls(launcher: LocalLauncher, runs: list[Run]) -> dict[Run, float]:
    """Seconds that each of the runs took, all started now. Raises ValueError for one that fails."""
    began = time.perf_counter()
    seconds: dict[str, float] = {}
    for run in runs:
        launcher.start(run)
    while len(seconds) < len(runs):
        for event in launcher.events(timeout=1.0):
            if event["event"] == "end":
                if event["status"] == "failed":
                    raise ValueError(f"a short run could not be timed: {event['message']}; leave --measure out")
                seconds[event["run"]] = time.perf_counter() - began
    return {run: seconds[run.id] for run in runs}


def written(store: Store, spec: RunSpec) -> Run:
    """A run with its spec, as launchers take it."""
    run = store.run(spec)
    write_atomic(run.directory / "spec.json", spec.to_json())
    return run


def text(folder: Path, wanted: Wanted) -> DataSpec:
    """Random text, prepared in ``folder``: half of it for validation, twice what an evaluation reads. What a text says
    does not change how long it takes."""
    tokens = max(max(spec.evaluation.tokens, 8 * spec.model.context) for spec, _ in wanted.values())
    draw, length = random.Random(0), 2000
    for number in range(max(16, 4 * tokens // length)):
        file = folder / "text" / f"{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(draw.choices(string.ascii_lowercase, k=length)))
    corpus = prepare(str(folder / "text" / "*.txt"), tokenizer="bytes", validation_share=0.5, cache=folder)
    return DataSpec(name=corpus.name, fingerprint=corpus.fingerprint, vocabulary=corpus.vocabulary)
