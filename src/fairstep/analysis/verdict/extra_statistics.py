"""What stands beside a contest's verdict and never changes it.

Other tests of the same pairs, the power of the design, the speedup by a law, its sensitivity, memory, the rank with
ties, and curves that cross on the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from fairstep.analysis.statistics import AnalysisError, plain
from fairstep.analysis.trials import Trials
from fairstep.analysis.verdict.crossings import crossings, mean_curve
from fairstep.analysis.verdict.judge import Verdict
from fairstep.analysis.verdict.law_speedup import MILLINAT, law_speedup
from fairstep.analysis.verdict.paired import compare, deviation_interval
from fairstep.analysis.verdict.ranking import Losses, rank, separations
from fairstep.analysis.verdict.speedup import shifted_speedup

EXTRA = (
    *("sigma_low", "sigma_high", "bootstrap_low", "bootstrap_high", "t_probability", "sign_flip_probability"),
    *("speedup_per_millinat", "law_speedup", "law_speedup_low", "law_speedup_high"),
    *("memory_ratio", "rank_best", "rank_worst"),
)
"""Keys of ``extra_statistics``, for every contestant; null where too little is known.

``sigma_*``: interval of the deviation over seeds; ``bootstrap_*``: bootstrap-t interval of the paired difference;
``speedup_per_millinat``: relative change of the speedup when the contestant's loss falls by 0.001;
``law_speedup_*``: by a law of the baseline's budgets (W's definition) where there are at least four;
``memory_ratio``: optimizer state
over the baseline's; ``rank_*``: range of the rank among all contestants, Holm-corrected.
"""


def extra_statistics(trials: Trials, judged: Sequence[Verdict]) -> dict[str, dict[str, Any]]:
    """Contestant -> ``EXTRA``."""
    settled, decided = _settled(trials, judged), _decided(judged)
    places = {p.name: p for p in rank(settled, trials.baseline, decided)} if len(settled) > 1 else {}
    base = next((verdict for verdict in judged if verdict.name == trials.baseline), None)
    result = {}
    for verdict in judged:
        row: dict[str, Any] = dict.fromkeys(EXTRA)
        if verdict.name in settled:
            spread = deviation_interval(list(settled[verdict.name].values()))
            row |= {"sigma_low": spread.low, "sigma_high": spread.high}
            if verdict.name in places:
                row |= {"rank_best": places[verdict.name].best, "rank_worst": places[verdict.name].worst}
        if base is not None and verdict.state_bytes and base.state_bytes:
            row["memory_ratio"] = verdict.state_bytes / base.state_bytes
        if base is not None and verdict.name != base.name and {verdict.name, base.name} <= settled.keys():
            row |= _compared(trials, verdict, base)
        result[verdict.name] = {key: plain(row[key]) for key in EXTRA}
    return result


def separable(trials: Trials, judged: Sequence[Verdict]) -> set[tuple[str, str]]:
    """The pairs (lower, higher) of contestants whose final losses are separated, as in the ranks."""
    return separations(_settled(trials, judged), trials.baseline, _decided(judged))


def crossing_rows(trials: Trials) -> list[dict[str, Any]]:
    """Changes of order between mean evaluation curves of finished final runs: ``tokens, ahead, then_ahead``."""
    means = {
        name: mean_curve([curve.points for curve in curves if curve.status == "done"])
        for name, curves in trials.evaluations.items()
    }
    return [asdict(crossing) for crossing in crossings(means)]


def _settled(trials: Trials, judged: Sequence[Verdict]) -> Losses:
    """The final losses of contestants that have some, and none that diverged."""
    losses: Losses = {v.name: trials[v.name].losses for v in judged if v.verdict not in ("diverged", "incomplete")}
    return {name: runs for name, runs in losses.items() if runs}


def _decided(judged: Sequence[Verdict]) -> list[str]:
    return [verdict.name for verdict in judged if verdict.verdict in ("faster", "slower")]


def _compared(trials: Trials, verdict: Verdict, base: Verdict) -> dict[str, Any]:
    losses, curve, tokens = trials[verdict.name].losses, trials.curve, trials.tokens
    try:
        comparison = compare(trials[base.name].losses, losses)
    except AnalysisError:  # no shared seed
        return {}
    if curve is None or tokens is None:
        return {}
    row = {key: value for key, value in comparison.row().items() if key in EXTRA}
    if len(curve.tokens) > 1 and verdict.speedup_bound is None:
        moved = shifted_speedup(curve, comparison.difference.value + MILLINAT, tokens)
        row["speedup_per_millinat"] = moved / verdict.speedup - 1
    if trials.law is not None:
        by_law = law_speedup(trials.law, sum(losses.values()) / len(losses), 1.0, runs=len(losses))
        row |= {"law_speedup": by_law.value, "law_speedup_low": by_law.low, "law_speedup_high": by_law.high}
    return row
