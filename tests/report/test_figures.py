"""What the figures show: the right runs at the right places."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest

from fairstep.analysis import contest_result
from fairstep.report import figures
from fairstep.report.drawing import BASELINE_COLOUR, PALETTE, Look
from fairstep.report.markup import script_json
from fairstep.runs.table import trial_table

if TYPE_CHECKING:
    from tests.conftest import FakeContest


@pytest.fixture
def look(demo_contest: FakeContest) -> Look:
    return Look.of(demo_contest.ledger.contestants, demo_contest.ledger.baseline)


@pytest.fixture
def result(demo_contest: FakeContest) -> dict[str, Any]:
    return contest_result(demo_contest.ledger, demo_contest.store.runs())


def traces(figure: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [trace for trace in figure["data"] if trace["meta"] == name]


def test_forest_shows_each_speedup_and_its_interval(result: dict[str, Any], look: Look) -> None:
    figure = figures.forest(result, look)
    muon = next(row for row in result["contestants"] if row["name"] == "muon")
    together, interval, point = traces(figure, "muon")
    assert together["x"][0] <= interval["x"][0] and interval["x"][1] <= together["x"][1]
    assert interval["x"] == [muon["speedup_low"], muon["speedup_high"]]
    assert point["x"] == [muon["speedup"]]
    assert not traces(figure, "wild"), "no speedup, no line"
    assert traces(figure, "soap")[1]["marker"]["symbol"][1] == "triangle-right-open", "an arrow beyond the budgets"
    left, right = figure["layout"]["xaxis"]["range"]
    assert left < math.log10(0.5)
    assert right > math.log10(2.0)


def test_a_contestant_lands_on_the_baselines_curve(result: dict[str, Any], look: Look) -> None:
    figure = figures.tokens_for_loss(result, look)
    line, points = traces(figure, "adamw")
    assert points["x"] == [row["tokens"] for row in result["curve"]]
    (muon,) = traces(figure, "muon")
    start, end = muon["x"]
    row = next(row for row in result["contestants"] if row["name"] == "muon")
    assert end / start == pytest.approx(row["speedup"])
    nearest = min(range(len(line["x"])), key=lambda place: abs(line["x"][place] - end))
    assert line["y"][nearest] == pytest.approx(muon["y"][1], abs=0.01)


def test_curves_have_a_line_for_every_seed_and_one_mean(look: Look) -> None:
    runs = [
        {"seed": seed, "tokens": [100, 200, 300], "losses": [4.0, 3.0, 2.0 + seed], "status": "done"} for seed in (1, 2)
    ]
    figure = figures.loss_curves({"muon": runs}, look)
    first, second, mean = traces(figure, "muon")
    assert (first["y"][-1], second["y"][-1], mean["y"][-1]) == (3.0, 4.0, 3.5)
    assert mean["line"]["width"] > 2 * first["line"]["width"]


def test_survivors_of_a_divergence_have_no_mean(look: Look) -> None:
    runs = [
        {"seed": 1, "tokens": [100, 200], "losses": [4.0, 3.0], "status": "done"},
        {"seed": 2, "tokens": [100], "losses": [9.0], "status": "diverged"},
    ]
    thin, broken, cross = traces(figures.loss_curves({"wild": runs}, look), "wild")
    assert (thin["mode"], broken["mode"], cross["mode"]) == ("lines", "lines", "markers")
    assert cross["marker"]["symbol"] == "x"


def test_sweeps_ring_the_choice_and_cross_out_divergence(demo_contest: FakeContest, look: Look) -> None:
    trials = trial_table(demo_contest.ledger, demo_contest.store.runs()).to_dicts()
    chosen = {"muon": json.dumps({"lr": 1.6e-2})}
    figure = figures.sweeps(trials, chosen, look)
    points, ring, cross = traces(figure, "muon")
    assert points["x"] == sorted(points["x"])
    assert len(points["x"]) == 4
    assert ring["x"] == [1.6e-2]
    assert ring["marker"]["symbol"] == "circle-open"
    assert cross["x"] == [6.4e-2]
    assert min(cross["y"]) > max(row["final_loss"] for row in trials if row["phase"] == "tune" and row["final_loss"])
    assert all(trace["marker"]["symbol"] != "circle-open" for trace in traces(figure, "lion"))


def test_nothing_to_draw_is_an_empty_figure(look: Look) -> None:
    empty = {"contestants": [], "curve": [], "baseline": "adamw", "cell": {"tokens": 1000}}
    drawn = (
        figures.forest(empty, look),
        figures.tokens_for_loss(empty, look),
        figures.loss_curves({}, look),
        figures.sweeps([], {}, look),
    )
    assert all(figure["data"] == [] for figure in drawn)


def test_legends_offer_only_what_is_drawn(result: dict[str, Any], look: Look) -> None:
    names = [entry["name"] for entry in figures.tokens_for_loss(result, look)["layout"]["meta"]]
    assert names == ["adamw", "muon", "soap", "lion", "sgd"]


def test_the_baseline_is_grey_and_colours_are_used_in_order() -> None:
    many = tuple(f"c{place}" for place in range(len(PALETTE) + 2))
    found = Look.of(many, "c0").colour
    assert found["c0"] == BASELINE_COLOUR
    assert [found[name] for name in many[1:4]] == list(PALETTE[:3])


def test_json_in_a_script_cannot_end_it() -> None:
    value = {"name": "</script><!-- & \u2028"}
    text = script_json(value)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == value
