"""What a search may leave out, and what that costs: regret and tokens of shorter searches beside the full grid.

    python benchmarks/thrift.py                      W's published sweeps and simulated contests
    python benchmarks/thrift.py --store runs/pocket  also early stopping on a store's curves, and its contests' tokens
    python benchmarks/thrift.py --curves curves.csv  also Track 3's curves (columns run, step, val_loss)

Regret is in nats per token: above the best of a sweep where it is published, above the optimum where simulated.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fairstep.analysis import hyperparameter_law
from fairstep.analysis.verdict.looks import Contender, looks
from fairstep.published import track3, wen
from fairstep.runs import Design, Store, Value
from fairstep.study.forecast.objectives import Synthetic
from fairstep.study.forecast.random_objectives import objectives
from fairstep.study.protocols import Grid, Protocol, Thrifty
from fairstep.study.protocols.search import Problem, Settled, Tuning, Wanted, solve
from fairstep.study.protocols.space import Axis, Space
from fairstep.study.protocols.wen_replay import Record, records

# W's published sweeps: 130M at 1x, 2x, 4x and 8x.

RATIOS = (1, 2, 4, 8)


def line(record: Record, name: str) -> dict[Value, float]:
    """Finite losses along one hyperparameter through the published centre."""
    found = {}
    for place, loss in record.losses.items():
        point = dict(place)
        if loss <= wen.DIVERGED and all(point[other] == record.centre[other] for other in point if other != name):
            found[point[name]] = loss
    return found


def lengths() -> Iterator[tuple[int, Record, Record]]:
    """(ratio, shorter, longer) of every pair of lengths of every optimizer."""
    by_place = {(one.optimizer, one.ratio): one for one in records() if one.model_size == "130m"}
    for name in dict.fromkeys(place[0] for place in by_place):
        for short, long in itertools.combinations(RATIOS, 2):
            yield long // short, by_place[name, short], by_place[name, long]


def mean_and_most(values: list[float]) -> str:
    return f"{np.mean(values):.4f} | {np.quantile(values, 0.9):.4f} | {max(values):.4f}"


def published() -> None:
    print("W, 130M, eleven optimizers: regret of what a shorter schedule chose, by ratio of the lengths")
    print("ratio | pairs | carried by | mean | 90 % | most")
    for ratio in RATIOS[1:]:
        pairs = [(short, long) for one, short, long in lengths() if one == ratio]
        for exponent in (0.0, -0.23, -0.32):
            lost = [rate_regret(*pair, ratio, exponent) for pair in pairs]
            print(f"{ratio} | {len(pairs)} | lr x ratio^{exponent:g} | {mean_and_most(lost)}")
        lost = [rate_regret(*pair, ratio, -0.32, beside=True) for pair in pairs]
        print(f"{ratio} | {len(pairs)} | the same, and its two neighbours | {mean_and_most(lost)}")
        lost = [others_regret(*pair) for pair in pairs]
        print(f"{ratio} | {len(pairs)} | all others as they are (sum) | {mean_and_most(lost)}")
    lost = list(warm_starts())
    print(f"a law over the other cells, {len(lost)} cells | {mean_and_most(lost)}")
    slopes = exponents()
    print(f"exponent of lr: {np.mean(slopes):.2f}, deviation {np.std(slopes, ddof=1):.2f}, {len(slopes)} optimizers")


def rate_regret(short: Record, long: Record, ratio: int, exponent: float, beside: bool = False) -> float:
    known, there = line(short, "learning_rate"), line(long, "learning_rate")
    wanted = float(min(known, key=known.__getitem__)) * ratio**exponent
    grid = [float(value) for value in long.space.axes["learning_rate"].values]
    at = min(grid, key=lambda value: abs(math.log(value / wanted)))
    reach = 2.1 if beside else 1.01
    return min(loss for rate, loss in there.items() if 1 / reach < float(rate) / at < reach) - min(there.values())


def others_regret(short: Record, long: Record) -> float:
    lost = 0.0
    for name in long.space.axes:
        known, there = line(short, name), line(long, name)
        best = min(known, key=known.__getitem__, default=None)
        if name != "learning_rate" and best in there:
            lost += there[best] - min(there.values())
    return lost


def warm_starts() -> Iterator[float]:
    """Regret of the learning rate that a law over an optimizer's other cells says, on the grid."""
    cells: dict[str, list[Record]] = defaultdict(list)
    for record in records():
        cells[record.optimizer].append(record)
    for mine in cells.values():
        for record in mine:
            others = [one for one in mine if one is not record]
            losses = [line(one, "learning_rate") for one in others]
            rates = [float(min(one, key=one.__getitem__)) for one in losses]
            sizes = {"130m": 130.0, "300m": 300.0, "520m": 520.0}
            law = hyperparameter_law([sizes[one.model_size] for one in others], [one.tokens for one in others], rates)
            wanted, there = law.at(sizes[record.model_size], record.tokens), line(record, "learning_rate")
            at = min(there, key=lambda rate: abs(math.log(float(rate) / wanted)))
            yield there[at] - min(there.values())


