"""Laws against numbers that we did not compute: W's published fits, scipy, and laws that are known exactly."""

from __future__ import annotations

import numpy as np
import pytest

from fairstep.analysis import AnalysisError
from fairstep.analysis.claims.wen_tables import VARIANTS, losses, noise, published_speedups, speedups
from fairstep.analysis.laws.law import LOSS, Noise, hyperparameter_law, joint_law, loss_law, offset_law
from fairstep.analysis.laws.power_fit import fit
from fairstep.analysis.verdict.law_speedup import law_speedup, speedup_rows, straight_speedup
from fairstep.published import wen

RATIOS = np.array([1.0, 2.0, 4.0, 8.0])
QUIET = Noise(1e-4, 50)


def published(optimizer: str, size: str, column: str = "loss_snapshot_2025_05") -> list[float]:
    table = losses(column)
    return [table[optimizer, size, ratio] for ratio in RATIOS]


def test_an_exact_law_is_found_exactly() -> None:
    law = loss_law(RATIOS, 0.4 * RATIOS**-0.5 + 3.1, QUIET)
    assert law.parameters == pytest.approx({"alpha": 0.4, "beta": 3.1, "B": 0.5}, rel=1e-6)
    assert law.inverse(0.4 * 3.0**-0.5 + 3.1) == pytest.approx(3.0, rel=1e-6)
    assert law.inverse(3.0) == np.inf, "below the law's floor"


def test_the_fit_is_that_of_scipy() -> None:
    from scipy.optimize import curve_fit

    y = np.array(published("adamw", "300m"))
    start = [y[0] - y[-1], 0.5, y[-1]]
    (alpha, exponent, beta), _ = curve_fit(lambda d, a, e, b: a * d**-e + b, RATIOS, y, p0=start, maxfev=10_000)
    law = loss_law(RATIOS, y, QUIET)
    assert law.parameters == pytest.approx({"alpha": alpha, "beta": beta, "B": exponent}, rel=1e-5)


@pytest.mark.parametrize(
    ("optimizer", "column", "sizes", "loss", "rmse"),
    [
        ("adamw", "loss_snapshot_2025_05", 3, 2.63397, 0.00582515),
        ("muon", "loss_snapshot_2025_05", 3, 2.54639, 0.00310485),
        ("adamw", "loss_snapshot_2025_05", 4, 2.56576, 0.00569767),
        ("muon", "loss_snapshot_2025_05", 4, 2.57374, 0.0036195),
        ("soap", "loss", 4, 2.57815, 0.00433592),
    ],
)
def test_the_joint_law_at_7b(optimizer: str, column: str, sizes: int, loss: float, rmse: float) -> None:
    """The expected numbers come from scipy's curve_fit on the same points, started at W's own values."""
    parameters = dict(wen.models().select("model_size", "parameters_matrix").iter_rows())
    points = [(parameters[s], 20 * parameters[s] * r, s) for s in wen.SIZES[:sizes] for r in RATIOS]
    y = [losses(column)[optimizer, s, t / parameters[s] / 20] for _, t, s in points]
    law = joint_law([n for n, _, _ in points], [t for _, t, _ in points], y, noise())
    assert law.at(7_207_959_552, 20 * 7_207_959_552) == pytest.approx(loss, abs=2e-5)
    assert law.rmse == pytest.approx(rmse, rel=1e-4)
    assert not law.covers(7_207_959_552, 20 * 7_207_959_552)
    low, high = law.interval_at(7_207_959_552, 20 * 7_207_959_552)
    assert low < loss < high


def test_the_114_figure_points_of_w() -> None:
    """Within 2e-4, but for one point at 16x, where scipy's curve_fit gives our number and not the figure's."""
    figure = wen.speedups().filter(variant="figure_2025_05")
    assert figure.height == 114
    ours = {
        ratio_16: {(r["optimizer"], r["model_size"], r["chinchilla_ratio"]): r["speedup"] for r in speedups(variant)}
        for ratio_16, variant in ((False, "snapshot_fit_1_2_4_8"), (True, "snapshot_fit_with_16x"))
    }
    for row in figure.iter_rows(named=True):
        cell = row["optimizer"], row["model_size"], row["chinchilla_ratio"]
        allowed = 2.5e-4 if cell == ("soap", "300m", 16) else 2e-4
        assert ours[cell[2] == 16][cell] == pytest.approx(row["speedup"], abs=allowed), cell


