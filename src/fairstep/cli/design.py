"""``fairstep design``: how many paired seeds a difference needs, before anything is spent."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairstep.analysis import Trials, count_text, pooled_deviation, seconds_text
from fairstep.analysis.statistics import paired_values
from fairstep.analysis.verdict.power import power, seeds_for
from fairstep.analysis.verdict.sequential import limits
from fairstep.cli.shared import screen
from fairstep.cli.shared.options import parse, token_count
from fairstep.published import track3
from fairstep.runs import Design, Store

LARGEST = 60
"""Seeds of the largest design that is tried."""


@dataclass(frozen=True)
class DesignOptions:
    """How many paired seeds find a true difference of final losses, with a look after each, and what they cost.

    The noise is known from --sigma, from the final runs of a store, or from published repeats. The choice of learning
    rates is not part of it; `compare --refine` keeps it small.

    Example: fairstep design --effect 0.003 --sigma 0.0011 --contestants 3
    Example: fairstep design --effect 0.05 --store runs/demo --seeds 4..12
    """

    effect: float
    """True difference of final losses that is to be found, in nats per token."""
    sigma: str = ""
    """Standard deviation of one run's final loss over seeds, in nats per token; or track3, the repeats of
    modded-nanogpt's optimization track (124M parameters)."""
    correlation: float = 0.5
    """Correlation of two runs on one seed; 0 where seeds are not shared. A store has its own."""
    store: Path | None = None
    """Take noise, tokens and seconds of a run from the final runs of this store."""
    seeds: str = ""
    """The design, such as 3..8. Default: from 3 to the smallest number that reaches the power."""
    contestants: int = 1
    """Contestants beside the baseline, which share the error probability."""
    alpha: float = 0.05
    """Error probability of the contest. Less where the store asked about the baseline before."""
    power: float = 0.8
    """Probability of finding the difference."""
    tokens: str = ""
    """Tokens of a run, such as 2.5B."""
    seconds: float = 0.0
    """Seconds of a run."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class Noise:
    """``deviation`` of one paired difference in nats, where it is from, and a run's tokens and seconds (0: unknown)."""

    deviation: float
    source: str
    tokens: int = 0
    seconds: float = 0.0


def main(arguments: list[str]) -> int:
    options = parse(DesignOptions, "design", arguments)
    _check(options)
    noise = noise_of(options)
    tokens = token_count(options.tokens) if options.tokens else noise.tokens
    seconds = options.seconds or noise.seconds
    effect, alpha = abs(options.effect) / noise.deviation, options.alpha / options.contestants
    design = Design.parse(options.seeds) if options.seeds else smallest(options, effect, alpha)
    if design.most is None:
        raise ValueError(f"--seeds {options.seeds} has no end, so it finds any difference at last; give one, as 3..12")
    limit, chance = limits(design.first, design.most, alpha), power(effect, design.first, design.most, alpha)
    runs, most_runs = (seeds * (options.contestants + 1) for seeds in (chance.mean_seeds, design.most))
    looks = [
        {
            "seeds": n,
            "limit": limit[n],
            "smallest_effect": limit[n] * noise.deviation / math.sqrt(n),
            "found_by_then": chance.by_seeds[n],
        }
        for n in limit
    ]
    result: dict[str, Any] = {
        "effect": options.effect,
        "deviation": noise.deviation,
        "deviation_source": noise.source,
        "seeds": str(design),
        "contestants": options.contestants,
        "alpha": alpha,
        "power": chance.probability,
        "mean_seeds": chance.mean_seeds,
        "runs": runs,
        "most_runs": most_runs,
        "tokens": runs * tokens or None,
        "most_tokens": most_runs * tokens or None,
        "seconds": runs * seconds or None,
        "most_seconds": most_runs * seconds or None,
        "looks": looks,
    }
    print(json.dumps(result)) if options.json else say(result)
    return 0


