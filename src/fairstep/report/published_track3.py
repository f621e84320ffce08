"""The published page's section on modded-nanogpt's optimization track: records by our rule, and sigma by group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fairstep.analysis import Estimate, count_text, plural
from fairstep.analysis.claims.track3_noise import SHAMPOO, noise_of_results
from fairstep.analysis.verdict.paired import deviation_estimate, deviation_interval
from fairstep.analysis.verdict.repeats import pooled_noise
from fairstep.analysis.verdict.track import result_rows
from fairstep.analysis.verdict.track3_rule import SLOPE
from fairstep.published import track3
from fairstep.report.drawing import Drawing, Look, bars
from fairstep.report.markup import label
from fairstep.report.section import Figure, Part, Section, how, paragraph
from fairstep.report.table import Column, Row, Table, numbers

VERDICTS = ("one run", "faster", "not separable", "slower")
"""What a result can be against the record before it."""


def section() -> Section:
    """Every result against the record before it, and the noise of repeated runs."""
    results, groups = result_rows(), sigma_rows()
    look = Look.of(VERDICTS, VERDICTS[0])
    parts: list[Part] = [
        paragraph(
            f"T: modded-nanogpt's optimization track ({track3.CITATION}). A GPT of 124M parameters is trained in "
            f"batches of {count_text(track3.TOKENS_PER_STEP)} tokens. A result is a number of steps to a loss of 3.28."
        ),
        paragraph(_headline(results)),
        Figure(
            "records",
            "Steps by which each record is ahead of the record before it",
            "Bars are 95 % intervals (Welch; nothing pairs the runs), not corrected for the number of records; colours "
            f"are verdicts, which are (Holm). Losses at different steps are compared at {SLOPE} nats per 100 steps, "
            "the track's own measurement. Where a side has a single run there is no interval.",
            records_figure([row for row in results if row["record"]], look),
        ),
        paragraph(
            "Every accepted result against the last record above it in the track's table. The track's rule is a "
            "one-sided z-test with a sigma of 0.0013, which calls a result better at p = 0.001."
        ),
        _results_table(results),
        paragraph(
            "Printed means that the logs do not give: "
            + " ".join(f"Result {number}: {why}" for number, why in track3.PRINTED_OTHERWISE.items())
        ),
        paragraph(_noise_words()),
        Figure(
            "sigmas",
            "Deviation of final losses over repeated runs, by group",
            "One group is one configuration at one last step, from at least four runs, with its 95 % chi-square "
            "interval. Dotted: the pooled sigma, without AdamW's; dashed: the track's 0.0013.",
            sigmas_figure(groups),
        ),
        _sigma_table(groups),
        how("fairstep published track3 --json", "fairstep claims --paper track3", "fairstep design --sigma track3"),
    ]
    return Section("track3-section", "A public track, judged by our rule", parts)


def _headline(results: Sequence[Row]) -> str:
    steps = [row for row in results if row["record"] and row["against"] is not None]
    listed = {
        verdict: [str(row["number"]) for row in steps if row["verdict"] == verdict]
        for verdict in ("faster", "not separable", "one run")
    }
    better = [str(row["number"]) for row in steps if row["track3_better"]]
    return (
        f"Of {len(steps)} steps forward of the record, {len(listed['faster'])} are separable from the record before "
        f"(results {', '.join(listed['faster'])}) and {len(listed['not separable'])} are not "
        f"({', '.join(listed['not separable'])}); {len(listed['one run'])} cannot be judged "
        f"({', '.join(listed['one run'])}). The track's own pairwise rule accepts {len(better)} of the {len(steps)} "
        f"({', '.join(better)})."
    )


def _noise_words() -> str:
    pooled, tuned = noise_of_results(), track3.TUNED_ADAMW
    groups = track3.repeats()
    shampoo = groups.pop(SHAMPOO)
    spread, others = deviation_interval(shampoo), pooled_noise(groups.values())
    return (
        f"Sigma of a final loss over seeds, pooled over {pooled.groups} groups with {pooled.runs} runs, is "
        f"{pooled.sigma:.5f} nats [{pooled.low:.5f}, {pooled.high:.5f}]. Bartlett's test finds no second sigma among "
        f"them ({pooled.statistic:.1f} on {pooled.groups - 1}, p = {pooled.probability:.2f}). Tuned AdamW, no part of "
        f"them, is outside: {tuned.deviation:.4f} ({plural(tuned.runs, 'run')}, F test: "
        f"p = {pooled.outside(tuned.deviation, tuned.runs):.1g}; {tuned.source}). Shampoo (result 21) has the largest "
        f"sigma of the groups, {spread.value:.4f} ({plural(spread.count, 'run')}, F test against the others: "
        f"p = {others.outside(spread.value, spread.count):.2g}, for the largest of {pooled.groups} groups). These are "
        "results that were selected for passing a threshold, of one model, batch and text."
    )


def sigma_rows() -> list[dict[str, Any]]:
    """One row a group, largest sigma first, and tuned AdamW, with 95 % intervals."""
    names = {row["number"]: row["name"] for row in track3.results().iter_rows(named=True)}
    rows = []
    for (group, last), losses in track3.repeats().items():
        number = track3.result_of().get((group, last))
        name = f"{number} {names[number]}" if number else track3.OTHER_GROUPS[group, last]
        rows.append(_sigma_row(name, last, deviation_interval(losses)))
    tuned = track3.TUNED_ADAMW
    rows.append(_sigma_row("tuned AdamW", tuned.steps, deviation_estimate(tuned.deviation, tuned.runs)))
    return sorted(rows, key=lambda row: -row["sigma"])


def _sigma_row(group: str, last_step: int, spread: Estimate) -> dict[str, Any]:
    row: dict[str, Any] = {"group": group, "last_step": last_step, "runs": spread.count}
    return row | {"sigma": spread.value, "low": spread.low, "high": spread.high}


def records_figure(rows: Sequence[Row], look: Look) -> dict[str, Any]:
    """A line each, the first record on top; bars where there is an interval."""
    drawing = Drawing(look, height=130 + 26 * len(rows))
    placed = [(place, row) for place, row in enumerate(rows) if row["lead_steps"] is not None]
    for verdict in look.colour:
        mine = [(place, row) for place, row in placed if row["verdict"] == verdict]
        if mine:
            leads = [row["lead_steps"] for _, row in mine]
            # Without an interval an end is the value itself.
            lows, highs = (
                [row["lead_steps"] if row[f"lead_{end}"] is None else row[f"lead_{end}"] for _, row in mine]
                for end in ("low", "high")
            )
            hover = f"%{{y}}: %{{x:.0f}} steps<extra>{label(verdict)}</extra>"
            error = bars(leads, lows, highs, thickness=2, width=4)
            drawing.add(verdict, leads, [place for place, _ in mine], size=10, error_x=error, hover=hover)
    drawing.mark(x=0)
    drawing.figure.update_xaxes(title="steps ahead of the record before (right is better)")
    drawing.figure.update_yaxes(
        tickvals=[place for place, _ in placed],
        ticktext=[label(f"{row['number']} {row['name']}") for _, row in placed],
        range=[len(rows) - 0.4, 0.4],
        showgrid=False,
    )
    return drawing.json()


def sigmas_figure(rows: Sequence[Row]) -> dict[str, Any]:
    """Deviations with their intervals on a log axis, the largest on top."""
    drawing = Drawing(Look.of(("sigma",), "sigma"), height=130 + 20 * len(rows))
    values, lows, highs = ([row[key] for row in rows] for key in ("sigma", "low", "high"))
    error = bars(values, lows, highs, thickness=1.5, width=3)
    drawing.add("sigma", values, list(range(len(rows))), size=8, error_x=error, hover="%{x:.5f} nats")
    for value, dash in ((noise_of_results().sigma, "dot"), (0.0013, "dash")):
        drawing.mark(x=value, dash=dash)
    ticks = [0.0003, 0.0005, 0.001, 0.002, 0.004, 0.008]
    words = [f"{tick:g}" for tick in ticks]
    drawing.figure.update_xaxes(type="log", title="sigma (nats per token)", tickvals=ticks, ticktext=words)
    drawing.rows([label(f"{row['group']} ({row['runs']})") for row in rows])
    return drawing.json(legend=False)


def _results_table(rows: Sequence[dict[str, Any]]) -> Table:
    def small(value: float) -> str:
        return f"{value:.2g}" if math.isfinite(value) else ""

    return Table(
        "track3",
        "Results of the track, each against the record before it",
        (
            Column("number", "result", number=True),
            Column("name", "name"),
            Column("kind", "kind"),
            *numbers(steps="steps to 3.28", runs="runs"),
            *numbers(".4f", loss="mean loss", loss_low="low", loss_high="high"),
            Column("against", "against", number=True),
            *numbers(".0f", lead_steps="steps ahead", lead_low="low", lead_high="high"),
            Column("holm_probability", "p, corrected", number=True, show=small),
            Column("verdict", "verdict"),
            Column("track3_probability", "p by its rule", number=True, show=small),
        ),
        [row | {"kind": "record" if row["record"] else "other"} for row in rows],
        ("kind", "verdict"),
    )


def _sigma_table(rows: Sequence[Row]) -> Table:
    return Table(
        "sigma",
        "Sigma by group of repeated runs",
        (
            Column("group", "group"),
            *numbers(last_step="last step", runs="runs"),
            *numbers(".5f", sigma="sigma", low="low", high="high"),
        ),
        rows,
    )
