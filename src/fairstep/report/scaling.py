"""Figures over many cells: speedups against data ratio and model size, and scaling laws with their residuals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fairstep.analysis import Law, count_text
from fairstep.report.drawing import Drawing, Look, bars, ratio_ticks
from fairstep.report.markup import label

Row = Mapping[str, Any]


def speedups(rows: Iterable[Row], axis: str, group: str, look: Look, titles: tuple[str, str]) -> dict[str, Any]:
    """Speedups with intervals against ``axis`` (a number), one line an optimizer, one ``group`` shown at a time.

    ``rows``: ``optimizer, speedup, low, high``, both keys, and ``label``. ``titles``: of the axis, of a group.
    """
    drawing = Drawing(look, height=460)
    table: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        table.setdefault(f"{titles[1]} {row[group]}", {}).setdefault(row["optimizer"], []).append(row)
    values, places = [1.0], set()
    for shown, optimizers in table.items():
        for name in (name for name in look.colour if name in optimizers):
            line = sorted(optimizers[name], key=lambda row: row[axis])
            here, found = [row[axis] for row in line], [row["speedup"] for row in line]
            lows, highs = ([row[end] or row["speedup"] for row in line] for end in ("low", "high"))
            places.update(here)
            values += found
            texts = [
                f"{label(name)}, {label(row['label'])}: {row['speedup']:.2f} [{low:.2f}, {high:.2f}]"
                for row, low, high in zip(line, lows, highs, strict=True)
            ]
            error = bars(found, lows, highs, thickness=1.25, width=3)
            style: dict[str, Any] = {"width": 1.75, "size": 9, "panel": shown, "error_y": error}
            drawing.add(name, here, found, text=texts, hover="%{text}", **style)
    drawing.mark(y=1)
    ticks = sorted(places)
    words = [f"{tick:g}x" if tick < 1000 else count_text(tick) for tick in ticks]
    drawing.figure.update_xaxes(type="log", title=titles[0], tickvals=ticks, ticktext=words)
    reach = max(max(values), 1 / min(values))
    steps = [0.1 * tick for tick in range(7, 21)] if reach < 2 else list(ratio_ticks(reach)["tickvals"])
    words = [f"{tick:.2g}x" for tick in steps]
    drawing.figure.update_yaxes(type="log", title="speedup in tokens", tickvals=steps, ticktext=words)
    return drawing.json()


def laws(fits: Mapping[str, Mapping[str, Law]], look: Look, unit: str) -> dict[str, Any]:
    """Loss against tokens with the fitted law, and below it the residuals; ``fits``: group -> name -> law.

    ``look`` has the names' colours; the law's x is in ``unit``.
    """
    drawing = Drawing(look, height=560)
    ticks: set[float] = set()
    for group, members in fits.items():
        for name, law in members.items():
            x: list[float] = law.x[:, 0].tolist()
            ticks.update(x)
            grid = np.geomspace(min(x), max(x), 40).tolist()
            drawing.add(name, grid, [law.at(place) for place in grid], width=1.75, panel=group)
            hover = f"{label(name)}: %{{y:.4f}}<extra>{label(_law_words(law))}</extra>"
            points: dict[str, Any] = {"size": 9, "panel": group, "hover": hover}
            drawing.add(name, x, law.y.tolist(), **points)
            drawing.add(name, x, [1000 * residual for residual in law.residuals], yaxis="y2", **points)
    shown = sorted(ticks)
    words_of = [f"{tick:g}" if tick < 1000 else count_text(tick) for tick in shown]
    drawing.figure.update_xaxes(type="log", title=unit, tickvals=shown, ticktext=words_of, anchor="y2")
    drawing.figure.update_layout(
        yaxis={"title": "final loss (nats per token)", "domain": [0.34, 1.0], "automargin": True},
        yaxis2={"title": "residual (0.001 nats)", "domain": [0.0, 0.26], "automargin": True, "anchor": "x"},
    )
    return drawing.json()


def _law_words(law: Law) -> str:
    values = law.parameters
    return f"{values['alpha']:.3f} D^-{values['B']:.3f} + {values['beta']:.3f}, left out: {law.leave_one_out:.4f}"
