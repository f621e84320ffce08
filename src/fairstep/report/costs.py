"""The page's section on costs beside tokens: seconds of a step, speedup in wall-clock, memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fairstep.analysis import bytes_text, count_text, seconds_text
from fairstep.report.drawing import Drawing, Look, ratio_axis
from fairstep.report.loaded import LoadedContest
from fairstep.report.markup import label
from fairstep.report.section import Figure, Section
from fairstep.report.table import Column, Table, numbers

Row = Mapping[str, Any]

COLUMNS = (
    Column("name", "contestant"),
    *numbers(speedup="speedup in tokens", time_speedup="speedup in time", time_speedup_low="low"),
    *numbers(time_speedup_high="high"),
    Column("time_verdict", "at equal time"),
    *numbers(seconds_text, step_seconds="step", optimizer_seconds="of it optimizer"),
    Column("tokens_per_second", "tokens a second", number=True, show=count_text),
    Column("state_bytes", "optimizer state", number=True, show=bytes_text),
    Column("memory_ratio", "of the baseline's", number=True),
    Column("peak_memory_bytes", "peak memory", number=True, show=bytes_text),
)
CAPTION = (
    "Wall-clock is of the machine named below. The model's part of a step is the median over the final runs of all "
    "contestants, whose work it is alike; each adds its own optimizer's part, as a ratio measured within its runs, so "
    "that what else the machine did drops out. Speedup in time is the speedup in tokens times the ratio of step "
    "times; its interval joins the ends of both. State is what the optimizer keeps, "
    "peak the most that a process had resident (on an accelerator: allocated); both are of the final runs."
)


def section(loaded: LoadedContest) -> Section:
    """Table and figures; empty before any final run has ended."""
    rows = _rows(loaded)
    if not rows:
        return Section(loaded.key("costs"), "")
    table = Table(loaded.key("prices"), "Time and memory of every contestant", COLUMNS, rows)
    drawing = time_figure(rows, loaded.look)
    figure = Figure(loaded.key("time"), "Speedups in tokens and in time", CAPTION, drawing)
    return Section(loaded.key("costs"), "Time and memory", [table, figure])


def time_figure(rows: Iterable[Row], look: Look) -> dict[str, Any]:
    """Speedup in tokens (open) and in wall-clock (filled, with its interval), one line each."""
    timed = [row for row in rows if row["speedup"] and row["time_speedup"]]
    drawing = Drawing(look, height=92 + 40 * max(len(timed), 1))
    ends = [1.1]
    for place, row in enumerate(timed):
        name, in_tokens, in_time = row["name"], row["speedup"], row["time_speedup"]
        low, high = (row[f"time_speedup_{end}"] or in_time for end in ("low", "high"))
        ends += [high, 1 / low, in_tokens, 1 / in_tokens]
        drawing.add(name, [low, high], [place] * 2, width=3)
        drawing.add(name, [in_time], [place], size=12, text=f"{label(name)}: {in_time:.2f}x in time", hover="%{text}")
        ring = {"symbol": "circle-open", "line": {"width": 2}}
        text = f"{label(name)}: {in_tokens:.2f}x in tokens"
        drawing.add(name, [in_tokens], [place], size=12, marker=ring, text=text, hover="%{text}")
    drawing.mark(x=1)
    ratio_axis(drawing, max(ends), "speedup in time (filled) and in tokens (open)")
    drawing.rows([f"<b>{label(row['name'])}</b>" for row in timed])
    return drawing.json(legend=False)


def _rows(loaded: LoadedContest) -> list[dict[str, Any]]:
    rows = []
    for row in loaded.result["contestants"]:
        done = [trial for trial in loaded.trials[row["name"]].finals if trial["status"] == "done"]
        if done:
            costs = {column.key: row.get(column.key) for column in COLUMNS}
            rates = sorted(trial["tokens_per_second"] for trial in done if trial["tokens_per_second"])
            costs["tokens_per_second"] = rates[len(rates) // 2] if rates else None
            costs["peak_memory_bytes"] = max((trial["peak_memory_bytes"] or 0 for trial in done), default=0) or None
            rows.append(costs)
    return rows
