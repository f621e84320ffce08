"""Claims whose check on a store is another than on the published records: what decides them, in both directions."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from fairstep.analysis.claims import claims, evaluate
from fairstep.analysis.claims.evidence import Cell, Evidence, Measured

BY_ID = {claim.id: claim for claim in claims()}
WIDTH = 0.001


def cell(
    losses: Mapping[str, float],
    sweeps: Mapping[tuple[str, str], Mapping[float, float]] | None = None,
    tokens: float = 1e6,
    batch: float = 2e3,
) -> Cell:
    """Losses that are known to ``WIDTH`` nats; nan: it diverged."""
    return Cell(
        f"{tokens:g} tokens of {batch:g}",
        "27k",
        27e3,
        batch,
        tokens,
        {name: Measured(loss, WIDTH) for name, loss in losses.items()},
        {key: {value: Measured(loss, WIDTH) for value, loss in table.items()} for key, table in (sweeps or {}).items()},
        data="text",
    )


def verdict(name: str, *cells: Cell) -> str:
    found = evaluate(BY_ID[name], Evidence("a store", cells, from_store=True))
    return found.verdict if found.answered else "no number"


DECAY = "weight_decay"


@pytest.mark.parametrize(
    ("adamw", "lion", "said"),
    [
        ({0.0: 3.2, 0.1: 3.0, 0.5: 3.1}, {0.0: 3.3, 0.1: 3.1, 0.5: 3.0}, "holds"),
        ({0.0: 3.2, 0.1: 3.0, 0.5: 3.0005}, {0.0: 3.3, 0.1: 3.1, 0.5: 3.0}, "inconclusive"),
        ({0.0: 3.2, 0.1: 3.0, 0.5: 3.1}, {0.0: 3.3, 0.1: 3.0, 0.5: 3.1}, "inconclusive"),
        ({0.0: 3.2, 0.1: 3.1, 0.5: 3.0}, {0.0: 3.0, 0.1: 3.1, 0.5: 3.2}, "fails"),
        ({0.1: 3.0, 0.5: 3.1}, {}, "no number"),
    ],
)
def test_lion_wants_more_decay(adamw: dict[float, float], lion: dict[float, float], said: str) -> None:
    assert verdict("W2b", cell({"adamw": 3, "lion": 3}, {("adamw", DECAY): adamw, ("lion", DECAY): lion})) == said


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ({0.1: 3.0, 0.2: 3.2}, "holds"),
        ({0.1: 3.0, 0.2: 3.05}, "inconclusive"),
        ({0.1: 3.0, 0.2: 3.101}, "inconclusive"),
        ({0.1: 3.0, 0.2: 3.05, 0.4: 3.9}, "inconclusive"),
        ({0.1: 3.0, 0.2: math.nan}, "inconclusive"),
    ],
)
def test_one_step_of_the_learning_rate(rates: dict[float, float], said: str) -> None:
    """Only the next rate counts, and it must be clearly behind; a divergence is no place."""
    assert verdict("W6", cell({"soap": 3.0, "mars": 3.1}, {("soap", "lr"): rates})) == said
    assert verdict("W6", cell({"soap": 3.0, "mars": 3.0005}, {("soap", "lr"): rates})) == "no number"


def test_muon_leads_short_runs_and_soap_or_kron_long_ones() -> None:
    ahead, behind = {"muon": 3.0, "soap": 3.1, "kron": 3.2}, {"muon": 3.0, "soap": 3.1, "kron": 2.9}
    length = 20 * 27e3
    short, long = cell(ahead, tokens=length), cell(behind, tokens=8 * length)
    assert verdict("W5", short, long) == "holds"
    assert verdict("W5", short, cell(ahead, tokens=8 * length)) == "fails"
    assert verdict("W5", cell(behind, tokens=length), long) == "fails"
    assert verdict("W5", short) == "inconclusive"
    assert verdict("W5", cell(behind, tokens=length / 2), long) == "holds"
    assert verdict("W5", cell(ahead, tokens=length / 2)) == "no number"
    assert verdict("W5", cell({"muon": 3.0, "adamw": 2.9}, tokens=length)) == "no number"


EARLY = {"d-muon": 3.0, "ademamix": 3.1, "adamw": 3.2, "soap": 3.3}
LATE = {"ademamix": 2.0, "adamw": 2.1, "d-muon": 2.2, "soap": 2.3}


def test_the_longest_runs_of_a_small_batch() -> None:
    assert verdict("F3", cell(EARLY), cell(LATE, tokens=8e6)) == "holds"
    assert verdict("F3", cell(EARLY), cell(LATE | {"soap": 2.05}, tokens=8e6)) == "fails"
    assert verdict("F3", cell(LATE), cell(LATE, tokens=8e6)) == "fails"
    assert verdict("F3", cell(EARLY), cell(LATE, tokens=8e6, batch=4e3)) == "no number"


def test_a_middle_batch_is_eight_times_the_smallest() -> None:
    short = {"d-muon": 3.0, "soap": 3.1, "adamw": 3.2, "sf-adamw": 3.3}
    long = {"d-muon": 2.0, "soap": 2.1, "adamw": 2.2, "sf-adamw": 2.1}
    small = cell(EARLY)
    middle = cell(short, batch=16e3), cell(long, batch=16e3, tokens=8e6)
    assert verdict("F4", small, *middle) == "holds"
    assert verdict("F4", *middle) == "no number"
    late = cell(long | {"soap": 2.3}, batch=16e3, tokens=8e6)
    assert verdict("F4", small, middle[0], late) == "fails"


def rates(name: str, short: Mapping[float, float], long: Mapping[float, float]) -> list[Cell]:
    return [cell({name: 3.0}, {(name, "lr"): table}, tokens=tokens) for table, tokens in ((short, 1e6), (long, 8e6))]


SHORT = {0.1: 3.2, 0.2: 3.0, 0.4: 3.1}


@pytest.mark.parametrize(
    ("name", "long", "said"),
    [
        ("adamw", {0.1: 2.2, 0.2: 2.0, 0.4: 2.1}, "holds"),
        ("adamw", {0.1: 2.0, 0.2: 2.1, 0.4: 2.2}, "fails"),
        ("adamw", {0.1: 2.0}, "no number"),
        ("soap", {0.2: 2.1, 0.4: 2.0}, "holds"),
        ("soap", {0.2: 2.0, 0.4: 2.1}, "fails"),
        ("lion", {0.2: 2.0, 0.4: math.nan}, "holds"),
        ("lion", {0.2: 2.0, 0.4: 2.1}, "fails"),
        ("mars", {0.1: 2.001, 0.2: 2.0, 0.4: 2.002}, "holds"),
        ("mars", {0.1: 2.1, 0.2: 2.0, 0.4: math.nan}, "fails"),
    ],
)
def test_the_learning_rate_of_short_runs_in_long_ones(name: str, long: dict[float, float], said: str) -> None:
    assert verdict("F10", *rates(name, SHORT, long)) == said


def test_a_finding_says_whether_it_has_a_number() -> None:
    store = Evidence("a store", (cell({"adamw": 3.0, "muon": 2.9}),), from_store=True)
    assert evaluate(BY_ID["W4a"], store).answered
    assert not evaluate(BY_ID["W9"], store).answered
    assert not evaluate(BY_ID["F28"], store).answered
