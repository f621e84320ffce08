"""The workload of a contest that starts from a store's baseline: what no option says is as the store has it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path

from fairstep.cli.shared.options import WorkloadOptions, cells_table
from fairstep.model import PRESETS
from fairstep.runs import RunSpec, Store

DIGITS = range(1, 7)
"""Of a warm-up's part of the run: the fewest that give the warm-ups of all the baseline's runs."""


def workload_from(
    path: Path, baseline: str, given: WorkloadOptions, over: Callable[[WorkloadOptions], WorkloadOptions]
) -> tuple[WorkloadOptions, int]:
    """The workload on which a store tuned the baseline, where the options leave it open, and of how many.

    ``over`` reads the command's options with others as defaults. Of several workloads that agree with the options the
    one with the most tokens is taken. Where none agrees the options are those that were ``given``, and 0.
    """
    fitting: list[tuple[int, WorkloadOptions]] = []
    for stored in dict.fromkeys(_workloads(Store(path), baseline)):
        length_is_given = given.tokens or given.chinchilla is not None
        read = over(replace(stored, tokens="") if length_is_given else stored)
        if cells_table(read) == cells_table(stored):
            fitting.append((int(stored.tokens), read))
    return (max(fitting, key=lambda pair: pair[0])[1], len(fitting)) if fitting else (given, 0)


def _workloads(store: Store, baseline: str) -> Iterator[WorkloadOptions]:
    """The workload of every ledger in which the baseline was tuned, as options; of our presets and our trainer alone.

    Nothing that the store names is imported. What cannot be read is passed over: the store's check says what it is.
    """
    for ledger in store.readable_ledgers():
        trials = [trial for trial in ledger.trials if trial.contestant == baseline]
        read = [(trial.phase, store.run(trial.run).checked.spec) for trial in trials]
        specs = [(phase, one) for phase, one in read if isinstance(one, RunSpec) and one.model.preset in PRESETS]
        final = next((spec for phase, spec in specs if phase == "final"), None)
        if final is not None:
            yield _options(final, [spec for _, spec in specs])


def _options(final: RunSpec, runs: Collection[RunSpec]) -> WorkloadOptions:
    own, schedule = final.model, final.schedule
    return WorkloadOptions(
        model=own.preset,
        context=0 if own.context == PRESETS[own.preset].context else own.context,
        data=final.data.source,
        vocabulary=final.data.vocabulary,
        tokens=str(final.tokens),
        batch_sequences=final.batch_sequences,
        schedule=schedule.kind,
        decay_fraction=schedule.decay_fraction,
        decay_shape=schedule.decay_shape,
        warmup_fraction=_warmup(runs),
        final_fraction=schedule.final_fraction,
        clip_norm=final.clip_norm,
        evaluation_tokens=final.evaluation.final_tokens,
        precision=final.precision,
    )


def _warmup(runs: Collection[RunSpec]) -> float:
    """The warm-up's part of the run in the fewest digits, the same in runs of all lengths."""
    low = max((run.schedule.warmup_steps - 0.5) / run.steps for run in runs)
    high = min((run.schedule.warmup_steps + 0.5) / run.steps for run in runs)
    for n in DIGITS:
        for part in (k / 10**n for k in range(max(0, math.ceil(low * 10**n)), math.floor(high * 10**n) + 1)):
            if all(round(part * run.steps) == run.schedule.warmup_steps for run in runs):
                return part
    return (low + high) / 2
