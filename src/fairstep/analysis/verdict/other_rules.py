"""What other judges' rules say about the same runs. They stand beside our verdict and never change it.

**track3** (``track3_rule``). A result is read at the first evaluation at which all of its runs together pass 3.28. The
sigma, the threshold and the slope are the track's, of its own model and data.

**effective-speedup** (marin). With L = 1.6 + A C^-0.0941, the compute that the baseline needs for the contestant's mean
loss, over the contestant's: ((baseline's - 1.6) / (contestant's - 1.6))^(1/0.0941), times the baseline's length over
the contestant's. It has no interval. The constants are of marin's own data and tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from statistics import fmean
from typing import Any

from fairstep.analysis.statistics import AnalysisError
from fairstep.analysis.trials import Trials
from fairstep.analysis.verdict.track3_rule import track3_below, track3_counts, track3_of_means

FLOOR, EXPONENT = 1.6, 0.0941

Row = dict[str, Any]
Reading = tuple[float | None, tuple[float, ...]]
"""(step or None, losses)."""


def track3(trials: Trials, steps: Mapping[str, float], fixed: Collection[str] = ()) -> dict[str, Row]:
    """Contestant -> ``step, mean, runs, counts, p`` (of passing 3.28), ``ahead_p`` (one-sided, of being ahead of the
    baseline) and ``words``. ``steps``: run -> its last step, where steps are known. ``fixed``: contestants that are
    read at their ends.

    The track computes most of its p-values from means of 4 decimals, as it prints them: ``ahead_p_printed``.
    """
    read = {name: reading for name in trials.names if (reading := _reading(trials, name, steps, name in fixed))}
    base = read.get(trials.baseline)
    rows = {}
    for name, (step, losses) in read.items():
        mean, runs = fmean(losses), len(losses)
        row: Row = {"step": step, "mean": mean, "runs": runs, "counts": track3_counts(losses)}
        row |= {"p": track3_below(losses), "ahead_p": None, "ahead_p_printed": None}
        words = f"{mean:.4f} (n {runs})" + (f" at step {step:g}" if step is not None else "")
        words += ", passes 3.28" if row["counts"] else ", does not pass 3.28"
        if base is not None and name != trials.baseline:
            fewer = 0.0 if step is None or base[0] is None else base[0] - step
            other, count = fmean(base[1]), len(base[1])
            row["ahead_p"] = track3_of_means((mean, runs), (other, count), steps=fewer)
            row["ahead_p_printed"] = track3_of_means((round(mean, 4), runs), (round(other, 4), count), steps=fewer)
            exact, printed = _words(row["ahead_p"]), _words(row["ahead_p_printed"])
            words += f", ahead of {trials.baseline} with p {exact}"
            words += f" ({printed.removeprefix('= ')} by means of 4 decimals)" if exact != printed else ""
        rows[name] = row | {"words": words}
    return rows


def effective_speedup(trials: Trials, steps: Mapping[str, float], fixed: Collection[str] = ()) -> dict[str, Row]:
    """Contestant -> ``speedup`` and ``words``; losses at or below 1.6 have none."""
    means = {name: fmean(trials[name].losses.values()) for name in trials.names if trials[name].losses}
    base = means.get(trials.baseline)
    rows = {}
    for name, mean in means.items():
        ratio = None
        if base is not None and min(base, mean) > FLOOR:
            lengths = (trials.tokens or 1) / (trials.length(name) or 1)
            ratio = ((base - FLOOR) / (mean - FLOOR)) ** (1 / EXPONENT) * lengths
        words = "a loss of at most 1.6 has none" if ratio is None else f"{ratio:.2f}x"
        rows[name] = {"speedup": ratio, "words": words}
    return rows


RULES: dict[str, Callable[[Trials, Mapping[str, float], Collection[str]], dict[str, Row]]] = {
    "track3": track3,
    "effective-speedup": effective_speedup,
}


def other_rules(
    trials: Trials, names: Sequence[str], steps: Mapping[str, float], fixed: Collection[str] = ()
) -> dict[str, dict[str, Row]]:
    """Contestant -> rule -> what it says (see ``track3``). Raises AnalysisError for an unknown rule."""
    if unknown := [name for name in names if name not in RULES]:
        raise AnalysisError(f"no rule is named {unknown[0]!r}; the rules are {' and '.join(RULES)}")
    said = {name: RULES[name](trials, steps, fixed) for name in names}
    return {member: {name: rows[member] for name, rows in said.items() if member in rows} for member in trials.names}


def _reading(trials: Trials, name: str, steps: Mapping[str, float], fixed: bool) -> Reading | None:
    """The first evaluation at which all runs of a contestant pass together; its ends where none does or none is
    known."""
    done = [row for row in trials[name].finals if row["status"] == "done"]
    if not done:
        return None
    last = [steps.get(row["run"]) for row in done]
    ends = last[0] if None not in last and len(set(last)) == 1 else None
    curves = [dict(trials.curves.get(row["run"], ())) for row in done]
    for length in sorted(set.intersection(*map(set, curves))) if not fixed else ():
        losses = tuple(curve[length] for curve in curves)
        if track3_counts(losses):
            per_step = done[0]["tokens"] / ends if ends else 1.0
            return (length / per_step if ends else None), losses
    return ends, tuple(row["final_loss"] for row in done)


def _words(probability: float) -> str:
    return f"= {probability:.2g}" if probability >= 1e-4 else "< 0.0001"
