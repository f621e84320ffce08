"""Simulations with known truth: do 95 % intervals cover 95 %, and how often are equal optimizers called different?

``python -m tests.analysis.coverage`` prints the table of docs/results/coverage.md (about two minutes on one core);
``test_coverage.py`` holds it. Every row repeats a whole analysis 500 times, with the noise and designs of the papers
(one run a cell, four or five data ratios, sigma as W's records show it) and of the demo (three or more paired seeds).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from tests.analysis.test_regret import tuned

from fairstep.analysis import BaselineCurve, paired_difference, token_speedup
from fairstep.analysis.laws.law import Law, Noise, hyperparameter_law, joint_law, loss_law
from fairstep.analysis.laws.trend import size_trend
from fairstep.analysis.verdict.law_speedup import law_speedup
from fairstep.analysis.verdict.looks import Contender, look_once, looks
from fairstep.analysis.verdict.paired import bootstrap_interval, deviation_interval, sign_flip_probability
from fairstep.analysis.verdict.ranking import rank
from fairstep.analysis.verdict.sequential import limits
from fairstep.runs import Cell, Design, Ledger, Look
from fairstep.study.tournament.family import within_family

REPETITIONS = 500
SEED_SIGMA = 0.02
"""Of a demo's run."""
W_SIGMA = 0.00125
"""Of one of W's losses (``wen_tables.noise``)."""
W_NOISE = 102
"""Its degrees of freedom."""
T = 1_000_000


@dataclass(frozen=True)
class Row:
    """``share`` of repetitions. ``kind``: covers (aims at 95 %), wrong (a false verdict, at most 5 %) or family (any
    false verdict of several contests, at most 10 %)."""

    name: str
    design: str
    kind: str
    share: float
    times: int

    @property
    def allowed(self) -> tuple[float, float]:
        """Of a share that is truly 95 % (5 %), with three standard errors of so many repetitions, to 98 % at most."""
        wrong = 0.1 if self.kind == "family" else 0.05
        error = 3 * float(np.sqrt(wrong * (1 - wrong) / self.times))
        return (0.95 - error, 0.98) if self.kind == "covers" else (0.0, wrong + error)


Simulation = Callable[[np.random.Generator], Iterator[tuple[str, str, str, bool]]]
"""One repetition: (name, design, kind, whether it covered or was wrong) for everything that it looks at."""


def demo_loss(ratio: float) -> float:
    """A power law that falls as a small model's does: 0.22 nats from 0.5 to 1, 0.16 from 1 to 2."""
    return 2.2 + 0.6 * float(ratio**-0.45)


def wen_loss(ratio: float) -> float:
    """W's law of AdamW at 130m."""
    return 3.111 + 0.418 * float(ratio**-0.495)


def pairs(rng: np.random.Generator, seeds: int, shared: float = 0.5, gap: float = 0.0) -> np.ndarray:
    """(2, seeds) losses whose pairs share a part of their variance; the second is lower by ``gap``."""
    common = np.sqrt(shared) * rng.normal(size=seeds)
    own = np.sqrt(1 - shared) * rng.normal(size=(2, seeds))
    losses: np.ndarray = 2.8 + SEED_SIGMA * (common + own) - np.array([[0.0], [gap]])
    return losses


def seeds(rng: np.random.Generator) -> Iterator[tuple[str, str, str, bool]]:
    for count in (3, 5, 8):
        design = f"{count} paired seeds"
        first, second = (dict(enumerate(side)) for side in pairs(rng, count))
        found = paired_difference(first, second)
        yield "t-interval of a paired difference", design, "covers", found.low <= 0 <= found.high
        if count > 3:
            values = [first[key] - second[key] for key in first]
            low, high = bootstrap_interval(values)
            yield "bootstrap-t interval of a paired difference", design, "covers", low <= 0 <= high
            wrong = sign_flip_probability(values) <= 0.05
            yield "sign-flip test at 5 %", f"equal optimizers, {design}", "wrong", wrong
            sigma = deviation_interval([float(value) for value in values])
            truth = SEED_SIGMA  # sqrt(2 (1 - shared)) of one side's
            yield "sigma over seeds", f"{count} seeds", "covers", sigma.low <= truth <= sigma.high


