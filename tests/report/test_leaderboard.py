"""The pages of results/: right with no store, one and several, by the numbers of the contests."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from tests.study.played import play, stored
from tests.study.test_contest import SPACE, WORKLOAD

from fairstep.analysis.claims import Finding, claims
from fairstep.cli import main
from fairstep.report import replication as page
from fairstep.report.leaderboard import board, labels, ranked, standings
from fairstep.report.replication import Replicated, replicated, replication
from fairstep.runs import RunSpec, Store, Trial
from fairstep.study import Contest, Contestant, Space

ROOT = Path(__file__).parents[2]
LOSSES = {"adamw": 3.0, "muon": 2.98, "soap": 2.98, "lion": 3.02}


def answer(cell: str, trial: Trial, spec: RunSpec) -> float:
    """Longer runs end lower; muon and soap differ by less than their seeds do."""
    seeds = (-1) ** spec.init_seed * {"muon": 1e-3, "soap": -2e-3, "lion": -1e-3}.get(trial.contestant, 0.5e-3)
    return LOSSES[trial.contestant] + seeds + spec.init_seed * 1e-4 - 0.1 * (spec.tokens / WORKLOAD.tokens) ** 0.5


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("results")
    cells = {f"cell{times}": replace(WORKLOAD, tokens=times * WORKLOAD.tokens) for times in (2, 1)}
    contestants = tuple(Contestant(name, {"lr": 0.001}, SPACE) for name in LOSSES)
    held = Contest(cells, contestants, "adamw", seeds=4, budgets=(0.5, 2.0), budget_seeds=2)
    stored(play(held, answer), folder / "full")
    assert main(["store", "pack", str(folder / "full"), "--out", str(folder / "pocket")]) == 0
    return Store(folder / "pocket")


def rows(text: str, heading: str) -> dict[str, list[str]]:
    """The first table after a heading, by its first column."""
    lines = text.partition(heading)[2].splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("|"))
    table: dict[str, list[str]] = {}
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        first, *rest = [part.strip() for part in line.strip("|").split(" | ")]
        table[first] = [part.strip(" |") for part in rest]
    return table


def test_a_board_has_every_contestant_in_every_cell(packed: Store) -> None:
    text = board(packed)
    assert text.startswith("## pocket\n")
    speedups = rows(text, "## pocket")
    assert speedups["optimizer"] == ["tiny 0.12x", "tiny 0.25x"]
    assert speedups["adamw"] == ["●", "●"]
    assert all(words.startswith("▲ 1.") and "[" in words for words in speedups["muon"] + speedups["soap"])
    assert all(words.startswith("▼ ") for words in speedups["lion"])


def test_variants_are_no_rivals(tmp_path: Path) -> None:
    """And a cell of one optimizer's variants alone has no place on a board."""
    both = tuple(Contestant(name, {"lr": 0.001}, SPACE) for name in ("adamw", "muon"))
    slow = Contestant("adamw-low", {"lr": 1e-4}, Space({}), optimizer="adamw")

    def said(cell: str, trial: Trial, spec: RunSpec) -> float:
        return answer(cell, trial, spec) if trial.contestant != "adamw-low" else 4.0

    store = stored(play(Contest({"": WORKLOAD}, (*both, slow), "adamw"), said), tmp_path / "three")
    (found,) = standings(store)[0]
    assert sorted(found.rows) == ["adamw", "muon"] and "adamw-low" not in board(store)
    assert found.apart == {("muon", "adamw")}
    alone = stored(play(Contest({"": WORKLOAD}, (both[0], slow), "adamw"), said), tmp_path / "alone")
    assert standings(alone) == ([], [])


