"""What the verbs draw: progress on standard error (so that standard output stays clean), tables on standard output."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

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
        task = bar.add_task(name, total=steps, loss="", rate="")

        def show(event: Any) -> None:
            if event.note:
                say(event.note)
                return
            rate = f"{event.tokens_per_second / 1e3:.1f}k tokens/s"
            bar.update(task, completed=event.step, loss=f"loss {event.loss:.3f}", rate=rate)

        yield show


def say(text: str) -> None:
    """A line of news on standard error."""
    errors.print(text, highlight=False, markup=False, soft_wrap=True)


def print_table(title: str, header: list[str], rows: list[list[str]], left: int = 1) -> None:
    """A table on standard output; the first ``left`` columns are words, the others numbers."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index < left else "right", no_wrap=index == 0)
    for row in rows:
        table.add_row(*[cell.replace("[", r"\[") for cell in row])
    console.print(table)


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
