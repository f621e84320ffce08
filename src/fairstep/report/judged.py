"""The page of runs that fairstep did not train: verdicts with their grade, what was read, curves, search and runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from fairstep.analysis import Trials, headline, known_columns, plural
from fairstep.analysis.trials import NO_SEED
from fairstep.report import figures
from fairstep.report.contest_sections import crossings, curves_of, notes
from fairstep.report.drawing import Look
from fairstep.report.markup import text
from fairstep.report.section import Figure, Page, Part, Section, command, items, paragraph
from fairstep.report.table import Column, Table, numbers
from fairstep.report.tables import NOTES, ledger_html, ledger_table, verdict_html, verdict_table

UNSEEDED = {"init_seed": None, "data_seed": None}
MOST_ROWS, MOST_CURVES = 2000, 400
"""Runs that the page lists and draws; the verdict rests on all."""


def judged_page(trials: Trials, result: dict[str, Any]) -> Page:
    """``result``: of ``fairstep.judge``, which is contest_result's with grades and notes."""
    look = Look.of(trials.names, trials.baseline)
    first, _, rest = headline(result).partition("; ")
    counted = plural(len(trials.rows), "run")
    parts = [
        _verdict(result, look),
        _evidence(result),
        _rules(result),
        _lengths(trials, result, look),
        _curves(trials, result, look),
        _search(trials, look),
        _runs(trials, result, look),
    ]
    return Page(
        bar=f"{counted} from {', '.join(result['sources']) or 'a data frame'}",
        first=first,
        rest=rest,
        lede=f"{plural(len(trials.names), 'contestant')}, {counted}. Evidence {result['grade']}: "
        f"{result['evidence'][result['grade']]}.",
        sections=[section for section in parts if section.parts],
        result=result,
        title=headline(result),
    )


def table_html(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], lines: Sequence[str]) -> str:
    """A table for a notebook, without styles of its own."""
    head = "".join(f"<th>{text(name)}</th>" for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    below = "".join(f"<li>{text(line.removeprefix('* '))}</li>" for line in lines)
    return (
        f"<div><p><strong>{text(title)}</strong></p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        f"<ul>{below}</ul></div>"
    )


def _verdict(result: dict[str, Any], look: Look) -> Section:
    columns = known_columns(result)
    unit = result["unit"] or "tokens"
    footnotes = {
        "loss": "Mean loss of the final runs, nats per token, ± half of its 95 % t-interval.",
        "speedup": f"The {unit} that {result['baseline']} needs for a contestant's loss, over its own [95 % interval].",
        "verdict": "Faster or slower when the interval of the difference excludes 0, corrected for the number of "
        "contestants. The reason has the interval of the contestant alone.",
        "step": "Seconds of a training step, where a store of fairstep has them.",
        "trials": "Runs of the search and final runs.",
    }
    listed = "".join(
        f'<li id="note-{NOTES[key]}" value="{NOTES[key]}">{text(words)}</li>'
        for key, words in footnotes.items()
        if key in columns
    )
    parts: list[Part] = [
        verdict_html(result, look.colour, "verdicts", "note", columns),
        f'<ol class="footnotes">{listed}</ol>',
        notes("Before you believe it", result["notes"]),
    ]
    if any(row["speedup"] is not None and row["verdict"] != "baseline" for row in result["contestants"]):
        label, caption = "Speedups with intervals, as in the table", f"Speedup in {unit} with 95 % intervals."
        parts.append(Figure("forest", label, caption, figures.forest(result, look)))
    return Section("verdict", "Verdict", parts, (verdict_table(result, "verdicts"),))


def _evidence(result: dict[str, Any]) -> Section:
    columns = (
        Column("name", "contestant"),
        Column("verdict", "verdict"),
        Column("grade", "evidence"),
        *numbers(seeds="final runs", tuning_trials="trials of its search"),
        Column("chosen", "chosen"),
        Column("at_the_edge", "outermost tried"),
    )
    rows = [
        row
        | {
            "chosen": ", ".join(f"{key} {value}" for key, value in row["hyperparameters"].items()),
            "at_the_edge": ", ".join(row["edges"]),
        }
        for row in result["contestants"]
    ]
    table = Table("evidence-table", "Evidence for each contestant", columns, rows)
    grades = items(f"{grade}: {words}" for grade, words in result["evidence"].items())
    read, unread = notes("What was read", result["understood"]), notes("Not checked", result["not_checked"])
    return Section("evidence", "Evidence", [table, grades, read, unread])


def _rules(result: dict[str, Any]) -> Section:
    names = list(dict.fromkeys(name for row in result["contestants"] for name in row["rules"]))
    if not names:
        return Section("rules", "Other rules")
    said = tuple(Column(name, f"{name} says", long=True) for name in names)
    columns = (Column("name", "contestant"), Column("verdict", "our verdict"), *said)
    rows = [
        {"name": row["name"], "verdict": row["verdict"]}
        | {name: row["rules"].get(name, {}).get("words", "") for name in names}
        for row in result["contestants"]
    ]
    table = Table("other-rules", "What other rules say about the same runs", columns, rows)
    words = "Rules of other judges, on the same runs. They do not enter the verdict."
    return Section("rules", "Other rules", [paragraph(words), table])


def _lengths(trials: Trials, result: dict[str, Any], look: Look) -> Section:
    if trials.slope is not None or len(result["curve"]) < 2:
        return Section("budgets", "How a loss becomes a length")
    caption = f"{trials.baseline} trained to the end at several lengths, and each contestant's loss carried over to it."
    drawing = figures.tokens_for_loss(result, look)
    figure = Figure("tokens", "Final loss against the baseline's length", caption, drawing)
    return Section("budgets", "How a loss becomes a length", [figure])


def _curves(trials: Trials, result: dict[str, Any], look: Look) -> Section:
    drawn = curves_of(trials, least=2, most=MOST_CURVES)
    if not drawn:
        return Section("training", "Loss while training")
    caption = (
        f"Final runs against {result['unit'] or 'steps'}: thin each, bold their mean. Crossings on the way say nothing "
        "about the verdict, because the learning rate has not decayed yet."
    )
    drawing = figures.loss_curves(drawn, look, result["unit"] or "steps")
    figure = Figure("curves", "Validation loss of every final run", caption, drawing)
    return Section("training", "Loss while training", [figure, crossings(result, "{:,.0f}".format)])


def _search(trials: Trials, look: Look) -> Section:
    if not any(row["phase"] == "tune" and row["lr"] is not None for row in trials.rows):
        return Section("search", "Search of hyperparameters")
    chosen = {name: json.dumps(trials[name].chosen, sort_keys=True) for name in trials.names if trials[name].chosen}
    caption = "Every trial of the search; the ringed one was chosen."
    drawing = figures.sweeps(trials.rows, chosen, look)
    figure = Figure("sweeps", "Final loss against learning rate", caption, drawing)
    return Section("search", "Search of hyperparameters", [figure])


def _runs(trials: Trials, result: dict[str, Any], look: Look) -> Section:
    rows = [row if (row["init_seed"] or 0) < NO_SEED else row | UNSEEDED for row in trials.rows[:MOST_ROWS]]
    parts = [ledger_html(rows, look.colour, "trials", result["unit"] or "length"), command("fairstep judge --help")]
    if len(rows) < len(trials.rows):
        parts.insert(0, paragraph(f"The first {MOST_ROWS:,} of {len(trials.rows):,} runs."))
    return Section("ledger", "Runs", parts, (ledger_table(trials.rows, "trials"),))
