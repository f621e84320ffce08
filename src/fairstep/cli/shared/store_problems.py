"""What is wrong with a store, in sentences: the one set of checks of ``store check``, ``store verify`` and
``store pack``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from fairstep.runs import Ledger, Store, StoreError
from fairstep.runs.checks import ledger_problems
from fairstep.runs.run import Checked, Run
from fairstep.study import unsupported


def wrong_with(store: Store) -> Iterator[str]:
    """All problems of a store and all that it lacks."""
    try:
        runs, checked = checked_all(store)
    except StoreError as error:
        yield f"{error}."
        return
    yield from gaps(store, checked)
    yield from problems(store, runs, checked)


def checked_all(store: Store) -> tuple[list[Run], dict[str, Checked]]:
    """The runs of a store, and their files as far as they can be read, by identity."""
    runs = store.runs()
    return runs, {run.id: run.checked for run in runs}


def problems(store: Store, runs: list[Run], checked: Mapping[str, Checked]) -> Iterator[str]:
    """What the files of runs and ledgers have against one another."""
    yield from (f"{one.problem}." for one in checked.values() if one.problem)
    for run in runs:
        if not checked[run.id].problem:
            yield from run.unreadable()
            yield from curve_problems(run, checked[run.id])
    for path in store.ledger_paths():
        try:
            ledger = store.ledger_at(path)
        except StoreError as error:
            yield f"{error}."
            continue
        if ledger.name != path.stem:
            yield f"The ledger {path} calls itself {ledger.name!r}."
        mine = {trial.run: checked[trial.run] for trial in ledger.trials if trial.run in checked}
        yield from (line for line in ledger_problems(ledger, mine) if " of run " not in line)
        yield from account_problems(ledger, mine)
        yield from unsupported(ledger, mine)


def curve_problems(run: Run, checked: Checked) -> Iterator[str]:
    """Points of a curve that no run of its spec can have."""
    spec, summary, _ = checked
    if spec is None or summary is None:
        return
    for row in run.metrics():
        step, loss = row.get("step"), row.get("loss")
        if isinstance(step, int) and not 0 <= step <= spec.steps:
            yield f"metrics.jsonl of run {run.id} cannot be right: step is {step}, not in [0, {spec.steps}]."
            return
        if isinstance(loss, int | float) and (loss < 0 or (math.isnan(loss) and summary.status == "done")):
            yield f"metrics.jsonl of run {run.id} cannot be right: loss is {loss} at step {step}."
            return


def account_problems(ledger: Ledger, runs: Mapping[str, Checked]) -> Iterator[str]:
    """Trials whose status or tokens are not their run's."""
    for trial in ledger.trials:
        summary = runs[trial.run].summary if trial.run in runs else None
        if summary is None or trial.status == "unfinished":
            continue
        for field in ("status", "tokens"):
            said, found = getattr(trial, field), getattr(summary, field)
            if said != found:
                yield f"The ledger {ledger.name}, trials: {field} of run {trial.run} is {said}, and {found} in the run."


def gaps(store: Store, checked: Mapping[str, Checked]) -> Iterator[str]:
    """What a store that others build on lacks: ledgers, runs that ledgers name, results, digests, certificates."""
    ledgers = store.readable_ledgers()
    if not store.ledger_paths():
        yield f"{store.path} lacks ledgers: nothing says what its runs were spent on."
    for ledger in ledgers:
        named = dict.fromkeys(trial.run for trial in ledger.trials)
        missing = [run for run in named if run not in checked or checked[run].spec is None]
        if missing:
            yield f"The ledger {ledger.name}, trials: run {missing[0]} is not in the store ({len(missing)} such runs)."
        unfinished = [run for run in named if run in checked and not _result(checked[run])]
        if unfinished:
            yield (
                f"The ledger {ledger.name}, trials: run {unfinished[0]} has no result ({len(unfinished)} such runs); "
                "the command that made the store goes on with it."
            )
        unsealed = [run for run in named if run in checked and _result(checked[run]) and not _sealed(checked[run])]
        if unsealed:
            yield f"summary.json of run {unsealed[0]} lacks its digest ({len(unsealed)} such runs)."
        if ledger.unsealed:
            yield f"The ledger {ledger.name} lacks its digest."
        if lacking := [name for name in ledger.contestants if name not in ledger.certificates]:
            yield f"The ledger {ledger.name} lacks certificates of {', '.join(lacking)}."


def _result(checked: Checked) -> bool:
    return bool(checked.problem) or (checked.summary is not None and checked.summary.status != "failed")


def _sealed(checked: Checked) -> bool:
    return checked.summary is None or bool(checked.summary.digest)


def trained_otherwise(before: Run, after: Run) -> str:
    """What differs between how two runs of one spec were trained and may change their last bits, in words."""
    old, new = before.environment, after.environment
    return ", ".join(name for name in ("processor", "torch", "threads", "compiled") if old.get(name) != new.get(name))
