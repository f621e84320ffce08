"""``fairstep study plan``: what a study will cost, before anything is spent."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import tyro

from fairstep.analysis import count_text, plural
from fairstep.cli.shared import screen
from fairstep.cli.shared.options import parse
from fairstep.cli.shared.pace import HINT, basis, paced
from fairstep.cli.shared.screen import duration
from fairstep.cost.devices import Device
from fairstep.cost.devices import device as device_named
from fairstep.cost.precision import auto_precision
from fairstep.cost.run_cost import Cost
from fairstep.runs import machine
from fairstep.study.file.launcher import layout_of
from fairstep.study.file.study import CommandStudy, Study, read
from fairstep.study.forecast.games import PHASES, Forecast, Spent, Spread, forecast
from fairstep.study.protocols.grid import Grid
from fairstep.study.protocols.thrifty import Thrifty
from fairstep.study.tournament.contest import Contest


@dataclass(frozen=True)
class PlanOptions:
    """Trials, tokens, FLOPs and device hours of a study, by cell and by phase, without its texts and without training.

    What a protocol asks for depends on results, so it is played on random objectives: with noise, and with optima off
    the starting point and beyond the grids, from hardly to far. "expected" is the mean of these games, "least" and
    "most" are their ends; "least" is mostly the game in which every search begins at its optimum.

    For the protocol thrifty its tokens and its regret are printed beside the full grid's, in the same games.

    Example: fairstep study plan studies/wen-phase1.toml --device h100
    Example: fairstep study plan studies/pocket-wen.toml --measure
    """

    file: tyro.conf.Positional[Path]
    """A study file."""
    device: str = ""
    """A device of `fairstep plan` (h100, a100-80gb, ...). Default: the file's, else this machine."""
    measure: bool = False
    """Time short runs of every model and contestant on this machine's processor, as many at once as the launcher local
    starts, instead of assuming how fast they are. Kept for later plans of this machine (paces.json in the cache)."""
    json: bool = False
    """Print as JSON."""


def main(arguments: list[str]) -> int:
    options = parse(PlanOptions, "study plan", arguments)
    study = read(options.file)
    if isinstance(study, CommandStudy):
        return plan_of_command(study, options.json)
    named = options.device or study.table.launcher.device
    if options.measure and (named or machine().gpus or study.table.launcher.each > 1):
        why = f"the device is {named}" if named else "a trial is not one process on a processor"
        raise ValueError(f"--measure times runs on this machine's processor, and {why}; leave --measure out")
    contest = study.contest()
    costs = study.costs(contest, device_named(options.device) if options.device else None)
    if not named:
        costs = on_this_machine(costs)
        if not machine().gpus and study.table.launcher.each == 1:
            costs = at_its_pace(study, costs, options.measure)
    expected = forecast(contest, costs)
    if options.json:
        print(json.dumps(as_json(study, contest, costs, expected), indent=1))
    else:
        show(study, contest, costs, expected)
    return 0


def plan_of_command(study: CommandStudy, as_json: bool) -> int:
    """Trials and tokens; what a trial of somebody else's trainer takes, nobody knows before."""
    contest = study.contest()
    found = forecast(contest, {})
    names = [contestant.name for contestant in contest.contestants]
    if as_json:
        spreads = {cell: asdict(found.spread(cell)) for cell in contest.cells}
        phases = {phase: asdict(found.spread(phase=phase)) for phase in PHASES}
        head = {"study": study.name, "digest": study.digest, "contestants": names}
        print(json.dumps(head | {"all": asdict(found.spread()), "cells": spreads, "phases": phases}, indent=1))
        return 0
    many = f"{plural(len(names), 'contestant')} in {plural(len(contest.cells), 'cell')}"
    screen.out(f"{study.table.title or study.name}: {many}\n")
    header = ["cell", "tokens a run", "least", "trials expected", "most", "tokens"]
    rows = []
    for cell, workload in contest.cells.items():
        spread = found.spread(cell=cell)
        rows.append([cell, count_text(workload.tokens), *trials(spread), count_text(spread.expected.tokens)])
    screen.print_table("Cells", header, rows)
    screen.out(f"\n* Contestants: {', '.join(names)}; protocol {study.table.protocol.name}.")
    for warning in contest.warnings():
        screen.out(f"* {warning[0].upper()}{warning[1:]}.")
    screen.out(
        f"* Nobody has timed {study.trainer.name}, so that there are no hours; `fairstep doctor --trainer` tries it."
    )
    return 0


def on_this_machine(costs: Mapping[tuple[str, str], Cost]) -> dict[tuple[str, str], Cost]:
    """With the rate of this machine's matrix products, measured now or at an earlier time."""
    from fairstep.train.rate import this_device  # loads torch

    here, first = machine(), next(iter(costs.values())).device
    _, rate, memory = this_device(here.device, here.cores, auto_precision(here))
    device = replace(first, flops=rate, memory_bytes=first.memory_bytes or memory)
    return {
        place: replace(one, device=device, seconds_expected=one.seconds_expected * first.flops / rate)
        for place, one in costs.items()
    }


def at_its_pace(study: Study, costs: Mapping[tuple[str, str], Cost], measure: bool) -> dict[tuple[str, str], Cost]:
    """With the times of short runs, if they were or are to be taken."""
    division = layout_of(study)
    starts = study.starts(study.contest(threads=division.threads))
    return paced(costs, {(cell.name, name): spec for cell, name, spec in starts}, division, measure)


