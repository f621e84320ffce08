"""What the verbs draw: progress on standard error (so that standard output stays clean), tables on standard output."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from fairstep.cli.shared.shown import drawing, shown

errors = Console(stderr=True)


def progress(*columns: Any) -> Progress:
    """A bar on standard error, drawn only on a terminal, that leaves nothing behind."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        *columns,
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    )


@contextmanager
def stages(title: str) -> Iterator[Callable[[str, float], None]]:
    """A bar for work that names its stages: the yielded function takes (stage, fraction done)."""
    with progress(TaskProgressColumn(), TimeElapsedColumn()) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda stage, fraction: bar.update(task, description=f"{title}: {stage}", completed=fraction)


@contextmanager
def training(name: str, steps: int) -> Iterator[Callable[[Any], None]]:
    """A bar for one run: loss, tokens per second and time left."""
    columns = (TextColumn("{task.fields[loss]}"), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    with progress(TaskProgressColumn(), *columns) as bar:
        task = bar.add_task(escaped(name), total=steps, loss="", rate="")

        def show(event: Any) -> None:
            if event.note:
                say(event.note)
                return
            rate = f"{event.tokens_per_second / 1e3:.1f}k tokens/s"
            bar.update(task, completed=event.step, loss=f"loss {event.loss:.3f}", rate=rate)

        yield show


def say(text: str) -> None:
    """A line of news on standard error."""
    errors.print(shown(text), highlight=False, markup=False, soft_wrap=True)


def escaped(text: object) -> str:
    """A text of anyone's for rich, which would read [bold] and ESC."""
    return shown(text).replace("[", r"\[")


def width() -> int:
    """Columns of standard output: the terminal's, or what COLUMNS says; 0 where nobody counts them (a pipe)."""
    given = os.environ.get("COLUMNS", "")
    if given.isdigit() and int(given):
        return int(given)
    return Console().width if sys.stdout.isatty() else 0


def out(text: str = "") -> None:
    """Sentences on standard output, whose lines are wrapped between words where the terminal is narrower."""
    limit = width()
    for line in text.split("\n"):
        hang = len(line) - len(line.lstrip(" *"))
        if 20 < limit < len(line):
            line = textwrap.fill(
                line, limit, subsequent_indent=" " * hang, break_on_hyphens=False, break_long_words=False
            )
        print(line)


def finding(one: Any) -> None:
    """The outcome of a check: ``status``, ``title``, ``message``."""
    out(f"  {MARKS[one.status]}  {one.title}")
    if one.message:
        out(f"           {one.message}")
    sys.stdout.flush()


MARKS = {"passed": "ok     ", "failed": "FAILED ", "skipped": "skipped"}
WORDS = 14
"""Columns that a column of words keeps at least, beside its longest word."""


def print_table(
    title: str, header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1, drop: Sequence[str] = ()
) -> None:
    """A table on standard output; the first ``left`` columns are words, the others numbers, which are never cut.

    Where it is too wide, columns of ``drop`` are left out, the first of them first; then every row becomes a block.
    """
    limit = width() or 140
    names, cells = [shown(name) for name in header], [[shown(cell).replace("\n", " ") for cell in row] for row in rows]
    kept, dropped = list(range(len(names))), []

    def least(column: int) -> int:
        texts = [names[column], *(row[column] for row in cells)]
        longest = max(map(len, texts))
        if not 0 < column < left:
            return longest
        return min(longest, max(WORDS, *(len(word) for text in texts for word in text.split() or [""])))

    for name in drop:
        if sum(least(column) + 2 for column in kept) - 2 > limit and name in names:
            kept.remove(names.index(name))
            dropped.append(name)
    if title:
        out(title)
    if sum(least(column) + 2 for column in kept) - 2 > limit:
        _blocks(names, cells)
        return
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    widths = {column: max(len(names[column]), *(len(row[column]) for row in cells), 0) for column in kept}
    while sum(widths.values()) + 2 * len(kept) - 2 > limit:  # rich would narrow all alike, and cut words
        widths[max(kept, key=lambda column: (widths[column] > least(column), widths[column]))] -= 1
    for column in kept:
        words = column < left
        table.add_column(
            names[column].replace("[", r"\["),
            justify="left" if words else "right",
            no_wrap=not 0 < column < left,
            width=widths[column],
        )
    for row in cells:
        table.add_row(*[row[column].replace("[", r"\[") for column in kept])
    with drawing():
        Console(width=limit).print(table)
    if dropped:
        out(f"Not shown for want of room: {', '.join(dropped)}.")


def _blocks(names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A block for each row: its first cell, and a line for each other one that is not empty."""
    widest = max(map(len, names))
    for row in rows:
        out(row[0])
        for name, cell in zip(names[1:], row[1:], strict=True):
            if cell:
                out(f"  {name:{widest}}  {cell}")


def size_text(size: int) -> str:
    """Bytes as MB or GB (decimal)."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def duration(seconds: float) -> str:
    """Seconds in the unit that suits."""
    for limit, unit, text in ((120, 1, "s"), (7200, 60, "min"), (2 * 86400, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.1f} {text}"
    days = seconds / 86400
    return f"{days:,.1f} days" if days < 10_000 else f"{days:,.0f} days"
