"""Contests that ask about one baseline in one cell after another: what alpha each is declared with."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.study.test_looks import NAMES, contest, noisy
from tests.study.test_runner import Pretender, ledger

from fairstep.analysis import Trials, contest_result
from fairstep.runs import Ledger, Store
from fairstep.study import carry_out
from fairstep.study.tournament.family import within_family


def carried(store: Store, name: str, seeds: int | str, names: tuple[str, ...] = NAMES, **cell: object) -> Ledger:
    base = ledger().model_copy(update={"name": name, "contestants": names})
    base = base.model_copy(update={"cell": base.cell.model_copy(update=cell)})
    return carry_out(contest(seeds, names), {"": base}, store, Pretender(objective=noisy))[""]


def alpha(ledger: Ledger) -> float:
    assert ledger.design is not None
    return ledger.design.alpha


def test_contestants_added_later_have_what_the_family_left(tmp_path: Path) -> None:
    """Muon is far better than the baseline and Lion equal to it."""
    store = Store(tmp_path).writable()
    decided = carried(store, "first", "3..6", ("adamw", "muon"))
    whole = carried(store, "second", "3..6")
    half = carried(store, "third", "3..6", ("adamw", "lion"))
    quarter = carried(store, "fourth", "3..6", ("adamw", "muon"))
    fifth = carried(store, "fifth", "3..6", ("adamw", "muon", "lion"))
    assert [alpha(one) for one in (decided, whole, half, quarter, fifth)] == [0.05, 0.05, 0.025, 0.0125, 0.0125]
    assert {look.level for look in quarter.looks} == {0.0125}
    assert alpha(carried(store, "third", "3..6", ("adamw", "lion"))) == 0.025, "a declared design stays"
    notes = " ".join(contest_result(Trials.read(half, store.runs()))["notes"])
    assert "2 others of this store have asked about adamw in this cell" in notes
    assert "an error probability of 2.5 %" in notes


def test_other_cells_baselines_and_contests_without_finals_do_not_count(tmp_path: Path) -> None:
    store = Store(tmp_path).writable()
    carried(store, "first", 3)
    assert alpha(carried(store, "second", 3, tokens=7_000_000)) == 0.05
    assert alpha(carried(store, "third", 3, data="another name of the same text")) == 0.025
    base = ledger().model_copy(update={"name": "fourth", "contestants": NAMES})
    assert within_family(contest(3).design, base.model_copy(update={"baseline": "lion"}), store.ledgers()).alpha == 0.05
    unasked = [one.model_copy(update={"looks": (), "trials": ()}) for one in store.ledgers()]
    assert within_family(contest(3).design, base, unasked) == contest(3).design


def test_a_contest_from_before_designs_leaves_half(tmp_path: Path) -> None:
    store = Store(tmp_path).writable()
    old = carried(store, "first", 3).model_copy(update={"design": None, "looks": ()})
    base = old.model_copy(update={"name": "second"})
    assert within_family(contest(3).design, base, [old]).alpha == 0.025


def test_the_cells_of_one_study_do_not_ask_one_after_the_other(tmp_path: Path) -> None:
    store = Store(tmp_path).writable()
    two = {cell: ledger().model_copy(update={"name": cell, "contestants": NAMES}) for cell in ("cosine", "linear")}
    whole = contest(3)
    described = type(whole)(dict.fromkeys(two, whole.cells[""]), whole.contestants, "adamw", seeds=3, budgets=())
    with pytest.raises(KeyboardInterrupt):
        carry_out(described, two, store, Pretender(objective=noisy, stop_after=15))
    assert {alpha(one) for one in carry_out(described, two, store, Pretender(objective=noisy)).values()} == {0.05}
