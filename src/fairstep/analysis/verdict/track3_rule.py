"""The rule of modded-nanogpt's optimization track, to stand beside our verdict on the same final losses.

KellerJordan/modded-nanogpt, records/track_3_optimization, state of 2026-08-01: a one-sided z-test whose deviation over
seeds is taken as known. Its numbers are ``SIGMA``, ``THRESHOLD``, ``MARGIN`` and ``SLOPE``; ``MARGIN`` / ``SIGMA`` is
3.08 standard errors, p = 0.001. Nothing here estimates a deviation, so one run a side already gives a p-value, and runs
that are noisier than ``SIGMA`` are not noticed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from fairstep.analysis.statistics import AnalysisError

SIGMA = 0.0013
"""Nats per token: the deviation of a final loss over seeds that the track takes as known."""

THRESHOLD = 3.28
"""Nats per token: a result is the number of steps to this loss."""

MARGIN = 0.004
"""Nats per token: what (a difference of means) / sqrt(its sum of 1/n) must reach for the track to accept it."""

SLOPE = 0.0045
"""Nats per token that 100 steps are worth near the threshold, by the track's own measurement."""

ROUNDING = 1e-9
"""Nats: what binary arithmetic takes from a decimal that lies on ``MARGIN``, such as (3.28 - 3.278) sqrt(4)."""


def track3(a: Iterable[float], b: Iterable[float], steps: float = 0.0) -> float:
    """One-sided p-value that ``a`` is no better than ``b``, from the final losses of two results in nats per token.

    ``steps``: how many steps fewer ``a`` took than ``b``, each worth ``SLOPE`` / 100 nats in favour of ``a``. Raises
    AnalysisError for an empty side or a loss that is not finite.
    """
    a, b = _losses(a), _losses(b)
    return track3_of_means((float(a.mean()), a.size), (float(b.mean()), b.size), steps)


def track3_of_means(a: tuple[float, int], b: tuple[float, int], steps: float = 0.0) -> float:
    """``track3`` of two (mean loss, number of runs), as a table prints them.

    The track's own notes have p-values of both kinds: of means rounded to four decimals, and of logs.
    """
    return _upper_tail(_pair(a, b, steps) / SIGMA)


def track3_accepts(a: Iterable[float], b: Iterable[float], steps: float = 0.0) -> bool:
    """Whether the pairwise rule calls ``a`` better than ``b``: the corrected difference reaches ``MARGIN``."""
    a, b = _losses(a), _losses(b)
    return _pair((float(a.mean()), a.size), (float(b.mean()), b.size), steps) >= MARGIN - ROUNDING


def track3_below(losses: Iterable[float]) -> float:
    """One-sided p-value that the mean loss is not below ``THRESHOLD``. Raises AnalysisError as ``track3`` does."""
    return _upper_tail(_passed(losses) / SIGMA)


def track3_counts(losses: Iterable[float]) -> bool:
    """Whether the track counts a result: (THRESHOLD - mean) sqrt(n) reaches ``MARGIN``."""
    return _passed(losses) >= MARGIN - ROUNDING


def _passed(losses: Iterable[float]) -> float:
    """(THRESHOLD - mean) sqrt(n)."""
    array = _losses(losses)
    return (THRESHOLD - float(array.mean())) * math.sqrt(array.size)


def _pair(a: tuple[float, int], b: tuple[float, int], steps: float) -> float:
    """(mean of b - mean of a + what the steps are worth) / sqrt(1/na + 1/nb), in nats."""
    (mean_a, runs_a), (mean_b, runs_b) = a, b
    return (mean_b - mean_a + SLOPE * steps / 100) / math.sqrt(1 / runs_a + 1 / runs_b)


def _losses(values: Iterable[float]) -> np.ndarray:
    array = np.asarray(list(values), dtype=float)
    if array.size == 0:
        raise AnalysisError("the rule of track 3 needs at least one final loss on each side, and there is none")
    if not np.isfinite(array).all():
        raise AnalysisError(f"the rule of track 3 needs finite losses, not {array[~np.isfinite(array)][0]}")
    return array


def _upper_tail(z: float) -> float:
    return math.erfc(z / math.sqrt(2)) / 2