def verdicts(rng: np.random.Generator) -> Iterator[tuple[str, str, str, bool]]:
    """Twenty contests a repetition, each of equal optimizers: 10,000 verdicts a row."""
    for count in (3, 4, 5, 8):
        for shared in (0.0, 0.5):
            for _ in range(20):
                first, second = (dict(enumerate(side)) for side in pairs(rng, count, shared))
                found = paired_difference(first, second)
                design = f"equal optimizers, {count} seeds, {100 * shared:.0f} % of the noise shared"
                yield "verdict faster or slower", design, "wrong", found.low > 0 or found.high < 0


def heavy_tails(rng: np.random.Generator) -> Iterator[tuple[str, str, str, bool]]:
    values = rng.standard_t(4, 8)
    low, high = bootstrap_interval(values)
    yield "bootstrap-t interval of a paired difference", "8 seeds, t noise of 4 degrees", "covers", low <= 0 <= high
    found = paired_difference(dict(enumerate(values)), dict.fromkeys(range(8), 0.0))
    yield "t-interval of a paired difference", "8 seeds, t noise of 4 degrees", "covers", found.low <= 0 <= found.high


def rankings(rng: np.random.Generator) -> Iterator[tuple[str, str, str, bool]]:
    losses = {str(name): dict(enumerate(2.8 + SEED_SIGMA * rng.normal(size=5))) for name in range(6)}
    wrong = any(place.best > 1 or place.worst < 6 for place in rank(losses))
    yield "any two separated in a ranking", "6 equal optimizers, 5 seeds", "wrong", wrong


def contests(rng: np.random.Generator) -> Iterator[tuple[str, str, str, bool]]:
    for count, shared, truth in ((3, 0.5, 1.0), (3, 0.0, 1.3), (5, 0.5, 1.8)):
        base, other = pairs(rng, count, shared)
        base, other = base - 2.8 + demo_loss(1.0), other - 2.8 + demo_loss(truth)
        difference = paired_difference(dict(enumerate(base)), dict(enumerate(other)))
        others = {round(r * T): [demo_loss(r) + SEED_SIGMA * rng.normal()] for r in (0.5, 2.0)}
        curve = BaselineCurve.of({T: base.tolist()} | others)
        found = token_speedup(curve, difference, T, other.tolist())
        design = f"truth {truth}, {count} seeds, budgets 0.5, 1, 2"
        yield "speedup of a contest (interpolation)", design, "covers", found.low <= truth <= found.high


def five_budgets(rng: np.random.Generator) -> Iterator[tuple[str, str, str, bool]]:
    for truth in (1.1, 1.3):
        base, other = pairs(rng, 5)
        base, other = base - 2.8 + demo_loss(1.0), other - 2.8 + demo_loss(truth)
        difference = paired_difference(dict(enumerate(base)), dict(enumerate(other)))
        others = {
            round(r * T): [demo_loss(r) + SEED_SIGMA * rng.normal() for _ in range(2)] for r in (0.5, 0.7, 1.4, 2)
        }
        found = token_speedup(BaselineCurve.of({T: base.tolist()} | others), difference, T, other.tolist())
        design = f"truth {truth}, 5 seeds, budgets 0.5, 0.7, 1, 1.4, 2 with 2 seeds"
        yield "speedup of a contest (law)", design, "covers", found.low <= truth <= found.high


def tuned_on_a_grid(rng: np.random.Generator) -> Iterator[tuple[str, str, str, bool]]:
    """Equal optimizers, each at the best of its own noisy grid of factor 2 with two refined rates."""
    for scale, curvature, sigma in (("124M", 0.0115, 0.0011), ("pocket", 0.08, 0.03)):
        for count in (3, 8):
            shared = np.sqrt(0.5) * sigma * rng.normal(size=count)
            sides = []
            for _ in range(2):
                rates, chosen, lost = tuned(rng, curvature, sigma, True)
                losses = lost + shared + np.sqrt(0.5) * sigma * rng.normal(size=count)
                tried = [({"lr": 2.0**x}, loss) for x, loss in rates.items()]
                sides.append(Contender(dict(enumerate(losses)), tried, {"lr": 2.0**chosen}))
            (test,) = look_once(sides[0], {"other": sides[1]}, 1).values()
            design = f"equal optimizers tuned on a grid, {scale}, {count} seeds"
            yield "verdict that covers the learning rate", design, "wrong", test.decision != "not separable"


