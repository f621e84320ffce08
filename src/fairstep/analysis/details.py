"""What stands beside a contest's verdict: other tests of the same pairs, the power of the design, the speedup by a law,
its sensitivity, memory, rank with ties, and curves that cross on the way. None of it changes a verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fairstep.analysis.crossings import Curve, crossings, mean_curve
from fairstep.analysis.laws import loss_law
from fairstep.analysis.paired import compare, deviation_interval
from fairstep.analysis.ranking import rank
from fairstep.analysis.speedup import BaselineCurve, shifted_speedup
from fairstep.analysis.statistics import AnalysisError
from fairstep.analysis.tokens import MILLINAT, law_speedup
from fairstep.analysis.verdict import Verdict, baseline_curve, final_losses

if TYPE_CHECKING:
    import polars as pl

    from fairstep.runs import Run

DETAILS = (
    *("sigma_low", "sigma_high", "bootstrap_low", "bootstrap_high", "t_probability", "sign_flip_probability"),
    *("smallest_effect", "more_seeds", "more_tokens", "speedup_per_millinat", "law_speedup", "law_speedup_low"),
    *("law_speedup_high", "time_speedup_low", "time_speedup_high", "memory_ratio", "rank_best", "rank_worst"),
)
"""Keys of ``details``, for every contestant; null where too little is known.

``sigma_*``: interval of the deviation over seeds; ``bootstrap_*``: bootstrap-t interval of the paired difference;
``smallest_effect``: true difference in nats that the seeds would show with 80 % probability; ``more_seeds``,
``more_tokens``: what it would take beyond them to settle the difference measured (both sides; null: more than 1,000
pairs); ``speedup_per_millinat``: relative change of the speedup when the contestant's loss falls by 0.001;
``law_speedup_*``: by a law of the baseline's budgets (W's definition) where there are at least four;
``time_speedup_*``: the speedup's interval in wall-clock, step times taken as known; ``memory_ratio``: optimizer state
over that of the baseline; ``rank_*``: range of the rank among all contestants, Holm-corrected.
"""


def details(trials: pl.DataFrame, found: Sequence[Verdict], baseline: str) -> dict[str, dict[str, Any]]:
    """Contestant -> ``DETAILS``."""
    rows = trials.to_dicts()
    losses = {verdict.name: final_losses(rows, verdict.name) for verdict in found}
    settled = {v.name: losses[v.name] for v in found if losses[v.name] and v.verdict not in ("diverged", "incomplete")}
    places = {place.name: place for place in rank(settled)} if len(settled) > 1 else {}
    base = next((verdict for verdict in found if verdict.name == baseline), None)
    curve = baseline_curve(trials, baseline)
    result = {}
    for verdict in found:
        known: dict[str, Any] = dict.fromkeys(DETAILS)
        if verdict.name in settled:
            spread = deviation_interval(list(settled[verdict.name].values()))
            known |= {"sigma_low": spread.low, "sigma_high": spread.high}
            if verdict.name in places:
                known |= {"rank_best": places[verdict.name].best, "rank_worst": places[verdict.name].worst}
        if base is not None and verdict.state_bytes and base.state_bytes:
            known["memory_ratio"] = verdict.state_bytes / base.state_bytes
        if base is not None and verdict.name != baseline and {verdict.name, baseline} <= settled.keys():
            known |= _compared(verdict, base, settled[baseline], settled[verdict.name], curve, rows)
        result[verdict.name] = {key: _plain(known[key]) for key in DETAILS}
    return result


def crossing_rows(trials: pl.DataFrame, runs: Mapping[str, Run]) -> list[dict[str, Any]]:
    """Changes of order between mean evaluation curves of final runs: ``tokens, ahead, then_ahead``."""
    curves = evaluation_curves(trials.to_dicts(), runs)
    means = {name: mean_curve(found) for name, found in curves.items()}
    return [asdict(crossing) for crossing in crossings(means)]


def evaluation_curves(rows: Iterable[dict[str, Any]], runs: Mapping[str, Run]) -> dict[str, list[Curve]]:
    """Contestant -> (tokens, loss) of the evaluations on the way of every finished final run."""
    found: dict[str, list[Curve]] = {}
    for row in rows:
        if row["phase"] == "final" and row["status"] == "done" and row["run"] in runs:
            metrics = runs[row["run"]].metrics()
            curve = [(m["tokens"], m["loss"]) for m in metrics if m.get("kind") == "evaluation"]
            found.setdefault(row["contestant"], []).append(curve)
    return found


def _compared(
    verdict: Verdict,
    base: Verdict,
    first: Mapping[Any, float],
    second: Mapping[Any, float],
    curve: BaselineCurve | None,
    rows: Iterable[dict[str, Any]],
) -> dict[str, Any]:
    try:
        found = compare(first, second)
    except AnalysisError:  # no shared seed
        return {}
    tokens = next(
        row["tokens"] for row in rows if row["contestant"] == base.name and row["phase"] == "final" and row["tokens"]
    )
    known = {key: value for key, value in found.row().items() if key in DETAILS}
    known["more_tokens"] = found.more_tokens(tokens)
    step_ratio = base.step_seconds / verdict.step_seconds if verdict.step_seconds else math.nan
    known["time_speedup_low"] = verdict.speedup_low * step_ratio
    known["time_speedup_high"] = verdict.speedup_high * step_ratio
    if curve is None or len(curve.tokens) == 1:
        return known
    if verdict.speedup_bound is None:
        moved = shifted_speedup(curve, found.difference.value + MILLINAT, tokens)
        known["speedup_per_millinat"] = moved / verdict.speedup - 1
    if len(curve.tokens) > 3:
        try:
            law = loss_law([budget / tokens for budget in curve.tokens], curve.runs)
        except AnalysisError:  # losses all equal
            return known
        fitted = law_speedup(law, sum(second.values()) / len(second), 1.0, runs=len(second))
        known |= {"law_speedup": fitted.value, "law_speedup_low": fitted.low, "law_speedup_high": fitted.high}
    return known


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
