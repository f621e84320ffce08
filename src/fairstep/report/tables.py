"""Tables with more than plain cells: verdicts with their reasons, the ledger of trials, and facts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fairstep.analysis import COLUMNS, count_text, seconds_text, verdict_rows
from fairstep.report.markup import text
from fairstep.report.table import Column, Table, scroll

Row = Mapping[str, Any]

BADGES = {"faster": "▲", "slower": "▼", "not separable": "≈", "baseline": "●", "diverged": "×", "incomplete": "…"}
NOTES = {
    "loss": "1",
    "speedup": "2",
    "verdict": "3",
    "step": "4",
    "trials": "5",
}
SORT_BY = {
    "loss": "loss",
    "speedup": "speedup",
    "time": "time_speedup",
    "step": "step_seconds",
    "optimizer": "optimizer_seconds",
    "state": "state_bytes",
    "trials": "trials",
    "tokens": "tokens_spent",
    "lr": "lr",
}
NUMBERS = (
    *("loss", "loss_low", "loss_high", "sigma", "seeds", "difference", "difference_low", "difference_high", "speedup"),
    *("simultaneous_low", "simultaneous_high", "pairs", "t", "limit", "level", "choice_error", "probability"),
    *("holm_probability", "speedup_simultaneous_low", "speedup_simultaneous_high"),
    *("speedup_low", "speedup_high", "speedup_bound", "time_speedup", "law_speedup", "t_probability", "rank_best"),
    *("rank_worst", "step_seconds", "optimizer_seconds", "state_bytes", "trials", "tokens_spent"),
    "lr",
)
"""Columns of the verdict's export."""


def verdict_html(
    result: Row, colour: Mapping[str, str], name: str, note: str, columns: Mapping[str, str] = COLUMNS
) -> str:
    """One row for each contestant; the strings are those that the terminal prints. ``note``: of the footnotes' ids."""
    heads = [_head(heading, key in SORT_BY, NOTES.get(key), note) for key, heading in columns.items()]
    body = []
    for row, words in zip(result["contestants"], verdict_rows(result), strict=True):
        cells = [f'<th scope="row" data-value="{text(row["name"])}">{dot(colour[row["name"]])}{text(row["name"])}</th>']
        for key in list(columns)[1:]:
            if key == "verdict":
                why = f'<span class="why">{text(words["reason"])}</span>'
                cells.append(f'<td data-label="" data-value="{text(row["verdict"])}">{badge(row["verdict"])}{why}</td>')
                continue
            cells.append(_cell(words[key], row[SORT_BY[key]], number=True, name=columns[key]))
        body.append(f'<tr data-verdict="{text(row["verdict"])}">{"".join(cells)}</tr>')
    return scroll(name, "Verdict on every contestant", "".join(heads), "".join(body), "verdicts")


def verdict_table(result: Row, name: str) -> Table:
    """The same for export, in numbers."""
    columns = (Column("name", "contestant"), Column("verdict", "verdict"), Column("reason", "reason", long=True))
    numbers = tuple(Column(key, key.replace("_", " "), number=True) for key in NUMBERS)
    return Table(name, "Verdict on every contestant", columns + numbers, result["contestants"])


def ledger_html(trials: Sequence[Row], colour: Mapping[str, str], name: str, unit: str = "tokens") -> str:
    """Every trial that was spent, in the order of the ledger. ``unit``: of lengths."""
    names = ("contestant", "phase", "hyperparameters", "seeds", "status", "final loss", unit, "time", "run")
    numbers = {"final loss", unit, "time"}
    heads = [_head(heading, heading in numbers) for heading in names]
    body = []
    for row in trials:
        varied = json.loads(row["varied"])
        words = ", ".join(f"{key} {_short(value)}" for key, value in varied.items()) or "–"
        seeds = "–" if row["init_seed"] is None else f"{row['init_seed']} / {row['data_seed']}"
        loss = "–" if row["final_loss"] is None else f"{row['final_loss']:.4f}"
        cells = [
            f'<th scope="row">{dot(colour.get(row["contestant"], "currentColor"))}{text(row["contestant"])}</th>',
            _cell(row["phase"]),
            _cell(words, varied.get("lr") if isinstance(varied.get("lr"), int | float) else None),
            _cell(seeds),
            f'<td><span class="status" title="{text(row["message"] or "")}">{text(row["status"])}</span></td>',
            _cell(loss, row["final_loss"], number=True),
            _cell(count_text(row["tokens"]), row["tokens"], number=True),
            _cell(seconds_text(row["train_seconds"]), row["train_seconds"], number=True),
            f"<td><code>{text(row['run'])}</code></td>",
        ]
        body.append(
            f'<tr data-contestant="{text(row["contestant"])}" data-phase="{text(row["phase"])}" '
            f'data-status="{text(row["status"])}">{"".join(cells)}</tr>'
        )
    return scroll(name, "Ledger of all trials", "".join(heads), "".join(body), "trials")


def ledger_table(trials: Sequence[Row], name: str) -> Table:
    """The same for export, with every column of the trials but the workload."""
    keys = [key for key in (trials[0] if trials else {"contestant": ""}) if key != "workload"]
    columns = tuple(Column(key, key.replace("_", " "), long=key == "hyperparameters") for key in keys)
    return Table(name, "Ledger of all trials", columns, trials)


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """A definition list; values are escaped here."""
    items = "".join(f"<div><dt>{text(key)}</dt><dd>{text(value)}</dd></div>" for key, value in pairs)
    return f'<dl class="facts">{items}</dl>'


def badge(verdict: str) -> str:
    kind = verdict.replace(" ", "-")
    return f'<span class="badge {text(kind)}"><span aria-hidden="true">{BADGES[verdict]}</span> {text(verdict)}</span>'


def dot(colour: str) -> str:
    return f'<span class="dot" style="background:{text(colour)}" aria-hidden="true"></span>'


def _head(heading: str, number: bool = False, note: str | None = None, notes: str = "") -> str:
    mark = f'<sup><a href="#{text(notes)}-{note}" aria-label="note {note}">{note}</a></sup>' if note else ""
    kind = ' class="number"' if number else ""
    return f'<th scope="col"{kind}><button type="button">{text(heading)}</button>{mark}</th>'


def _cell(words: str, value: object = None, *, number: bool = False, name: str = "") -> str:
    """``value`` is sorted by in place of the words; ``name`` stands beside them where a phone has no columns."""
    kind = (' class="number"' if number else "") + (f' data-label="{text(name)}"' if name else "")
    if value is not None or number:
        kind += f' data-value="{text("" if value is None else value)}"'
    return f"<td{kind}>{text(words)}</td>"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