def designs(rng: np.random.Generator) -> Iterator[tuple[str, str, str, bool]]:
    """Looks after each seed of 3..12."""
    design = Design(first=3, most=12, family=5)
    noise = [Contender(dict(enumerate(rng.normal(size=12)))) for _ in range(6)]
    taken = looks(design, noise[0], dict(zip("abcde", noise[1:], strict=True)))
    wrong = any(tests[-1].decision != "not separable" for tests in taken.values())
    yield "any verdict of a contest", "5 equal contestants, a look after each of 3..12 seeds", "wrong", wrong
    differences = np.array([noise[0].losses[key] - noise[1].losses[key] for key in range(12)])
    inside = all(
        abs(part.mean()) <= limit * part.std(ddof=1) / np.sqrt(n)
        for n, limit in limits(3, 12).items()
        for part in [differences[:n]]
    )
    yield "intervals of all looks together", "3..12 seeds, one contestant", "covers", inside


def one_contest_after_another(rng: np.random.Generator) -> Iterator[tuple[str, str, str, bool]]:
    """Five equal optimizers, each in a contest of its own in one store, over the same runs of the baseline."""
    noise = [Contender(dict(enumerate(rng.normal(size=8)))) for _ in range(6)]
    kept: list[Ledger] = []
    wrong = False
    for number, other in enumerate(noise[1:]):
        base = contest_of_one(f"contest-{number}")
        design = within_family(Design(first=3, most=8, family=1), base, kept)
        (tests,) = looks(design, noise[0], {"other": other}).values()
        last = [Look(design="3..8", contestant="other", pairs=t.pairs, t=t.t, limit=t.limit, level=t.level,
                     verdict=t.decision) for t in tests[-1:]]  # fmt: skip
        wrong |= tests[-1].decision != "not separable"
        kept.append(base.model_copy(update={"design": design, "looks": tuple(last)}))
    yield "any verdict of a store", "5 contests of one equal contestant each, 3..8 seeds", "family", wrong


def contest_of_one(name: str) -> Ledger:
    cell = Cell(
        model="27k", parameters_matrix=1, parameters=1, tokens=1, batch_tokens=1, steps=1, data="", fingerprint="",
        vocabulary=1, precision="",
    )  # fmt: skip
    return Ledger(name=name, command="", baseline="adamw", contestants=("adamw", "other"), cell=cell)


def wen_laws(rng: np.random.Generator) -> Iterator[tuple[str, str, str, bool]]:
    noise = Noise(W_SIGMA * np.sqrt(rng.chisquare(W_NOISE) / W_NOISE), W_NOISE)
    for ratios in ((1, 2, 4, 8), (1, 2, 4, 8, 16)):
        law = loss_law(ratios, [wen_loss(ratio) + W_SIGMA * rng.normal() for ratio in ratios], noise)
        design = f"one run at ratios {', '.join(map(str, ratios))}"
        yield from _law(law, design, {"B": 0.495}, {(3.0,): wen_loss(3), (16.0,): wen_loss(16)})
        for at, truth in ((1, 1.3), (4, 1.0), (8, 1.3), (8, 1.1)):
            found = law_speedup(law, wen_loss(truth * at) + W_SIGMA * rng.normal(), at, noise)
            yield "speedup by W's law", f"truth {truth} at {at}x, {design}", "covers", found.low <= truth <= found.high
            if truth == 1:
                yield "speedup by W's law off 1", f"equal, {design}", "wrong", found.low > 1 or found.high < 1


def demo_laws(rng: np.random.Generator) -> Iterator[tuple[str, str, str, bool]]:
    ratios = (0.5, 1.0, 2.0, 4.0)
    runs = [[demo_loss(ratio) + SEED_SIGMA * rng.normal() for _ in range(3)] for ratio in ratios]
    law = loss_law(ratios, runs)
    design = "3 seeds at 0.5, 1, 2, 4"
    yield from _law(law, design, {}, {(1.0,): demo_loss(1), (3.0,): demo_loss(3)})
    loss = float(np.mean([demo_loss(1.3) + SEED_SIGMA * rng.normal() for _ in range(3)]))
    found = law_speedup(law, loss, 1.0, runs=3)
    yield "speedup by a law of repeated runs", f"truth 1.3, {design}", "covers", found.low <= 1.3 <= found.high


