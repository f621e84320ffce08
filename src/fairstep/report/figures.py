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
from fairstep.report.drawing import Drawing, Look, ratio_axis, token_ticks
from fairstep.report.markup import label

Row = Mapping[str, Any]
BEYOND = 1.05


def forest(result: Row, look: Look) -> dict[str, Any]:
    """Speedups with their intervals, one line each, on a log axis around 1; the numbers stand beside the names."""
    rows = [row for row in result["contestants"] if row["speedup"] is not None]
    drawing = Drawing(look, height=92 + 52 * max(len(rows), 1))
    reach = 1.1
    for place, row in enumerate(rows):
        has_interval = row["speedup_low"] is not None and row["speedup_high"] is not None
        low, high = (row["speedup_low"], row["speedup_high"]) if has_interval else (row["speedup"], row["speedup"])
        smallest, largest = row["speedup_limits"] or (0.0, math.inf)
        # An arrow stands a little beyond the bound, so that the bound itself stays visible.
        below, above = low <= smallest, high >= largest
        drawn = low / BEYOND if below else low, high * BEYOND if above else high
        reach = max(reach, drawn[1], 1 / drawn[0])
        name, at = row["name"], [place] * 2
        words: dict[str, Any] = {"text": f"{label(name)}: {speedup_text(row)}", "hover": "%{text}"}
        together = row["speedup_simultaneous_low"], row["speedup_simultaneous_high"]
        if name != result["baseline"] and None not in together:
            wide = max(together[0], smallest), min(together[1], largest)
            reach = max(reach, wide[1], 1 / wide[0])
            drawing.add(name, wide, at, width=1)
        if name != result["baseline"]:
            tips = [
                "triangle-left-open" if below else "line-ns-open",
                "triangle-right-open" if above else "line-ns-open",
            ]
            drawing.add(name, drawn, at, width=3, size=13, marker={"symbol": tips, "line": {"width": 2.5}}, **words)
        drawing.add(name, [row["speedup"]], [place], size=13, **words)
    drawing.mark(x=1)
    drawing.words("slower ◂ ", xref="x", x=0, xanchor="right", yref="paper", y=1, yanchor="bottom")
    drawing.words(" ▸ faster", xref="x", x=0, xanchor="left", yref="paper", y=1, yanchor="bottom")
    ratio_axis(drawing, reach)
    drawing.rows([f"<b>{label(row['name'])}</b><br>{speedup_text(row)}" for row in rows])
    return drawing.json(legend=False)


def loss_curves(curves: Mapping[str, Sequence[Row]], look: Look, unit: str = "tokens") -> dict[str, Any]:
    """Validation loss against tokens, or steps: each final run thin, the mean of a contestant's seeds bold.

    ``curves``: contestant -> runs with ``seed``, ``tokens``, ``losses`` and ``status``. As in the verdict, seeds that
    survived where another diverged have no mean.
    """
    drawing = Drawing(look, height=440)
    last, best = 1.0, math.inf
    early: list[float] = []
    for name, runs in curves.items():
        runs = [run for run in runs if run["tokens"]]
        for run in runs:
            drawing.add(name, run["tokens"], run["losses"], width=1, opacity=0.45)
            if run["status"] == "diverged":
                hover = f"{label(name)}, seed {run['seed']}: diverged"
                end = run["tokens"][-1:], run["losses"][-1:]
                drawing.add(name, *end, size=10, marker={"symbol": "x"}, hover=hover)
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
        drawing.add(name, shared, mean, width=2.75, hover=f"{label(name)}: %{{y:.3f}} at %{{x:.3s}} {unit}")
        last, best = max(last, shared[-1]), min(best, *mean)
    figure = drawing.figure
    figure.update_xaxes(type="log", title=f"{unit} trained", **token_ticks(last))
    figure.update_yaxes(title="validation loss (nats per token)")
    if math.isfinite(best):
        # The first steps would fill the figure; a double click shows them.
        figure.update_xaxes(range=[math.log10(last / 14), math.log10(last * 1.03)])
        figure.update_yaxes(range=[best - 0.06 * (max(early) - best), max(early) + 0.02])
    return drawing.json()


