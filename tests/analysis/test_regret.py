"""What a finer learning-rate grid could still gain: equal optimizers, tuned on a grid, are seldom called different."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from fairstep.analysis.verdict.regret import Neighbours, Regret

REPETITIONS = 400


def regret(rates: list[float], losses: list[float], chosen: float, sigma: float) -> Regret | None:
    tried = [({"lr": rate}, loss) for rate, loss in zip(rates, losses, strict=True)]
    return Neighbours.of(tried, {"lr": chosen}).regret(sigma)


def tuned(
    generator: np.random.Generator, curvature: float, sigma: float, refined: bool
) -> tuple[dict[float, float], float, float]:
    """(tuning loss by x = log2 rate, the chosen x, its true regret) of an optimum uniform within half a step."""
    optimum = generator.uniform(-0.5, 0.5)

    def run(x: float) -> float:
        return curvature * (x - optimum) ** 2 + sigma * generator.standard_normal()

    losses = {x: run(x) for x in (-1.0, 0.0, 1.0)}
    for _ in range(4):  # a winner at an edge extends its grid
        chosen = min(losses, key=losses.__getitem__)
        for edge, more in ((min(losses), -1.0), (max(losses), 1.0)):
            if chosen == edge:
                losses[edge + more] = run(edge + more)
    if refined:
        chosen = min(losses, key=losses.__getitem__)
        losses |= {x: run(x) for x in (chosen - 0.5, chosen + 0.5)}
    chosen = min(losses, key=losses.__getitem__)
    return losses, chosen, curvature * (chosen - optimum) ** 2


def separated(
    curvature: float, sigma: float, seeds: int, effect: float = 0.0, refined: bool = True
) -> tuple[float, float]:
    """Share of pairs of contestants that are called different: with the plain interval, and with the regret's term."""
    generator = np.random.default_rng(0)
    plain = whole = 0
    for _ in range(REPETITIONS):
        shared = generator.standard_normal(seeds) * sigma * np.sqrt(0.5)
        finals, sides = [], []
        for shift in (0.0, effect):
            losses, chosen, lost = tuned(generator, curvature, sigma, refined)
            finals.append(lost + shift + shared + generator.standard_normal(seeds) * sigma * np.sqrt(0.5))
            sides.append((losses, chosen))
        difference = finals[1] - finals[0]
        half = stats.t.isf(0.025, seeds - 1) * difference.std(ddof=1) / np.sqrt(seeds)
        deviation = np.sqrt(np.mean([run.var(ddof=1) for run in finals]))
        a, b = (
            regret([2.0**x for x in losses], list(losses.values()), 2.0**chosen, deviation) for losses, chosen in sides
        )
        assert a is not None and b is not None
        plain += abs(difference.mean()) > half
        whole += abs(difference.mean()) > np.hypot(half, 1.96 * a.difference(b))
    return plain / REPETITIONS, whole / REPETITIONS


# 400 pairs: a true share of 5 % is measured as at most 8 % with probability 0.99.
@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 8])
@pytest.mark.parametrize(("curvature", "sigma"), [(0.0115, 0.0011), (0.08, 0.03), (0.16, 0.03)])
def test_equal_optimizers_are_seldom_called_different(curvature: float, sigma: float, seeds: int) -> None:
    plain, whole = separated(curvature, sigma, seeds)
    assert whole <= 0.08
    assert plain > whole


@pytest.mark.slow
def test_a_difference_of_six_millinats_is_seen_at_124m_with_three_seeds() -> None:
    assert separated(0.0115, 0.0011, 3, effect=0.006)[1] >= 0.9


def test_a_curve_without_noise_gives_its_regret() -> None:
    optimum, curvature = 0.3, 0.01
    rates = [2.0**x for x in (-1, 0, 1)]
    losses = [curvature * (x - optimum) ** 2 for x in (-1, 0, 1)]
    exact = regret(rates, losses, 1.0, 1e-4)
    assert exact is not None
    assert exact.mean == pytest.approx(curvature * optimum**2, rel=0.15)
    assert exact.variance**0.5 < 0.2 * exact.mean


