"""Trials: the rows of a contest by contestant, and everything that a verdict is computed from, each quantity once.

A trial needs a contestant, a phase, a seed, its tokens and its final loss. Everything else is optional: workload,
hyperparameters, status, run identity, seconds and state bytes. What cannot be checked without a column is listed in
``unchecked``, and a contest's notes repeat it.

The phases are ``tune`` (the search of hyperparameters), ``short`` (the part of it on shorter schedules), ``final`` (the
chosen ones on seeds that the search has not seen) and ``budget`` (the baseline at other lengths, which turn a loss into
tokens).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, get_args

from fairstep.analysis.laws.baseline_curve import BaselineCurve
from fairstep.analysis.laws.law import Law, loss_law
from fairstep.analysis.laws.slope import Slope
from fairstep.analysis.statistics import AnalysisError
from fairstep.runs import SEARCHES, CommandSpec, Design, Ledger, Phase, Run, RunSpec, Status
from fairstep.runs.frozen import is_number

if TYPE_CHECKING:
    import polars as pl

Row = dict[str, Any]
Seeds = tuple[int, int]
"""(init_seed, data_seed)."""

REQUIRED = ("contestant", "phase", "tokens", "final_loss")
SEED_COLUMNS = ("seed", "init_seed", "data_seed")
HIGHEST_LOSS = 1e100
"""In nats per token. A larger loss is refused: its square, which every interval needs, would overflow."""
NO_SEED = 2**61
"""Numbers from here on stand where a run of somebody else's has a label for its seed, or none."""
LAW_BUDGETS = 4
"""Budgets of the baseline from which its law is fitted: one more than the law's parameters."""

CHECKS = {
    "workload": "that all runs have the same model, data, batch and precision",
    "hyperparameters": "that all seeds of a final have the same hyperparameters",
    "run": "that no final run was already used by the search",
}
"""Optional column -> what is checked by it."""


@dataclass(frozen=True)
class EvaluationCurve:
    """Evaluation losses on the way of one final run. ``points``: (tokens, nats per token), in order.

    The evaluation at the end of a run is over more windows than the ones on the way. Its loss is of another set and
    therefore no point of the curve.
    """

    seeds: Seeds
    status: Status
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class ContestantTrials:
    """The trials of one contestant, by what they were for."""

    name: str
    rows: tuple[Row, ...]

    @cached_property
    def tuning(self) -> tuple[Row, ...]:
        """Trials of the search at the final runs' length."""
        return tuple(row for row in self.rows if row["phase"] == "tune")

    @cached_property
    def finals(self) -> tuple[Row, ...]:
        """Final runs that the search has not used: it chose by the others, so they are not fresh evidence.

        Raises AnalysisError when their hyperparameters differ.
        """
        searched = {row["run"] for row in self.tuning}
        finals = tuple(row for row in self.rows if row["phase"] == "final" and row["run"] not in searched)
        if len({row["hyperparameters"] for row in finals if row["hyperparameters"] is not None}) > 1:
            raise AnalysisError(
                f"the final runs of {self.name!r} have different hyperparameters; all seeds of a final must share them"
            )
        return finals

    @cached_property
    def budgets(self) -> tuple[Row, ...]:
        """Runs at other budgets that are done. Where a budget has runs on fresh seeds, the runs on the search's seed
        chose its learning rate and are left out."""
        done = [row for row in self.rows if row["phase"] == "budget" and row["status"] == "done"]
        fresh = {row["tokens"] for row in done if row["init_seed"] != 0}
        return tuple(row for row in done if row["init_seed"] != 0 or row["tokens"] not in fresh)

    @cached_property
    def losses(self) -> dict[Seeds, float]:
        """Seeds -> loss in nats per token, of every final run that is done."""
        return {
            (row["init_seed"], row["data_seed"]): float(row["final_loss"])
            for row in self.finals
            if row["status"] == "done" and row["final_loss"] is not None
        }

    @cached_property
    def tried(self) -> list[tuple[dict[str, Any], float]]:
        """Configurations of the search's first seed, with their losses. Diverged runs are left out."""
        return _results(self.tuning)

    @cached_property
    def shorter(self) -> tuple[list[tuple[dict[str, Any], float]], float]:
        """The same of the search on shorter schedules, and by how many doublings the final runs have more tokens."""
        short = [row for row in self.rows if row["phase"] == "short" and row["status"] == "done"]
        tokens = next((row["tokens"] for row in self.finals if row["status"] == "done"), None)
        if not short or not tokens:
            return [], 0.0
        return _results(short), math.log2(tokens / short[0]["tokens"])

    @cached_property
    def searched(self) -> tuple[str, ...]:
        """Hyperparameters of which the search tried several values, at any length."""
        texts = {row["varied"] for row in self.rows if row["phase"] in SEARCHES and row["varied"]}
        values: dict[str, set[str]] = {}
        for tried in map(json.loads, sorted(texts)):
            for name, value in tried.items():
                values.setdefault(name, set()).add(json.dumps(value))
        return tuple(name for name, several in values.items() if len(several) > 1)

    @cached_property
    def chosen(self) -> dict[str, Any] | None:
        """Varied hyperparameters of the final runs; None without any."""
        return next((json.loads(row["varied"]) for row in self.finals if row["hyperparameters"] is not None), None)

    def count(self, status: Status) -> int:
        """Final runs with this status."""
        return sum(row["status"] == status for row in self.finals)


