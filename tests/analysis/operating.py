"""How verdicts, looks, designs and speedups do in the hands of people: simulated contests with a known truth.

``python -m tests.analysis.operating`` prints the second table of docs/results/coverage.md (about four minutes on one
core). Everything goes through the code that judges contests. sd is the deviation of one paired difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from tests.analysis.coverage import SEED_SIGMA, T, demo_loss
from tests.analysis.test_looks import wrongly_decided
from tests.analysis.test_regret import tuned

from fairstep.analysis import BaselineCurve, paired_difference, token_speedup
from fairstep.analysis.verdict.looks import Contender, look_once, looks
from fairstep.analysis.verdict.power import power
from fairstep.analysis.verdict.sequential import limits
from fairstep.runs import Design

Rows = Iterator[tuple[str, str, str]]
"""What, the aim, what was measured."""


def percent(shares: list[float]) -> str:
    return ", ".join(f"{100 * share:.1f}" for share in shares) + " %"


def different(
    curvature: float, sigma: float, seeds: int, refined: bool, effect: float = 0.0, times: int = 1500
) -> float:
    """Share of pairs, each side tuned on its own noisy grid, that are called different."""
    rng, called = np.random.default_rng(1), 0
    for _ in range(times):
        shared = math.sqrt(0.5) * sigma * rng.normal(size=seeds)
        sides = []
        for shift in (0.0, effect):
            rates, chosen, lost = tuned(rng, curvature, sigma, refined)
            losses = lost - shift + shared + math.sqrt(0.5) * sigma * rng.normal(size=seeds)
            tried = [({"lr": 2.0**x}, loss) for x, loss in rates.items()]
            sides.append(Contender(dict(enumerate(losses)), tried, {"lr": 2.0**chosen}))
        called += look_once(sides[0], {"b": sides[1]}, 1)["b"].decision != "not separable"
    return called / times


def learning_rates() -> Rows:
    for scale, curvature, sigma in (("124M, sigma 0.0011", 0.0115, 0.0011), ("pocket, sigma 0.03", 0.08, 0.03)):
        for refined in (False, True):
            how = "with --refine" if refined else "three rates a factor of 2 apart"
            shares = [different(curvature, sigma, seeds, refined) for seeds in (3, 8)]
            yield f"equal optimizers called different, {scale}, {how}; 3, 8 seeds", "at most 6 %", percent(shares)
    found = different(0.0115, 0.0011, 3, True, effect=0.006)
    yield "a true 0.006 nats found, 124M, 3 seeds, with --refine", "at least 90 %", percent([found])


def families() -> Rows:
    share, _ = wrongly_decided(Design(first=3, most=12, family=5), 5, 0.0, 6000)
    yield (
        "any of 5 equal contestants called different, a look after each of 3..12 seeds",
        "at most 5.5 %",
        percent([share]),
    )
    share, seeds = wrongly_decided(Design(first=3, most=12, family=3), 3, 3 * math.sqrt(2), 2000)
    yield "mean seeds to a verdict at a true 3 sd, 3..12 seeds, 3 contestants", "at most 6", f"{seeds:.2f}"


def all_looks() -> Rows:
    rng, times = np.random.default_rng(2), 100_000
    differences = rng.normal(size=(times, 12))
    inside = np.ones(times, dtype=bool)
    for n, limit in limits(3, 12).items():
        part = differences[:, :n]
        inside &= np.abs(part.mean(1)) <= limit * part.std(1, ddof=1) / math.sqrt(n)
    yield "intervals of all looks of 3..12 cover together", "94.5 to 95.5 %", percent([inside.mean()])


def designs() -> Rows:
    """Contests judged look by look against what ``fairstep design`` promises."""
    rng, times = np.random.default_rng(3), 1500
    for effect, most in ((0.8, 12), (1.5, 8), (3.0, 5)):
        design = Design(first=3, most=most, family=1)
        found = 0
        for _ in range(times):
            base = rng.normal(size=most)
            better = Contender(dict(enumerate(base - effect - rng.normal(size=most))))
            (tests,) = looks(design, Contender(dict(enumerate(base))), {"b": better}).values()
            found += tests[-1].decision == "faster"
        promised = 100 * power(effect, 3, most).probability
        yield (
            f"power of 3..{most} at {effect:g} sd, reached and promised",
            "within 3 points",
            f"{100 * found / times:.1f} %, {promised:.1f} %",
        )


Noise = Callable[[np.random.Generator, int], np.ndarray]
NOISES: dict[str, tuple[Noise, Noise]] = {
    "equal noise": (lambda r, n: r.normal(size=n), lambda r, n: r.normal(size=n)),
    "baseline twice as noisy": (lambda r, n: 2 * r.normal(size=n), lambda r, n: r.normal(size=n)),
    "contestant twice as noisy": (lambda r, n: r.normal(size=n), lambda r, n: 2 * r.normal(size=n)),
    "t noise of 3 degrees": (lambda r, n: r.standard_t(3, n) / 1.73, lambda r, n: r.standard_t(3, n) / 1.73),
}
BUDGETS = ((0.5, 2.0), (0.5, 0.7, 1.4, 2.0))


def speedups() -> Rows:
    """Seeds 4 to 8 at the contest's budget, two at each other one."""
    for name, (own, other) in NOISES.items():
        shares = []
        for budgets in BUDGETS:
            rng, times, inside = np.random.default_rng(4), 3000, 0
            for _ in range(times):
                truth, seeds = rng.choice([1.0, 1.1, 1.3]), int(rng.integers(4, 9))
                base = demo_loss(1.0) + SEED_SIGMA * own(rng, seeds)
                better = demo_loss(truth) + SEED_SIGMA * other(rng, seeds)
                difference = paired_difference(dict(enumerate(base)), dict(enumerate(better)))
                trained = {round(r * T): (demo_loss(r) + SEED_SIGMA * own(rng, 2)).tolist() for r in budgets}
                curve = BaselineCurve.of({T: base.tolist()} | trained)
                found = token_speedup(curve, difference, T, better.tolist())
                inside += found.low <= truth <= found.high
            shares.append(inside / times)
        yield f"speedup interval, {name}; budgets 0.5 and 2, and four", "94 to 98 %", percent(shares)


def main() -> None:
    """The table, in Markdown."""
    print("| what | aim | measured |\n|---|---|---|")
    for rows in (learning_rates, families, all_looks, designs, speedups):
        for row in rows():
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
