"""The page's section on tuning: what each contestant's certificate in the ledger shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fairstep.analysis import count_text
from fairstep.report.markup import text
from fairstep.report.section import Section, paragraph
from fairstep.report.table import Column, Table, numbers
from fairstep.runs import Certificate, Ledger
from fairstep.runs.certificate import words

COLUMNS = (
    Column("contestant", "contestant"),
    Column("statement", "what is shown", long=True),
    Column("configuration", "chosen", long=True),
    *numbers(gain="gain of the best move", gain_low="low", gain_high="high", sigma="sigma"),
    *numbers(near_optimal="near-optimal"),
    Column("edges", "at an edge"),
    *numbers(trials="trials", fresh="fresh runs"),
    Column("tokens", "tokens", number=True, show=count_text),
    Column("missing", "missing", long=True),
)


def certificate_section(ledger: Ledger, key: Callable[[str], str]) -> Section:
    """The table, and each certificate in full behind a fold; empty where the ledger has none."""
    title = "Certificates of tuning"
    if not ledger.certificates:
        return Section(key("tuning"), title)
    table = Table(key("certificates"), title, COLUMNS, [_row(proof) for proof in ledger.certificates.values()])
    folds = "".join(
        f"<details><summary>{text(name)}: certificate in full</summary><pre>{text(proof.text())}</pre></details>"
        for name, proof in ledger.certificates.items()
    )
    caption = (
        "A contestant is certified when no change of a single hyperparameter gains more than the tolerance in nats, "
        "with simultaneous intervals, and nothing is missing. A gain is of the best move around the configuration, in "
        "nats; below 0 the move was worse. Low and high are the ends of its interval. Sigma is the standard deviation "
        "of a run's loss over seeds. Near-optimal counts the configurations within the tolerance of the best. With few "
        "seeds a certificate stays open, however well a contestant was tuned: its tolerance is far below the noise."
    )
    return Section(key("tuning"), title, [paragraph(caption), table, folds])


def _row(proof: Certificate) -> dict[str, Any]:
    move = proof.largest
    return {
        "contestant": proof.contestant,
        "statement": proof.statement,
        "configuration": words(proof.configuration),
        "gain": move and move.gain,
        "gain_low": move and move.low,
        "gain_high": move and move.high,
        "sigma": proof.sigma,
        "near_optimal": len(proof.near_optimal),
        "edges": ", ".join(proof.edges),
        "trials": proof.trials,
        "fresh": proof.fresh,
        "tokens": proof.tokens,
        "missing": " ".join(proof.missing),
    }
