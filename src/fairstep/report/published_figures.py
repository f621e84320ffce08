"""Figures of published losses, setting by setting: gaps to AdamW, and losses against the learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fairstep.report.drawing import FINE, Look, add_line, figure_json, new_figure
from fairstep.report.markup import label

Row = Mapping[str, Any]


def gaps_to_baseline(panels: Mapping[str, Sequence[Row]], look: Look, baseline: str) -> dict[str, Any]:
    """Nats below the baseline, a line each, lowest loss first; ``panels``: setting -> ``optimizer, gap, low, high``."""
    most = max((len(rows) for rows in panels.values()), default=1)
    figure = new_figure(height=110 + 38 * most)
    first = next(iter(panels), "")
    for panel, rows in panels.items():
        for place, row in enumerate(sorted(rows, key=lambda row: -row["gap"])):
            name = row["optimizer"]
            words = f"{row['gap']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"
            finite = math.isfinite(row["low"]) and math.isfinite(row["high"])
            add_line(
                figure,
                name,
                legendgroup=panel,
                visible=panel == first,
                x=[row["gap"]],
                y=[place],
                mode="markers+text",
                marker={"color": look.colour[name], "symbol": look.symbol[name], "size": 11},
                error_x={
                    "type": "data",
                    "array": [row["high"] - row["gap"] if finite else 0],
                    "arrayminus": [row["gap"] - row["low"] if finite else 0],
                    "thickness": 2,
                    "width": 5,
                },
                text=[label(name)],
                textposition="top center",
                hovertemplate=f"{label(name)}: {words} nats<extra></extra>",
            )
    figure.add_vline(x=0, line={"color": FINE, "width": 1.5, "dash": "dot"})
    figure.update_xaxes(title=f"nats below {label(baseline)} (right is better)")
    figure.update_yaxes(range=[most - 0.4, -0.9], showgrid=False, showticklabels=False)
    return figure_json(figure, look, legend=False, groups=list(panels))


def rate_sweeps(panels: Mapping[str, Mapping[str, Mapping[float, float]]], look: Look) -> dict[str, Any]:
    """Loss against learning rate; ``panels``: cell -> optimizer -> rate -> loss (diverged ones left out)."""
    figure = new_figure(height=460)
    first = next(iter(panels), "")
    for panel, optimizers in panels.items():
        for name in (name for name in look.colour if name in optimizers):
            rates = sorted(optimizers[name])
            best = min(optimizers[name].values())
            add_line(
                figure,
                name,
                legendgroup=panel,
                visible=panel == first,
                x=rates,
                y=[1000 * (optimizers[name][rate] - best) for rate in rates],
                mode="lines+markers",
                line={"color": look.colour[name], "width": 1.75},
                marker={"color": look.colour[name], "symbol": look.symbol[name], "size": 8},
                hovertemplate=f"{label(name)}, lr %{{x:.3g}}: %{{y:.1f}}<extra></extra>",
            )
    figure.update_xaxes(type="log", title="peak learning rate (each in its own unit)", exponentformat="power", dtick=1)
    figure.update_yaxes(title="loss above the best one (0.001 nats)")
    return figure_json(figure, look, groups=list(panels))