def show(study: Study, contest: Contest, costs: Mapping[tuple[str, str], Cost], found: Forecast) -> None:
    """Tables by cell and phase, and what they rest on."""
    device = next(iter(costs.values())).device
    names = [contestant.name for contestant in contest.contestants]
    many = f"{plural(len(names), 'contestant')} in {plural(len(contest.cells), 'cell')}"
    screen.out(f"{study.table.title or study.name}: {many}\n")
    unit = f"{device.name} hours"
    header = ["cell", "tokens a run", "one run", "memory", "least", "trials expected", "most", "tokens", "FLOPs", unit]
    rows = []
    for cell, workload in contest.cells.items():
        mine = [costs[cell, name] for name in names]
        longest, largest = max(c.seconds_expected for c in mine), max(c.memory_bytes for c in mine)
        spread = found.spread(cell=cell)
        run = [cell, count_text(workload.tokens), duration(longest), f"{largest / 1e9:.1f} GB"]
        rows.append([*run, *trials(spread), *numbers(spread.expected)])
    screen.print_table("Cells", header, rows)
    print()
    header = ["phase", "least", "trials expected", "most", "tokens", "FLOPs", unit]
    rows = []
    for phase in (*PHASES, None):
        spread = found.spread(phase=phase)
        if phase is None or spread.most.trials:
            rows.append([phase or "all", *trials(spread), *numbers(spread.expected)])
    screen.print_table("Phases", header, rows)
    if beside := beside_grid(contest, costs, found):
        print()
        rows = [beside_row(name, one, beside["grid"]) for name, one in beside.items()]
        header = ["protocol", "trials", "tokens", "over the grid's", "regret", "10 % of games", "90 %"]
        screen.print_table("Beside the full grid", header, rows)
        screen.out(f"\n{REGRET}")
    screen.out(
        f"\n* Trials: {len(found.games)} games on random objectives, with noise and with starting points that fit from "
        "well to badly. Tokens, FLOPs and hours are expected ones."
    )
    screen.out(f"* Contestants: {', '.join(names)}; protocol {study.table.protocol.name}.")
    for warning in contest.warnings():
        screen.out(f"* {warning[0].upper()}{warning[1:]}.")
    screen.out(f"* Hours: {hours_from(list(costs.values()), study.table.launcher.each)}")
    if any(one.optimizer_flops is None for one in costs.values()):
        screen.out(
            "* The cost of optimizers of other packages is not known before they run; the model's alone is counted."
        )


REGRET = (
    "* Regret: nats per token by which what is chosen is above its objective's optimum, mean of all contestants and "
    "cells. 10 and 90 %: over games."
)


def beside_grid(contest: Contest, costs: Mapping[tuple[str, str], Cost], found: Forecast) -> dict[str, Forecast]:
    """A thrifty contest and the full grid of it, in the same games; empty for other protocols."""
    if not isinstance(contest.protocol, Thrifty):
        return {}
    return {"thrifty": found, "grid": forecast(replace(contest, protocol=Grid()), costs)}


def beside_row(name: str, one: Forecast, grid: Forecast) -> list[str]:
    spent, whole = one.spread().expected, grid.spread().expected
    lost = [f"{value:.4f}" for value in regret(one).values()]
    return [name, f"{spent.trials:,}", count_text(spent.tokens), f"{spent.tokens / whole.tokens:.2f}", *lost]


def regret(one: Forecast) -> dict[str, float]:
    """Of the games, in nats per token: mean, 10 % and 90 %."""
    tenths = statistics.quantiles(one.regrets, n=10, method="inclusive")
    return {"regret": statistics.fmean(one.regrets), "regret_low": tenths[0], "regret_high": tenths[-1]}


def hours_from(costs: Sequence[Cost], each: int) -> str:
    """What the hours rest on."""
    device, paces = costs[0].device, {one.pace for one in costs if one.pace}
    if paces:
        first = sum(pace.first for pace in paces)
        return f"{basis(*paces)}, without what a worker loads and compiles ({first:.0f} s once)."
    text = (
        f"{device.flops / 1e12:.4g} TFLOP/s ({device.source}) at an assumed utilisation of {device.utilisation:.0%}, "
        f"{each} device{'s' if each > 1 else ''} a trial, without evaluations, loading and compiling."
    )
    return f"{text} {HINT}" if device.name == "cpu" and each == 1 else text


def numbers(spent: Spent) -> list[str]:
    hours = spent.seconds / 3600
    return [count_text(spent.tokens), f"{spent.flops:.2g}", f"{hours:,.0f}" if hours >= 100 else f"{hours:.2g}"]


def trials(spread: Spread) -> list[str]:
    return [f"{spent.trials:,}" for spent in (spread.least, spread.expected, spread.most)]


def as_json(study: Study, contest: Contest, costs: Mapping[tuple[str, str], Cost], found: Forecast) -> dict[str, Any]:
    """``cells``, ``phases`` and ``all``: least, expected and most of the games. ``runs``: one of every cell and
    contestant. ``beside``: of the protocol thrifty and the full grid, expected, with the regret in nats; empty for
    other protocols. ``low`` and ``high``, once the games' 10th and 90th percentiles, repeat least and most."""

    def spread(cell: str | None = None, phase: str | None = None) -> dict[str, Any]:
        ends = asdict(found.spread(cell, phase))
        return ends | {"low": ends["least"], "high": ends["most"]}

    device: Device = next(iter(costs.values())).device
    beside = beside_grid(contest, costs, found)
    return {
        "study": study.name,
        "digest": study.digest,
        "contestants": [contestant.name for contestant in contest.contestants],
        "protocol": study.table.protocol.name,
        "device": asdict(device),
        "games": len(found.games),
        "all": spread(),
        "cells": {cell: spread(cell=cell) for cell in contest.cells},
        "phases": {phase: spread(phase=phase) for phase in PHASES},
        "runs": [{"cell": cell, "contestant": name, **one.row()} for (cell, name), one in costs.items()],
        "beside": {name: asdict(one.spread().expected) | regret(one) for name, one in beside.items()},
    }