@dataclass(frozen=True, eq=False)
class Trials:
    """All trials of a contest. Make one with ``read`` (our stores) or ``from_rows`` (anyone's table).

    ``rows`` have the keys of ``runs.table.TRIAL_COLUMNS``, null where nothing is known. ``contestants`` are listed
    first and may have no trials yet. ``ledger``, ``runs`` and their ``specs`` are the source of the rows, if that is a
    store.
    ``unchecked`` are sentences on what could not be checked, and on what a check did not let count. ``further``: run ->
    final loss in nats per token by the name of its text's further validation sets.

    Runs that have no ledger may still have the ``design`` of seeds that was declared for them (``before_designs``: they
    are of a ledger from before designs), evaluations on the way
    (``curves``: run -> (length, loss) in order), no shared seeds (``unpaired``: they are then compared without pairs)
    and a stated ``slope``, by which losses at different lengths are compared.
    """

    rows: tuple[Row, ...]
    baseline: str
    contestants: tuple[str, ...] = ()
    ledger: Ledger | None = None
    runs: Mapping[str, Run] = field(default_factory=dict)
    unchecked: tuple[str, ...] = ()
    further: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    design: Design | None = None
    before_designs: bool = False
    curves: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    unpaired: bool = False
    slope: Slope | None = None
    specs: Mapping[str, RunSpec | CommandSpec] = field(default_factory=dict)

    @classmethod
    def read(cls, ledger: Ledger, runs: Iterable[Run]) -> Trials:
        """A ledger's trials. ``runs`` may be all runs of a store: only the ones that the ledger names are read, each
        once."""
        from fairstep.runs.checks import checked_runs, ledger_problems, losses_not_of_the_end, trial_problems
        from fairstep.runs.table import rows_of

        given = {run.id: run for run in runs}
        members = {trial.run: given[trial.run] for trial in ledger.trials if trial.run in given}
        checked = checked_runs(ledger, members.values())
        rows = tuple(rows_of(ledger, checked, trial_problems(ledger, checked)))
        unreadable = [text for name, run in members.items() if not checked[name].problem for text in run.unreadable()]
        elsewhere = losses_not_of_the_end(ledger, members, checked)
        problems = (*ledger_problems(ledger, checked), *unreadable, *elsewhere)
        further = {name: one.summary.validation_losses for name, one in checked.items() if one.summary is not None}
        specs = {name: one.spec for name, one in checked.items() if one.spec is not None}
        return cls(rows, ledger.baseline, ledger.contestants, ledger, members, problems, further, specs=specs)

    @classmethod
    def from_rows(
        cls, rows: pl.DataFrame | Iterable[Mapping[str, Any]], baseline: str, contestants: Sequence[str] = ()
    ) -> Trials:
        """Trials of plain rows, one a run.

        Columns: ``contestant``, ``phase``, ``tokens`` (trained), ``final_loss`` (nats per token) and a seed (``seed``,
        or ``init_seed`` and ``data_seed``; final runs need one). Any other key of ``runs.table.TRIAL_COLUMNS`` is
        optional. Without ``status`` a run with a finite loss is done, one with nan or infinity has diverged and one
        without a loss is unfinished. Raises AnalysisError for a missing column or a bad value, with the number of the
        row.
        """
        given = rows.to_dicts() if hasattr(rows, "to_dicts") else [dict(row) for row in rows]
        columns = dict.fromkeys(key for row in given for key in row)
        missing = [name for name in REQUIRED if name not in columns]
        missing += [] if any(name in columns for name in SEED_COLUMNS) else ["seed"]
        if given and missing:
            raise AnalysisError(
                f"trials need the columns {', '.join(REQUIRED)} and seed; "
                f"{', '.join(missing)} is missing from {', '.join(map(str, columns))}"
            )
        made = tuple(_row(number, row) for number, row in enumerate(given, 1))
        _check_seeds(made)
        absent = [name for name in CHECKS if name not in columns]
        if not any(row["phase"] == "tune" for row in made):
            absent = [name for name in absent if name != "run"]
        notes = tuple(f"Not checked, because the trials have no column {name}: {CHECKS[name]}." for name in absent)
        return cls(made, baseline, tuple(contestants), unchecked=notes if made else ())

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All contestants, in the order of the contest."""
        return tuple(dict.fromkeys([*self.contestants, *(row["contestant"] for row in self.rows)]))

    @cached_property
    def _members(self) -> dict[str, ContestantTrials]:
        rows: dict[str, list[Row]] = {name: [] for name in self.names}
        for row in self.rows:
            rows[row["contestant"]].append(row)
        return {name: ContestantTrials(name, tuple(group)) for name, group in rows.items()}

    def __getitem__(self, name: str) -> ContestantTrials:
        """One contestant's trials; an unknown name has none."""
        return self._members.get(name) or ContestantTrials(name, ())

    @cached_property
    def tokens(self) -> int | None:
        """The contest's budget: tokens of the baseline's final runs. None while none is done."""
        return self.length(self.baseline)

    def length(self, name: str) -> int | None:
        """Tokens of a contestant's final runs; None while none is done."""
        return next((int(row["tokens"]) for row in self[name].finals if row["status"] == "done"), None)

    def shift(self, name: str) -> float:
        """Nats to add to a contestant's losses for the baseline's length, by the slope; 0 without one."""
        length = self.length(name)
        if self.slope is None or length is None or self.tokens is None:
            return 0.0
        return self.slope.rate * (length - self.tokens)

    @cached_property
    def curve(self) -> BaselineCurve | None:
        """The baseline's final losses against tokens: final runs at the contest's budget, budget runs at the others.

        None while the baseline has no final loss.
        """
        base = self[self.baseline]
        if not base.losses or self.tokens is None:
            return None
        losses: dict[int, list[float]] = {self.tokens: list(base.losses.values())}
        for row in base.budgets:
            losses.setdefault(int(row["tokens"]), []).append(float(row["final_loss"]))
        return BaselineCurve.of(losses)

    @cached_property
    def law(self) -> Law | None:
        """The law alpha D^-B + beta of the baseline's budgets, D in multiples of the contest's budget.

        None below ``LAW_BUDGETS`` budgets, or when all losses are equal.
        """
        if self.curve is None or self.tokens is None or len(self.curve.tokens) < LAW_BUDGETS:
            return None
        try:
            return loss_law([tokens / self.tokens for tokens in self.curve.tokens], self.curve.runs)
        except AnalysisError:
            return None

    @cached_property
    def evaluations(self) -> dict[str, list[EvaluationCurve]]:
        """Contestant -> evaluation curves of its final runs; empty for runs whose metrics are not at hand."""
        curves: dict[str, list[EvaluationCurve]] = {}
        for name in self.names:
            for row in self[name].finals:
                points = self.curves.get(row["run"], ())
                if row["run"] in self.runs:
                    points = _points(self.runs[row["run"]].metrics())
                if points or row["run"] in self.runs:
                    curve = EvaluationCurve((row["init_seed"], row["data_seed"]), row["status"], points)
                    curves.setdefault(name, []).append(curve)
        return curves


