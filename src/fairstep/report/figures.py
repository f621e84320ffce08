"""The figures of one contest, as Plotly JSON.

The page sets the colours of text, grids and backgrounds, because it knows the theme.

Every trace of a contestant carries its name in ``meta``. The page's legend, which a keyboard can reach, switches all
traces of one name together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fairstep.analysis import count_text, curve_line, speedup_text
from fairstep.report.drawing import (
    FINE,
    Look,
    add_line,
    add_words,
    figure_json,
    new_figure,
    ratio_axis,
    token_ticks,
)
from fairstep.report.markup import label

Row = Mapping[str, Any]
BEYOND = 1.05


def forest(result: Row, look: Look) -> dict[str, Any]:
    """Speedups with their intervals, one line each, on a log axis around 1; the numbers stand beside the names."""
    rows = [row for row in result["contestants"] if row["speedup"] is not None]
    figure = new_figure(height=92 + 52 * max(len(rows), 1))
    reach = 1.1
    for place, row in enumerate(rows):
        has_interval = row["speedup_low"] is not None and row["speedup_high"] is not None
        ends = (row["speedup_low"], row["speedup_high"]) if has_interval else (row["speedup"], row["speedup"])
        smallest, largest = row["speedup_limits"] or (0.0, math.inf)
        # An arrow stands a little beyond the bound, so that the bound itself stays visible.
        drawn = (
            ends[0] / BEYOND if ends[0] <= smallest else ends[0],
            ends[1] * BEYOND if ends[1] >= largest else ends[1],
        )
        reach = max(reach, drawn[1], 1 / drawn[0])
        colour = look.colour[row["name"]]
        symbol = [
            "triangle-left-open" if ends[0] <= smallest else "line-ns-open",
            "triangle-right-open" if ends[1] >= largest else "line-ns-open",
        ]
        words = f"{label(row['name'])}: {speedup_text(row)}"
        common = {"text": words, "hovertemplate": "%{text}<extra></extra>"}
        together = row["speedup_simultaneous_low"], row["speedup_simultaneous_high"]
        if row["name"] != result["baseline"] and None not in together:
            low, high = max(together[0], smallest), min(together[1], largest)
            reach = max(reach, high, 1 / low)
            wide = {"color": colour, "width": 1}
            add_line(figure, row["name"], x=[low, high], y=[place] * 2, mode="lines", line=wide, hoverinfo="skip")
        if row["name"] != result["baseline"]:
            bar = {"color": colour, "width": 3}
            tips = {"color": colour, "symbol": symbol, "size": 13, "line": {"width": 2.5}}
            add_line(figure, row["name"], x=drawn, y=[place] * 2, mode="lines+markers", line=bar, marker=tips, **common)
        point = {"color": colour, "symbol": look.symbol[row["name"]], "size": 13}
        add_line(figure, row["name"], x=[row["speedup"]], y=[place], mode="markers", marker=point, **common)
    figure.add_vline(x=1, line={"color": FINE, "width": 1.5, "dash": "dot"})
    add_words(figure, "slower ◂ ", xref="x", x=0, xanchor="right", yref="paper", y=1, yanchor="bottom")
    add_words(figure, " ▸ faster", xref="x", x=0, xanchor="left", yref="paper", y=1, yanchor="bottom")
    ratio_axis(figure, reach)
    figure.update_yaxes(
        range=[len(rows) - 0.4, -0.6],
        showgrid=False,
        tickvals=list(range(len(rows))),
        ticktext=[f"<b>{label(row['name'])}</b><br>{speedup_text(row)}" for row in rows],
    )
    return figure_json(figure, look, legend=False)


def loss_curves(curves: Mapping[str, Sequence[Row]], look: Look, unit: str = "tokens") -> dict[str, Any]:
    """Validation loss against tokens, or steps: each final run thin, the mean of a contestant's seeds bold.

    ``curves``: contestant -> runs with ``seed``, ``tokens``, ``losses`` and ``status``. As in the verdict, seeds that
    survived where another diverged have no mean.
    """
    figure = new_figure(height=440)
    last, best = 1.0, math.inf
    early: list[float] = []
    for name, runs in curves.items():
        colour = look.colour[name]
        runs = [run for run in runs if run["tokens"]]
        for run in runs:
            add_line(
                figure,
                name,
                x=run["tokens"],
                y=run["losses"],
                mode="lines",
                line={"color": colour, "width": 1},
                opacity=0.45,
                hoverinfo="skip",
            )
            if run["status"] == "diverged":
                add_line(
                    figure,
                    name,
                    x=run["tokens"][-1:],
                    y=run["losses"][-1:],
                    mode="markers",
                    marker={"color": colour, "symbol": "x", "size": 10},
                    hovertemplate=f"{label(name)}, seed {run['seed']}: diverged<extra></extra>",
                )
        early += [
            loss
            for run in runs
            for tokens, loss in zip(run["tokens"], run["losses"], strict=True)
            if tokens >= run["tokens"][-1] / 12
        ][:1]
        if any(run["status"] == "diverged" for run in runs):
            continue
        whole = [dict(zip(run["tokens"], run["losses"], strict=True)) for run in runs if run["status"] == "done"]
        shared = [tokens for tokens in (whole[0] if whole else {}) if all(tokens in run for run in whole)]
        mean = [sum(run[tokens] for run in whole) / len(whole) for tokens in shared]
        if not mean:
            continue
        add_line(
            figure,
            name,
            x=shared,
            y=mean,
            mode="lines",
            line={"color": colour, "width": 2.75},
            hovertemplate=f"{label(name)}: %{{y:.3f}} at %{{x:.3s}} {unit}<extra></extra>",
        )
        last, best = max(last, shared[-1]), min(best, *mean)
    figure.update_xaxes(type="log", title=f"{unit} trained", **token_ticks(last))
    figure.update_yaxes(title="validation loss (nats per token)")
    if math.isfinite(best):
        # The first steps would fill the figure; a double click shows them.
        figure.update_xaxes(range=[math.log10(last / 14), math.log10(last * 1.03)])
        figure.update_yaxes(range=[best - 0.06 * (max(early) - best), max(early) + 0.02])
    return figure_json(figure, look)


def sweeps(trials: Sequence[Row], chosen: Mapping[str, str], look: Look) -> dict[str, Any]:
    """Loss of the search's trials against the learning rate, with the chosen point ringed and diverged ones crossed.

    ``chosen``: contestant -> the JSON of its choice, as in the trials' column ``varied``.
    """
    figure = new_figure(height=420)
    trials = [row for row in trials if row["phase"] == "tune" and row["lr"] is not None]
    losses = [row["final_loss"] for row in trials if row["final_loss"] is not None]
    top = max(losses) + 0.12 * (max(losses) - min(losses) or 0.1) if losses else 1.0
    for name in dict.fromkeys(row["contestant"] for row in trials):
        members = sorted((row for row in trials if row["contestant"] == name), key=lambda row: row["lr"])
        done = [row for row in members if row["final_loss"] is not None]
        diverged = [row for row in members if row["status"] == "diverged"]
        picked = [row for row in done if row["varied"] == chosen.get(name)]
        style = {"color": look.colour[name], "symbol": look.symbol[name]}
        text = [f"{label(name)}, {label(row['varied'])}" for row in done]
        if done:
            add_line(
                figure,
                name,
                x=[row["lr"] for row in done],
                y=[row["final_loss"] for row in done],
                mode="lines+markers",
                line={"color": look.colour[name], "width": 1.75},
                marker=style | {"size": 8},
                text=text,
                hovertemplate="%{text}: %{y:.3f}<extra></extra>",
            )
        if picked:
            add_line(
                figure,
                name,
                x=[row["lr"] for row in picked],
                y=[row["final_loss"] for row in picked],
                mode="markers",
                marker={"color": look.colour[name], "symbol": "circle-open", "size": 19, "line": {"width": 2.5}},
                hovertemplate=f"{label(name)}: chosen<extra></extra>",
            )
        if diverged:
            add_line(
                figure,
                name,
                x=[row["lr"] for row in diverged],
                y=[top] * len(diverged),
                mode="markers",
                marker={"color": look.colour[name], "symbol": "x", "size": 10},
                hovertemplate=f"{label(name)}, lr %{{x:.3g}}: diverged<extra></extra>",
            )
    if any(row["status"] == "diverged" for row in trials):
        add_words(figure, "diverged ×", xref="paper", x=0, xanchor="left", y=top, yanchor="bottom", yshift=8)
    figure.update_xaxes(type="log", title="peak learning rate", exponentformat="power", dtick=1)
    figure.update_yaxes(title="final loss of one trial (nats per token)")
    return figure_json(figure, look)


def tokens_for_loss(result: Row, look: Look) -> dict[str, Any]:
    """How a loss becomes tokens: the baseline's budgets, and each contestant's loss carried over to its curve."""
    figure = new_figure(height=440)
    curve, budget = result["curve"], _budget(result)
    baseline = result["baseline"]
    if curve:
        line = curve_line([row["tokens"] for row in curve], [row["fitted"] for row in curve])
        ends = [(row["high"] or row["loss"]) - row["loss"] for row in curve]
        add_line(
            figure,
            baseline,
            x=line[0],
            y=line[1],
            mode="lines",
            line={"color": look.colour[baseline], "width": 2.5},
            hoverinfo="skip",
        )
        add_line(
            figure,
            baseline,
            x=[row["tokens"] for row in curve],
            y=[row["loss"] for row in curve],
            mode="markers",
            marker={"color": look.colour[baseline], "symbol": look.symbol[baseline], "size": 9},
            error_y={"type": "data", "array": ends, "color": look.colour[baseline], "thickness": 1.5, "width": 4},
            text=[str(row["runs"]) for row in curve],
            hovertemplate=f"{label(baseline)}, %{{x:.3s}} tokens: %{{y:.3f}} (runs: %{{text}})<extra></extra>",
        )
    level = next((row["fitted"] for row in curve if row["tokens"] == budget), None)
    for row in result["contestants"]:
        if row["difference"] is None or row["speedup"] is None or row["name"] == baseline or level is None:
            continue
        loss, end = level - row["difference"], row["speedup"] * budget
        arrow = {"at least": "triangle-right", "at most": "triangle-left"}.get(row["speedup_bound"], "circle-open")
        add_line(
            figure,
            row["name"],
            x=[budget, end],
            y=[loss, loss],
            mode="lines+markers",
            line={"color": look.colour[row["name"]], "width": 1.75, "dash": "dot"},
            marker={
                "color": look.colour[row["name"]],
                "symbol": [look.symbol[row["name"]], arrow],
                "size": [10, 11],
                "line": {"width": 2, "color": look.colour[row["name"]]},
            },
            hovertemplate=f"{label(row['name'])}: loss %{{y:.3f}}, %{{x:.3s}} tokens<extra></extra>",
        )
    ticks = [row["tokens"] for row in curve]
    figure.update_xaxes(
        type="log", title="tokens trained", tickvals=ticks, ticktext=[count_text(tick) for tick in ticks]
    )
    figure.update_yaxes(title="final loss (nats per token)")
    return figure_json(figure, look)


def _budget(result: Row) -> int:
    """Tokens of the final runs: the curve's budget with the ratio 1."""
    limits = next((r["speedup_limits"] for r in result["contestants"] if r["speedup_limits"]), None)
    if limits and result["curve"]:
        return round(result["curve"][0]["tokens"] / limits[0])
    return int(result["cell"]["tokens"])
