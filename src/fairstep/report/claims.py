"""The papers' claims on a page: the table of all claims, and the claims that one contest has numbers for."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from fairstep.analysis.claims import claims
from fairstep.analysis.claims.evaluate import claim_row
from fairstep.analysis.claims.evidence import Evidence
from fairstep.analysis.claims.store_evidence import contest_cell
from fairstep.report.loaded import LoadedContest
from fairstep.report.section import Section, how, paragraph
from fairstep.report.table import Column, Row, Table

COLUMNS = (
    Column("id", "claim"),
    Column("verdict", "verdict"),
    Column("statement", "statement", long=True),
    Column("evidence", "evidence", long=True),
    Column("conditions", "conditions", long=True),
    Column("source", "source", long=True),
)


def claims_table(name: str, rows: Sequence[Row]) -> Table:
    """Rows of ``analysis.claims.claim_rows``."""
    return Table(name, "The papers' claims, and what the numbers say", COLUMNS, rows, ("verdict", "paper"))


def claims_section(loaded: LoadedContest) -> Section:
    """The claims that a contest has something to say about; empty if there is none."""
    key = loaded.key
    cell = contest_cell(loaded.ledger, loaded.trials)
    evidence = Evidence(loaded.store, (cell,), from_store=True)
    rows = [row for claim in claims() if (row := claim_row(claim, evidence))["answered"]]
    for row in rows:
        row["evidence"] = row["evidence"].replace(f" at {cell.label}", "")  # all of it is of this contest
    if not rows:
        return Section(key("claims"), "")
    words = (
        "Claims of both papers that this contest has numbers for. The papers' conditions (sizes, batches, lengths) are "
        "not applied: a small contest can agree with a claim about large models, and does not prove it."
    )
    table = claims_table(key("claim-table"), rows)
    repeat = how(shlex.join(["fairstep", "claims", "--store", loaded.store]))
    return Section(key("claims"), "The papers' claims", [paragraph(words), table, repeat])
