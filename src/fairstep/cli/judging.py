"""``fairstep.judge``: the front door of ``fairstep judge`` for Python and notebooks.

for verdict in fairstep.judge(frame, baseline="adamw"):
    print(verdict.name, verdict.verdict, verdict.difference, verdict.difference_low, verdict.difference_high)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairstep.analysis import Verdict, contest_result, headline, known_columns, verdict_rows, verdicts
from fairstep.analysis.verdict.other_rules import other_rules
from fairstep.analysis.verdict.pairing import alone_note, pairing_note
from fairstep.analysis.verdict.wording import DASH
from fairstep.imported import MEANING, Asked, Imported, Options, imported


@dataclass(frozen=True, eq=False)
class Judgement:
    """Verdicts on runs from anywhere. Iterating gives one Verdict a contestant, lowest loss first.

    ``result`` is what ``fairstep judge --json`` prints. In a notebook it shows as the verdict table.
    """

    source: Imported
    verdicts: tuple[Verdict, ...]
    result: dict[str, Any]

    def __iter__(self) -> Iterator[Verdict]:
        return iter(self.verdicts)

    def __len__(self) -> int:
        return len(self.verdicts)

    def __getitem__(self, name: str) -> Verdict:
        """The verdict on a contestant. Raises KeyError."""
        found = next((verdict for verdict in self.verdicts if verdict.name == name), None)
        if found is None:
            raise KeyError(f"{name!r} is no contestant; they are {', '.join(one.name for one in self)}")
        return found

    @property
    def grade(self) -> str:
        """Of the evidence as a whole: A, B or C, the lowest of the contestants'."""
        return str(self.result["grade"])

    @property
    def headline(self) -> str:
        return headline(self.result)

    @property
    def notes(self) -> list[str]:
        """What a reader must know before believing the verdicts, one sentence each."""
        return list(self.result["notes"])

    def report(self, path: str | Path) -> Path:
        """Write one self-contained HTML page, and return its path. Raises OSError."""
        from fairstep.report import write_page
        from fairstep.report.judged import judged_page

        return write_page(judged_page(self.source.trials, self.result), Path(path).expanduser())

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Headings and rows of the verdict table, with the grade and what other rules say. A column in which nothing is
        known is left out."""
        contestants = self.result["contestants"]
        rules = list(dict.fromkeys(rule for row in contestants for rule in row["rules"]))
        heads = known_columns(self.result) | {"grade": "evidence"} | {rule: f"{rule} says" for rule in rules}
        rows = [
            words | {"grade": row["grade"]} | {rule: row["rules"].get(rule, {}).get("words", DASH) for rule in rules}
            for words, row in zip(verdict_rows(self.result), contestants, strict=True)
        ]
        return list(heads.values()), [[row[key] for key in heads] for row in rows]

    def __repr__(self) -> str:
        heads, rows = self.table()
        widths = [max(len(row[place]) for row in [heads, *rows]) for place in range(len(heads))]
        lines = [
            "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)) for row in [heads, *rows]
        ]
        return "\n".join([f"{self.headline}.", "", *(line.rstrip() for line in lines), "", *sentences(self.result)])

    def _repr_html_(self) -> str:
        from fairstep.report.judged import table_html

        heads, rows = self.table()
        return table_html(f"{self.headline}.", heads, rows, sentences(self.result))


def judge(
    runs: Any,
    baseline: str = "",
    *,
    loss: str = "",
    contestant: str | Sequence[str] = (),
    seed: str = "",
    step: str = "",
    tokens: str = "",
    hyperparameters: Sequence[str] | None = None,
    where: str = "",
    rows: str = "",
    slope: str = "",
    rule: str | Sequence[str] = (),
    at: Sequence[str] = (),
    seeds: str = "",
    format: str = "",
    pattern: str = "",
) -> Judgement:
    """Verdicts on runs that fairstep need not have trained.

    ``runs`` is a data frame of polars or pandas, a path, or several paths: tables, logs, trackers' files, a store. The
    other arguments are the options of ``fairstep judge``; ``contestant`` may be several columns. Raises ValueError
    with one sentence.
    """
    several = tuple(contestant.split(",")) if isinstance(contestant, str) and contestant else tuple(contestant)
    tuned = None if hyperparameters is None else tuple(hyperparameters)
    asked = Asked(loss, several, seed, step, tokens, tuned)
    options = Options(baseline, asked, where, rows, slope, tuple(at), seeds, format, pattern)
    source = imported(runs, options)
    rules = (rule,) if isinstance(rule, str) and rule else tuple(rule)
    judged = verdicts(source.trials)
    return Judgement(source, tuple(judged), judged_result(source, judged, rules))


def judged_result(source: Imported, judged: Sequence[Verdict], rules: tuple[str, ...] = ()) -> dict[str, Any]:
    """``contest_result`` with ``grade``, ``evidence`` (what grades mean), ``unit``, ``understood``, ``not_checked`` and
    ``sources``; a contestant has ``grade``, ``edges`` and ``rules`` too. Raises AnalysisError.
    """
    trials, base = source.trials, source.trials.baseline
    result = contest_result(trials, judged=judged)
    said = other_rules(trials, rules, source.steps, source.fixed)
    lowest = max(source.grades.values())
    compared = {row.name: row.pairs for row in judged if row.pairs and row.name != base}
    said_of_pairs = [(pairing_note(trials, name), alone_note(trials, name, count)) for name, count in compared.items()]
    pairs = [note for both in said_of_pairs for note in both if note]
    notes = [f"{name}: the chosen {', '.join(edges)} is the outermost tried; a wider search may lower its loss."
             for name, edges in source.edges.items()]  # fmt: skip
    if source.not_checked and not source.trials.unchecked:
        notes.append(f"Not checked, because no column tells: {'; '.join(source.not_checked)}.")
    for row in result["contestants"]:
        # A verdict is of two sides, so it has the lower of both grades.
        row["grade"] = max(source.grades.get(row["name"], lowest), source.grades.get(base, lowest))
        row["edges"] = list(source.edges.get(row["name"], ()))
        row["at_edge"] = row["at_edge"] or bool(row["edges"])
        row["rules"] = said.get(row["name"], {})
        if source.unit != "tokens":
            row["tokens_spent"] = row["budget_tokens"] = None
    if not source.unit:
        result["curve"] = []
    return result | {
        "grade": lowest,
        "evidence": dict(MEANING),
        "unit": source.unit or None,
        "understood": list(source.understood),
        "not_checked": list(source.not_checked),
        "sources": list(source.sources),
        "notes": [*source.notes, *notes, *pairs, *result["notes"]],
    }


def sentences(result: dict[str, Any]) -> list[str]:
    """The grade, what was understood, the reasons and the notes, as lines."""
    lines = [
        f"Evidence {grade}: {MEANING[grade]}." for grade in sorted({row["grade"] for row in result["contestants"]})
    ]
    lines += [f"Read: {line}." for line in result["understood"]]
    lines += [f"{row['name']}: {row['reason']}" for row in result["contestants"] if row["reason"]]
    return [f"* {line}" for line in [*lines, *result["notes"]]]