def exponents() -> list[float]:
    """Of the vertices of parabolas through the best learning rates, by optimizer."""
    places: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for record in records():
        if record.model_size == "130m":
            places[record.optimizer].append((math.log2(record.ratio), vertex(line(record, "learning_rate"))))
    lines = [np.array(points).T for points in places.values()]
    return [float(np.polyfit(ratios, rates, 1)[0]) for ratios, rates in lines]


def vertex(losses: Mapping[Value, float]) -> float:
    rates = sorted(losses, key=float)
    best = min(range(len(rates)), key=lambda place: losses[rates[place]])
    if not 0 < best < len(rates) - 1:
        return math.log2(float(rates[best]))
    near = rates[best - 1 : best + 2]
    bend, slope, _ = np.polyfit([math.log2(float(rate)) for rate in near], [losses[rate] for rate in near], 2)
    return float(-slope / (2 * bend))


# Simulated contests.

AXES = {
    "lr": (Axis((0.001, 0.002, 0.004, 0.008, 0.016), 2.0, "(0, inf)"), 0.004),
    "weight_decay": (Axis((0.05, 0.1, 0.2), 2.0, "[0, inf)"), 0.1),
    "beta2": (Axis((0.9, 0.95, 0.975), domain="[0, 1)"), 0.95),
    "beta1": (Axis((0.8, 0.9, 0.95), domain="[0, 1)"), 0.9),
}
SIZES = {"W": 300_000_000, "pocket": 27_000}
APART = {"W": 0.02, "pocket": 0.15}
"""Nats between two optimizers that differ."""
TOKENS, BATCH = 2**20, 2**11
WAYS: dict[str, tuple[Protocol, str]] = {
    "full grid, 8 seeds": (Grid(), "8"),
    "full grid, 3..8": (Grid(), "3..8"),
    "thrifty, 3..8": (Thrifty(), "3..8"),
    "thrifty, part 1/4": (Thrifty(part=0.25), "3..8"),
    "thrifty, part 1/8": (Thrifty(part=0.125), "3..8"),
    "thrifty, part 1/4, no rivals": (Thrifty(part=0.25, rivals=1), "3..8"),
}


@dataclass
class Side:
    """A contestant after its search: nats above its optimum, tokens over the cell's, and what it is judged by."""

    objective: Synthetic
    tuning: Tuning
    spent: float

    @property
    def regret(self) -> float:
        return self.objective.loss(self.tuning.best or {}) - self.objective.floor

    def contender(self, seeds: int, better: float) -> Contender:
        best = self.tuning.best or {}
        losses = {seed: self.objective.run(best, seed) - better for seed in range(1, seeds + 1)}
        shorter = self.tuning.shorter
        return Contender(losses, self.tuning.results(), best, shorter.results, shorter.doublings)