def sweeps(trials: Sequence[Row], chosen: Mapping[str, str], look: Look) -> dict[str, Any]:
    """Loss of the search's trials against the learning rate, with the chosen point ringed and diverged ones crossed.

    ``chosen``: contestant -> the JSON of its choice, as in the trials' column ``varied``.
    """
    drawing = Drawing(look, height=420)
    trials = [row for row in trials if row["phase"] == "tune" and row["lr"] is not None]
    losses = [row["final_loss"] for row in trials if row["final_loss"] is not None]
    top = max(losses) + 0.12 * (max(losses) - min(losses) or 0.1) if losses else 1.0
    for name in dict.fromkeys(row["contestant"] for row in trials):
        members = sorted((row for row in trials if row["contestant"] == name), key=lambda row: row["lr"])
        done = [row for row in members if row["final_loss"] is not None]
        picked = [row for row in done if row["varied"] == chosen.get(name)]
        crossed = [row["lr"] for row in members if row["status"] == "diverged"]
        if done:
            text = [f"{label(name)}, {label(row['varied'])}" for row in done]
            drawing.add(name, *_points(done), width=1.75, size=8, text=text, hover="%{text}: %{y:.3f}")
        if picked:
            ring = {"symbol": "circle-open", "line": {"width": 2.5}}
            drawing.add(name, *_points(picked), size=19, marker=ring, hover=f"{label(name)}: chosen")
        if crossed:
            hover = f"{label(name)}, lr %{{x:.3g}}: diverged"
            drawing.add(name, crossed, [top] * len(crossed), size=10, marker={"symbol": "x"}, hover=hover)
    if any(row["status"] == "diverged" for row in trials):
        drawing.words("diverged ×", xref="paper", x=0, xanchor="left", y=top, yanchor="bottom", yshift=8)
    drawing.figure.update_xaxes(type="log", title="peak learning rate", exponentformat="power", dtick=1)
    drawing.figure.update_yaxes(title="final loss of one trial (nats per token)")
    return drawing.json()


def _points(rows: Sequence[Row]) -> tuple[list[float], list[float]]:
    return [row["lr"] for row in rows], [row["final_loss"] for row in rows]


def tokens_for_loss(result: Row, look: Look) -> dict[str, Any]:
    """How a loss becomes tokens: the baseline's budgets, and each contestant's loss carried over to its curve."""
    drawing = Drawing(look, height=440)
    curve, budget = result["curve"], _budget(result)
    baseline = result["baseline"]
    ticks = [row["tokens"] for row in curve]
    if curve:
        drawing.add(baseline, *curve_line(ticks, [row["fitted"] for row in curve]), width=2.5)
        ends = [(row["high"] or row["loss"]) - row["loss"] for row in curve]
        drawing.add(
            baseline,
            ticks,
            [row["loss"] for row in curve],
            size=9,
            error_y={"type": "data", "array": ends, "color": look.colour[baseline], "thickness": 1.5, "width": 4},
            text=[str(row["runs"]) for row in curve],
            hover=f"{label(baseline)}, %{{x:.3s}} tokens: %{{y:.3f}} (runs: %{{text}})",
        )
    level = next((row["fitted"] for row in curve if row["tokens"] == budget), None)
    for row in result["contestants"]:
        name = row["name"]
        if row["difference"] is None or row["speedup"] is None or name == baseline or level is None:
            continue
        loss, end = level - row["difference"], row["speedup"] * budget
        arrow = {"at least": "triangle-right", "at most": "triangle-left"}.get(row["speedup_bound"], "circle-open")
        drawing.add(
            name,
            [budget, end],
            [loss, loss],
            width=1.75,
            size=[10, 11],
            line={"dash": "dot"},
            marker={"symbol": [look.symbol[name], arrow], "line": {"width": 2, "color": look.colour[name]}},
            hover=f"{label(name)}: loss %{{y:.3f}}, %{{x:.3s}} tokens",
        )
    words = [count_text(tick) for tick in ticks]
    drawing.figure.update_xaxes(type="log", title="tokens trained", tickvals=ticks, ticktext=words)
    drawing.figure.update_yaxes(title="final loss (nats per token)")
    return drawing.json()


def _budget(result: Row) -> int:
    """Tokens of the final runs: the curve's budget with the ratio 1."""
    limits = next((r["speedup_limits"] for r in result["contestants"] if r["speedup_limits"]), None)
    if limits and result["curve"]:
        return round(result["curve"][0]["tokens"] / limits[0])
    return int(result["cell"]["tokens"])
