"""Runs that may be compared: one workload for all of them, and one length for all final runs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from fairstep.analysis.statistics import AnalysisError
from fairstep.analysis.trials import Row
from fairstep.runs import SEARCHES
from fairstep.runs.files import flat


def check_comparable(rows: Iterable[Row], lengths: bool = True) -> None:
    """Refuse final and budget runs of different workloads, and, with ``lengths``, final runs of different budgets."""
    seen: dict[str, tuple[str, Any]] = {}
    known: dict[str | None, Row] = {None: {}}
    for row in rows:
        if row["phase"] in SEARCHES:
            continue
        if row["workload"] not in known:
            known[row["workload"]] = flat(json.loads(row["workload"]))
        values = known[row["workload"]]
        if lengths and row["phase"] == "final" and row["budget_tokens"] is not None:
            values = values | {"tokens": row["budget_tokens"]}
        differing = [
            f"{key} ({seen[key][1]} in {seen[key][0]}, {value} in {row['run']})"
            for key, value in values.items()
            if seen.setdefault(key, (row["run"], value))[1] != value
        ]
        if differing:
            raise AnalysisError(
                f"runs of different workloads cannot be compared; they differ in {', '.join(differing)}"
            )
