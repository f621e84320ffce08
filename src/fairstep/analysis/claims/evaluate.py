"""All claims, of the papers and of the track, on published numbers and on a store, as flat rows for JSON."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from fairstep.analysis.claims import (
    qiu,
    semenov_methods,
    semenov_rankings,
    semenov_settings,
    settings_on_stores,
    track3_noise,
    track3_records,
    wen_rankings,
    wen_speedups,
    wen_tuning,
)
from fairstep.analysis.claims.claim import Claim, Finding, Paper, missing
from fairstep.analysis.claims.evidence import Evidence
from fairstep.analysis.claims.published_evidence import published_evidence
from fairstep.analysis.claims.store_evidence import store_evidence
from fairstep.analysis.statistics import AnalysisError

if TYPE_CHECKING:
    from fairstep.runs import Store


PAPERS: tuple[Paper, ...] = ("wen", "semenov", "track3", "qiu")


def claims() -> list[Claim]:
    """Every claim, of W, S, T and Q, in the order of their numbers."""
    modules = (
        *(wen_tuning, wen_speedups, wen_rankings),
        *(semenov_rankings, semenov_settings, semenov_methods, settings_on_stores),
        *(track3_records, track3_noise, qiu),
    )
    found = {one.id: one for module in modules for one in vars(module).values() if isinstance(one, Claim)}
    return sorted(found.values(), key=lambda claim: (PAPERS.index(claim.paper), _place(claim.id)))


def evaluate(claim: Claim, evidence: Evidence) -> Finding:
    """A claim on one source; what cannot be analysed is inconclusive, with the reason."""
    try:
        return claim.on(evidence)
    except AnalysisError as error:
        return missing(str(error))


def claim_rows(
    store: Store | None = None, paper: str = "all", ids: Collection[str] | None = None
) -> list[dict[str, Any]]:
    """One flat row for each claim and source: ``id, paper, statement, conditions, source, data, verdict, answered,
    evidence``.

    ``answered``: whether the numbers say something about any part of the claim. ``data`` names the numbers: the
    paper's, and with a ``store`` its contests in a second row. ``ids`` and ``paper`` select (``both``: W and S alone).
    Raises AnalysisError when the store has no contest or one whose runs cannot be compared.
    """
    of_store = store_evidence(store) if store is not None else None
    rows = []
    for claim in claims():
        wanted = paper in (claim.paper, "all") or (paper == "both" and claim.paper in ("wen", "semenov"))
        if wanted and (ids is None or claim.id in ids):
            sources = (published_evidence(claim.paper), of_store)
            rows += [claim_row(claim, evidence) for evidence in sources if evidence is not None]
    return rows


def claim_row(claim: Claim, evidence: Evidence) -> dict[str, Any]:
    """A claim on one source."""
    finding = evaluate(claim, evidence)
    return {
        "id": claim.id,
        "paper": claim.paper,
        "statement": claim.statement,
        "conditions": claim.conditions,
        "source": claim.source,
        "data": evidence.source,
        "verdict": finding.verdict,
        "answered": finding.answered,
        "evidence": finding.evidence,
    }


def _place(name: str) -> tuple[int, str]:
    digits = "".join(letter for letter in name if letter.isdigit())
    return int(digits), name
