"""``fairstep compare``: from names to a verdict."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from fairstep import optim
from fairstep.cli import fail, screen, space
from fairstep.cli.options import Assignments, WorkloadOptions, assignment, hyperparameters, parse, prepared
from fairstep.cli.verdict import print_verdict
from fairstep.cli.watch import watching
from fairstep.runs import Ledger, Store, machine
from fairstep.study import Contest, Contestant, ContestError, Layout, LocalLauncher, Space, carry_out

CELL = ""
"""Name of a contest's only cell."""


@dataclass(frozen=True)
class CompareOptions:
    """Tune every contestant's learning rate on an equal grid, repeat the winners on fresh paired seeds, and say which
    are faster, slower or not separable from the baseline.

    Example: fairstep compare adamw lion muon soap --store runs/first

    Stop it at any moment: the same command goes on without repeating a finished run.
    """

    contestants: tyro.conf.Positional[tuple[str, ...]]
    """Two or more optimizers; `fairstep optimizers` lists them. Any torch optimizer may compete, as
    package.module:Class."""
    baseline: str = ""
    """The contestant that the others are measured against. Default: adamw if it competes, else the first."""
    seeds: int = 3
    """Fresh seeds for each contestant's best configuration; at least 2 for an interval."""
    budgets: tuple[float, ...] = (0.5, 2.0)
    """Token budgets of the baseline, as multiples of the cell's, that turn a loss into tokens."""
    budget_seeds: int = 1
    """Seeds for each of these."""
    points: int = 3
    """Learning rates of every contestant's first grid, a factor of 2 apart."""
    extensions: int = 4
    """How many points a learning-rate grid may grow by while its best point is at an edge."""
    space: Assignments = ()
    """Values that are tried: lr=log:1e-4:1e-2 (a range), lion.lr=1e-3,2e-3 (a list, for one contestant) or a TOML file;
    may be given several times. Without a contestant's name it is for those of other packages, pkg.mod:Class."""
    set: Assignments = ()
    """A hyperparameter of one contestant, for example --set adamw.beta2=0.98; may be given several times."""
    workers: int = 0
    """Runs at the same time. Default: as many as cores and memory allow."""
    store: Path = Path("runs/compare")
    """Folder of the runs, the ledger and the report."""
    report: Path | None = None
    """Where to write the page. Default: report.html in the store."""
    json: bool = False
    """Print the verdicts as JSON."""
    workload: Annotated[WorkloadOptions, tyro.conf.arg(name="")] = field(default_factory=WorkloadOptions)


def main(arguments: list[str]) -> int:
    options = parse(CompareOptions, "compare", arguments)
    check_effort(options)
    contestants = contestants_of(options)
    names = [contestant.name for contestant in contestants]
    baseline = baseline_of(options, names)
    store = Store(options.store).writable()
    workload, size, division = prepared(options.workload, longest=max((1.0, *options.budgets)))
    contest = Contest(
        cells={CELL: workload},
        contestants=contestants,
        baseline=baseline,
        seeds=options.seeds,
        budgets=options.budgets,
        budget_seeds=options.budget_seeds,
        extensions=options.extensions,
    )
    for contestant in contestants:  # what no run can be made of is refused here: a search leaves such points out
        contestant.spec(workload, contestant.problem(CELL, workload, 0, 0).start, 0)
    cell = workload.cell(size.parameters_matrix, size.parameters(workload.model.vocabulary))
    ledger = Ledger(
        name=ledger_name(contest),
        command=shlex.join(["fairstep", "compare", *arguments]),
        baseline=baseline,
        contestants=tuple(names),
        cell=cell,
    )
    here = machine()
    if options.workers:
        division = Layout(options.workers, division.threads)
    screen.say(
        f"{', '.join(names)} on {cell.data}: {size.name} matrix parameters, {cell.tokens:,} tokens a run, "
        f"{division.workers} run(s) at a time with {division.threads} thread(s), {workload.precision}"
    )
    began = time.perf_counter()
    with LocalLauncher(here, division) as launcher, watching() as watch:
        try:
            ledger = carry_out(contest, {CELL: ledger}, store, launcher, watch)[CELL]
        except ContestError as error:
            return fail(f"{error}; finished runs are kept in {store.path}", 1)
    return conclude(store, ledger, options.report, options.json, time.perf_counter() - began)


