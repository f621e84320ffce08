"""Protocols on formulas whose optimum is known: what each asks for, in which order, and where it ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from fairstep.published.wen import sensitive
from fairstep.study import Axis, Configuration, Space
from fairstep.study.protocols import TPE, Descent, Grid, OneCell, Protocol, Random, Semenov, Star, Wen
from fairstep.study.protocols.search import Problem, Settled, Tuning, Wanted, solve

SPACE = Space(
    {
        "lr": Axis((0.001, 0.002, 0.004, 0.008), domain="(0, inf)"),
        "beta2": Axis((0.9, 0.95, 0.98), domain="[0, 1)"),
        "weight_decay": Axis((0.0, 0.1, 0.2), domain="[0, inf)"),
        "nesterov": Axis((False, True)),
    }
)
START = {"lr": 0.001, "beta2": 0.9, "weight_decay": 0.0, "nesterov": False}
BEST = {"lr": 0.004, "beta2": 0.95, "weight_decay": 0.1, "nesterov": True}

Objective = Callable[[Configuration], float]


def bowl(best: Configuration = BEST, size: float = 0.02, interaction: float = 0.0) -> Objective:
    """Quadratic in doublings of lr, of 1 - beta2 and in steps of weight decay; lr above 0.1 diverges."""

    def objective(c: Configuration) -> float:
        if float(c["lr"]) > 0.1:
            return math.inf
        x = math.log2(float(c["lr"]) / float(best["lr"]))
        y = math.log2((1 - float(c["beta2"])) / (1 - float(best["beta2"])))
        z = (float(c["weight_decay"]) - float(best["weight_decay"])) / 0.1
        return 3 + size * (x * x + y * y + z * z + interaction * x * z + (c["nesterov"] != best["nesterov"]))

    return objective


BOWL = bowl()


def tuned(protocol: OneCell, objective: Objective = BOWL, **changes: Any) -> Tuning:
    problem = Problem(**({"space": SPACE, "start": START, "extensions": 0} | changes))
    return solved(protocol, {"": problem}, lambda cell, wanted: objective(wanted.configuration))[""]


def solved(
    protocol: Protocol, cells: Mapping[str, Problem], answer: Callable[[str, Wanted], float]
) -> dict[str, Tuning]:
    """The tunings that a protocol settled, by cell."""
    found: dict[str, Tuning] = {}

    def settled(cell: str, request: Settled) -> None:
        found[cell] = request.tuning

    solve(protocol.search(cells), answer, settled=settled)
    return found


def test_grid_tries_every_combination() -> None:
    tuning = tuned(Grid())
    assert tuning.trials == 4 * 3 * 3 * 2
    assert tuning.best == BEST


@pytest.mark.parametrize("protocol", [Star(), Star(tolerance=0), Descent(), Descent(threshold=0)])
def test_coordinate_protocols_find_a_separable_optimum_cheaply(protocol: OneCell) -> None:
    tuning = tuned(protocol)
    assert tuning.best == BEST
    assert tuning.trials < 40


def test_star_launches_a_whole_star_at_once_and_ends_with_a_complete_one() -> None:
    rounds: list[int] = []
    tuning = Tuning(Problem(SPACE, START, extensions=0))
    search = Star().tune(tuning)
    value: Any = None
    while True:
        try:
            request = search.send(value)
        except StopIteration:
            break
        rounds.append(len(request.trials))  # type: ignore[union-attr]
        value = [BOWL(wanted.configuration) for wanted in request.trials]  # type: ignore[union-attr]
    assert rounds[0] == 1 + 3 + 2 + 2 + 1
    near = tuning.near(3e-3)
    assert any(all(tuning.asked(point) for point in SPACE.star(centre)) for centre in near)


def test_star_prefers_a_centre_within_the_tolerance_that_saves_runs() -> None:
    """The best run is 0.001 better than the start, whose star is complete after the first pass: W's rule ends there."""

    def nearly_flat(c: Configuration) -> float:
        return 3.0 - 0.001 * (c["lr"] == 0.002)

    assert tuned(Star(saving=1), nearly_flat).trials == 9
    assert tuned(Star(tolerance=0), nearly_flat).trials == 9 + 5  # the star of the best itself


def test_descent_moves_only_for_more_than_the_threshold() -> None:
    slight = bowl(size=0.001)  # 4 steps of lr are worth 0.004, the others less than 0.003
    tuning = Tuning(Problem(SPACE, START, extensions=0))
    end = solve(Descent(3e-3).descend(tuning, dict(START)), lambda cell, wanted: slight(wanted.configuration))
    assert end == START | {"lr": 0.004}
    end = solve(Descent(0.0).descend(tuning, dict(START)), lambda cell, wanted: slight(wanted.configuration))
    assert end == BEST