def test_points_far_away_do_not_count() -> None:
    near = regret([1, 2, 4], [3.1, 3.0, 3.1], 2, 0.01)
    assert near == regret([1, 2, 4, 64], [3.1, 3.0, 3.1, 9.0], 2, 0.01)


def test_a_coarse_grid_counts_its_nearest_points() -> None:
    assert regret([1, 8, 64], [3.3, 3.0, 3.2], 8, 0.01) is not None


@pytest.mark.parametrize(
    ("rates", "losses", "sigma"),
    [
        ([1, 2], [3.1, 3.0], 0.01),
        ([2], [3.0], 0.01),
        ([1, 2, 4], [3.0, 3.0, 3.0], 0.01),
        ([1, 2, 4], [3.1, 3, 3.1], 0.0),
    ],
)
def test_losses_without_curvature_give_none(rates: list[float], losses: list[float], sigma: float) -> None:
    assert regret(rates, losses, 2, sigma) is None


Configuration = dict[str, float]


def on_a_grid(
    generator: np.random.Generator, names: tuple[str, ...], interaction: float, sigma: float
) -> tuple[list[tuple[Configuration, float]], Configuration, float]:
    """(all configurations with their losses, the best of them, its true regret) of a bowl with one optimum, which lies
    within half a step of the middle of a grid of 5 values each."""
    curvature = 10 ** generator.uniform(-2.5, -1.5, len(names))
    rho = np.full((len(names), len(names)), interaction) + (1 - interaction) * np.eye(len(names))
    bowl = rho * np.sqrt(np.outer(curvature, curvature))
    optimum = generator.uniform(-0.5, 0.5, len(names))

    def lost(place: tuple[int, ...]) -> float:
        away = np.array(place) - optimum
        return float(away @ bowl @ away)

    places = list(itertools.product(range(-2, 3), repeat=len(names)))
    losses = {place: 3.0 + lost(place) + sigma * generator.standard_normal() for place in places}
    named = {
        place: {n: 2.0**x if n == "lr" else 0.1 * (x + 3) for n, x in zip(names, place, strict=True)}
        for place in places
    }
    best = min(losses, key=losses.__getitem__)
    return [(named[place], loss) for place, loss in losses.items()], named[best], lost(best)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "interaction"), [(("lr", "weight_decay"), 0.0), (("lr", "weight_decay", "beta2"), 0.6)]
)
def test_equal_optimizers_with_several_hyperparameters(names: tuple[str, ...], interaction: float) -> None:
    generator, sigma, seeds, pairs = np.random.default_rng(0), 0.005, 8, 300
    rate_alone = all_of_them = 0
    for _ in range(pairs):
        shared = generator.standard_normal(seeds) * sigma * np.sqrt(0.5)
        finals, sides = [], []
        for _ in "ab":
            tried, chosen, lost = on_a_grid(generator, names, interaction, sigma)
            finals.append(lost + shared + generator.standard_normal(seeds) * sigma * np.sqrt(0.5))
            sides.append(Neighbours.of(tried, chosen))
        difference = finals[1] - finals[0]
        half = stats.t.isf(0.025, seeds - 1) * difference.std(ddof=1) / np.sqrt(seeds)
        deviation = float(np.sqrt(np.mean([run.var(ddof=1) for run in finals])))
        for only in (("lr",), names):
            kept = [Neighbours({n: s.lines[n] for n in only if n in s.lines}, s.planes) for s in sides]
            a, b = (side.regret(deviation) or Regret(0.0, 0.0) for side in kept)
            apart = abs(difference.mean()) > np.hypot(half, 1.96 * a.difference(b))
            rate_alone += apart and only == ("lr",)
            all_of_them += apart and only == names
    assert all_of_them / pairs <= 0.08 < rate_alone / pairs