def conclude(store: Store, ledger: Ledger, page: Path | None, as_json: bool, seconds: float | None = None) -> int:
    """Print the verdict of a ledger and write its page."""
    from fairstep.analysis import Trials, contest_result
    from fairstep.report import write_report

    trials = Trials.read(ledger, store.runs())
    result: dict[str, Any] = contest_result(trials)
    path = write_report(store, ledger, page or store.path / "report.html", trials).absolute()
    if as_json:
        print(json.dumps(result | {"report": str(path)}))
    else:
        print_verdict(result, seconds)
        print(f"\nreport: {path}")
    return 0


def contestants_of(options: CompareOptions) -> tuple[Contestant, ...]:
    """Contestants with checked hyperparameters. Raises ValueError."""
    specs = [optim.get(name) for name in options.contestants]
    names = [spec.name for spec in specs]
    if len(names) < 2:
        raise ValueError(f"compare needs two or more optimizers, not {', '.join(names) or 'none'}")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice} is named twice; every contestant competes once")
    given: dict[str, dict[str, Any]] = {name: {} for name in names}
    for text in options.set:
        target, value = assignment(text)
        owner, dot, name = target.rpartition(".")
        owner = optim.get(owner).name if dot else owner
        if not dot or owner not in given or name == "lr":
            listed = ", ".join(names)
            raise ValueError(f"--set takes CONTESTANT.NAME=VALUE with one of {listed}, and not lr; got {text!r}")
        given[owner][name] = value
    spaces = spaces_of(options, specs)
    return tuple(
        Contestant(
            name=spec.name, hyperparameters=hyperparameters(spec.name, given[spec.name]), space=spaces[spec.name]
        )
        for spec in specs
    )


def spaces_of(options: CompareOptions, specs: list[optim.OptimizerSpec]) -> dict[str, Space]:
    """What is tried of each contestant: what --space says, else its own grid; the same number of trials for each."""
    given = space.read(options.space, specs)
    rates = {spec.name: given[spec.name].get("lr") or space.own(spec) for spec in specs}
    points = max(options.points, *(len(axis.values) for axis in rates.values()))
    if points > options.points:
        screen.say(f"every contestant gets {points} learning rates to begin with, as many as the longest --space")
    found = {name: Space({**given[name], "lr": space.longer(axis, points)}) for name, axis in rates.items()}
    for spec in specs:
        if spec.version and "lr" not in given[spec.name]:
            tried = " ".join(f"{value:g}" for value in found[spec.name].axes["lr"].values)
            screen.say(f"{spec.name}: without --space its learning rates are {tried}, around its default")
    sizes = {name: one.size() for name, one in found.items()}
    if len(set(sizes.values())) > 1:
        counted = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise ValueError(
            f"the spaces have different numbers of configurations ({counted}), and tuning must cost every contestant "
            "the same; give the others as many values, or fix a hyperparameter with --set"
        )
    return found


def baseline_of(options: CompareOptions, names: list[str]) -> str:
    if not options.baseline:
        return "adamw" if "adamw" in names else names[0]
    baseline = optim.get(options.baseline).name
    if baseline not in names:
        raise ValueError(f"the baseline {baseline} does not compete; choose one of {', '.join(names)}")
    return baseline


def check_effort(options: CompareOptions) -> None:
    """Raises ValueError for effort that makes no contest."""
    for name, least in (("seeds", 2), ("points", 3), ("budget_seeds", 1), ("extensions", 0), ("workers", 0)):
        value = getattr(options, name)
        if value < least:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {least}, not {value}")
    if options.points > space.MOST:
        raise ValueError(f"--points must be at most {space.MOST}, not {options.points}")
    for budget in options.budgets:
        if not 0.05 <= budget <= 20 or budget == 1:
            raise ValueError(
                f"--budgets takes multiples of the token budget from 0.05 to 20 other than 1, not {budget}"
            )


def ledger_name(contest: Contest) -> str:
    """Readable, and different for contests that differ in anything."""
    digest = hashlib.sha256(repr(contest).encode()).hexdigest()[:8]
    names = "-".join(contestant.name for contestant in contest.contestants)
    return re.sub(r"[^\w.+-]", "_", names) + f"-{digest}"