def test_descent_cycles_because_of_interactions() -> None:
    once = tuned(Descent(0.0, cycles=1), bowl(interaction=1.2))
    more = tuned(Descent(0.0), bowl(interaction=1.2))
    assert more.loss(more.best or {}) <= once.loss(once.best or {})
    assert more.trials > once.trials


def test_random_is_the_same_for_the_same_seed_and_starts_at_the_start() -> None:
    first, again, other = tuned(Random(12, seed=1)), tuned(Random(12, seed=1)), tuned(Random(12, seed=2))
    assert list(first.losses) == list(again.losses) != list(other.losses)
    assert first.trials == 12
    assert first.asked(START)
    assert tuned(Random(1000)).trials == SPACE.size()


def test_tpe_is_a_function_of_results_and_beats_its_own_beginning() -> None:
    pytest.importorskip("optuna")
    first, again = tuned(TPE(40)), tuned(TPE(40))
    assert first.losses == again.losses
    assert first.asked(START)
    assert first.loss(first.best or {}) < 3.02
    assert first.trials <= 40


ONE = [Grid(), Star(), Descent(), Random(20), TPE(20)]


@pytest.mark.parametrize("protocol", ONE, ids=lambda p: type(p).__name__)
def test_every_protocol_follows_edges_to_an_optimum_outside_the_grid(protocol: OneCell) -> None:
    far = bowl(BEST | {"lr": 0.032})
    tuning = tuned(protocol, far, extensions=4)
    best = tuning.best
    assert best is not None
    assert best["lr"] == 0.032
    assert not [edge for edge in tuning.space.edges(best) if edge.name == "lr"]
    assert 0.064 in tuning.space.axes["lr"].values


@pytest.mark.parametrize("protocol", ONE, ids=lambda p: type(p).__name__)
def test_where_everything_diverges_the_way_out_is_down(protocol: OneCell) -> None:
    space = Space({"lr": Axis((0.2, 0.4), domain="(0, inf)")})
    tuning = tuned(protocol, space=space, start={**START, "lr": 0.2}, extensions=6)
    assert tuning.best is not None
    assert tuning.best["lr"] == 0.2 / 2**6  # the nearest to 0.004 of 0.2, 0.1, 0.05, ...


@pytest.mark.parametrize("protocol", ONE, ids=lambda p: type(p).__name__)
def test_a_budget_ends_a_search_and_says_so(protocol: OneCell) -> None:
    tuning = tuned(protocol, trials=7)
    assert tuning.trials == 7
    assert "budget of 7 trials" in tuning.notes[0]


def test_what_cannot_be_run_is_no_trial_and_never_chosen() -> None:
    def partly(c: Configuration) -> float:
        return math.nan if c["lr"] == 0.004 else BOWL(c)

    tuning = tuned(Star(), partly)
    assert tuning.best is not None
    assert tuning.best["lr"] in (0.002, 0.008)
    assert tuning.trials == sum(not math.isnan(loss) for loss in tuning.losses.values()) < len(tuning.losses)


@pytest.mark.parametrize("hole", range(4))
def test_the_best_is_the_best_wherever_the_holes_are(hole: int) -> None:
    values = [3.4, 3.1, 3.2, 3.3]
    values[hole] = math.nan
    tuning = Tuning(Problem(SPACE, START))
    points = [START | {"lr": lr} for lr in SPACE.axes["lr"].values]
    losses = iter(values)
    solve(tuning.ask(points), lambda cell, wanted: next(losses))
    known = sorted((loss, place) for place, loss in enumerate(values) if loss == loss)
    assert tuning.best == points[known[0][1]]
    assert tuning.near(1.0) == [points[place] for _, place in known]
    assert tuning.trials == 3


def test_sensitive_is_what_no_single_value_serves() -> None:
    near = [[{"lr": 1, "wd": 0}, {"lr": 2, "wd": 0}], [{"lr": 2, "wd": 0.1}, {"lr": 2, "wd": 0}], []]
    assert sensitive(near) == []
    assert sensitive([*near, [{"lr": 4, "wd": 0}]]) == ["lr"]
    assert sensitive([]) == []


def scaled(sizes: Mapping[str, tuple[int, int]], **changes: Any) -> dict[str, Problem]:
    fields = {"space": SPACE, "start": START, "extensions": 2} | changes
    return {name: Problem(parameters=n, tokens=d, **fields) for name, (n, d) in sizes.items()}


