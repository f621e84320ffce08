"""Numbers and verdicts as words. The terminal and the page both print these, so they cannot disagree."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

DASH = "–"

COLUMNS: dict[str, str] = {
    "name": "contestant",
    "loss": "final loss",
    "speedup": "speedup in tokens",
    "verdict": "verdict",
    "time": "at equal time",
    "step": "step time",
    "optimizer": "optimizer",
    "state": "memory",
    "trials": "trials",
    "tokens": "tokens",
    "lr": "lr",
}
"""The verdict table: key of a row -> heading."""


def known_columns(result: Mapping[str, Any]) -> dict[str, str]:
    """``COLUMNS`` in which something is known of a contestant, with the unit of the contest's lengths."""
    rows = verdict_rows(result)
    heads = COLUMNS | {"speedup": f"speedup in {result.get('unit') or 'tokens'}"}
    return {
        key: head for key, head in heads.items() if key in ("name", "verdict") or any(row[key] != DASH for row in rows)
    }


def verdict_rows(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """The contestants of ``contest_result`` as strings, keyed by ``COLUMNS`` and ``reason``."""
    return [
        {
            "name": row["name"],
            "loss": loss_text(row),
            "speedup": speedup_text(row),
            "verdict": row["verdict"],
            "time": time_text(row),
            "step": seconds_text(row["step_seconds"]),
            "optimizer": seconds_text(row["optimizer_seconds"]),
            "state": bytes_text(row["state_bytes"]),
            "trials": str(row["trials"]),
            "tokens": count_text(row["tokens_spent"]),
            "lr": DASH if row["lr"] is None else f"{row['lr']:.3g}",
            "reason": row["reason"],
        }
        for row in result["contestants"]
    ]


def headline(result: Mapping[str, Any]) -> str:
    """The contest in one sentence."""
    baseline = result["baseline"]
    groups: dict[str, list[str]] = {}
    own = next((row for row in result["contestants"] if row["name"] == baseline), None)
    if own is not None and own["verdict"] == "diverged":
        return f"{baseline} diverged {_where(own)}: nothing can be compared"
    for row in result["contestants"]:
        text = row["name"]
        if row["verdict"] in ("faster", "slower") and row["speedup"] is not None:
            text += f" ({ratio_text(row['speedup'], row['speedup_bound'])})"
        groups.setdefault(row["verdict"], []).append(text)
    diverged: dict[str, list[str]] = {}
    for row in result["contestants"]:
        if row["verdict"] == "diverged":
            diverged.setdefault(_where(row), []).append(row["name"])
    parts = []
    for verdict in ("faster", "slower", "not separable"):
        if names := groups.get(verdict):
            link = "from" if verdict == "not separable" else "than"
            parts.append(f"{listing(names)} {are(names)} {verdict} {link} {baseline}")
    parts += [f"{listing(names)} diverged {where}" for where, names in diverged.items()]
    if names := groups.get("incomplete"):
        parts.append(f"{listing(names)} {are(names)} not finished")
    return "; ".join(parts) or f"{baseline} alone: nothing to compare it with"


def _where(row: Mapping[str, Any]) -> str:
    """On how many seeds a contestant diverged."""
    runs, lost = len(row["final_losses"]), sum(loss is None for loss in row["final_losses"])
    return f"on {lost} of {plural(runs, 'seed')}" if runs else "in every trial of its search"


def loss_text(row: Mapping[str, Any]) -> str:
    """``2.632 ± 0.012`` (half of the interval's width), in nats per token."""
    if row["loss"] is None:
        return DASH
    if row["loss_low"] is None:
        return f"{row['loss']:.3f}"
    half = (row["loss_high"] - row["loss_low"]) / 2
    digits = 3 if half >= 0.0015 else 4
    return f"{row['loss']:.{digits}f} ± {half:.{digits}f}"


def speedup_text(row: Mapping[str, Any]) -> str:
    """``1.48x [1.31, 1.66]``; what lies beyond the budgets trained is marked, as in ``≥ 2.00x [1.81, ≥ 2.00]``."""
    value, low, high = row["speedup"], row["speedup_low"], row["speedup_high"]
    if value is None:
        return DASH
    if low is None or high is None or row["verdict"] == "baseline":
        return ratio_text(value, row["speedup_bound"])
    # An end close to 1 must show on which side of 1 it lies.
    digits = 3 if any(0 < abs(end - 1) < 0.005 for end in (low, high)) else 2
    smallest, largest = row["speedup_limits"]
    ends = [("≤ " if end <= smallest else "≥ " if end >= largest else "") + f"{end:.{digits}f}" for end in (low, high)]
    return f"{ratio_text(value, row['speedup_bound'], digits)} [{ends[0]}, {ends[1]}]"


def time_text(row: Mapping[str, Any]) -> str:
    """``1.21x faster``: the speedup in seconds and its word, which has an interval of its own."""
    if row["time_speedup"] is None or not row["time_verdict"]:
        return DASH
    return f"{ratio_text(row['time_speedup'], row['speedup_bound'])} {row['time_verdict']}"


def ratio_text(ratio: float, bound: str | None, digits: int = 2) -> str:
    return {"at least": "≥ ", "at most": "≤ ", None: ""}[bound] + f"{ratio:.{digits}f}x"


def gap_text(value: float, low: float, high: float, baseline: str, seeds: int | str) -> str:
    """``0.171 nats below adamw (95 % interval 0.140 to 0.202, 3 paired seeds)`` of baseline - contestant.

    Differences that three decimals would flatten have four.
    """
    side = "below" if value >= 0 else "above"
    if value < 0:
        value, low, high = -value, -high, -low
    digits = 4 if high - low < 0.01 else 3
    what = plural(seeds, "paired seed") if isinstance(seeds, int) else seeds
    gap = f"{value:.{digits}f} nats {side} {baseline}"
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"{gap} (no interval yet, {what})"
    return f"{gap} (95 % interval {low:.{digits}f} to {high:.{digits}f}, {what})"


def limit_text(t: float, limit: float) -> str:
    """|t| beside what it had to exceed, with as many decimals as tell them apart, at most 3."""
    if not math.isfinite(limit):
        return f"|t| {t:.1f}, too few seeds to decide"
    places = next((n for n in (1, 2) if f"{t:.{n}f}" != f"{limit:.{n}f}"), 3)
    return f"|t| {t:.{places}f}, needed {limit:.{places}f}"


def runs_text(difference: float, counts: Sequence[int], sigma: float, baseline: str) -> str:
    """Why runs of these ``counts`` (baseline, contestant) give no interval, and how many would."""
    one = listing([side for side, count in zip((baseline, "it"), counts, strict=True) if count < 2] or ["either side"])
    verb = "have" if " and " in one else "has"
    text = f"{one} {verb} one run alone, which says nothing about how far runs vary"
    if min(counts) > 1:
        text = "all runs of each side have one loss, up to rounding, so nothing says how far they vary"
    side = "below" if difference >= 0 else "above"
    gap = f"a difference as large as this one ({abs(difference):.4f} nats {side} {baseline})"
    if not difference:
        return f"{text}; three or more runs of each would give an interval"
    if sigma > 0:
        # Two sides of n runs, two-sided 5 %, power 80 %: (1.96 + 0.84)^2 = 7.85; one more for the unknown deviation.
        runs = max(math.ceil(2 * 7.85 * (sigma / difference) ** 2) + 1, 3)
        return f"{text}; {gap} needs about {runs} runs of each if all vary as the others here do ({sigma:.4f} nats)"
    # Three runs of each: |t| of 2.776 at 4 degrees of freedom.
    most = abs(difference) / (2.776 * math.sqrt(2 / 3))
    return f"{text}; 3 runs of each would decide {gap} if they vary by less than {most:.4f} nats"


def count_text(count: float | None) -> str:
    """A count with the units k, M, B, T: 1.05M."""
    return DASH if count is None else _scaled(count, ("", "k", "M", "B", "T"))


def bytes_text(count: float | None) -> str:
    """Powers of 1000, as disks and papers count: 1.7 MB."""
    return DASH if count is None else _scaled(count, (" B", " kB", " MB", " GB", " TB"))


def seconds_text(seconds: float | None) -> str:
    """``850 µs``, ``12.3 ms``, ``4.1 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds is None:
        return DASH
    if seconds < 60:
        scale, unit = (1e6, "µs") if seconds < 0.9995e-3 else (1e3, "ms") if seconds < 0.9995 else (1.0, "s")
        return f"{seconds * scale:.3g} {unit}"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def claims_text(verdicts: Sequence[str]) -> str:
    """``13 hold, 2 fail, 37 are inconclusive``."""
    forms = {"holds": ("holds", "hold"), "fails": ("fails", "fail"), "inconclusive": ("is", "are")}
    parts = []
    for verdict, (one, several) in forms.items():
        count = verdicts.count(verdict)
        parts.append(f"{count} {one if count == 1 else several}{' inconclusive' if verdict == 'inconclusive' else ''}")
    return ", ".join(parts)


def listing(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _scaled(number: float, units: Sequence[str]) -> str:
    """Three digits in powers of 1000; what would be rounded to 1000 is 1 of the next unit."""
    power = 0
    while power < len(units) - 1 and abs(number) >= 999.5:
        number, power = number / 1000, power + 1
    return (f"{number:.0f}" if power == 0 or abs(number) >= 100 else f"{number:.3g}") + units[power]
