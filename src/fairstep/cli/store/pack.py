"""``fairstep store pack``: the finished contests of stores in a few small files."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from fairstep.cli.shared import screen
from fairstep.cli.shared.options import check_written, parse
from fairstep.cli.shared.store_problems import checked_all, gaps, problems
from fairstep.runs import Run, Store, StoreError


@dataclass(frozen=True)
class PackOptions:
    """Write the finished contests of stores in a compact form, which every verb reads as it reads a store.

    Kept are specs, summaries, ledgers, certificates, and curves at up to 50 points of each kind. Not kept are
    checkpoints, weights, output, timings of steps and times of starts. Runs that no ledger names are left out. Packing
    twice gives equal bytes. An older pack of the stores is replaced, one of other contests is not. A store with a
    problem that `fairstep store verify` would name is not packed, nor are stores that have the same run or contest with
    different results.

    Example: fairstep store pack runs/demo --out results/demo
    Example: fairstep store pack results/demo runs/larger --out results/both
    """

    stores: tyro.conf.Positional[tuple[Path, ...]]
    """Folders that `fairstep compare`, `study` or `demo` wrote, or packed stores."""
    out: Annotated[Path, tyro.conf.arg(help_behavior_hint="(required)")]
    """Folder of the packed store."""
    json: bool = False
    """Print as JSON."""


def main(arguments: list[str]) -> int:
    options = parse(PackOptions, "store pack", arguments)
    if not options.stores:
        raise ValueError("name at least one store to pack")
    if (options.out / "runs").is_dir():
        raise ValueError(f"--out {options.out} holds a store that is not packed; name another folder")
    check_written("--out", options.out, folder=True)
    runs: dict[str, Run] = {}
    ledgers: dict[str, bytes] = {}
    left = 0
    for path in options.stores:
        if options.out.resolve() == path.resolve():
            raise ValueError(f"--out must be another folder than the store, not {options.out}")
        mine, contests, unnamed = _contents(Store(path))
        for name in runs.keys() & mine.keys():
            if _result(runs[name]) != _result(mine[name]):
                raise ValueError(f"{path} has the run {name} with another result than a store before it")
        for name in ledgers.keys() & contests.keys():
            if ledgers[name] != contests[name]:
                raise ValueError(f"{path} has the contest {name} with other trials than a store before it")
        runs, ledgers, left = {**mine, **runs}, {**contests, **ledgers}, left + unnamed
    if lost := _lost_contests(options.out, ledgers):
        raise ValueError(
            f"--out {options.out} is a packed store with the contest {lost[0]}, which would be lost: it is not in "
            f"{' or '.join(map(str, options.stores))}. Name another folder, or remove that one"
        )
    from fairstep.runs.pack import write_pack  # loads polars

    size = write_pack(options.out, runs.values(), ledgers)
    if options.json:
        print(json.dumps({"store": str(options.out), "runs": len(runs), "left_out": left, "bytes": size}))
        return 0
    out = f"; {left} runs that no ledger names are left out" if left else ""
    screen.out(f"{options.out}: {len(runs)} runs, {len(ledgers)} contests, {size:,} bytes{out}")
    return 0


def _lost_contests(out: Path, ledgers: Collection[str]) -> list[str]:
    """Contests of a packed store in the folder that are not among these. Of one that cannot be read there is nothing to
    lose."""
    try:
        names = {path.stem for path in Store(out).ledger_paths()}
    except StoreError:
        return []
    return sorted(names - set(ledgers))


def _contents(store: Store) -> tuple[dict[str, Run], dict[str, bytes], int]:
    """(Runs that ledgers name, the ledgers, how many further runs there are). Raises ValueError with what is wrong."""
    runs, checked = checked_all(store)
    if found := [*gaps(store, checked), *problems(store, runs, checked)]:
        more = f" ({len(found) - 1} more; `fairstep store verify {store.path}` lists them)" if len(found) > 1 else ""
        raise ValueError(f"{store.path} is not packed: {found[0].rstrip('.')}{more}")
    named = {trial.run for ledger in store.ledgers() for trial in ledger.trials}
    kept = {run.id: run for run in runs if run.id in named}
    return kept, {path.stem: store.ledger_bytes(path) for path in store.ledger_paths()}, len(runs) - len(kept)


def _result(run: Run) -> dict[str, Any]:
    """Its summary without the digest, which is of the files as they lie there."""
    return run.summary.model_dump(exclude={"digest"}) if run.summary else {}
