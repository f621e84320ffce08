"""What a reader must know of the runs, in sentences: what is peculiar, and what their columns cannot tell."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from fairstep.imported.rows import FoundRun
from fairstep.imported.source import listed

FAILED = (
    *("failed", "fail", "failure", "crashed", "killed", "error", "errored", "preempted", "preempting", "cancelled"),
    *("canceled", "aborted", "interrupted", "pruned", "timeout", "oom", "out_of_memory", "node_fail"),
)
RUNNING = ("running", "unfinished", "pending", "queued", "waiting")
DONE = ("", "done", "finished", "complete", "completed", "success", "succeeded", "ok", "terminated", "diverged")
SHARED = {
    "the same model": ("model", "model_name", "model_size", "n_params", "num_params", "params", "parameters"),
    "the same data": ("data", "dataset", "corpus", "dataset_name"),
    "the same batch size": ("batch_size", "global_batch_size", "batch_tokens", "batch_sequences", "tokens_per_step"),
}
"""What a verdict takes for granted -> the columns that tell."""


def remarks(members: Mapping[str, Sequence[FoundRun]]) -> list[str]:
    """``members``: contestant -> its runs."""
    return [*_early(members), *_alike(members), *_without_loss(members), *_unknown_status(members)]


def _early(members: Mapping[str, Sequence[FoundRun]]) -> list[str]:
    """Contestants whose runs end before their schedule does."""
    notes = []
    for name, group in members.items():
        short = [run for run in group if run.planned and run.step and run.step < run.planned and run.loss is not None]
        if short:
            notes.append(
                f"{name}: {len(short)} of {len(group)} runs are read at step {short[0].step:g} of {short[0].planned:g} "
                "planned, before the end of their schedule."
            )
    return notes


def _alike(names: Iterable[str]) -> list[str]:
    """Contestants whose names look the same but for case."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_as_read(name), []).append(name)
    notes = []
    for group in groups.values():
        if len(group) > 1:
            case = len({name.casefold() for name in group}) == 1
            why = "their names differ in case" if case else "their names look alike and have other characters"
            notes.append(f"{' and '.join(group)} count as {len(group)} contestants: {why}.")
    return notes


def _as_read(name: str) -> str:
    """The letters that a reader sees."""
    seen = (letter for letter in unicodedata.normalize("NFKC", name) if unicodedata.category(letter) != "Cf")
    return "".join(seen).strip().casefold()


def _unknown_status(members: Mapping[str, Sequence[FoundRun]]) -> list[str]:
    """Statuses that say nothing here."""
    known = {*FAILED, *RUNNING, *DONE}
    runs = [run for group in members.values() for run in group if run.status not in known]
    if not runs:
        return []
    words = listed(list(dict.fromkeys(run.status for run in runs)), 6)
    return [f"{len(runs)} runs with the status {words} count as finished ({runs[0].at})."]


def _without_loss(members: Mapping[str, Sequence[FoundRun]]) -> list[str]:
    """Runs whose loss is empty, though nothing says that they run or failed."""
    notes = []
    for name, group in members.items():
        gaps = [run for run in group if run.loss is None and run.status not in (*FAILED, *RUNNING, "diverged")]
        if gaps:
            have, others = (
                ("has no loss and counts", "") if len(gaps) == 1 else ("have no loss and count", " and others")
            )
            notes.append(f"{name}: {len(gaps)} of {len(group)} runs {have} as unfinished ({gaps[0].at}{others}).")
    return notes


def not_checked(runs: Sequence[FoundRun], unit: str) -> list[str]:
    """What the columns cannot tell."""
    known = {name for run in runs[:1] for name in run.workload}
    gaps = [what for what, names in SHARED.items() if not known & set(names)]
    if not unit:
        gaps.append("the same length of training (no column for steps or tokens)")
    gaps.append("the same validation text")
    if not any(run.hyperparameters for run in runs):
        gaps.append("the same hyperparameters on all seeds")
    if all(run.seed is None for run in runs):
        gaps.append("that runs are independent (no column for the seed)")
    return gaps