def test_an_interaction_is_read_from_the_search() -> None:
    generator, exact = np.random.default_rng(1), []
    tried, chosen, lost = on_a_grid(generator, ("lr", "weight_decay"), 0.6, 0.0)
    whole = Neighbours.of(tried, chosen)
    assert whole.covered == ("lr", "weight_decay")
    lines_alone = [(one, loss) for one, loss in tried if len(one.items() - chosen.items()) < 2]
    for neighbours in (whole, Neighbours.of(lines_alone, chosen)):
        found = neighbours.regret(1e-4)
        assert found is not None
        exact.append((abs(found.mean - lost), found.variance**0.5))
    assert exact[0][0] < 0.1 * lost and exact[0][0] < exact[1][0]
    assert exact[0][1] < exact[1][1], "without the corners of the grid the interaction is not known"


def test_sides_that_were_tried_beside_different_configurations_are_joined() -> None:
    """As a search leaves them that goes from one hyperparameter to the next and then follows an edge."""
    chosen = {"lr": 0.032, "weight_decay": 0.0}
    tried = [({"lr": 0.016, "weight_decay": 0.1}, 3.04), ({"lr": 0.032, "weight_decay": 0.1}, 3.02)]
    tried += [(chosen, 3.0), ({"lr": 0.064, "weight_decay": 0.0}, 3.02), ({"lr": 0.032, "weight_decay": -0.1}, 3.02)]
    found = Neighbours.of(tried, chosen)
    assert found.covered == ("lr", "weight_decay")
    assert found.lines["lr"].beside == {"weight_decay": 0.5}
    assert list(found.lines["lr"].x) == [-1.0, 0.0, 1.0] and found.lines["lr"].y == pytest.approx([0.02, 0.0, 0.02])
    assert Neighbours.of(tried[1:], chosen).covered == ("weight_decay",)
    assert Neighbours.of(tried[:-1], chosen).covered == ("lr",)


def test_losses_of_shorter_schedules_stand_in() -> None:
    chosen = {"lr": 0.1, "beta2": 0.9}
    tried = [({**chosen, "lr": lr}, 3.0 + abs(lr - 0.1)) for lr in (0.05, 0.1, 0.2)]
    short = [({"lr": 0.2, "beta2": beta}, 4.0 + abs(beta - 0.9)) for beta in (0.8, 0.9, 0.95)]
    alone, both = Neighbours.of(tried, chosen), Neighbours.of(tried, chosen, short, 2.0)
    assert alone.covered == ("lr",) and both.covered == ("beta2", "lr")
    assert both.lines["beta2"].drift == 0.5 and both.lines["lr"].drift == 0.0
    one, two = alone.regret(0.01), both.regret(0.01)
    assert one is not None and two is not None and two.mean > one.mean and two.variance > one.variance


def test_words_edges_and_other_lines_are_not_covered() -> None:
    chosen = {"lr": 0.1, "beta2": 0.9, "nesterov": True, "eps": 1e-8}
    tried = [
        (chosen, 3.0),
        ({**chosen, "lr": 0.05}, 3.1),
        ({**chosen, "lr": 0.2}, 3.2),
        ({**chosen, "beta2": 0.95}, 3.1),
    ]
    tried += [({**chosen, "nesterov": False}, 3.1), ({**chosen, "lr": 0.05, "eps": 1e-9}, 3.1)]
    tried += [({**chosen, "lr": 0.05, "eps": 1e-7}, 3.1), ({**chosen, "beta2": 0.8}, float("inf"))]
    assert Neighbours.of(tried, chosen).covered == ("lr",)
    assert Neighbours.of(tried[1:], chosen).covered == (), "the chosen configuration itself was not tried"
    assert Neighbours.of([], {}).regret(0.01) is None