def test_wen_three_phases() -> None:
    """lr falls with the square root of size; everything else stays. Phase III must predict it from phases I and II."""
    sizes = {"s1": (10**6, 2 * 10**7), "s2": (10**6, 4 * 10**7), "m": (4 * 10**6, 8 * 10**7)}
    later = {"m2": (4 * 10**6, 16 * 10**7), "l": (16 * 10**6, 32 * 10**7), "lc": (16 * 10**6, 64 * 10**7)}
    best_lr = {name: 0.008 / math.sqrt(n / 10**6) for name, (n, _) in (sizes | later).items()}
    asked: list[str] = []

    def answer(cell: str, wanted: Wanted) -> float:
        asked.append(cell)
        return bowl(BEST | {"lr": best_lr[cell]})(wanted.configuration)

    protocol = Wen(phase2=("m2",), phase3=("l", "lc"), checked=("lc",))
    found = solved(protocol, scaled(sizes | later), answer)
    assert found["m"].best == BEST | {"lr": 0.004}
    assert found["m2"].problem.space.searched == ["lr"]
    assert found["m2"].best == BEST | {"lr": 0.004}
    assert asked.count("l") == 1
    assert float((found["l"].best or {})["lr"]) == pytest.approx(0.002, rel=0.02)
    assert found["l"].notes[0] == "Scaling-sensitive, by the cells of phase I: lr."
    assert "law over 4 cells" in found["l"].notes[1]
    assert "above the best one found around it" in found["lc"].notes[-1]
    assert asked.count("lc") > 5


def test_wen_without_enough_cells_for_a_law_keeps_the_nearest() -> None:
    sizes = {"s": (10**6, 2 * 10**7), "m": (4 * 10**6, 8 * 10**7), "l": (16 * 10**6, 32 * 10**7)}
    best_lr = {"s": 0.008, "m": 0.002, "l": 0.002}
    found = solved(
        Wen(phase3=("l",)),
        scaled(sizes),
        lambda cell, wanted: bowl(BEST | {"lr": best_lr[cell]}, size=0.1)(wanted.configuration),
    )
    assert (found["l"].best or {})["lr"] == 0.002
    assert "no law" in found["l"].notes[1]


def test_semenov_tunes_once_and_again_for_the_longest() -> None:
    sizes = {"short": (10**6, 10**7), "tuned": (10**6, 2 * 10**7), "long": (10**6, 16 * 10**7)}
    beta2 = {"short": 0.95, "tuned": 0.95, "long": 0.98}
    asked: list[str] = []

    def answer(cell: str, wanted: Wanted) -> float:
        asked.append(cell)
        return bowl(BEST | {"beta2": beta2[cell]})(wanted.configuration)

    found = solved(Semenov("tuned", {"long": ("beta2",)}, order=("lr", "beta2")), scaled(sizes, extensions=0), answer)
    # Greedy in the order given: weight decay and Nesterov are not in it.
    assert found["tuned"].best == START | {"lr": 0.004, "beta2": 0.95}
    assert asked.count("short") == 1
    assert found["short"].best == found["tuned"].best
    assert found["long"].best == START | {"lr": 0.004, "beta2": 0.98}
    assert asked.count("long") == 3
    assert found["short"].notes == ["Not tuned here: hyperparameters are those found in tuned."]


@pytest.mark.parametrize("protocol", [Wen(phase2=("x",)), Semenov("x")])
def test_a_protocol_that_names_an_unknown_cell(protocol: Protocol) -> None:
    with pytest.raises(ValueError, match="cells that the study has not: x"):
        next(iter(protocol.search(scaled({"s": (1, 1)}))))


def test_a_law_that_leaves_the_domain_is_not_followed() -> None:
    """W's form with an offset can fall below zero: learning rates 0.008, 0.004, 0.001 over sizes 1, 2, 3."""
    sizes = {
        "a": (10**6, 2 * 10**7),
        "b": (2 * 10**6, 2 * 10**7),
        "c": (3 * 10**6, 4 * 10**7),
        "d": (2 * 10**6, 4 * 10**7),
    }
    later = {"l": (64 * 10**6, 128 * 10**7)}
    best_lr = {"a": 0.008, "b": 0.004, "c": 0.001, "d": 0.004, "l": 0.001}
    found = solved(
        Wen(phase3=("l",), law="offset"),
        scaled(sizes | later),
        lambda cell, wanted: bowl(BEST | {"lr": best_lr[cell]}, size=0.1)(wanted.configuration),
    )
    assert "outside (0, inf), so it stays as in the nearest cell" in found["l"].notes[1]
    assert found["l"].best == BEST | {"lr": 0.001}