def say(result: dict[str, Any]) -> None:
    """The design in two sentences and a table of its looks."""
    screen.out(
        f"Seeds {result['seeds']} find a true difference of {result['effect']:g} nats with a probability of "
        f"{100 * result['power']:.0f} %, on average at {result['mean_seeds']:.1f} seeds."
    )
    least, most = (f"{result[key]:.0f} runs" for key in ("runs", "most_runs"))
    for key, text in (("tokens", count_text), ("seconds", seconds_text)):
        if result[key]:
            what = " tokens" if key == "tokens" else " of training"
            least, most = f"{least}, {text(result[key])}{what}", f"{most}, {text(result['most_' + key])}{what}"
    screen.out(f"Final runs: {least} on average; {most} at most. Tuning comes before them.")
    screen.out(f"Deviation of a paired difference: {result['deviation']:.4g} nats ({result['deviation_source']}).\n")
    rows = [
        [
            str(look["seeds"]),
            f"{look['limit']:.2f}",
            f"{look['smallest_effect']:.4f}",
            f"{100 * look['found_by_then']:.0f} %",
        ]
        for look in result["looks"]
    ]
    shared = (
        f", at {100 * result['alpha']:.2g} % for each of {result['contestants']}" if result["contestants"] > 1 else ""
    )
    screen.print_table(
        f"Looks{shared}", ["seeds", "|t| needed", "difference that decides (nats)", "found by then"], rows
    )


def smallest(options: DesignOptions, effect: float, alpha: float) -> Design:
    """The shortest design from 3 seeds with the power. Raises ValueError where none is short enough."""
    most = seeds_for(effect, 3, alpha, options.power, LARGEST)
    if most is None:
        reached = power(effect, 3, LARGEST, alpha).probability
        raise ValueError(
            f"{LARGEST} seeds find {options.effect:g} nats with a probability of {100 * reached:.0f} %, and "
            f"{100 * options.power:.0f} % were asked for; longer runs or a larger --effect need fewer"
        )
    return Design(first=3, most=most)


def noise_of(options: DesignOptions) -> Noise:
    """Raises ValueError where no noise is given, or more than one."""
    if bool(options.sigma) == bool(options.store):
        raise ValueError("give the noise once: --sigma 0.0011, --sigma track3, or --store FOLDER with final runs")
    if options.store is not None:
        return store_noise(Store(options.store))
    pair = math.sqrt(2 * (1 - options.correlation))
    said = f"two runs with a correlation of {options.correlation:g}"
    if options.sigma == "track3":
        groups = track3.repeats()
        sigma, degrees = pooled_deviation(groups.values())
        source = (
            f"{len(groups)} groups of repeats of modded-nanogpt's optimization track, sigma {sigma:.4f}, {degrees} "
        )
        return Noise(pair * sigma, f"{source}degrees of freedom; {said}")
    try:
        sigma = float(options.sigma)
    except ValueError:
        sigma = math.nan
    if not 0 < sigma < math.inf:
        raise ValueError(f"--sigma must be a positive number of nats such as 0.0011, or track3, not {options.sigma!r}")
    return Noise(pair * sigma, f"stated sigma {sigma:g}; {said}")


def store_noise(store: Store) -> Noise:
    """From the paired final runs of every contest of a store. Raises ValueError where there are none."""
    if not store.path.is_dir():
        raise ValueError(f"there is no store {store.path}")
    differences: list[list[float]] = []
    rows: list[dict[str, Any]] = []
    runs = store.runs()
    for ledger in store.ledgers():
        trials = Trials.read(ledger, runs)
        base = trials[trials.baseline]
        for name in trials.names:
            if name != base.name:
                differences.append(paired_values(base.losses, trials[name].losses))
            rows += [row for row in trials[name].finals if row["status"] == "done"]
    deviation, degrees = pooled_deviation(differences)
    if not degrees or not deviation > 0:
        raise ValueError(f"{store.path} has no two final runs of a contestant that share seeds with a baseline")
    source = f"{sum(len(group) > 1 for group in differences)} contestants of {store.path}, {degrees} degrees of freedom"
    return Noise(
        deviation, source, round(_median(row["tokens"] for row in rows)), _median(r["train_seconds"] for r in rows)
    )


def _median(values: Iterable[float | None]) -> float:
    return statistics.median([value for value in values if value is not None] or [0])


def _check(options: DesignOptions) -> None:
    """Raises ValueError."""
    for name, right, words in (
        ("effect", 0 < abs(options.effect) < math.inf, "a difference in nats other than 0"),
        ("correlation", -1 < options.correlation < 1, "between -1 and 1"),
        ("power", 0.05 < options.power < 0.999, "between 0.05 and 0.999"),
        ("contestants", options.contestants >= 1, "at least 1"),
        ("alpha", 1e-6 <= options.alpha <= 0.5, "between 0.000001 and 0.5"),
        ("seconds", 0 <= options.seconds < 1e15, "at least 0 and below 1e15"),
    ):
        if not right:
            raise ValueError(f"--{name} must be {words}, not {getattr(options, name)}")
    if options.seeds and Design.parse(options.seeds).first < 2:
        raise ValueError(f"--seeds must begin with at least 2, not {options.seeds}")