def searched(protocol: Protocol, problem: Problem, objective: Synthetic) -> Side:
    spent, settled = [0.0], []

    def answer(cell: str, wanted: Wanted) -> float:
        part = 1.0 if wanted.tokens is None else wanted.tokens / problem.tokens
        spent[0] += part
        return (objective if part == 1 else objective.at_length(part)).run(wanted.configuration, wanted.seed)

    def keep(cell: str, request: Settled) -> None:
        settled.append(request.tuning)

    solve(protocol.search({"": problem}), answer, keep)
    return Side(objective, settled[0], spent[0])


def simulated(games: int) -> None:
    print(f"\nSimulated contests of two ({games} of each kind), tokens over a run's at the cell's length")
    print(
        "cell | hyperparameters | grid | way | tokens of a search | regret | over the grid's | tokens of a contest, "
        "differing | equal | over the grid's, differing | wrong, equal | wrong, every choice covered (contests) | "
        "missed, differing"
    )
    for cell, number in itertools.product(SIZES, range(1, len(AXES) + 1)):
        names = list(AXES)[:number]
        space = Space({name: AXES[name][0] for name in names})
        problem = Problem(
            space, {n: AXES[n][1] for n in names}, parameters=SIZES[cell], tokens=TOKENS, batch_tokens=BATCH
        )
        pairs = [tuple(objectives({("", one): problem for one in "ab"}, game, games).values()) for game in range(games)]
        whole: list[float] = []
        first = 0.0
        played: dict[str, list[tuple[Side, ...]]] = {}
        for way, (protocol, seeds) in WAYS.items():
            if repr(protocol) not in played:
                found = [tuple(searched(protocol, problem, one) for one in pair) for pair in pairs]
                played[repr(protocol)] = found
            sides = played[repr(protocol)]
            lost = [float(np.mean([side.regret for side in pair])) for pair in sides]
            whole = whole or lost
            more = [one - other for one, other in zip(lost, whole, strict=True)]
            search = float(np.mean([side.spent for pair in sides for side in pair]))
            tokens, errors = zip(*(contests(sides, seeds, better) for better in (APART[cell], 0.0)), strict=True)
            covered = [
                wrong
                for wrong, pair in zip(errors[1], sides, strict=True)
                if all(whole_choice(side, names) for side in pair)
            ]
            first = first or tokens[0]
            print(
                f"{cell} | {number} | {space.size()} | {way} | {search:.1f} | {np.mean(lost):.4f} | "
                f"{np.mean(more):+.4f} ± {1.96 * np.std(more) / math.sqrt(games):.4f} | {tokens[0]:.1f} | "
                f"{tokens[1]:.1f} | {tokens[0] / first:.2f} | {np.mean(errors[1]):.2f} | "
                f"{np.mean(covered) if covered else math.nan:.2f} ({len(covered)}) | {np.mean(errors[0]):.2f}",
                flush=True,
            )


def whole_choice(side: Side, names: list[str]) -> bool:
    """Whether the interval has the choice of every hyperparameter in it."""
    return set(side.contender(1, 0.0).neighbours.covered) == set(names)


def contests(sides: list[tuple[Side, ...]], seeds: str, better: float) -> tuple[float, list[bool]]:
    """Mean tokens of a contest in which the second contestant is better by so many nats, and for each contest whether
    its verdict is wrong or missing."""
    design = Design.parse(seeds).model_copy(update={"family": 1})
    assert design.most is not None
    tokens, wrong = [], []
    for base, other in sides:
        last = looks(design, base.contender(design.most, 0.0), {"b": other.contender(design.most, better)})["b"][-1]
        tokens.append(base.spent + other.spent + 2 * last.pairs)
        wrong.append(last.decision != ("faster" if better else "not separable"))
    return float(np.mean(tokens)), wrong


# Early stopping, on curves.

FRACTIONS = (0.25, 0.5, 0.75)
ORDERS = 100


def stopping(store: Store) -> None:
    """Trials of one contestant and one length in their order: one whose loss at a fraction of its steps is above the
    median of the earlier ones at that fraction is stopped there."""
    print("\nStopped where a trial is above the median of its own contestant's earlier ones, full-length searches")
    print("contestant | trials | stopped at | tokens over all | regret")
    for name, curves in searches(store).items():
        for fraction in FRACTIONS:
            orders = [random.Random(order).sample(curves, len(curves)) for order in range(ORDERS)]
            spent, lost = np.mean([stopped_early(order, fraction) for order in orders], axis=0)
            print(f"{name} | {len(curves)} | {fraction:g} | {spent:.2f} | {lost:.4f}")


