"""Whether a lower loss transfers to other texts: the further validation sets of final runs, paired over seeds.

Differences are relative. Bits per byte are a text's loss times a constant of text and tokenizer, so that a relative
difference of losses is one of bits per byte. A text can tell contestants apart as far as they differ on it by more than
one run does over seeds: the ratio of the two is its signal over noise (after Heineman et al. 2025, with seeds
in place of checkpoints).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from fairstep.analysis.statistics import AnalysisError, Estimate, paired_difference, pooled_deviation
from fairstep.analysis.trials import Trials

OWN = "own text"
Seeds = tuple[int, int]
Transfer = Literal["transfers", "reversed", "cannot be separated", "nothing to transfer"]


@dataclass(frozen=True)
class HeldOut:
    """A contestant's bits per byte over the baseline's, less 1, on a text: below 0 it is better. ``low`` and ``high``:
    95 % t-interval of the pairs, nan for fewer than two."""

    text: str
    name: str
    change: float
    low: float
    high: float
    transfer: Transfer


def held_out(trials: Trials, decided: Collection[str]) -> tuple[list[HeldOut], dict[str, float]]:
    """Every contestant on its own text and on each further one, and the signal over noise by text. Both are empty where
    no final run has a further text. ``decided``: the contestants that a verdict separates from the baseline."""
    losses = _losses(trials)
    if len(losses) < 2:
        return [], {}
    rows = []
    for name in trials.names:
        changes = {text: difference(of.get(trials.baseline, {}), of.get(name, {})) for text, of in losses.items()}
        for text, change in changes.items():
            if change is not None and name != trials.baseline:
                kind = transfer_of(changes[OWN], change) if name in decided else "nothing to transfer"
                low, high = (change.low, change.high) if change.has_interval else (math.nan, math.nan)
                rows.append(HeldOut(text, name, math.expm1(change.value), math.expm1(low), math.expm1(high), kind))
    return rows, {text: signal_over_noise(of) for text, of in losses.items()}


def _losses(trials: Trials) -> dict[str, dict[str, dict[Seeds, float]]]:
    """Text -> contestant -> seeds -> logarithm of the loss, of final runs that are done."""
    found: dict[str, dict[str, dict[Seeds, float]]] = {}
    for name in trials.names:
        for row in trials[name].finals:
            if row["status"] != "done":
                continue
            for text, loss in {OWN: row["final_loss"], **trials.further.get(row["run"], {})}.items():
                if loss:
                    seeds = (row["init_seed"], row["data_seed"])
                    found.setdefault(text, {}).setdefault(name, {})[seeds] = math.log(loss)
    return found


def difference(base: Mapping[Seeds, float], mine: Mapping[Seeds, float]) -> Estimate | None:
    """Mine minus the baseline's, paired; None where they share no seed."""
    try:
        return paired_difference(mine, base)
    except AnalysisError:  # no shared seed
        return None


def transfer_of(own: Estimate | None, other: Estimate, rises: bool = False) -> Transfer:
    """What a difference says beside the one in loss on the own text, which a verdict has decided. ``rises``: the other
    is of scores that rise with quality."""
    if own is None or not other.has_interval or other.low <= 0 <= other.high:
        return "cannot be separated"
    return "transfers" if (own.value < 0) == ((other.value < 0) != rises) else "reversed"


def signal_over_noise(values: Mapping[str, Mapping[Seeds, float]]) -> float:
    """The deviation of the contestants' means over the deviation of one run over seeds; nan where either is not
    known."""
    sigma, degrees = pooled_deviation([list(runs.values()) for runs in values.values()])
    means = [statistics.fmean(runs.values()) for runs in values.values()]
    return statistics.stdev(means) / sigma if len(means) > 1 and degrees and sigma else math.nan
