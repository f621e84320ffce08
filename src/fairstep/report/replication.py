"""Both papers' claims on stores beside the published numbers, as Markdown: what held, what failed, what stays open."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fairstep.analysis.claims import Claim, Finding, claims, evaluate
from fairstep.analysis.claims.published_evidence import published_evidence
from fairstep.analysis.claims.store_evidence import store_evidence
from fairstep.report.table import Column, Table, numbers
from fairstep.runs import Store

LONGEST = 500
"""Letters of evidence in a cell."""
PAPERS = {"wen": "W", "semenov": "S"}
SECTIONS = {
    "holds": ("What held", "Every part is supported by these runs."),
    "fails": ("What failed", "At least one part is contradicted by these runs."),
    "inconclusive": ("What stays open", "An interval contains both possibilities, or a part is missing."),
    "": (
        "What these runs cannot speak about",
        "No store has a number on any part of the claim.",
    ),
}
"""By the verdict on a store; empty: no store has anything on the claim."""


@dataclass(frozen=True)
class Replicated:
    """A claim with the finding on the published numbers and on every store, by the store's name."""

    claim: Claim
    published: Finding
    stores: dict[str, Finding]


def replicated(stores: Sequence[Store]) -> list[Replicated]:
    """All claims of both papers. Raises AnalysisError for a store that has no contest, or one that cannot be
    compared."""
    evidence = {store.path.name: store_evidence(store) for store in stores}
    return [
        Replicated(
            claim,
            evaluate(claim, published_evidence(claim.paper)),
            {name: evaluate(claim, found) for name, found in evidence.items()},
        )
        for claim in claims()
        if claim.paper in PAPERS
    ]


def replication(stores: Sequence[Store]) -> str:
    """Raises as ``replicated``."""
    rows = replicated(stores)
    parts = ["## In numbers", _counts(rows, [store.path.name for store in stores])]
    if stores:
        for kind, (heading, meaning) in SECTIONS.items():
            parts += [f"## {heading}", meaning, _section(rows, kind)]
    return "\n\n".join(part.strip() for part in parts)


def _counts(rows: Sequence[Replicated], names: Sequence[str]) -> str:
    """Verdicts of each paper's claims by source, and how many agree with the published ones."""
    table: list[dict[str, Any]] = []
    for paper, letter in PAPERS.items():
        mine = [row for row in rows if row.claim.paper == paper]
        table.append({"paper": letter, "data": "published numbers"} | _tally([row.published for row in mine]))
        for name in names:
            pairs = [(row.published.verdict, row.stores[name].verdict) for row in mine if row.stores[name].answered]
            decided = [pair for pair in pairs if "inconclusive" not in pair]
            agree = f"{sum(ours == theirs for theirs, ours in decided)} of {len(decided)}"
            table.append({"paper": letter, "data": name, "agree": agree} | _tally([row.stores[name] for row in mine]))
    columns = (
        Column("paper", "claims of"),
        Column("data", "on"),
        *numbers(holds="hold", fails="fail", inconclusive="stay open", silent="no number on them"),
        *numbers(agree="same verdict where both decide"),
    )
    return Table("counts", "Verdicts", columns, table).markdown()


def _tally(findings: Sequence[Finding]) -> dict[str, int]:
    said: list[str] = [finding.verdict for finding in findings if finding.answered]
    return {kind: said.count(kind) for kind in SECTIONS if kind} | {"silent": len(findings) - len(said)}


def _section(rows: Sequence[Replicated], kind: str) -> str:
    """The claims of one verdict. Stores that say the same share a row."""
    said: dict[tuple[str, str], list[str]] = {}
    by_id = {row.claim.id: row for row in rows}
    for row in rows:
        silent = not any(finding.answered for finding in row.stores.values())
        for name, finding in row.stores.items():
            if (finding.answered and finding.verdict == kind) or (silent and not kind):
                said.setdefault((row.claim.id, _words(finding)), []).append(name)
    table = [
        {
            "id": name,
            "statement": by_id[name].claim.statement,
            "published": by_id[name].published.verdict,
            "store": ", ".join(stores),
            "evidence": evidence,
        }
        for (name, evidence), stores in said.items()
    ]
    columns = (
        Column("id", "claim"),
        Column("statement", "statement", long=True),
        Column("published", "published numbers"),
        *([Column("store", "our runs")] if kind else []),
        Column("evidence", "evidence of our runs" if kind else "what it would need", long=True),
    )
    return Table("claims", "Claims", columns, table).markdown() if table else "None."


def _words(finding: Finding) -> str:
    """The evidence, as long as a table can bear; of a claim without a number, what is missing."""
    text = finding.evidence if finding.answered else re.sub(r"^missing: (?:\S+ would need )?", "", finding.evidence)
    return text if len(text) <= LONGEST else f"{text[:LONGEST].rpartition(' ')[0]} ..."
