"""Contestants of one optimizer that differ in settings: each a variant of it, with the seeds that all of them share.

A contestant under another name, beside one under the optimizer's own, is no rival of the others: what it shows is what
its setting does. It is therefore in no ranking of the cell, and its loss is compared with the optimizer's own.

A configuration that was tried once, since nothing was searched, was not chosen by its loss. Its trial is as fresh as
its final runs, and counts with them here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

from fairstep.analysis.claims.evidence import SPELLINGS, Measured, Variant
from fairstep.analysis.trials import Row, Trials
from fairstep.analysis.verdict.crossings import Curve
from fairstep.runs import RunSpec
from fairstep.runs.frozen import is_number
from fairstep.runs.pack import matrix_rms

MODEL = ("init_std", "z_loss", "qk_norm")


def spelling(contestant: str) -> str:
    """A contestant's name as the papers write it."""
    return SPELLINGS.get(contestant.lower(), contestant.lower())


def is_variant(trials: Trials, name: str) -> bool:
    """Whether a contestant has another name than its optimizer, which competes under its own."""
    optimizer = _optimizer(trials, name)
    return optimizer not in ("", name) and _optimizer(trials, optimizer) == optimizer


def variants_of(trials: Trials) -> dict[str, tuple[Variant, ...]]:
    """Optimizer -> its contestants with a result, the one under its own name first."""
    found: dict[str, list[tuple[bool, Variant]]] = {}
    for name in trials.names:
        optimizer, rows = _optimizer(trials, name), _fresh(trials, name)
        if (spec := _spec(trials, rows)) is not None:
            variant = Variant(settings_of(spec), _measured(rows), partial(_curves, trials, tuple(rows)))
            found.setdefault(spelling(optimizer), []).append((name != optimizer, variant))
    return {name: tuple(one for _, one in sorted(members, key=lambda pair: pair[0])) for name, members in found.items()}


def swept(variants: Mapping[str, tuple[Variant, ...]]) -> dict[tuple[str, str], dict[float, Measured]]:
    """(optimizer, setting) -> value -> loss, of variants that differ from the first in this one number. Not of the
    learning rate: claims ask for its next value, which a search tries, and a variant's may lie far away."""
    sweeps: dict[tuple[str, str], dict[float, Measured]] = {}
    for optimizer, (first, *others) in variants.items():
        for other in others:
            changed = [key for key, value in other.settings.items() if first.settings.get(key) != value]
            if (
                len(changed) == 1
                and changed != ["lr"]
                and all(is_number(one.settings.get(changed[0])) for one in (first, other))
            ):
                table = sweeps.setdefault((optimizer, changed[0]), {float(first.settings[changed[0]]): first.loss})
                table[float(other.settings[changed[0]])] = other.loss
    return sweeps


def settings_of(spec: RunSpec) -> dict[str, Any]:
    """What variants may differ in: the optimizer's hyperparameters, the schedule and clipping."""
    shape = spec.schedule.model_dump(include={"warmup_steps", "final_fraction", "decay_fraction", "decay_shape"})
    run = {"schedule": spec.schedule.kind, **shape, "clip_norm": spec.clip_norm}
    return {**run, **spec.optimizer.hyperparameters}


def model_of(trials: Trials) -> tuple[tuple[str, Any], ...]:
    """What models of one size may differ in, of the baseline's. Empty under a rule of transfer, which changes it from
    size to size, and for somebody else's model."""
    rows = [row for row in trials[trials.baseline].rows if row["phase"] == "final"]
    spec = _spec(trials, rows)
    if spec is None or trials.ledger is None or trials.ledger.transfer:
        return ()
    fields = spec.model.model_dump(mode="json")
    experts = (fields.get("moe") or {}).get("experts", 0)
    return (*((name, fields[name]) for name in MODEL if name in fields), ("experts", experts))


def _optimizer(trials: Trials, name: str) -> str:
    return next((row["optimizer"] for row in trials[name].rows if row["optimizer"]), "")


def _fresh(trials: Trials, name: str) -> list[Row]:
    """Final runs that have ended, and the one trial of a search that had no choice."""
    member = trials[name]
    tried = member.tuning if len(member.tuning) == 1 else ()
    return [row for row in (*tried, *member.finals) if row["status"] in ("done", "diverged")]


def _measured(rows: list[Row]) -> Measured:
    losses = {(row["init_seed"], row["data_seed"]): row["final_loss"] for row in rows if row["status"] == "done"}
    if 2 * len(losses) < len(rows) or not losses:
        return Measured(math.nan)
    return Measured.of(losses)


def _curves(trials: Trials, rows: tuple[Row, ...], what: str) -> dict[Any, Curve]:
    """Points that are numbers; a file that anyone has changed may have others."""
    curves: dict[Any, Curve] = {}
    for row in rows:
        points = [
            (one["tokens"], value)
            for one in trials.runs[row["run"]].metrics()
            if one.get("kind") == "train"
            for value in [matrix_rms(one) if what == "matrix_rms" else one.get(what)]
            if is_number(one.get("tokens")) and is_number(value)
        ]
        if points and row["status"] == "done":
            curves[row["init_seed"], row["data_seed"]] = points
    return curves


def _spec(trials: Trials, rows: list[Row]) -> RunSpec | None:
    """Of the first of the runs that is of our own trainer."""
    specs = (trials.specs.get(row["run"]) for row in rows)
    return next((spec for spec in specs if isinstance(spec, RunSpec)), None)
