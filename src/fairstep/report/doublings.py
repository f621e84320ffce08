"""The section of several contests on what becomes of speedups with size, by rule of transfer."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from fairstep.analysis import AnalysisError
from fairstep.analysis.laws.doubling import MARGIN, Doubling, against, doubling
from fairstep.analysis.verdict.wording import count_text
from fairstep.report.section import Section, paragraph
from fairstep.report.table import Column, Table, numbers
from fairstep.runs.ledger import chinchilla_ratio

Row = Mapping[str, Any]

TITLE = "Does the speedup change with size?"

WORDS = (
    "A weighted line through the logarithms of the speedups, with their intervals, against the logarithm of matrix "
    f"parameters. Undecided: the interval contains 1 and reaches beyond a change of {MARGIN - 1:.0%} per doubling; the "
    "last column says what would find such a change with a probability of 80 %. W's 1.4 at 130M and 1.1 at 1.2B are a "
    "factor of 0.93. The last rows compare rules of transfer."
)

COLUMNS = (
    Column("name", "contestant"),
    Column("transfer", "transfer"),
    Column("ratio", "Chinchilla ratio", number=True),
    Column("sizes", "sizes"),
    *numbers(".3f", factor="per doubling of size, times", low="low", high="high"),
    Column("outcome", "so the speedup"),
    Column("more", "what would decide", long=True),
)


def doubling_rows(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """One row for each contestant, rule and data ratio with speedups at three sizes, and for each pair of rules.

    ``rows``: a contestant's of a contest's result, with the tokens, matrix parameters and transfer of its cell.
    """
    groups: dict[tuple[str, float, str], list[Row]] = {}
    for row in rows:
        if row["speedup"] and row["verdict"] != "baseline":
            ratio = chinchilla_ratio(row["tokens"], row["parameters_matrix"])
            groups.setdefault((row["name"], ratio, row["transfer"] or "none"), []).append(row)
    found: dict[tuple[str, float, str], Doubling] = {}
    shown: list[dict[str, Any]] = []
    for (name, ratio, rule), members in groups.items():
        nan = float("nan")
        points = [
            (row["parameters_matrix"], row["speedup"], row["speedup_low"] or nan, row["speedup_high"] or nan)
            for row in members
        ]
        try:
            found[name, ratio, rule] = one = doubling(points, min(row["pairs"] for row in members))
        except AnalysisError:
            continue
        sizes = sorted({row["parameters_matrix"] for row in members})
        shown.append(_row(name, ratio, rule, ", ".join(map(count_text, sizes)), one, one.outcome))
    for (first, one), (second, other) in itertools.combinations(found.items(), 2):
        if first[:2] == second[:2]:
            change = against(other, one)
            words = {"shrinks": "falls faster", "grows": "falls more slowly, or grows", "stays": "changes alike"}
            rules = f"{second[2]} over {first[2]}"
            shown.append(_row(*first[:2], rules, "", change, words.get(change.outcome, change.outcome)))
    return shown


def doubling_table(rows: Iterable[Row]) -> Table | None:
    """None without a contestant at three sizes."""
    shown = doubling_rows(rows)
    return Table("doublings-table", "Change of the speedup when the model doubles", COLUMNS, shown) if shown else None


def doubling_section(rows: Iterable[Row]) -> Section:
    """Empty without a contestant at three sizes."""
    table = doubling_table(rows)
    if table is None:
        return Section("doublings", "")
    return Section("doublings", TITLE, [paragraph(WORDS), table])


def _row(name: str, ratio: float, rule: str, sizes: str, one: Doubling, outcome: str) -> dict[str, Any]:
    numbers = {"factor": one.factor, "low": one.low, "high": one.high}
    return {"name": name, "transfer": rule, "ratio": ratio, "sizes": sizes, **numbers, "outcome": outcome,
            "more": one.more}  # fmt: skip
