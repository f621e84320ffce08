"""Grids: what lies next to a configuration, and how they go on beyond their ends, inside their domains."""

from __future__ import annotations

import pytest

from fairstep.runs import Value
from fairstep.study import Axis, Space


@pytest.mark.parametrize(
    ("values", "domain", "below", "above"),
    [
        ((0.004, 0.008, 0.016), "(0, inf)", 0.002, 0.032),  # learning rates of both papers
        ((0.9, 0.95, 0.98), "[0, 1)", 0.8, 0.992),  # W's betas: the ratio of 1 - beta at that end
        ((0.9, 0.99, 0.999), "[0, 1)", None, 0.9999),
        ((0.0, 0.1, 0.2), "[0, inf)", None, 0.3),  # W's weight decay; none below zero
        ((0.5, 0.6, 0.7), "[0, inf)", 0.4, 0.8),  # Kron's
        ((1e-25, 1e-20, 1e-15, 1e-10), "(0, inf)", 1e-30, 1e-5),
        ((128, 256, 512), "[1, inf)", 64, 1024),
        ((1, 2), "[1, inf)", None, 4),
        ((0.8, 1.0), "(0, 1]", 0.64, None),  # the decaying part of a run
        (("cosine", "linear"), "", None, None),
        ((True, False), "", None, None),
        ((0.1,), "(0, inf)", None, None),  # one value is not searched
    ],
)
def test_grids_go_on_inside_their_domains(
    values: tuple[Value, ...], domain: str, below: float | None, above: float | None
) -> None:
    axis = Axis(values, domain=domain) if domain else Axis(values)
    assert axis.beyond(upper=False) == below
    assert axis.beyond(upper=True) == above


def test_a_declared_factor_and_a_fixed_grid() -> None:
    assert Axis((0.1, 0.2, 0.3), factor=2.0).beyond(upper=True) == 0.6
    assert Axis((0.1, 0.2), fixed=True).beyond(upper=True) is None


def test_whole_numbers_stay_whole() -> None:
    value = Axis((10, 20)).beyond(upper=True)
    assert value == 40
    assert isinstance(value, int)


def test_numbers_are_sorted_and_words_keep_their_order() -> None:
    assert Axis((0.2, 0.1, 0.2)).values == (0.1, 0.2)
    assert Axis(("wsd", "cosine", "wsd")).values == ("wsd", "cosine")


@pytest.mark.parametrize(("values", "word"), [((), "empty"), ((0.1, float("nan")), "finite")])
def test_bad_grids(values: tuple[float, ...], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Axis(values)


def test_star_and_edges() -> None:
    space = Space({"lr": Axis((0.1, 0.2, 0.4), domain="(0, inf)"), "clip": Axis((0, 1), domain="[0, inf)")})
    centre = {"lr": 0.1, "clip": 0}
    assert space.star(centre) == [{"lr": 0.2, "clip": 0}, {"lr": 0.4, "clip": 0}, {"lr": 0.1, "clip": 1}]
    assert [(edge.name, edge.upper, edge.beyond) for edge in space.edges(centre)] == [("lr", False, 0.05)]
    grown = space.extended(space.edges(centre))
    assert grown.axes["lr"].values == (0.05, 0.1, 0.2, 0.4)
    assert grown.edges(centre) == []
    assert space.size() == len(list(space.points())) == 6
