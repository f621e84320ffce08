"""From the rows of sources to runs: the last evaluation of each, with its curve.

A table has one row a run, or one row an evaluation. The second is so where rows that share a run (or, without a column
for it, contestant, seed and hyperparameters) are at different steps, unless the loss is called final.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

import polars as pl

from fairstep.analysis.trials import HIGHEST_LOSS
from fairstep.imported.columns import Asked, Columns, columns_of, plain, unit_note
from fairstep.imported.names import Found, contestants, split_seed
from fairstep.imported.numbers import MISSING, numbers, place
from fairstep.imported.source import FILE, ROW, InputError, Source, listed
from fairstep.imported.values import labels_of, shared_values
from fairstep.imported.where import Where

LENGTHS = ("step", "tokens", "loss")


@dataclass(slots=True, eq=False)
class FoundRun:
    """A run. ``step``, ``tokens``: at its end. ``loss``: None without one, nan where it diverged. ``curve``:
    (step or tokens, loss) of its finite evaluations. ``at``: the file and row it begins at. Runs of one table with the
    same values share one ``hyperparameters`` and one ``workload``. The contest gives it an ``identity`` that no other
    run has, and its ``length`` in the unit of the contest: None where it did not come to its end."""

    contestant: str
    at: str
    loss: float | None
    seed: str | None = None
    step: float | None = None
    tokens: float | None = None
    batch_tokens: float | None = None
    planned: float | None = None
    status: str = ""
    name: str = ""
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    workload: dict[str, Any] = field(default_factory=dict)
    others: dict[str, Any] = field(default_factory=dict)
    curve: tuple[tuple[float, float], ...] = ()
    identity: str = ""
    length: float | None = None


@dataclass(frozen=True)
class Understood:
    """``lines``: what was understood, a line for each kind of source. ``notes``: what was left out."""

    runs: list[FoundRun]
    lines: tuple[str, ...]
    notes: tuple[str, ...]


def runs_of(read: Sequence[tuple[Found, Source]], asked: Asked, where: Where | None, unit: str) -> Understood:
    """The runs of all sources. ``unit``: what a row is (``run``, ``evaluation`` or empty: found out)."""
    named = contestants([found for found, _ in read])
    groups: dict[tuple[Any, ...], list[tuple[pl.DataFrame, str, str | None, str]]] = {}
    for (_, source), (label, folder, seed) in zip(read, named, strict=True):
        if source.frame.width:
            key = (source.kind, source.log, tuple(source.frame.schema.items()))
            groups.setdefault(key, []).append((source.frame, label, seed, folder))
    runs: list[FoundRun] = []
    lines: list[str] = []
    notes: list[str] = []
    for (kind, log, _), members in groups.items():
        frames = [
            frame.with_columns(
                pl.lit(label).alias("#label"), pl.lit(seed, pl.String).alias("#seed"), pl.lit(folder).alias("#folder")
            )
            for frame, label, seed, folder in members
        ]
        frame = pl.concat(frames)
        what = frame[FILE][0] if len(members) == 1 else f"{len(members)} files ({kind})"
        one = _Table(frame, what, kind, log, asked, unit).read(where)
        runs += one.runs
        lines += one.lines
        notes += one.notes
    return Understood(runs, tuple(lines), tuple(notes))


class _Table:
    """Sources with the same columns, as one frame."""

    def __init__(self, frame: pl.DataFrame, what: str, kind: str, log: bool, asked: Asked, unit: str) -> None:
        self.frame, self.what, self.kind, self.log, self.asked = frame, what, kind, log, asked
        self.given = [name for name in frame.columns if not name.startswith("#")]
        self.columns: Columns = columns_of(self.given, asked, what)
        self.unit = unit or ("evaluation" if log else "")
        self.tuned: dict[str, str] = {}
        self.notes = [note] if (note := unit_note(self.columns.roles["loss"])) else []

    def read(self, where: Where | None) -> Understood:
        frame = self.frame
        late = where is not None and any(name in self._ends() for name in where.names)
        if where is not None and not late:
            frame = self._kept(frame, where)
        for role in ("loss", "step", "tokens", "batch_tokens", "planned"):
            frame = frame.with_columns(self._numbers(frame, role).alias(f"#{role}"))
        frame = self._named(frame)
        frame = self._runs(frame)
        if where is not None and late:
            frame = self._kept(
                frame.with_columns(
                    pl.col("#step").alias("step"), pl.col("#tokens").alias("tokens"), pl.col("#loss").alias("loss")
                ),
                where,
            )
        self.tuned = self.columns.tuned()
        runs = self._found(frame)
        return Understood(runs, (self._line(len(runs)),), tuple(self.notes))

    def _numbers(self, frame: pl.DataFrame, role: str) -> pl.Series:
        """The column of a meaning, null without one. Raises InputError for what it cannot be."""
        if (name := self.columns.get(role)) is None:
            return pl.Series([None] * frame.height, dtype=pl.Float64)
        try:
            values = numbers(frame, name)
            if role in ("step", "tokens"):  # counts: what a product in float64 adds to one is no other length
                whole = values.round()
                values = whole.zip_with((values - whole).abs() <= 1e-12 * whole.abs(), values)
        except InputError:
            if role not in ("batch_tokens", "planned"):
                raise
            return pl.Series([None] * frame.height, dtype=pl.Float64)
        finite, loss = values.is_finite(), "a loss in nats per token, so not"
        low, high = f"{loss} below 0, and is", f"{loss} above {HIGHEST_LOSS:g}, and is"
        for roles, wrong, what, hint in (
            (("loss",), (values < 0) & finite, low, " (a log likelihood needs the other sign)"),
            (("loss",), (values > HIGHEST_LOSS) & finite, high, " (a run that diverged has nan)"),
            (("step", "tokens"), ~finite, "a finite number, not", ""),
        ):
            if role in roles and wrong.any():
                first = frame.filter(wrong).row(0, named=True)
                raise InputError(f"{place(first, name)} must be {what} {first[name]}{hint}")
        return values

    def _end(self, name: str) -> str:
        """``step`` or ``tokens`` if the column is of a run's end; empty else."""
        for role in ("step", "tokens"):
            if name == self.columns.get(role) or (name == role and name not in self.given):
                return role
        return ""

    def _ends(self) -> set[str]:
        """Names in a condition that are of a run's end, and not of every row."""
        columns = {name for role in LENGTHS if (name := self.columns.get(role))}
        return columns | {name for name in LENGTHS if name not in self.given}

    def _kept(self, frame: pl.DataFrame, where: Where) -> pl.DataFrame:
        aliases = {"file": "#file", "folder": "#folder", "contestant": "#contestant", "seed": "#seed"}
        extra = [
            pl.col(column).alias(name)
            for name, column in aliases.items()
            if name in where.names and name not in frame.columns and column in frame.columns
        ]
        frame = frame.with_columns(extra)
        kept = frame.filter(where.expression([name for name in frame.columns if not name.startswith("#")]))
        if not kept.height:
            raise InputError(f"{self.what}: --where {where.text!r} keeps none of {frame.height} rows")
        if kept.height < frame.height:
            self.notes.append(f"{self.what}: --where keeps {kept.height:,} of {frame.height:,} rows.")
        return kept

    def _named(self, frame: pl.DataFrame) -> pl.DataFrame:
        """With the contestant and the seed of each row."""
        columns = self.columns
        seed = columns.get("seed")
        if seed is not None:
            frame = frame.with_columns(_seeds(frame, seed).alias("#seed"))
        missing: list[str] = []
        parts: list[pl.Expr] = []
        for name in columns.contestant:
            if self._end(name):
                continue  # added to the name of the run
            source = {"file": FILE, "folder": "#folder"}.get(name, name) if name not in self.given else name
            parts.append(labels_of(frame, source).alias(f"#part{len(parts)}"))
            missing.append(name)
        if not columns.contestant:
            return frame.with_columns(pl.col("#label").alias("#contestant"))
        frame = frame.with_columns(parts)
        names = [f"#part{place}" for place in range(len(parts))]
        empty = frame.filter(pl.any_horizontal([pl.col(name).is_null() for name in names])) if names else frame.head(0)
        if empty.height == frame.height and names:
            raise InputError(f"{self.what}: the column {missing[0]} for the contestant is empty")
        if empty.height:
            self.notes.append(
                f"{self.what}: {empty.height:,} of {frame.height:,} rows with no {' and '.join(missing)} are left "
                f"out (the first is row {empty[ROW][0]})."
            )
            frame = frame.filter(pl.all_horizontal([pl.col(name).is_not_null() for name in names]))
        frame = frame.with_columns((pl.concat_str(names, separator=" ") if names else pl.lit("")).alias("#contestant"))
        from_name = len(columns.contestant) == 1 and plain(columns.contestant[0]) in (
            "name",
            "run_name",
            "display_name",
        )
        if from_name and seed is None:
            split = {name: split_seed(name) for name in frame["#contestant"].unique().to_list()}
            frame = frame.with_columns(
                pl.col("#contestant")
                .replace_strict({k: v[1] for k, v in split.items()}, return_dtype=pl.String)
                .alias("#seed"),
                pl.col("#contestant")
                .replace_strict({k: v[0] or k for k, v in split.items()}, return_dtype=pl.String)
                .alias("#contestant"),
            )
        return frame

    def _runs(self, frame: pl.DataFrame) -> pl.DataFrame:
        """One row a run; where a row was an evaluation, with the curve of the evaluations in ``#x`` and ``#y``."""
        columns = self.columns
        length = "#tokens" if columns.get("tokens") and not columns.get("step") else "#step"
        keys = ["#contestant", "#seed"]
        run = columns.get("run")
        if run is not None and (self.log or frame[run].n_unique() < frame.height):
            keys.append(run)
        elif not self.log:
            if run is not None and not self.unit:
                self.unit = "run"  # every row has a name of its own
            keys += columns.hyperparameters
            if (planned := columns.get("planned")) is not None:
                keys.append(planned)
        keys.append(FILE)
        if self.unit != "run" and (columns.get("step") or columns.get("tokens")):
            varies = frame.filter(pl.col("#loss").is_not_null()).group_by(keys).agg(pl.col(length).n_unique())
            several = bool((varies[length] > 1).any()) if varies.height else False
            final = "final" in plain(columns.roles["loss"]) or "last" in plain(columns.get("step") or "")
            if self.unit == "evaluation" or (several and not final):
                self.unit = "evaluation"
                return self._ended(frame, keys, length)
        if self.unit == "evaluation":
            raise InputError(
                f"{self.what} has no column for the step or the tokens of an evaluation; name it with --step"
            )
        self.unit = "run"
        return frame

    def _ended(self, frame: pl.DataFrame, keys: list[str], length: str) -> pl.DataFrame:
        rows = frame.filter(pl.col("#loss").is_not_null())
        without = frame.height - rows.height
        if without:
            self.notes.append(
                f"{self.what}: {without:,} rows without a {self.columns.roles['loss']} are no evaluations."
            )
        gone = frame.join(rows, on=keys, how="anti", nulls_equal=True).unique(keys, keep="first", maintain_order=True)
        if gone.height:
            self.notes.append(f"{self.what}: {gone.height:,} runs have no evaluation; they count as unfinished.")
            rows = pl.concat([rows, gone])
        rows = pl.concat([rows, self._unevaluated(frame, keys, length)])
        once = rows.unique([*keys, length, "#loss"], keep="first", maintain_order=True)
        if once.height < rows.height:
            self.notes.append(
                f"{self.what}: a repeated row counts once ({rows.height - once.height:,} of {rows.height:,} are)."
            )
            rows = once
        unplaced = rows.filter(pl.col(length).is_null() & pl.col("#loss").is_not_null())
        if unplaced.height:
            column = self.columns.get("step") or self.columns.get("tokens") or "step"
            raise InputError(f"{place(unplaced.row(0, named=True), column)} is empty, so its evaluation has no place")
        twice = rows.filter(pl.struct([*keys, length]).is_duplicated() & pl.col("#loss").is_not_null())
        if twice.height:
            first, second = twice.sort([*keys, length], maintain_order=True).head(2).iter_rows(named=True)
            raise InputError(
                f"{place(second)}: {second['#contestant']} has another evaluation of the same run at the same step "
                f"({place(first)}); call the column that tells the runs apart run, or say --rows run if a row is a run"
            )
        constant = [name for name in (*self.columns.hyperparameters, *self.columns.workload) if name not in keys]
        counts = rows.group_by(keys).agg([pl.col(name).n_unique() for name in constant])
        moving = [name for name in constant if (counts[name] > 1).any()]
        if moving:
            self.notes.append(f"{self.what}: {', '.join(moving)} changes within runs and is no hyperparameter.")
            tuned = tuple(name for name in self.columns.hyperparameters if name not in moving)
            workload = tuple(name for name in self.columns.workload if name not in moving)
            self.columns = replace(self.columns, hyperparameters=tuned, workload=workload)
        rows = rows.sort(length, maintain_order=True)
        rest = [name for name in rows.columns if name not in keys]
        return rows.group_by(keys, maintain_order=True).agg(
            *[pl.col(name).last() for name in rest if name != ROW],
            pl.col(ROW).min(),
            pl.col(length).alias("#x"),
            pl.col("#loss").alias("#y"),
        )

    def _unevaluated(self, frame: pl.DataFrame, keys: list[str], length: str) -> pl.DataFrame:
        """Rows without a loss, behind the last evaluation of their run, at a length at which another row has one: an
        evaluation is missing there, and the one before must not stand for it. Says so, and where runs only go on."""
        loss = self.columns.roles["loss"]
        last = pl.when(pl.col("#loss").is_not_null()).then(pl.col(length)).max().over(keys)
        behind = frame.filter(pl.col(length) > last)
        missing = behind.join(frame.filter(pl.col("#loss").is_not_null()), on=length, how="semi")
        others = behind.join(missing, on=keys, how="anti", nulls_equal=True).unique(keys, maintain_order=True)
        if missing.height:
            first, count = missing.row(0, named=True), missing.unique(keys).height
            runs, have = ("1 run has", "counts") if count == 1 else (f"{count:,} runs have", "count")
            self.notes.append(
                f"{self.what}: {runs} no {loss} where others are evaluated, after evaluations of their own, and {have} "
                f"as unfinished ({place(first)}; JSON has no nan, and many write null for it)."
            )
        if others.height:
            first = others.row(0, named=True)
            goes, its, it_is = (
                ("1 run goes", "its", "it is")
                if others.height == 1
                else (f"{others.height:,} runs go", "their", "they are")
            )
            self.notes.append(
                f"{self.what}: {goes} on after {its} last evaluation, by which {it_is} judged ({place(first)}, has no "
                f"{loss})."
            )
        return missing

    def _found(self, frame: pl.DataFrame) -> list[FoundRun]:
        columns = self.columns
        ends = [end for part in columns.contestant if (end := self._end(part))]
        run, status = columns.get("run"), columns.get("status")
        others = columns.unused if self.unit == "run" else ()
        text = pl.lit("")
        plain_columns = frame.select(
            pl.format("{}, row {}", FILE, ROW).alias("at"),
            *(f"#{role}" for role in ("contestant", "loss", "seed", "step", "tokens", "batch_tokens", "planned")),
            (
                pl.col(status).cast(pl.String).fill_null("").str.strip_chars().str.to_lowercase() if status else text
            ).alias("status"),
            (pl.col(run).cast(pl.String).fill_null("") if run else text).alias("run"),
        )
        found = [
            FoundRun(contestant, at, loss, seed, step, tokens, batch_tokens, planned, state, name, tuned, workload)
            for (at, contestant, loss, seed, step, tokens, batch_tokens, planned, state, name), tuned, workload in zip(
                plain_columns.iter_rows(),
                shared_values(frame, self.tuned),
                shared_values(frame, {name: plain(name) for name in columns.workload}),
                strict=True,
            )
        ]
        if others:
            for one, values in zip(found, frame.select(others).iter_rows(named=True), strict=True):
                one.others = values
        if self.unit == "evaluation":
            for one, points in zip(found, frame.select("#x", "#y").iter_rows(), strict=True):
                one.curve = tuple((x, y) for x, y in zip(*points, strict=True) if None not in (x, y) and isfinite(y))
        for one in found if ends else ():
            lengths = (getattr(one, end) for end in ends)
            one.contestant = " ".join(
                [one.contestant, *(f"{value:.15g}" for value in lengths if value is not None)]
            ).strip()
        return found

    def _line(self, count: int) -> str:
        columns = self.columns
        who = " and ".join(columns.contestant) or "the name of the folder or file"
        parts = [f"contestant: {who}"]
        parts += [f"{role}: {columns.roles[role]}" for role in ("loss", "seed", "step", "tokens") if columns.get(role)]
        if columns.get("seed") is None:
            known = self.frame["#seed"].is_not_null().any() or columns.contestant[:1] == ("name",)
            parts.append("seed: in the names" if known else "no seed")
        if columns.hyperparameters:
            parts.append(f"hyperparameters: {', '.join(columns.hyperparameters)}")
        if columns.unused and self.unit == "run":
            parts.append(f"not used: {listed([name or '(no name)' for name in columns.unused], 8)}")
        rows = "a row is a run" if self.unit == "run" else "a row is an evaluation, the last of a run counts"
        runs = f"{count:,} run" + ("" if count == 1 else "s")
        return f"{self.what} ({self.kind}): {runs}, {rows}; " + "; ".join(parts)


def _seeds(frame: pl.DataFrame, column: str) -> pl.Expr:
    """A column as labels of seeds: 07 is 7, and what people write for none is none."""
    label = labels_of(frame, column)
    label = label.str.replace(r"^(-?)0+(\d)", "$1$2")
    return pl.when(label.str.to_lowercase().is_in([*MISSING, "nan"])).then(None).otherwise(label)
