"""The page of runs that fairstep did not train: verdicts with their grade, what was read, curves, search and runs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from fairstep.analysis import Trials, headline, known_columns, plural
from fairstep.analysis.trials import NO_SEED
from fairstep.report import figures
from fairstep.report.contest_sections import notes
from fairstep.report.drawing import Look
from fairstep.report.markup import colours, symbols, text
from fairstep.report.section import Page, Section, command, figure, items, paragraph
from fairstep.report.table import Column, Table
from fairstep.report.tables import NOTES, ledger_html, ledger_table, verdict_html, verdict_table

UNSEEDED = {"init_seed": None, "data_seed": None}
MOST_ROWS, MOST_CURVES = 2000, 400
"""Runs that the page lists and draws; the verdict rests on all."""


def judged_page(trials: Trials, result: dict[str, Any]) -> Page:
    """``result``: of ``fairstep.judge``, which is contest_result's with grades and notes."""
    look = Look(colours(trials.names, trials.baseline), symbols(trials.names))
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
        sections=[section for section in parts if section.body],
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
    body = verdict_html(result, look.colour, "verdicts", "note", columns)
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
    body += f'<ol class="footnotes">{listed}</ol>'
    body += notes("Before you believe it", result["notes"])
    drawn = {}
    if any(row["speedup"] is not None and row["verdict"] != "baseline" for row in result["contestants"]):
        body += figure("forest", "Speedups with intervals, as in the table", f"Speedup in {unit} with 95 % intervals.")
        drawn["forest"] = figures.forest(result, look)
    return Section("verdict", "Verdict", body, drawn, (verdict_table(result, "verdicts"),))


def _evidence(result: dict[str, Any]) -> Section:
    columns = (
        Column("name", "contestant"),
        Column("verdict", "verdict"),
        Column("grade", "evidence"),
        Column("seeds", "final runs", number=True),
        Column("tuning_trials", "trials of its search", number=True),
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
    body = table.html() + items(f"{grade}: {words}" for grade, words in result["evidence"].items())
    body += notes("What was read", result["understood"])
    if result["not_checked"]:
        body += notes("Not checked", result["not_checked"])
    return Section("evidence", "Evidence", body, tables=(table,))


def _rules(result: dict[str, Any]) -> Section:
    names = list(dict.fromkeys(name for row in result["contestants"] for name in row["rules"]))
    if not names:
        return Section("rules", "Other rules", "")
    said = tuple(Column(name, f"{name} says", long=True) for name in names)
    columns = (Column("name", "contestant"), Column("verdict", "our verdict"), *said)
    rows = [
        {"name": row["name"], "verdict": row["verdict"]}
        | {name: row["rules"].get(name, {}).get("words", "") for name in names}
        for row in result["contestants"]
    ]
    table = Table("other-rules", "What other rules say about the same runs", columns, rows)
    body = paragraph("Rules of other judges, on the same runs. They do not enter the verdict.") + table.html()
    return Section("rules", "Other rules", body, tables=(table,))


def _lengths(trials: Trials, result: dict[str, Any], look: Look) -> Section:
    if trials.slope is not None or len(result["curve"]) < 2:
        return Section("budgets", "How a loss becomes a length", "")
    caption = f"{trials.baseline} trained to the end at several lengths, and each contestant's loss carried over to it."
    body = figure("tokens", "Final loss against the baseline's length", caption)
    return Section("budgets", "How a loss becomes a length", body, {"tokens": figures.tokens_for_loss(result, look)})


def _curves(trials: Trials, result: dict[str, Any], look: Look) -> Section:
    drawn: dict[str, list[dict[str, Any]]] = {}
    count = 0
    for name, members in trials.evaluations.items():
        for member in members:
            points = [(x, y) for x, y in member.points if x > 0 and math.isfinite(y) and abs(y) < 1e6]
            if len(points) > 1 and count < MOST_CURVES:
                count += 1
                lengths, losses = [x for x, _ in points], [y for _, y in points]
                drawn.setdefault(name, []).append(
                    {"seed": member.seeds[0], "status": member.status, "tokens": lengths, "losses": losses}
                )
    if not drawn:
        return Section("training", "Loss while training", "")
    caption = (
        f"Final runs against {result['unit'] or 'steps'}: thin each, bold their mean. Crossings on the way say nothing "
        "about the verdict, because the learning rate has not decayed yet."
    )
    body = figure("curves", "Validation loss of every final run", caption)
    if result["crossings"]:
        words = "; ".join(
            f"{row['then_ahead']} passes {row['ahead']} at {row['tokens']:,.0f}" for row in result["crossings"][:8]
        )
        more = f"; and {len(result['crossings']) - 8} more" if len(result["crossings"]) > 8 else ""
        body += paragraph(f"On the way: {words}{more}.")
    return Section(
        "training", "Loss while training", body, {"curves": figures.loss_curves(drawn, look, result["unit"] or "steps")}
    )


def _search(trials: Trials, look: Look) -> Section:
    if not any(row["phase"] == "tune" and row["lr"] is not None for row in trials.rows):
        return Section("search", "Search of hyperparameters", "")
    chosen = {name: json.dumps(trials[name].chosen, sort_keys=True) for name in trials.names if trials[name].chosen}
    body = figure("sweeps", "Final loss against learning rate", "Every trial of the search; the ringed one was chosen.")
    return Section("search", "Search of hyperparameters", body, {"sweeps": figures.sweeps(trials.rows, chosen, look)})


def _runs(trials: Trials, result: dict[str, Any], look: Look) -> Section:
    rows = [row if (row["init_seed"] or 0) < NO_SEED else row | UNSEEDED for row in trials.rows[:MOST_ROWS]]
    body = ledger_html(rows, look.colour, "trials", result["unit"] or "length")
    if len(rows) < len(trials.rows):
        body = paragraph(f"The first {MOST_ROWS:,} of {len(trials.rows):,} runs.") + body
    body += command("fairstep judge --help")
    return Section("ledger", "Runs", body, tables=(ledger_table(trials.rows, "trials"),))