def test_a_board_says_who_is_separable_from_whom(packed: Store) -> None:
    text = board(packed)
    pairs = rows(text, "### Who is separable from whom")
    than = [words.removeprefix("than ") for words in pairs["lower loss"]]
    assert dict(zip(than, pairs["muon"], strict=True)) == {
        **{"muon": "–", "soap": "0 of 2", "adamw": "2 of 2", "lion": "2 of 2"}
    }
    assert set(pairs["lion"]) == {"–", "0 of 2"}
    found, left_out = standings(packed)
    assert not left_out and ranked(found)[2:] == ["adamw", "lion"]
    for one in found:
        for name, row in one.rows.items():
            assert row["rank_best"] == 1 + sum(higher == name for _, higher in one.apart)
            assert row["rank_worst"] == len(LOSSES) - sum(lower == name for lower, _ in one.apart)


def test_a_board_says_what_it_took(packed: Store) -> None:
    effort = rows(board(packed), "### What it took")
    counts = {
        name: sum(trial.contestant == name for one in packed.ledgers() for trial in one.trials) for name in LOSSES
    }
    for name in LOSSES:
        cells, trials, seeds, *_ = effort[name]
        fresh = 2 * 4 + (8 if name == "adamw" else 0)  # the baseline's budgets: two, twice, in two cells
        assert (cells, seeds, int(trials)) == ("2", "4", counts[name] - fresh)


def test_cells_that_model_and_length_do_not_tell_apart_have_their_names(packed: Store) -> None:
    ledgers = packed.ledgers()
    assert labels([ledgers[0], ledgers[0].model_copy(update={"name": "played-other-0a1b2c3d"})])[1] == "other"


@pytest.mark.slow
def test_claims_are_sorted_by_what_became_of_them(packed: Store) -> None:
    found = {row.claim.id: row for row in replicated([packed])}
    assert all(row.claim.paper != "track3" for row in found.values())
    text = replication([packed])
    held, silent = rows(text, "## What held"), rows(text, "## What these runs cannot speak about")
    assert held["W4a"][1:3] == [found["W4a"].published.verdict, "pocket"]
    assert "F28" in silent and "would need" not in silent["F28"][-1]
    said = [set(rows(part, "|")) - {"claim", "---"} for part in text.split("\n## ")[1:] if "|" in part]
    assert sum(map(len, said)) == len(found), "every claim once"
    counts = [line for line in text.splitlines() if line.startswith("| W | pocket |")]
    assert len(counts) == 1 and f" | {sum(name[0] == 'W' for name in silent)} | " in counts[0]


@pytest.mark.slow
def test_stores_that_say_the_same_share_a_row(packed: Store, tmp_path: Path) -> None:
    assert main(["store", "pack", str(packed.path), "--out", str(tmp_path / "other")]) == 0
    text = replication([packed, Store(tmp_path / "other")])
    assert rows(text, "## What held")["W4a"][2].startswith("pocket, other")


def test_what_one_store_can_speak_about_is_not_what_none_can(monkeypatch: pytest.MonkeyPatch, packed: Store) -> None:
    silent, held = Finding("inconclusive", "missing: a contest.", answered=False), Finding("holds", "supported.")
    pairs = {"W4a": {"pocket": silent, "other": held}, "W9": {"pocket": silent, "other": silent}}
    found = [Replicated(one, held, pairs[one.id]) for one in claims() if one.id in pairs]
    monkeypatch.setattr(page, "replicated", lambda stores: found)
    text = replication([packed])
    assert set(rows(text, "## What these runs cannot speak about")) == {"claim", "---", "W9"}
    assert rows(text, "## What held")["W4a"][2] == "other"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("results_pages", ROOT / "tools" / "results_pages.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["results_pages"] = module
    spec.loader.exec_module(module)
    return module


def test_pages_of_no_store_and_of_one(tool: ModuleType, packed: Store, tmp_path: Path) -> None:
    assert tool.stores(tmp_path / "nowhere") == []
    assert tool.NONE in tool.page("leaderboard.md", []) and tool.NONE in tool.page("replication.md", [])
    (store,) = tool.stores(packed.path.parent)
    assert store.path == packed.path, "a store that is not packed is no part of results/"
    text = tool.page("leaderboard.md", [store])
    assert text.startswith("# Leaderboard\n") and "## pocket\n" in text and text.count(tool.BEGIN) == 1
