"""Figures over many cells: speedups against data ratio and model size, and scaling laws with their residuals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fairstep.analysis import Law, count_text
from fairstep.report.drawing import FINE, Look, add_line, figure_json, new_figure, ratio_ticks
from fairstep.report.markup import label

Row = Mapping[str, Any]


def speedups(rows: Iterable[Row], axis: str, group: str, look: Look, titles: tuple[str, str]) -> dict[str, Any]:
    """Speedups with intervals against ``axis`` (a number), one line an optimizer, one ``group`` shown at a time.

    ``rows``: ``optimizer, speedup, low, high``, both keys, and ``label``. ``titles``: of the axis, of a group.
    """
    figure = new_figure(height=460)
    table: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        table.setdefault(f"{titles[1]} {row[group]}", {}).setdefault(row["optimizer"], []).append(row)
    values, places = [1.0], set()
    for shown, optimizers in table.items():
        for name in (name for name in look.colour if name in optimizers):
            line = sorted(optimizers[name], key=lambda row: row[axis])
            places |= {row[axis] for row in line}
            ends = [(row["low"] or row["speedup"], row["high"] or row["speedup"]) for row in line]
            values += [row["speedup"] for row in line]
            add_line(
                figure,
                name,
                legendgroup=shown,
                visible=shown == next(iter(table)),
                x=[row[axis] for row in line],
                y=[row["speedup"] for row in line],
                mode="lines+markers",
                line={"color": look.colour[name], "width": 1.75},
                marker={"color": look.colour[name], "symbol": look.symbol[name], "size": 9},
                error_y={
                    "type": "data",
                    "array": [high - row["speedup"] for row, (_, high) in zip(line, ends, strict=True)],
                    "arrayminus": [row["speedup"] - low for row, (low, _) in zip(line, ends, strict=True)],
                    "thickness": 1.25,
                    "width": 3,
                },
                text=[
                    f"{label(name)}, {label(row['label'])}: {row['speedup']:.2f} [{low:.2f}, {high:.2f}]"
                    for row, (low, high) in zip(line, ends, strict=True)
                ],
                hovertemplate="%{text}<extra></extra>",
            )
    figure.add_hline(y=1, line={"color": FINE, "width": 1.5, "dash": "dot"})
    ticks = sorted(places)
    words = [f"{tick:g}x" if tick < 1000 else count_text(tick) for tick in ticks]
    figure.update_xaxes(type="log", title=titles[0], tickvals=ticks, ticktext=words)
    reach = max(max(values), 1 / min(values))
    steps = [0.1 * tick for tick in range(7, 21)] if reach < 2 else list(ratio_ticks(reach)["tickvals"])
    words = [f"{tick:.2g}x" for tick in steps]
    figure.update_yaxes(type="log", title="speedup in tokens", tickvals=steps, ticktext=words)
    return figure_json(figure, look, groups=list(table))


def laws(fits: Mapping[str, Mapping[str, Law]], look: Look, unit: str) -> dict[str, Any]:
    """Loss against tokens with the fitted law, and below it the residuals; ``fits``: group -> name -> law.

    ``look`` has the names' colours; the law's x is in ``unit``.
    """
    figure = new_figure(height=560)
    first = next(iter(fits), "")
    ticks: set[float] = set()
    for group, members in fits.items():
        for name, law in members.items():
            x = law.x[:, 0]
            ticks |= {float(value) for value in x}
            grid = np.geomspace(x.min(), x.max(), 40)
            colour = look.colour[name]
            marker = {"color": colour, "symbol": look.symbol[name], "size": 9}
            common: dict[str, Any] = {"legendgroup": group, "visible": group == first}
            fitted = [law.at(float(value)) for value in grid]
            line = {"color": colour, "width": 1.75}
            add_line(figure, name, x=grid.tolist(), y=fitted, mode="lines", line=line, hoverinfo="skip", **common)
            words = f"{label(name)}: %{{y:.4f}}<extra>{label(_law_words(law))}</extra>"
            points = {"x": x.tolist(), "mode": "markers", "marker": marker, "hovertemplate": words, **common}
            add_line(figure, name, y=law.y.tolist(), **points)
            add_line(figure, name, y=[1000 * residual for residual in law.residuals], yaxis="y2", **points)
    shown = sorted(ticks)
    words_of = [f"{tick:g}" if tick < 1000 else count_text(tick) for tick in shown]
    figure.update_xaxes(type="log", title=unit, tickvals=shown, ticktext=words_of, anchor="y2")
    figure.update_layout(
        yaxis={"title": "final loss (nats per token)", "domain": [0.34, 1.0], "automargin": True},
        yaxis2={"title": "residual (0.001 nats)", "domain": [0.0, 0.26], "automargin": True, "anchor": "x"},
    )
    return figure_json(figure, look, groups=[group for group in fits if group])


def _law_words(law: Law) -> str:
    values = law.parameters
    return f"{values['alpha']:.3f} D^-{values['B']:.3f} + {values['beta']:.3f}, left out: {law.leave_one_out:.4f}"
