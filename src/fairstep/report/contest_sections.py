"""The sections of one contest: verdict, curves, search, certificates, costs, claims, ledger, and how to repeat it."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fairstep.analysis import Trials, count_text, plural, seconds_text
from fairstep.report import costs, figures, scaling
from fairstep.report.certificates import certificate_section
from fairstep.report.claims import claims_section
from fairstep.report.loaded import LoadedContest
from fairstep.report.markup import text
from fairstep.report.other_texts import other_texts_section
from fairstep.report.reproduce import reproduce_section
from fairstep.report.section import Figure, Part, Section, how, paragraph, template
from fairstep.report.table import Column, Table, filters, numbers
from fairstep.report.tables import ledger_html, ledger_table, verdict_html, verdict_table
from fairstep.runs import Ledger


def sections(loaded: LoadedContest) -> list[Section]:
    """All of a contest, in order."""
    parts = [_verdict(loaded), _tokens(loaded), _curves(loaded), _sweeps(loaded)]
    parts += [other_texts_section(loaded), certificate_section(loaded.ledger, loaded.key), costs.section(loaded)]
    parts += [claims_section(loaded)]
    return [section for section in [*parts, _ledger(loaded), reproduce_section(loaded)] if section.parts]


def cell_words(ledger: Ledger) -> str:
    cell = ledger.cell
    size = f"{count_text(cell.parameters_matrix)} matrix parameters" if cell.parameters_matrix else ""
    model = f"{cell.model} model" if cell.vocabulary else cell.model  # somebody else's trainer
    work = f"{count_text(cell.tokens)} tokens in batches of {count_text(cell.batch_tokens)}"
    return " · ".join(filter(None, (ledger.title, model, size, work, cell.data, cell.precision)))


def lede(loaded: LoadedContest) -> str:
    result, rows = loaded.result, loaded.trials.rows
    ended = {row["run"]: row["train_seconds"] or 0.0 for row in rows if row["status"] in ("done", "diverged")}
    seeds = max((row["seeds"] for row in result["contestants"]), default=0)
    spent = f"{plural(len(result['contestants']), 'contestant')}, {plural(len(ended), 'training')}"
    again = f", and its choice was then trained again on {plural(seeds, 'fresh seed')} that all share" if seeds else ""
    return f"{spent}, {seconds_text(sum(ended.values()))} of training. Each was searched on this workload{again}."


def _verdict(loaded: LoadedContest) -> Section:
    result, key = loaded.result, loaded.key
    parts: list[Part] = [
        verdict_html(result, loaded.look.colour, key("verdicts"), key("note")),
        template("footnotes.html", baseline=text(loaded.ledger.baseline), note=text(key("note"))),
        notes("Before you believe it", result["notes"]),
        Figure(
            key("forest"),
            "Speedups in tokens with intervals, as in the table",
            "Speedup in tokens with 95 % intervals: thick for each contestant alone, thin for all of them together "
            f"(Bonferroni). An open arrow marks an end that lies beyond the budgets that {loaded.ledger.baseline} was "
            "trained for.",
            figures.forest(result, loaded.look),
        ),
        *([_looks(loaded)] if loaded.ledger.looks else []),
        how(shlex.join(["fairstep", "report", loaded.store, "--contest", loaded.ledger.name, "--json"])),
    ]
    return Section(key("verdict"), "Verdict", parts, (verdict_table(result, key("verdicts")),))


def _looks(loaded: LoadedContest) -> Table:
    """Every look that was taken, by contestant."""
    ledger = loaded.ledger
    columns = (
        Column("contestant", "contestant"),
        Column("design", "design"),
        *numbers(pairs="seeds", t="t", limit="|t| needed", level="level"),
        Column("verdict", "verdict"),
        Column("time", "taken"),
    )
    looks = sorted(ledger.looks, key=lambda look: (ledger.contestants.index(look.contestant), look.pairs))
    title = "Looks at the final runs, before the term of the learning rates"
    return Table(loaded.key("looks"), title, columns, [look.model_dump(mode="json") for look in looks])


def _tokens(loaded: LoadedContest) -> Section:
    key, baseline = loaded.key, loaded.ledger.baseline
    caption = (
        f"{baseline} trained to the end at several budgets (grey), and each contestant's loss carried over to that "
        f"curve: where its dotted line ends is how many tokens {baseline} needs for the same loss."
    )
    drawing = figures.tokens_for_loss(loaded.result, loaded.look)
    parts = [Figure(key("tokens"), "Final loss against tokens of the baseline", caption, drawing)]
    law = loaded.trials.law
    if law is not None:
        numbers = ", ".join(
            f"{name} {law.parameters[name]:.4g} [{low:.4g}, {high:.4g}]" for name, (low, high) in law.intervals.items()
        )
        caption = (
            f"The law alpha D^-B + beta of {baseline}'s budgets, D in multiples of the contest's, with residuals: "
            f"{numbers}; each budget predicted from the others misses by {law.leave_one_out:.4f} nats. It does not "
            f"enter the verdict. {' '.join(law.warnings)}"
        )
        drawing = scaling.laws({"": {baseline: law}}, loaded.look, "tokens over the contest's")
        parts.append(Figure(key("law"), "Scaling law of the baseline with residuals", caption, drawing))
    return Section(key("budgets"), "How a loss becomes tokens", parts)


def _curves(loaded: LoadedContest) -> Section:
    key = loaded.key
    caption = (
        "Final runs: every seed thin, the mean of the seeds bold. Measured on a part of the evaluation set; the losses "
        "of the table are at the end and over all of it. Crossings on the way say nothing about the verdict, because "
        "the learning rate has not decayed yet. A double click shows the first steps too."
    )
    drawing = figures.loss_curves(curves_of(loaded.trials), loaded.look)
    figure = Figure(key("curves"), "Validation loss against tokens of every final run", caption, drawing)
    return Section(key("training"), "Loss while training", [figure, crossings(loaded.result, count_text)])


def _sweeps(loaded: LoadedContest) -> Section:
    key = loaded.key
    chosen = {
        name: json.dumps(choice.hyperparameters, sort_keys=True) for name, choice in loaded.ledger.choices.items()
    }
    caption = (
        "Every trial of the search. The ringed point was chosen and then trained again on fresh seeds; a cross is a "
        "run that diverged."
    )
    drawing = figures.sweeps(loaded.trials.rows, chosen, loaded.look)
    figure = Figure(key("sweeps"), "Final loss against learning rate of every trial of the search", caption, drawing)
    return Section(key("search"), "Search of hyperparameters", [figure])


def _ledger(loaded: LoadedContest) -> Section:
    key, rows = loaded.key, loaded.trials.rows
    controls = filters(key("trials"), rows, ("contestant", "phase", "status"), "trials")
    parts = [controls, ledger_html(rows, loaded.look.colour, key("trials"))]
    return Section(key("ledger"), "Ledger of trials", parts, (ledger_table(rows, key("trials")),))


def curves_of(trials: Trials, least: int = 0, most: int = sys.maxsize) -> dict[str, list[dict[str, Any]]]:
    """Evaluations of the final runs: contestant -> one curve a seed, of at least so many points, and so many curves at
    the most. A log axis has no place for 0 tokens; nan, and an overflow on the way to divergence, are not drawn."""
    curves: dict[str, list[dict[str, Any]]] = {}
    for name, member in ((name, member) for name, members in trials.evaluations.items() for member in members):
        points = [(x, y) for x, y in member.points if x > 0 and isinstance(y, int | float) and abs(y) < 1e6]
        if len(points) >= least and most > 0:
            most -= 1
            lengths, losses = [x for x, _ in points], [y for _, y in points]
            curve = {"seed": member.seeds[0], "status": member.status, "tokens": lengths, "losses": losses}
            curves.setdefault(name, []).append(curve)
    return curves


def crossings(result: Mapping[str, Any], shown: Callable[[float], str]) -> str:
    """Which contestants pass which on the way, in a paragraph. ``shown``: a length in words."""
    found = [f"{row['then_ahead']} passes {row['ahead']} at {shown(row['tokens'])}" for row in result["crossings"]]
    if not found:
        return ""
    more = f"; and {len(found) - 8} more" if len(found) > 8 else ""
    return paragraph(f"On the way: {'; '.join(found[:8])}{more}.")


def notes(title: str, sentences: Sequence[str]) -> str:
    """What a reader must know, in a box; nothing if there is nothing."""
    lines = "".join(f"<li>{text(sentence)}</li>" for sentence in sentences)
    return f'<div class="notes"><h3>{text(title)}</h3><ul>{lines}</ul></div>' if lines else ""
