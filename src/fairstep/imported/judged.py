"""The way through the room: paths or a frame in, trials with a grade and everything that was understood out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from fairstep.analysis import Trials
from fairstep.analysis.laws.slope import Slope
from fairstep.imported.columns import Asked
from fairstep.imported.contest import Imported, baseline_of, contest_of
from fairstep.imported.files import read_paths
from fairstep.imported.names import Found
from fairstep.imported.numbers import numbers
from fairstep.imported.phases import Grade
from fairstep.imported.rows import runs_of
from fairstep.imported.source import InputError, Source, table
from fairstep.imported.where import Where
from fairstep.runs import Design
from fairstep.runs.table import TRIAL_COLUMNS

OWN = {"contestant", "phase", "tokens", "final_loss", "varied"}
"""Columns by which a table of our own trials is known (``runs.table.trial_table``)."""


@dataclass(frozen=True)
class Options:
    """How runs are read and judged; every field is an option of ``fairstep judge`` with its meaning there."""

    baseline: str = ""
    columns: Asked = field(default_factory=Asked)
    where: str = ""
    rows: str = ""
    slope: str = ""
    at: tuple[str, ...] = ()
    seeds: str = ""
    format: str = ""
    pattern: str = ""


def imported(given: Any, options: Options) -> Imported:
    """``given``: a path, several, or a frame of polars or pandas. Raises InputError, AnalysisError or StoreError."""
    if options.rows not in ("", "run", "evaluation"):
        raise InputError(f"--rows takes run or evaluation, not {options.rows!r}")
    design = Design.parse(options.seeds) if options.seeds else None
    slope = Slope.parse(options.slope) if options.slope else None
    where = Where(options.where) if options.where else None
    read, notes = _read(given, options)
    names = tuple(dict.fromkeys(str(found.root) for found, source in read if source.path is not None))
    own = [source for _, source in read if source.trials is not None or set(source.frame.columns) >= OWN]
    if own:
        if len(own) < len(read) or len(own) > 1:
            raise InputError("a store, or a table of our own trials, is judged alone; give one of the paths at a time")
        if where is not None and own[0].trials is not None:
            raise InputError("--where is for tables and logs; a store is judged by its ledger")
        one = _own(own[0], options, design, where)
        return replace(one, notes=(*notes, *one.notes), sources=names)
    found = runs_of(read, options.columns, where, options.rows)
    at = _at(options.at)
    contest = contest_of(found.runs, options.baseline, slope, design, at)
    return replace(
        contest,
        understood=found.lines,
        notes=(*notes, *found.notes, *contest.notes),
        fixed=frozenset(contest.trials.names if "" in at else at),
        sources=names,
    )


def _read(given: Any, options: Options) -> tuple[list[tuple[Found, Source]], list[str]]:
    frame = _frame(given)
    if frame is not None:
        if not frame.height:
            raise InputError("the data frame has no rows")
        nowhere = Path("frame")
        return [(Found(nowhere, nowhere), table(None, "data frame", frame))], []
    paths = [given] if isinstance(given, str | Path) else list(given) if isinstance(given, Iterable) else [given]
    if not paths:
        raise InputError("name the files or folders with the runs")
    if not all(isinstance(path, str | Path) for path in paths):
        raise InputError("judge takes paths, or a data frame of polars or pandas")
    return read_paths([Path(path).expanduser() for path in paths], options.format, options.pattern)


def _frame(given: Any) -> pl.DataFrame | None:
    """A data frame as polars', or None. pandas is not imported: its frames are known by their class."""
    if isinstance(given, pl.DataFrame):
        return given
    if isinstance(given, pl.LazyFrame):
        return given.collect()
    if type(given).__module__.split(".")[0] == "pandas" and hasattr(given, "columns"):
        if any(name is not None for name in given.index.names):  # what groupby and set_index make of columns
            given = given.reset_index()
        if twice := [str(name) for name, count in Counter(given.columns).items() if count > 1]:
            raise InputError(f"the data frame has two columns named {twice[0]}; rename one")
        columns = {str(name): given[name].tolist() for name in given.columns}
        return pl.DataFrame(
            {name: [_known(value) for value in values] for name, values in columns.items()}, strict=False
        )
    return None