def _results(rows: Sequence[Row]) -> list[tuple[dict[str, Any], float]]:
    seed = next(((row["init_seed"], row["data_seed"]) for row in rows), None)
    return [
        (json.loads(row["varied"]), float(row["final_loss"]))
        for row in rows
        if row["status"] == "done" and (row["init_seed"], row["data_seed"]) == seed
    ]


def _points(metrics: Iterable[Row]) -> tuple[tuple[float, float], ...]:
    """Evaluations over as many windows as the first one."""
    rows = [row for row in metrics if row.get("kind") == "evaluation"]
    windows = rows[0].get("windows") if rows else None
    return tuple(
        (row["tokens"], row["loss"])
        for row in rows
        if row.get("windows") == windows and is_number(row.get("tokens")) and is_number(row.get("loss"))
    )


def _row(number: int, given: Row) -> Row:
    """A plain row with every key of a trial. ``number`` is the row's, from 1."""
    from fairstep.runs.table import TRIAL_COLUMNS

    row: Row = {name: given.get(name) for name in TRIAL_COLUMNS}
    seeds = [given[name] for name in SEED_COLUMNS if given.get(name) is not None]
    row["init_seed"] = seeds[0] if seeds and row["init_seed"] is None else row["init_seed"]
    row["data_seed"] = row["init_seed"] if row["data_seed"] is None else row["data_seed"]
    row["contestant"], row["run"] = str(row["contestant"]), str(row["run"] or f"row {number}")
    if row["phase"] not in get_args(Phase):
        raise AnalysisError(f"row {number}: the phase must be {_listed(Phase)}, not {row['phase']!r}")
    loss = row["final_loss"]
    if loss is not None and not is_number(loss):
        raise AnalysisError(f"row {number}: final_loss must be a number in nats per token or missing, not {loss!r}")
    finite = loss is not None and math.isfinite(loss)
    if loss is not None and finite and abs(loss) > HIGHEST_LOSS:
        raise AnalysisError(
            f"row {number}: final_loss must be a loss in nats per token, so not above {HIGHEST_LOSS:g}, and is {loss} "
            "(a run that diverged has nan)"
        )
    row["final_loss"] = float(loss) if loss is not None and finite else None
    row["status"] = row["status"] or ("done" if finite else "unfinished" if loss is None else "diverged")
    if row["status"] not in get_args(Status):
        raise AnalysisError(f"row {number}: the status must be {_listed(Status)}, not {row['status']!r}")
    if row["status"] == "done":
        if not finite:
            raise AnalysisError(f"row {number}: a run that is done needs a finite final_loss, not {loss!r}")
        row["tokens"] = _whole(number, "tokens", row["tokens"], 1)
        for name in ("init_seed", "data_seed") if row["phase"] == "final" else ():
            row[name] = _whole(number, name, row[name], 0)
        row["budget_tokens"] = row["budget_tokens"] or row["tokens"]
    for name in ("hyperparameters", "varied", "workload"):
        row[name] = _as_json(number, name, row[name])
    row["varied"] = row["varied"] or row["hyperparameters"] or "{}"
    if row["lr"] is None and row["hyperparameters"]:
        row["lr"] = json.loads(row["hyperparameters"]).get("lr")
    return row