def test_the_point_that_differs_is_not_ours() -> None:
    from scipy.optimize import curve_fit

    table, ratios = losses("loss_snapshot_2025_05"), np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    y = np.array([table["adamw", "300m", ratio] for ratio in ratios])
    start = [y[0] - y[-1], 0.5, y[-1]]
    (alpha, exponent, beta), _ = curve_fit(lambda d, a, e, b: a * d**-e + b, ratios, y, p0=start, maxfev=10_000)
    scipys = ((table["soap", "300m", 16] - beta) / alpha) ** (-1 / exponent) / 16
    (ours,) = (
        row["speedup"]
        for row in speedups("snapshot_fit_with_16x")
        if (row["optimizer"], row["model_size"], row["chinchilla_ratio"]) == ("soap", "300m", 16)
    )
    assert ours == pytest.approx(scipys, abs=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_other_variants_of_ws_speedups(variant: str) -> None:
    theirs = wen.speedups().filter(variant=variant)
    ours = {(r["optimizer"], r["model_size"], r["chinchilla_ratio"]): r["speedup"] for r in speedups(variant)}
    assert len(ours) == theirs.height
    for optimizer, size, ratio, _, value in theirs.iter_rows():
        assert ours[optimizer, size, ratio] == pytest.approx(value, abs=1e-4)


def test_published_speedups_have_intervals_around_them() -> None:
    rows = published_speedups()
    assert sum(row["variant"] == "figure_2025_05" for row in rows) == 114
    for row in rows:
        if row["low"] is not None:
            assert row["low"] <= row["speedup"] + 2e-4
        if row["high"] is not None:
            assert row["speedup"] <= row["high"] + 2e-4


def test_speedup_and_its_sensitivity() -> None:
    law = loss_law(RATIOS, 0.4 * RATIOS**-0.5 + 3.1, QUIET)
    loss = 0.4 * 2.8**-0.5 + 3.1
    found = law_speedup(law, loss, 2.0)
    assert found.value == pytest.approx(1.4, rel=1e-5)
    assert found.low < 1.4 < found.high
    expected = ((loss - 1e-3 - 3.1) / 0.4) ** -2 / 2.8 - 1
    assert found.per_millinat == pytest.approx(expected, rel=1e-4)
    assert found.straight > found.value, "a straight line lies above a convex curve"
    assert np.isnan(straight_speedup(RATIOS, law.y, 1.0, 1.0)), "nothing is extrapolated"


def test_the_hyperparameter_law_is_regression_in_logs() -> None:
    rng = np.random.default_rng(0)
    n, d = rng.uniform(1e8, 1e9, 9), rng.uniform(1e9, 1e11, 9)
    h = 3.0 * n**-0.4 * d**0.1 * np.exp(0.05 * rng.normal(size=9))
    law = hyperparameter_law(n, d, h)
    slopes, *_ = np.linalg.lstsq(np.column_stack([np.ones(9), -np.log(n), -np.log(d)]), np.log(h), rcond=None)
    assert [law.parameters["A"], law.parameters["B"]] == pytest.approx(slopes[1:].tolist(), rel=1e-6)
    assert law.at(n[0], d[0]) == pytest.approx(float(np.exp(slopes[0]) * n[0] ** -slopes[1] * d[0] ** -slopes[2]))


def test_a_law_with_one_degree_of_freedom_has_an_interval_and_no_warning() -> None:
    """Errors are then Cauchy's, whose draws are beyond what numbers hold; pytest makes an error of a warning."""
    n, d = [1e8, 1e8, 3e8, 5e8], [2e9, 4e9, 6e9, 1e10]
    law = hyperparameter_law(n, d, [1e-3, 8e-3, 1e-3, 8e-3])
    low, high = law.interval_at(1e9, 2e11)
    assert 0 <= low < 1e-3
    assert 1 < high < np.inf
    low, high = law.interval_at(1e15, 2e22)
    assert 0 <= low < 1e-3
    assert high == np.inf


def test_ws_hyperparameter_law_is_a_plane_in_logs_and_not_the_best_fit() -> None:
    """W leaves the first and last of its 12 points out. On a grid of factors of 2 its form has no use for exponents:
    what it published is the limit of exponents near 0, a plane in logs; a lower sum of squares lies elsewhere."""
    facts, parameters = wen.facts(), dict(wen.models().select("model_size", "parameters_matrix").iter_rows())
    grid = np.array([(parameters[size], ratio) for size in wen.SIZES[:3] for ratio in (1, 2, 4, 8)][1:-1], dtype=float)
    values = np.array(facts["law_inputs"]["nadamw"]["learning_rate"][1:-1])
    design = np.column_stack([np.ones(len(grid)), np.log(grid)])
    plane, squares, *_ = np.linalg.lstsq(design, values, rcond=None)
    for ratio, expected in facts["law_predictions_1.2b"]["nadamw"]["learning_rate"].items():
        here = plane @ [1, np.log(parameters["1.2b"]), np.log(float(ratio))]
        assert here == pytest.approx(expected, rel=0.01)
    law = offset_law(grid[:, 0], grid[:, 1], values, Noise(1e-5, 9))
    assert len(values) * law.rmse**2 < squares[0]
    assert law.at(parameters["1.2b"], 1.0) < 0, "the best fit predicts a negative learning rate at 1.2B"


def test_repeated_runs_weigh_more_and_give_the_noise() -> None:
    runs = [[3.5, 3.52, 3.48], 3.38, [3.30, 3.31], 3.25, 3.21]
    law = loss_law([1, 2, 4, 8, 16], runs)
    assert law.noise.degrees == 3 + 2
    means = np.array([3.5, 3.38, 3.305, 3.25, 3.21])[None]
    tokens = np.array([1.0, 2, 4, 8, 16])[:, None]
    assert law.vector == pytest.approx(fit(LOSS, tokens, means, np.array([[3.0, 1, 2, 1, 1]]))[0])


def test_warnings_say_what_the_points_cannot_tell() -> None:
    assert "only one degree of freedom" in loss_law(RATIOS, published("adamw", "130m"), noise()).warnings[0]
    three = loss_law(RATIOS[:3], published("adamw", "130m")[:3])
    assert "no degree of freedom" in three.warnings[0]
    assert three.intervals["alpha"] == (-np.inf, np.inf)
    assert np.isnan(three.leave_one_out)
    bent = loss_law([1, 2, 4, 8, 16, 32], [3.5, 3.4, 3.35, 3.2, 3.19, 3.0], Noise(1e-3, 50))
    assert any("does not quite fit" in text for text in bent.warnings)


def test_values_of_a_grid_carry_its_rounding() -> None:
    """T-10: six equal values gave .008 [.008, .008]."""
    places = [1e8, 3e8, 5e8] * 2, [2e9, 4e9, 8e9, 4e9, 8e9, 16e9]
    law = hyperparameter_law(*places, [0.008] * 6)
    low, high = law.interval_at(1.2e9, 2.4e10)
    assert low < 0.0057 < 0.0113 < high, "half a factor of 2 on both sides"
    assert law.noise.sigma == pytest.approx(np.log(2) / np.sqrt(12))
    narrow = hyperparameter_law(*places, [0.008, 0.0113, 0.008, 0.0057, 0.008, 0.0113]).noise.sigma
    assert narrow**2 == pytest.approx(
        hyperparameter_law(*places, [0.008, 0.0113, 0.008, 0.0057, 0.008, 0.0113], step=1).noise.sigma ** 2
        + np.log(np.sqrt(2)) ** 2 / 12
    )
    free = [0.008, 0.0091, 0.0072, 0.0075, 0.0088, 0.0079]
    assert hyperparameter_law(*places, free).noise == hyperparameter_law(*places, free, step=1).noise
    assert hyperparameter_law(*places, [0.008] * 6, step=4).noise.sigma == pytest.approx(np.log(4) / np.sqrt(12))


def test_a_law_of_grid_values_covers_the_truth() -> None:
    """W's 12 cells, N^-.1 D^-.05 rounded to factors of 2: 28 % of the intervals at 1.2B held the truth."""
    parameters = dict(wen.models().select("model_size", "parameters_matrix").iter_rows())
    sizes = np.array([parameters[size] for size in wen.SIZES[:3] for _ in RATIOS])
    tokens = 20 * np.tile(RATIOS, 3) * sizes
    large = parameters["1.2b"]
    inside = []
    for offset in np.linspace(0, 1, 60, endpoint=False):
        truth = 2**offset * (sizes / 3e8) ** -0.1 * (tokens / 1e10) ** -0.05
        law = hyperparameter_law(sizes, tokens, 2 ** np.round(np.log2(truth)))
        low, high = law.interval_at(large, 20 * large)
        inside.append(low <= 2**offset * (large / 3e8) ** -0.1 * (20 * large / 1e10) ** -0.05 <= high)
        assert low < high
    assert np.mean(inside) > 0.93


def test_an_interval_that_a_bound_cuts_is_named() -> None:
    """T-11: a saturated curve, B 1.99 [1.45, 2], had no word."""
    tokens = np.array([1.0, 2, 4, 8, 16])
    saturated = loss_law(tokens, 0.4 * tokens**-1.99 + 3.1, Noise(1e-2, 20))
    low, high = saturated.intervals["B"]
    assert low < saturated.parameters["B"] < high == 2
    assert any("interval of B ends at the bound of the fit, 2" in text for text in saturated.warnings)
    assert not any("exponent B is at its bound" in text for text in saturated.warnings)
    assert not any("bound" in text for text in loss_law(tokens, 0.4 * tokens**-0.5 + 3.1, QUIET).warnings)


def test_collinear_points_are_named() -> None:
    """T-12: tokens at 20 a parameter tell size and tokens apart no more."""
    sizes = np.array([1e8, 2e8, 3e8, 5e8, 8e8, 1.2e9])
    losses = 20 * sizes**-0.2 + 30 * (20 * sizes) ** -0.25 + 1.8
    line = joint_law(sizes, 20 * sizes, losses, QUIET)
    assert any("collinear" in text and "A and B cannot be told apart" in text for text in line.warnings)
    assert any("collinear" in text for text in hyperparameter_law(sizes, 20 * sizes, sizes**-0.3).warnings)
    spread = joint_law(np.tile(sizes, 2), np.concatenate([20 * sizes, 80 * sizes]), np.tile(losses, 2), Noise(1, 9))
    assert not any("collinear" in text for text in spread.warnings)


def test_a_point_that_decides_the_law_is_named() -> None:
    """T-13: five points, one 0.02 off, no sigma given."""
    tokens = np.array([1.0, 2, 4, 8, 16])
    losses = 0.4 * tokens**-0.5 + 3.1
    losses[0] += 0.02
    law = loss_law(tokens, losses)
    assert law.leave_one_out > 3 * law.rmse
    assert any("single points decide the law" in text for text in law.warnings)
    many = np.array([1.0, 2, 4, 8, 16, 32, 64, 128])
    noisy = 0.4 * many**-0.5 + 3.1 + 1e-3 * np.array([1, -1, 1, -1, -1, 1, 1, -1])
    assert not any("single points" in text for text in loss_law(many, noisy).warnings)
    assert not any("single points" in text for text in loss_law(many, 0.4 * many**-0.5 + 3.1).warnings)


@pytest.mark.parametrize(
    ("tokens", "values", "words"),
    [
        ([1, 2], [3.5, 3.4], "at least 3"),
        ([1, 1, 2], [3.5, 3.5, 3.4], "at least 3 different points"),
        ([1, 2, 4], [3.5, np.nan, 3.3], "finite value"),
        ([1, 2, 4], [3.5, 3.5, 3.5], "all losses are 3.5"),
        ([0, 2, 4], [3.5, 3.4, 3.3], "positive"),
        ([1, 2, 4], [3.5, 3.4], "one value for each"),
    ],
)
def test_points_that_give_no_law(tokens: list[float], values: list[float], words: str) -> None:
    with pytest.raises(AnalysisError, match=words):
        loss_law(tokens, values)


def test_a_table_without_its_baseline() -> None:
    with pytest.raises(AnalysisError, match="'adamw' has no losses"):
        speedup_rows({("muon", "130m", 1.0): 3.4}, "adamw", None)
    law_cells = {("adamw", "130m", ratio): 3.1 + 0.4 * ratio**-0.5 for ratio in (1.0, 2.0, 4.0)}
    with pytest.raises(AnalysisError, match="muon at 130m: a speedup needs a finite loss"):
        speedup_rows(law_cells | {("muon", "130m", 1.0): float("nan")}, "adamw", None)
    with pytest.raises(AnalysisError, match=r"adamw at 130m: .* at least 3"):
        speedup_rows({("adamw", "130m", 1.0): 3.4, ("muon", "130m", 1.0): 3.3}, "adamw", None)