def joint_laws(rng: np.random.Generator) -> Iterator[tuple[str, str, str, bool]]:
    sizes, ratios = (1.34e8, 3.02e8, 5.37e8, 1.208e9), (1, 2, 4, 8)
    points = [(n, 20.0 * n * ratio) for n in sizes for ratio in ratios]

    def truth(n: float, d: float) -> float:
        return float(23.2 * n**-0.161 + 294 * d**-0.284 + 1.768)

    law = joint_law(*zip(*points, strict=True), [truth(*p) + 0.004 * rng.normal() for p in points])
    at = {(n, d): truth(n, d) for n, d in ((5.37e8, 2e10), (1.208e9, 1.9e11), (7.2e9, 1.44e11))}
    yield from _law(law, "16 cells, sigma from residuals", {"A": 0.161, "B": 0.284}, at)


def hyperparameters(rng: np.random.Generator) -> Iterator[tuple[str, str, str, bool]]:
    points = [(n, 20.0 * n * ratio) for n in (1.34e8, 3.02e8, 5.37e8) for ratio in (1, 2, 4, 8)]
    values = [1e2 * n**-0.4 * d**-0.1 * np.exp(0.3 * rng.normal()) for n, d in points]
    law = hyperparameter_law(*zip(*points, strict=True), values)
    at = {(1.2e9, 2.4e10): 1e2 * 1.2e9**-0.4 * 2.4e10**-0.1}
    yield from _law(law, "12 values, 30 % scatter", {"A": 0.4, "B": 0.1}, at)


def trends(rng: np.random.Generator) -> Iterator[tuple[str, str, str, bool]]:
    sizes = {"a": 1.34e8, "b": 3.02e8, "c": 5.37e8, "d": 1.208e9}
    rows = []
    for size, parameters in sizes.items():
        shared = 0.03 * rng.normal()  # the baseline's law is one for the size
        for ratio in (1.0, 2.0, 4.0, 8.0):
            level = np.log(1.35) - 0.08 * np.log2(parameters / 1.34e8) + shared + 0.03 * rng.normal()
            rows.append({"model_size": size, "chinchilla_ratio": ratio, "speedup": float(np.exp(level))})
    found = size_trend(rows, sizes, (1.0, 2.0, 4.0, 8.0))
    yield "trend of a speedup with size", "4 sizes, 4 ratios", "covers", found.low <= np.exp(-0.08) <= found.high


def _law(
    law: Law, design: str, parameters: dict[str, float], at: dict[tuple[float, ...], float]
) -> Iterator[tuple[str, str, str, bool]]:
    kind = {1: "loss law", 2: "joint law"}[law.x.shape[1]] if not law.logarithmic else "hyperparameter law"
    for name, truth in parameters.items():
        low, high = law.intervals[name]
        yield f"{kind}: {name}", design, "covers", low <= truth <= high
    for x, truth in at.items():
        low, high = law.interval_at(*x)
        where = "inside" if law.covers(*x) else "beyond"
        yield f"{kind}: value at {', '.join(f'{v:.3g}' for v in x)}, {where}", design, "covers", low <= truth <= high


SIMULATIONS: tuple[Simulation, ...] = (
    seeds, verdicts, heavy_tails, rankings, contests, wen_laws, demo_laws, joint_laws, hyperparameters, trends,
    five_budgets, tuned_on_a_grid, designs, one_contest_after_another,
)  # fmt: skip


def simulate(simulation: Simulation, repetitions: int = REPETITIONS) -> list[Row]:
    """Shares over the repetitions, with a fixed seed for each simulation."""
    rng = np.random.default_rng([SIMULATIONS.index(simulation), 20_251_122])
    hits: dict[tuple[str, str, str], list[bool]] = {}
    for _ in range(repetitions):
        for name, design, kind, hit in simulation(rng):
            hits.setdefault((name, design, kind), []).append(bool(hit))
    return [Row(*key, float(np.mean(found)), len(found)) for key, found in hits.items()]


def main() -> None:
    """The table, in Markdown."""
    print("| what | design | aim | share | repetitions |\n|---|---|---|---|---|")
    for simulation in SIMULATIONS:
        for row in simulate(simulation):
            aim = {"covers": "covers 95 %", "wrong": "wrong at most 5 %", "family": "wrong at most 10 %"}[row.kind]
            print(f"| {row.name} | {row.design} | {aim} | {100 * row.share:.1f} % | {row.times:,} |")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
