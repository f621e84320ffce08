"""``fairstep store check``: what the files of a store say against one another, and runs trained again."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from fairstep.analysis.verdict.wording import plural
from fairstep.cli.shared import screen
from fairstep.cli.shared.foreign import code_of_others
from fairstep.cli.shared.options import at_least, parse
from fairstep.cli.shared.store_problems import checked_all, problems, trained_otherwise
from fairstep.runs import CommandSpec, Run, Store


@dataclass(frozen=True)
class CheckOptions:
    """Check a store: names of runs, specs, summaries, digests, losses, trials and cells. Exit code 1 if anything fails.

    A report leaves out what fails here and says so. A digest shows that a file has changed since its run ended. It
    is no signature: whoever forges a loss can write the digest anew. ``--again`` trains runs anew instead.

    Example: fairstep store check runs/demo --again 2
    """

    store: tyro.conf.Positional[Path] = Path("runs/demo")
    """Folder that `fairstep compare`, `study`, `train` or `demo` wrote."""
    again: int = 0
    """Finished runs that are trained again, in a temporary folder. Their losses must be equal to the bit."""
    foreign: Annotated[bool, tyro.conf.arg(name="import")] = False
    """Train runs of optimizers of other packages too, which imports the modules that the store names."""
    json: bool = False
    """Print as JSON."""


def main(arguments: list[str]) -> int:
    options = parse(CheckOptions, "store check", arguments)
    at_least(options, 0, "again")
    store = Store(options.store)
    runs, checked = checked_all(store)
    if not runs and not store.ledger_paths():
        raise ValueError(f"the store {store.path} has no runs and no ledgers; name a folder that a verb wrote")
    found = list(problems(store, runs, checked))
    unsealed = sum(one.summary is not None and not one.summary.digest for one in checked.values())
    ended = [run for run in runs if (summary := checked[run.id].summary) and summary.status != "failed"]
    repeats = list(again(chosen(ended, options.again), options.foreign))
    found += [row["said"] for row in repeats if row["equal"] is False]
    if options.json:
        facts = {"store": str(store.path), "runs": len(runs), "finished": len(ended), "without_digest": unsealed}
        print(json.dumps(facts | {"problems": found, "again": repeats}, indent=1))
        return 1 if found else 0
    for sentence in found:
        screen.out(f"* {sentence}")
    for row in repeats:
        if row["equal"] is not False:
            screen.out(f"* {row['said']}")
    old = f"; {unsealed} of them were written before there were digests" if unsealed else ""
    said = plural(len(found), "problem") if found else "No problem"
    screen.out(f"{len(runs)} runs, {len(ended)} with results{old}. {said}.")
    return 1 if found else 0


def chosen(runs: Sequence[Run], count: int) -> list[Run]:
    """So many of the runs, evenly over the order of their identities."""
    count = min(count, len(runs))
    return [runs[place * len(runs) // count] for place in range(count)]


def again(runs: Sequence[Run], foreign: bool) -> Iterator[dict[str, Any]]:
    """Each run trained anew: ``run``, ``equal`` (null where it was not trained) and ``said``."""
    for run in runs:
        with tempfile.TemporaryDirectory(prefix="fairstep-again-") as folder:
            equal, said = _repeated(run, Store(folder), foreign)
        yield {"run": run.id, "equal": equal, "said": said}


def _repeated(run: Run, store: Store, foreign: bool) -> tuple[bool | None, str]:
    spec, before = run.spec, run.environment
    if isinstance(spec, CommandSpec):
        return None, f"Run {run.id} is of the trainer {spec.trainer.name}, which is not started again."
    if not foreign and (what := code_of_others(spec)):
        return None, f"Run {run.id} is of {what}; --import trains it again."
    if before.get("processes", 1) != 1:
        return None, f"Run {run.id} was trained by {before['processes']} processes; it is not trained again."
    from fairstep.train import train  # loads torch

    try:
        with screen.training(spec.optimizer.name, spec.steps) as show:
            new = train(spec, store, show)
    except (ValueError, OSError) as error:
        return None, f"Run {run.id} cannot be trained again: {error}."
    kept = None if run.packed is None else {(row.get("kind"), row.get("step")) for row in run.metrics()}
    if _losses(new, kept) == _losses(run):
        return True, f"Run {run.id} ({spec.optimizer.name}) has the same losses again, to the bit."
    elsewhere = trained_otherwise(run, new)
    why = f"; {elsewhere} differ, and with them the last bits may" if elsewhere else ""
    losses = [one.summary.final_loss if one.summary else None for one in (run, new)]
    return False, f"Run {run.id} ({spec.optimizer.name}) has the final loss {losses[0]}, and again {losses[1]}{why}."


def _losses(run: Run, kept: set[tuple[Any, Any]] | None = None) -> list[Any]:
    """Everything of a run that its spec decides and a verdict rests on; of its curve only the points ``kept``."""
    summary = run.summary
    rows = [(row.get("kind"), row.get("step"), row.get("loss")) for row in run.metrics()]
    rows = [row for row in rows if kept is None or row[:2] in kept]
    return [summary and (summary.status, summary.final_loss, summary.validation_losses), rows]