def _known(value: Any) -> Any:
    """pandas marks what is missing by NA and NaT; its nan stays, for a loss may be one."""
    return None if type(value).__name__ in ("NAType", "NaTType") else value


def _own(source: Source, options: Options, design: Design | None, where: Where | None) -> Imported:
    """Our own trials: the ledger, or the columns that say what every run was for."""
    if source.trials is not None:
        trials, what = source.trials, "its ledger says what every run was for"
        if options.baseline and options.baseline != trials.baseline:
            raise InputError(
                f"the contest of {source.path} has the baseline {trials.baseline}, which was declared before its runs, "
                f"not {options.baseline}"
            )
    else:
        frame = source.frame
        frame = frame.with_columns(
            numbers(frame, name).cast(kind).alias(name)
            for name, kind in TRIAL_COLUMNS.items()
            if name in frame.columns and kind != pl.String and frame.schema[name] == pl.String
        )
        if where is not None:
            frame = frame.filter(where.expression([name for name in frame.columns if not name.startswith("#")]))
        rows = frame.select([name for name in frame.columns if not name.startswith("#")]).to_dicts()
        if not rows:
            raise InputError(f"--where {options.where!r} keeps no row")
        base = baseline_of(dict.fromkeys(str(row["contestant"]) for row in rows), options.baseline)
        names = [str(row["contestant"]) for row in rows]
        trials = Trials.from_rows([_ended(row) for row in rows], base, list(dict.fromkeys([base, *names])))
        design = design or _declared(rows)
        trials = replace(trials, design=design, before_designs=design is None and "design" in rows[0])
        what = "its column phase says what every run was for"
    grades: dict[str, Grade] = {
        one: "A" if _whole(trials) else "B" if trials[one].tuning else "C" for one in trials.names
    }
    notes = []
    if trials.ledger is not None and trials.ledger.unsealed:
        notes.append(
            f"The ledger {trials.ledger.name} has no digest, so nothing shows that it holds every trial; it counts as "
            "a table."
        )
    name = str(source.path) if source.path else "the data frame"
    line = f"{name} ({source.kind}): {len(trials.rows)} trials; {what}"
    return Imported(trials, grades, "tokens", (line,), tuple(notes), trials.unchecked)


def _whole(trials: Trials) -> bool:
    """Whether a ledger shows that these are all trials: a table has none, and a ledger shows it by its digest."""
    ledger = trials.ledger
    return ledger is not None and not ledger.altered and not ledger.unsealed


def _ended(row: dict[str, Any]) -> dict[str, Any]:
    """A loss of nan is what a data frame makes of a missing one, where the status says that the run is not done."""
    loss = row.get("final_loss")
    if loss is not None and loss != loss and row.get("status") not in (None, "diverged"):
        return row | {"final_loss": None}
    return row


def _declared(rows: Iterable[Mapping[str, Any]]) -> Design | None:
    """The design of seeds that a table of ``trial_table`` carries in every row."""
    found = {row["design"] for row in rows if row.get("design")}
    if len(found) > 1:
        raise InputError("the rows are of contests with different designs of seeds; give one contest at a time")
    return Design.model_validate_json(found.pop()) if found else None


def _at(given: Sequence[str]) -> dict[str, float]:
    """``--at 2925`` for all, ``--at NAME=2925`` for one contestant."""
    steps: dict[str, float] = {}
    for text in given:
        name, equals, step = text.rpartition("=")
        try:
            steps[name if equals else ""] = float(step)
        except ValueError:
            raise InputError(f"--at takes a step, or NAME=STEP, not {text!r}") from None
    return steps
