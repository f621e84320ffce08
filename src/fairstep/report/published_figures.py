"""Figures of published losses, setting by setting: gaps to AdamW, and losses against the learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fairstep.report.drawing import Drawing, Look, bars
from fairstep.report.markup import label

Row = Mapping[str, Any]


def gaps_to_baseline(panels: Mapping[str, Sequence[Row]], look: Look, baseline: str) -> dict[str, Any]:
    """Nats below the baseline, a line each, lowest loss first; ``panels``: setting -> ``optimizer, gap, low, high``."""
    most = max((len(rows) for rows in panels.values()), default=1)
    drawing = Drawing(look, height=110 + 38 * most)
    for panel, rows in panels.items():
        for place, row in enumerate(sorted(rows, key=lambda row: -row["gap"])):
            name, gap = row["optimizer"], row["gap"]
            finite = math.isfinite(row["low"]) and math.isfinite(row["high"])
            low, high = (row["low"], row["high"]) if finite else (gap, gap)
            drawing.add(
                name,
                [gap],
                [place],
                size=11,
                panel=panel,
                error_x=bars([gap], [low], [high], 2, 5),
                mode="markers+text",
                text=[label(name)],
                textposition="top center",
                hover=f"{label(name)}: {gap:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}] nats",
            )
    drawing.mark(x=0)
    drawing.figure.update_xaxes(title=f"nats below {label(baseline)} (right is better)")
    drawing.figure.update_yaxes(range=[most - 0.4, -0.9], showgrid=False, showticklabels=False)
    return drawing.json(legend=False)


def rate_sweeps(panels: Mapping[str, Mapping[str, Mapping[float, float]]], look: Look) -> dict[str, Any]:
    """Loss against learning rate; ``panels``: cell -> optimizer -> rate -> loss (diverged ones left out)."""
    drawing = Drawing(look, height=460)
    for panel, optimizers in panels.items():
        for name in (name for name in look.colour if name in optimizers):
            rates, best = sorted(optimizers[name]), min(optimizers[name].values())
            losses = [1000 * (optimizers[name][rate] - best) for rate in rates]
            hover = f"{label(name)}, lr %{{x:.3g}}: %{{y:.1f}}"
            drawing.add(name, rates, losses, width=1.75, size=8, panel=panel, hover=hover)
    title = "peak learning rate (each in its own unit)"
    drawing.figure.update_xaxes(type="log", title=title, exponentformat="power", dtick=1)
    drawing.figure.update_yaxes(title="loss above the best one (0.001 nats)")
    return drawing.json()
