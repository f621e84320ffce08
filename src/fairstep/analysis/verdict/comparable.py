"""Runs that may be compared: one workload for all of them, and one length for all final runs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from fairstep.analysis.statistics import AnalysisError
from fairstep.analysis.trials import Row
from fairstep.runs import SEARCHES


def check_comparable(rows: Iterable[Row], lengths: bool = True) -> None:
    """Refuse final and budget runs of different workloads, and, with ``lengths``, final runs of different budgets."""
    seen: dict[str, tuple[str, Any]] = {}
    flat: dict[str | None, Row] = {None: {}}
    for row in rows:
        if row["phase"] in SEARCHES:
            continue
        if row["workload"] not in flat:
            flat[row["workload"]] = _flat(json.loads(row["workload"]))
        values = flat[row["workload"]]
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


def _flat(value: Row, prefix: str = "") -> Row:
    flat: Row = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}{key}.") if isinstance(item, dict) else {f"{prefix}{key}": item}
    return flat
