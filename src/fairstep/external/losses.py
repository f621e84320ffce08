"""The final loss of a trainer: from a file, from its output, or from what a callable returns.

Each gives (loss, evaluations on the way as (step, loss)). NaN and infinity are losses. A TrialError says why there is
none, in a sentence.
"""

from __future__ import annotations

import csv
import io
import json
import math
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fairstep.external.output import Output, TrialError
from fairstep.runs import CommandSpec
from fairstep.runs.command_spec import filled
from fairstep.runs.frozen import is_number

Found = tuple[float, list[tuple[int, float]]]
LARGEST_FILE = 200_000_000
"""Bytes of a file with losses."""

LONGEST_FIELD = 2**17
"""Characters of a value in a CSV of losses."""
MORE = "\0"
"""Name of the cells of a row of CSV that are behind the header's last one."""


def file_of(spec: CommandSpec, out: Path) -> Path:
    """The file that the loss is read from."""
    values = {**spec.values(), "out": str(out), "processes": "1"}
    return Path(spec.trainer.directory, filled(spec.trainer.loss.file, values))


Stamp = tuple[int, int, int] | None
"""Inode, time and size of a file; None where there is none."""


def stamp(spec: CommandSpec, out: Path) -> Stamp:
    """Of a file outside {out}, which an earlier command may have left there; taken before the command starts."""
    if not spec.trainer.loss.file or (path := file_of(spec, out)).is_relative_to(out):
        return None
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns, facts.st_size


def read(spec: CommandSpec, out: Path, output: Output, before: Stamp = None) -> Found:
    """The loss of a command that has ended. ``before``: the file's stamp before its start. Raises TrialError."""
    source = spec.trainer.loss
    if source.pattern:
        if output.comma:
            raise TrialError(
                f"its loss cannot be read: it printed {output.comma!r}, with a comma in it; print it with a point"
            )
        if not output.losses:
            raise TrialError(f"its loss never appeared: no line of its output matches the pattern {source.pattern!r}")
        if len(set(output.beside)) > 1 and not any(map(math.isnan, output.beside)):
            listed = ", ".join(f"{loss:g}" for loss in output.beside)
            raise TrialError(
                f"the pattern {source.pattern!r} has several losses in one line ({listed}); a trial has one"
            )
        return _last([(step, loss) for step, loss in output.losses], f"the pattern {source.pattern!r}")
    if source.exit_json:
        lines = [line for line in output.last if line.strip()]
        try:
            row = json.loads(lines[-1]) if lines else None
        except ValueError:
            row = None
        if not isinstance(row, dict):
            what = f"its last line is {lines[-1][:100]!r}" if lines else "it printed nothing"
            raise TrialError(f"its loss never appeared: the last line of its output must be a JSON object, and {what}")
        return number(_value(row, source.key or "loss", "the last line"), source.key or "loss"), []
    path = file_of(spec, out)
    if before is not None and stamp(spec, out) == before:
        raise TrialError(f"its loss never appeared: {path} is as it was before the command started")
    return _from_file(path, source.key or "loss")