def _whole(number: int, name: str, value: Any, least: int) -> int:
    if isinstance(value, int | float) and math.isfinite(value) and value == int(value) >= least:
        return int(value)
    raise AnalysisError(f"row {number}: {name} must be a whole number of at least {least}, not {value!r}")


def _as_json(number: int, name: str, value: Any) -> str | None:
    """A mapping, or the JSON of one, as JSON with sorted keys."""
    if value is None:
        return None
    try:
        table = json.loads(value) if isinstance(value, str) else dict(value)
    except (TypeError, ValueError):
        table = None
    if not isinstance(table, dict):
        raise AnalysisError(f"row {number}: {name} must be a JSON object, not {value!r}")
    return json.dumps(table, sort_keys=True)


def _check_seeds(rows: Iterable[Row]) -> None:
    """Refuse two final runs of one contestant on the same seeds: one of them would be lost."""
    seen: dict[tuple[Any, ...], str] = {}
    for number, row in enumerate(rows, 1):
        key = (row["contestant"], row["init_seed"], row["data_seed"])
        if row["phase"] == "final" and row["status"] == "done" and seen.setdefault(key, row["run"]) != row["run"]:
            raise AnalysisError(
                f"row {number}: {row['contestant']} has another final run with the seeds {key[1:]}; each seed counts "
                "once"
            )


def _listed(literal: Any) -> str:
    *names, last = get_args(literal)
    return f"{', '.join(names)} or {last}"
