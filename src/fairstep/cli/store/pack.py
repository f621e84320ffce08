"""``fairstep store pack``: the finished contests of a store in a few small files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fairstep.cli.shared import screen
from fairstep.cli.shared.options import parse
from fairstep.cli.shared.store_problems import checked_all, gaps, problems
from fairstep.runs import Store, StoreError


@dataclass(frozen=True)
class PackOptions:
    """Write the finished contests of a store in a compact form, which every verb reads as it reads the store.

    Kept are specs, summaries, ledgers, certificates, and curves at up to 50 points of each kind. Not kept are
    checkpoints, weights, output, timings of steps and times of starts. Runs that no ledger names are left out. Packing
    twice gives equal bytes. An older pack of the store is replaced, one of other contests is not. A store with a
    problem that `fairstep store verify` would name is not packed.

    Example: fairstep store pack runs/demo --out results/demo
    """

    store: tyro.conf.Positional[Path]
    """Folder that `fairstep compare`, `study` or `demo` wrote, or a packed store."""
    out: Annotated[Path, tyro.conf.arg(help_behavior_hint="(required)")]
    """Folder of the packed store."""
    json: bool = False
    """Print as JSON."""


def main(arguments: list[str]) -> int:
    options = parse(PackOptions, "store pack", arguments)
    store = Store(options.store)
    if options.out.resolve() == store.path.resolve():
        raise ValueError(f"--out must be another folder than the store, not {options.out}")
    if (options.out / "runs").is_dir():
        raise ValueError(f"--out {options.out} holds a store that is not packed; name another folder")
    if options.out.exists() and not options.out.is_dir():
        raise ValueError(f"--out {options.out} is a file; name a folder")
    runs, checked = checked_all(store)
    if found := [*gaps(store, checked), *problems(store, runs, checked)]:
        more = f" ({len(found) - 1} more; `fairstep store verify {store.path}` lists them)" if len(found) > 1 else ""
        raise ValueError(f"{store.path} is not packed: {found[0].rstrip('.')}{more}")
    if lost := lost_contests(options.out, store):
        raise ValueError(
            f"--out {options.out} is a packed store with the contest {lost[0]}, which {store.path} has not, and would "
            "lose it; name another folder, or remove that one"
        )
    from fairstep.runs.pack import write_pack  # loads polars

    named = {trial.run for ledger in store.ledgers() for trial in ledger.trials}
    kept = [run for run in runs if run.id in named]
    size = write_pack(options.out, kept, {path.stem: store.ledger_bytes(path) for path in store.ledger_paths()})
    left = len(runs) - len(kept)
    if options.json:
        print(json.dumps({"store": str(options.out), "runs": len(kept), "left_out": left, "bytes": size}))
        return 0
    out = f"; {left} runs that no ledger names are left out" if left else ""
    screen.out(f"{options.out}: {len(kept)} runs, {len(store.ledger_paths())} contests, {size:,} bytes{out}")
    return 0


def lost_contests(out: Path, store: Store) -> list[str]:
    """Contests of a packed store in the folder that the store does not have. Of one that cannot be read there is
    nothing to lose."""
    try:
        names = [path.stem for path in Store(out).ledger_paths()]
    except StoreError:
        return []
    return sorted({*names} - {path.stem for path in store.ledger_paths()})