Curve = list[tuple[float, float]]
"""(part of the steps, loss), rising."""


def stopped_early(curves: list[Curve], fraction: float) -> tuple[float, float]:
    """Tokens over all curves' tokens, and the regret of the best that ends."""
    seen: list[float] = []
    spent, ended = 0.0, []
    for curve in curves:
        here = float(np.interp(fraction, *np.array(curve).T))
        stopped = len(seen) >= 3 and here > float(np.median(seen))
        seen.append(here)
        spent += fraction if stopped else 1.0
        if not stopped:
            ended.append(curve[-1][1])
    return spent / len(curves), min(ended) - min(curve[-1][1] for curve in curves)


def searches(store: Store) -> dict[str, list[Curve]]:
    """Contestant -> curves of its search at the cell's length."""
    found: dict[str, dict[str, Curve]] = defaultdict(dict)
    for ledger in store.ledgers():
        for trial in ledger.trials:
            if trial.phase == "tune" and trial.status == "done" and trial.run not in found[trial.contestant]:
                run = store.run(trial.run)
                rows = [row for row in run.metrics() if row["kind"] == "evaluation"]
                steps = run.own_spec.steps
                found[trial.contestant][trial.run] = [(row["step"] / steps, row["loss"]) for row in rows]
    return {name: list(mine.values()) for name, mine in found.items()}


def repeats(curves: Path) -> None:
    """Track 3: what the loss on the way says of the final one, between runs of one configuration."""
    ways: dict[str, list[tuple[int, float]]] = defaultdict(list)
    with curves.open() as file:
        for row in csv.DictReader(file):
            ways[row["run"]].append((int(row["step"]), float(row["val_loss"])))
    groups: dict[tuple[str, int], list[str]] = defaultdict(list)
    for row in track3.runs().iter_rows(named=True):
        if row["group"] and row["last_step"] == row["planned_steps"] and row["log"] in ways:
            groups[row["group"], row["last_step"]].append(row["log"])
    print("\nTrack 3: correlation of the loss on the way with the final one, runs of one configuration")
    for fraction in FRACTIONS:
        x, y = [], []
        for (_, last), runs in groups.items():
            if len(runs) >= track3.LEAST:
                early = [float(np.interp(fraction * last, *np.array(sorted(ways[run])).T)) for run in runs]
                final = [sorted(ways[run])[-1][1] for run in runs]
                x += list(np.array(early) - np.mean(early))
                y += list(np.array(final) - np.mean(final))
        print(f"{fraction:g} of the steps: {np.corrcoef(x, y)[0, 1]:.2f} ({len(x)} runs)")


# Contests of a store.


def carried_out(store: Store) -> None:
    print("\nContests of the store")
    print("ledger | contestant | search trials | tokens of search and finals | chosen | final loss (seeds)")
    for ledger in store.ledgers():
        for name, proof in ledger.certificates.items():
            loss = "none" if proof.loss is None else f"{proof.loss:.4f}"
            chosen = ", ".join(f"{key} {value}" for key, value in proof.configuration.items())
            print(f"{ledger.name} | {name} | {proof.trials} | {proof.tokens:,} | {chosen} | {loss} ({proof.fresh})")
        verdicts = {look.contestant: look for look in ledger.looks}
        for name, look in verdicts.items():
            print(f"{ledger.name} | {name}: {look.verdict} with {look.pairs} pairs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", type=int, default=60, help="simulated contests of each kind; 0: none")
    parser.add_argument("--store", type=Path, help="of contests that were run")
    parser.add_argument("--curves", type=Path, help="Track 3's curves")
    options = parser.parse_args()
    published()
    if options.curves:
        repeats(options.curves)
    if options.store:
        stopping(Store(options.store))
        carried_out(Store(options.store))
    if options.games:
        simulated(options.games)


if __name__ == "__main__":
    main()
