"""What a study comes to whoever trains: its contest, its baseline and protocol, the names of its ledgers."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fairstep.runs import Ledger
from fairstep.study.file.line_numbers import LineNumbers, WrongKey
from fairstep.study.file.protocol import named_hyperparameters, protocol_of
from fairstep.study.file.schema import ContestTable
from fairstep.study.protocols import Protocol, Thrifty
from fairstep.study.protocols.search import Problem
from fairstep.study.tournament.contest import AnyWorkload, Contest, Contestant
from fairstep.study.transfer import HyperP, Law
from fairstep.study.workload import Workload


def contest_of(
    table: ContestTable,
    lines: LineNumbers,
    workloads: Mapping[str, AnyWorkload],
    contestants: Sequence[Contestant],
) -> Contest:
    """The contest of a study's tables. Raises StudyError."""
    contest = Contest(
        cells=workloads,
        contestants=tuple(contestants),
        baseline=_baseline(table, lines, [contestant.name for contestant in contestants]),
        protocol=_protocol(table, lines, workloads, contestants),
        seeds=table.seeds,
        finalists=table.finalists,
        finalist_seeds=table.finalist_seeds,
        tolerance=table.tolerance,
        budgets=tuple(table.budgets),
        budget_seeds=table.budget_seeds,
        extensions=table.extensions,
        refine=table.refine,
        companions=table.companions,
        trials=table.trials,
    )
    with lines.at("companions", before="companions: "):
        for contestant in contestants if table.companions else ():
            contest.problems(contestant)
    if isinstance(contest.protocol, Thrifty):
        for sentence in lawless(contest, contest.protocol):
            raise lines.error(["protocol", "name"], sentence)
    return contest


def lawless(contest: Contest, protocol: Thrifty) -> Iterator[str]:
    """Where the protocol has no law to carry a learning rate by, one sentence each with what is missing."""
    if protocol.part == 1:
        return
    for contestant in contest.contestants:
        for cell, problem in contest.problems(contestant).items():
            for why in (*_undecayed(contestant, contest.cells[cell], problem), *protocol.lacks(problem)):
                yield f"thrifty has no law for {contestant.name} in {cell}: {why}"


def _undecayed(contestant: Contestant, workload: AnyWorkload, problem: Problem) -> Iterator[str]:
    """Why a shorter schedule would not be the cell's in small."""
    if not isinstance(workload, Workload):
        yield "the schedule is somebody else's trainer's; take another protocol"
        return
    workload = workload.changed({name: at for name, at in problem.start.items() if not contestant.has(name)})
    schedule = workload.schedule_of(contestant.optimizer or contestant.name, problem.tokens // problem.batch_tokens)
    if schedule.kind == "constant":
        yield "its learning rate does not decay (schedule constant); take another schedule or protocol"
    if workload.schedule != "own" and workload.warmup_fraction is None:
        yield "its warm-up does not shrink with the schedule; give it as warmup_fraction"
    if isinstance(workload.transfer, HyperP | Law):
        yield f"transfer = {workload.transfer.name!r} follows the length already; take none or mup, or another protocol"


def _baseline(table: ContestTable, lines: LineNumbers, names: list[str]) -> str:
    baseline = table.baseline or ("adamw" if "adamw" in names else names[0] if names else "")
    if baseline not in names:
        raise lines.error(
            ["baseline"], f"the baseline {baseline!r} is no contestant; choose one of {', '.join(names) or 'them'}"
        )
    return baseline


def _protocol(
    table: ContestTable, lines: LineNumbers, workloads: Mapping[str, AnyWorkload], contestants: Sequence[Contestant]
) -> Protocol:
    described = table.protocol
    searched = {axis for one in contestants for space in (one.space, *one.spaces.values()) for axis in space.axes}
    with lines.at("protocol"):
        protocol = protocol_of(described.name, described.settings, workloads)
        for key, name in named_hyperparameters(protocol):
            if name not in searched:
                listed = ", ".join(sorted(searched)) or "nothing"
                raise WrongKey(key, f"{key} names {name!r}, which no contestant searches; they search {listed}")
    return protocol


def digest_of(identity: Mapping[str, Any]) -> str:
    """The name of what decides a study."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]


def ledgers_of(study: str, title: str, digest: str, command: str, contest: Contest) -> dict[str, Ledger]:
    """The ledgers to begin with, by cell."""
    names = ledger_names(study, list(contest.cells), digest)
    return {
        name: Ledger(
            name=names[name],
            study=study,
            title=title,
            command=command,
            baseline=contest.baseline,
            contestants=tuple(contestant.name for contestant in contest.contestants),
            cell=workload.cell(),
        )
        for name, workload in contest.cells.items()
    }


LONGEST = 120
"""Bytes of a ledger's name before the study's digest; file systems allow 255, and the page's name is longer."""


def ledger_names(study: str, cells: Sequence[str], digest: str) -> dict[str, str]:
    """A file name for the ledger of every cell: no two are the same, not even where A is a, and all end in the digest.

    A name with other signs than letters, digits and .+=- or with too many is told apart by a hash of the cell's own.
    """
    plain = {cell: re.sub(r"[^\w.+=-]|^\.", "_", f"{study}-{cell}") for cell in cells}
    taken = Counter(name.casefold() for name in plain.values())
    names = {}
    for cell, name in plain.items():
        short = name.encode()[:LONGEST].decode(errors="ignore")
        if short != name or taken[name.casefold()] > 1:
            short += "-" + hashlib.sha256(f"{study}-{cell}".encode(errors="surrogatepass")).hexdigest()[:8]
        names[cell] = f"{short}-{digest}"
    return names
