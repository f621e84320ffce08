"""T: modded-nanogpt's optimization track ("Track 3"): results, and every distinct run that was logged for them.

Source: KellerJordan/modded-nanogpt, records/track_3_optimization (MIT licence, copyright of its authors), state of
2026-08-01. A GPT of 124M parameters, batches of 524,288 tokens of FineWeb; a result is the number of steps to a
validation loss of 3.28 nats per token. Only numbers are here: no descriptions, no names of people, no code.

How the data were made. ``track3_results.csv`` is the track's table; ``name`` is ours.
``track3_runs.csv`` has one row for each distinct run. A log prints ``step:S/T val_loss:L`` at each validation.
``final_loss`` is the last of them. ``loss`` is the one at the step that the table counts: the same step for all runs of
a result, up to 275 steps before the end. Four results needed more than their logs:

* 16 and 32: 25 logs are copies of runs that another log of the same folder holds. They are left out: a run counts
  once.
* 41: 19 of 20 logs were not published. All 20 losses are from the table in the result's README.
* 46: its logs print the loss of the raw weights (``final_loss``). The loss that counts is of averaged weights and
  stands in the table in the result's README (``loss``).

Runs of one ``group`` and ``last_step`` share one configuration. ``result`` is null for runs of no result: sweeps, other
lengths, other machines. Curves are not here: the middle of a curve under a falling learning rate decides nothing.
"""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fairstep.published.files import read_csv, read_text

if TYPE_CHECKING:
    import polars as pl

CITATION = "KellerJordan/modded-nanogpt, records/track_3_optimization (MIT), state of 2026-08-01"

TOKENS_PER_STEP = 524_288

LEAST = 4
"""Runs of one configuration at one step that make a group."""

SHORTENED = "478c0427-06ce-4952-bc0a-7e2dfaea29b6"
"""Group of 8 runs: result 12 with 3,150 planned steps instead of 3,350, from which the track has its slope."""

OTHER_GROUPS = {
    (SHORTENED, 3150): "12, shorter",
    ("20260508_klsoap_h_clean_tuple_sweep/b1090_sh090", 3125): "19 with beta1 0.90",
    ("20260508_muown", 3200): "23, longer",
    ("20260609_soap_f1_auxb2_clean", 2850): "44 on A40",
    ("20260611_tailema_2730_submission", 2730): "45, earlier form",
}
"""(group, last step) of ``repeats`` that are of no result -> a name of ours, from the result that they vary."""


PRINTED_OTHERWISE = {
    6: "The table prints 3.2788. The 20 runs of its log give 3.2789 at their end, and no other step, median or first k "
    "of the runs gives 3.2788. Without one of the three worst runs the others do; the track says that 20 count.",
    8: "The table prints 3.2778. Its ten logs give 3.27798 at the step that counts, which an earlier state of the "
    "table (commit 152976d) printed, so a digit was lost and no log left out. The p-value of 13 against 8 that the "
    "track prints (0.029) is of the printed means of ten runs each; the logs give 0.012.",
    17: "The table prints 3.2789. Its log gives 3.278845; the result's README has 3.27885, which was rounded again.",
}
"""Results whose logs give another mean than the table prints -> why, as far as the logs and READMEs tell."""


@dataclass(frozen=True)
class Summary:
    """Runs of which only mean and deviation (divisor n-1) are published, in nats per token."""

    steps: int
    mean: float
    deviation: float
    runs: int
    source: str


TUNED_ADAMW = Summary(4_950, 3.277604, 0.002516, 10, "pull request 353 (open), not in the track's table")


def results() -> pl.DataFrame:
    """The track's table, 46 rows: ``number`` in the order of acceptance; ``name``; ``steps`` to 3.28; ``record``:
    whether no accepted result had fewer steps; ``printed_mean`` (text, four decimals) and ``printed_runs``; ``counts``:
    whether the track says that its own rule holds; ``date, log, pull_request``."""
    import polars as pl

    integers, flags = ("number", "steps", "printed_runs", "pull_request"), ("record", "counts")
    types = dict.fromkeys(integers, pl.Int64) | dict.fromkeys(flags, pl.Boolean)
    names = ("number", "name", "steps", "record", "printed_mean", "printed_runs", "counts", "date", "log")
    return read_csv("track3_results.csv", {name: types.get(name, pl.String) for name in (*names, "pull_request")})


def runs() -> pl.DataFrame:
    """572 distinct runs: ``log`` (``#k``: the k-th run in it), ``group``, ``result``, ``planned_steps``, ``last_step``,
    ``final_loss`` (at the last step) and ``loss`` (at the step of its result), in nats per token."""
    import polars as pl

    numbers = dict.fromkeys(("result", "planned_steps", "last_step"), pl.Int64)
    losses = dict.fromkeys(("final_loss", "loss"), pl.Float64)
    return read_csv("track3_runs.csv", {"log": pl.String, "group": pl.String, **numbers, **losses})


@functools.cache
def losses() -> dict[int, tuple[float, ...]]:
    """Result -> the losses of its runs at its step."""
    found: dict[int, list[float]] = {}
    for row in _rows():
        if row["result"]:
            found.setdefault(int(row["result"]), []).append(float(row["loss"]))
    return {number: tuple(values) for number, values in sorted(found.items())}


def repeats() -> dict[tuple[str, int], list[float]]:
    """(group, last step) -> final losses of its runs, of at least ``LEAST``."""
    groups: dict[tuple[str, int], list[float]] = {}
    for row in _rows():
        groups.setdefault((row["group"], int(row["last_step"])), []).append(float(row["final_loss"]))
    return {key: values for key, values in groups.items() if len(values) >= LEAST}


@functools.cache
def result_of() -> dict[tuple[str, int], int]:
    """(group, last step) -> the result that its runs are of; groups of no result are absent."""
    return {(row["group"], int(row["last_step"])): int(row["result"]) for row in _rows() if row["result"]}


def _rows() -> list[dict[str, str]]:
    return list(csv.DictReader(read_text("track3_runs.csv").splitlines()))