def _from_file(path: Path, key: str) -> Found:
    try:
        facts = path.stat()
        if not (stat.S_ISREG(facts.st_mode) or stat.S_ISDIR(facts.st_mode)):  # reading a pipe would not end
            raise TrialError(f"its loss cannot be read: {path} is no file")
        size = facts.st_size
        if size > LARGEST_FILE:
            raise TrialError(f"{path} has {size:,} bytes; a file with losses has at most {LARGEST_FILE:,}")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TrialError(f"its loss never appeared: {path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise TrialError(f"its loss cannot be read: {path} is no text") from None
    rows = _table(text) if path.suffix == ".csv" else _rows(text)
    if not rows:
        what = "no rows below a header" if path.suffix == ".csv" else "neither JSON nor a number"
        raise TrialError(f"its loss cannot be read: {path} holds {what}")
    if not isinstance(rows[-1], dict):
        return number(rows[-1], path.name), []
    having = [row for row in rows if isinstance(row, dict) and _inside(row, key) is not None]
    if not having:
        raise TrialError(f"its loss never appeared: {path} has {', '.join(_keys(rows[-1])) or 'nothing'}, and no {key}")
    if _unevaluated(rows, having, key):
        raise TrialError(f"its loss cannot be read: the last {key} in {path} is empty; a run that diverged writes nan")
    return _last([(_step(row), number(_value(row, key, path.name), key)) for row in having], str(path))


def _rows(text: str) -> list[Any]:
    """The rows of JSON, of JSON lines, or a plain number; other lines between them, and what an earlier kill cut off,
    are left out. Raises TrialError for a last row that is cut off."""
    try:
        value = json.loads(text)
        return value if isinstance(value, list) and value and isinstance(value[0], dict) else [value]
    except (ValueError, RecursionError):
        pass
    try:
        return [float(text)]  # nan and inf, as Python writes them
    except ValueError:
        pass
    rows, last = [], ""
    for line in filter(str.strip, text.splitlines()):
        try:
            rows.append(json.loads(line))
            last = ""
        except (ValueError, RecursionError):
            last = line
    if last.lstrip().startswith("{"):
        raise TrialError(f"its loss cannot be read: the last line is cut off: {last.strip()[:100]!r}")
    return [row for row in rows if isinstance(row, dict)]


def _table(text: str) -> list[Any]:
    """The rows of CSV; empty cells, which loggers leave where a row has no such value, are None. Raises TrialError."""
    try:
        csv.field_size_limit(LONGEST_FIELD)  # of the process: whoever reads texts from CSV sets another one
        rows = list(csv.DictReader(io.StringIO(text, newline=""), restkey=MORE))
    except csv.Error as error:
        raise TrialError(f"its loss cannot be read: the CSV is none ({error})") from None
    if rows and None in rows[-1].values():
        raise TrialError("its loss cannot be read: the last row is cut off, with fewer cells than the header")
    whole = [row for row in rows if not any(row.get(MORE) or ())]
    if rows and whole[-1:] != rows[-1:]:
        raise TrialError(
            "its loss cannot be read: the last row has more cells than the header; is there a decimal comma, as 3,21?"
        )
    return [{name: _cell(cell) for name, cell in row.items() if name not in ("", MORE)} for row in whole]


def _cell(text: str) -> float | str | None:
    try:
        return float(text)
    except ValueError:
        return text or None


def _last(found: Sequence[tuple[int | None, float]], where: str) -> Found:
    """The last of the losses on the way. Raises TrialError where it is not plain which one is of the end."""
    step, loss = found[-1]
    steps = [(at, value) for at, value in found if at is not None]
    if step is not None and (latest := max(at for at, _ in steps)) > step:
        raise TrialError(
            f"the last loss in {where} is of step {step}, and an earlier one of step {latest}: of the end?"
        )
    at_end = {value for at, value in steps if at == step and not math.isnan(value)}
    if len(at_end) > 1:
        listed = ", ".join(f"{value:g}" for value in sorted(at_end))
        raise TrialError(f"{where} has several losses of step {step} ({listed}); a trial has one")
    return loss, list(dict(steps).items())


def _unevaluated(rows: Sequence[Any], having: Sequence[dict[str, Any]], key: str) -> bool:
    """Whether the last row is an evaluation without its loss, such as of nan, for which many write null.

    A logger that writes every key into every row has such rows between evaluations too, and its rows of training have
    values that its evaluations lack.
    """
    last = max(place for place, row in enumerate(rows) if row is having[-1])
    empty = [place for place, row in enumerate(rows) if isinstance(row, dict) and row.get(key, 0) is None]
    evaluated = set().union(*map(_keys, having))
    return bool(empty) and empty[0] > last and empty[-1] == len(rows) - 1 and evaluated >= set(_keys(rows[-1]))


def _keys(row: dict[str, Any]) -> list[str]:
    """Keys with a value."""
    return [str(key) for key, value in row.items() if value is not None]


def _value(row: dict[str, Any], key: str, where: str) -> Any:
    value = _inside(row, key)
    if value is None:
        raise TrialError(f"its loss never appeared: {where} has {', '.join(_keys(row)) or 'nothing'}, and no {key}")
    return value


def _inside(row: dict[str, Any], key: str) -> Any:
    """The value of a key, or of keys in one another as in metrics.val_loss."""
    if key in row:
        return row[key]
    value: Any = row
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _step(row: dict[str, Any]) -> int | None:
    name = next(
        (name for name in ("step", "steps", "iteration", "iter", "global_step") if row.get(name) is not None), ""
    )
    step = row.get(name)
    try:
        if isinstance(step, str):
            step = float(step)
    except ValueError:
        raise TrialError(f"a loss has the {name} {str(step)[:100]!r}, which is no number: is it of the end?") from None
    return int(step) if is_number(step) and math.isfinite(step) else None


def number(value: Any, name: str) -> float:
    """A loss as a float. Raises TrialError."""
    if isinstance(value, list | tuple):
        raise TrialError(f"{name} is a list of {len(value)} values; a trial has one loss")
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise TrialError(f"{name} must be a number, not {str(value)[:100]!r}") from None


def returned(value: Any, key: str, seen: Any) -> Found:
    """The loss that a callable returns, or the last one that it yields; ``seen`` is called with (step, loss)."""
    if isinstance(value, dict):
        return number(_value(value, key, "what it returns"), key), []
    if not isinstance(value, Iterator):
        if value is None:
            raise TrialError("it returned nothing; it must return its loss, a dictionary with it, or yield pairs")
        return number(value, "what it returns"), []
    found: list[tuple[int | None, float]] = []
    for item in value:
        if not isinstance(item, tuple) or len(item) != 2:
            raise TrialError(f"it yielded {str(item)[:100]!r}; it must yield pairs (step, loss)")
        step, loss = int(number(item[0], "the step that it yields")), number(item[1], "the loss that it yields")
        found.append((step, loss))
        seen((step, loss))
    if not found:
        raise TrialError("it yielded no (step, loss)")
    return _last(found, "what it yields")
