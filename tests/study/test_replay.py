"""W's phase I on its published losses: where it ends, what it costs, which hyperparameters come out as sensitive."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from fairstep.cli import main
from fairstep.published import wen
from fairstep.study.protocols import Descent, OneCell, Star
from fairstep.study.protocols.space import key
from fairstep.study.protocols.wen_replay import TOLERANCE, records, replay

NOT_ON_RECORD = {("adamw", "520m", 1), ("nadamw", "520m", 1), ("cautious", "130m", 4)}
"""Cells whose best configuration W's records do not hold: known from comparing the best losses with the sweeps."""


@pytest.mark.parametrize("rule", [Star(), Star(tolerance=0.0), Descent()], ids=["star", "strict star", "descent"])
def test_phase_one_ends_at_the_published_best_and_costs_no_more(rule: OneCell) -> None:
    result = replay(rule)
    assert len(result.rows) == 66
    place = {(row.optimizer, row.model_size, row.chinchilla_ratio): row for row in result.rows}
    assert {where for where, row in place.items() if not row.covered} == NOT_ON_RECORD
    for where, row in place.items():
        assert row.trials <= row.published_trials
        if where not in NOT_ON_RECORD:
            assert row.gap is not None, where
            assert row.gap <= TOLERANCE, where
            assert row.within


def test_the_replay_can_miss() -> None:
    """One trial a cell is not enough; the comparison above is therefore one."""

    class Lazy(OneCell):
        def tune(self, tuning: Any) -> Any:
            yield from tuning.ask([tuning.problem.start])

    rows = replay(Lazy()).rows
    assert sum(row.within for row in rows if row.covered) < 45


def test_published_losses_are_answered_as_they_are() -> None:
    table = {(r["optimizer"], r["model_size"], r["chinchilla_ratio"]): r["loss"] for r in wen.results().to_dicts()}
    for record in records():
        assert record.best == table[record.optimizer, record.model_size, record.ratio]
        assert key(record.centre) in record.losses
    first = records()[0]
    assert first.answer(first.centre) == 3.5291428565979004
    assert first.answer({**first.centre, "learning_rate": 0.032}) == math.inf
    assert math.isnan(first.answer({**first.centre, "train_batch_size": 1024}))
    assert first.holes == set()  # 640 steps with a warm-up of 2000: W's rules leave it out, nothing is missing
    assert math.isnan(first.answer({**first.centre, "learning_rate": 0.016, "beta1": 0.95}))
    assert len(first.holes) == 1


def test_the_published_lists_of_sensitive_hyperparameters() -> None:
    published = wen.facts()["sensitive_hyperparameters"]["repository_2025_05"]
    assert len(published) == 10
    for optimizer, names in published.items():
        near = [record.near_optimal for record in records() if record.optimizer == optimizer]
        assert len(near) == 6
        assert sorted(wen.sensitive(near)) == sorted(names), optimizer


def test_the_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "replay", "--optimizer", "lion", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["optimizer"] for row in rows] == ["lion"] * 6
    assert all(row["within"] for row in rows)
    assert main(["study", "replay", "--optimizer", "lion"]) == 0
    assert "6 of 6 covered cells" in capsys.readouterr().out
    assert main(["study", "replay", "--optimizer", "adam"]) == 2
    assert "W has no optimizer 'adam'; it has adamw" in capsys.readouterr().err
    assert main(["study", "reply"]) == 2
    assert "did you mean replay?" in capsys.readouterr().err
