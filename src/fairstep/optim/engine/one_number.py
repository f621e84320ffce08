"""One learning rate that a scheduler or a loop sets for all param groups, where the optimizer's roles have several.

To its user an optimizer has one learning rate, and embedding, head and vectors have it times a ratio. To a scheduler of
torch they are param groups, and one ``max_lr`` is the peak of each. OneCycleLR and SWALR keep that number in the
groups, where each group gets its ratio back before the next step. What others set is not known beforehand, and what
was set cannot be told from what was meant; so a warning says it once.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_ONE_CYCLE = ("max_lr", "min_lr", "initial_lr")


def keep_ratios(groups: Sequence[dict[str, Any]], ratios: Sequence[float]) -> None:
    """Multiply by its ratio what OneCycleLR or SWALR wrote alike into every group; once, because it differs then."""
    if all(name in groups[0] for name in _ONE_CYCLE) and _equal(groups, "max_lr"):
        _scale(groups, ratios, (*_ONE_CYCLE, *(["lr"] if _equal(groups, "lr") else [])))
    if "swa_lr" in groups[0] and _equal(groups, "swa_lr"):
        _scale(groups, ratios, ["swa_lr"])


def warn_of_one_rate(groups: Sequence[Mapping[str, Any]], ratios: Sequence[float]) -> bool:
    """Warn if all groups have one learning rate above 0; says whether they had any, so that it is asked no more."""
    rate = float(groups[0]["lr"])
    if rate and _equal(groups, "lr"):
        built = ", ".join(dict.fromkeys(f"{group['peak_lr']:.3g} ({group['rule']})" for group in groups))
        keep = "set each group's lr to its peak_lr times a fraction, and give schedulers one number per group"
        if not any(group["peak_lr"] for group in groups):
            rules = [group["rule"] for group in groups]
            times = [f"{ratio:.3g} ({rule})" for ratio, rule in zip(ratios, rules, strict=True)]
            built = f"0 and the ratios {', '.join(dict.fromkeys(times))}"
            keep = "build the optimizer with its peak learning rate, or give each group one of its own"
        warnings.warn(
            f"every param group has learning rate {rate:.3g} now, and was built with {built}. To keep the ratios, "
            f"{keep}; if one learning rate is meant for all, build the optimizer with a ratio of 1",
            stacklevel=4,
        )
    return any(float(group["lr"]) for group in groups)


def _equal(groups: Iterable[Mapping[str, Any]], key: str) -> bool:
    return len({float(group.get(key, float("nan"))) for group in groups}) == 1


def _scale(groups: Sequence[dict[str, Any]], ratios: Sequence[float], keys: Iterable[str]) -> None:
    for key in keys:
        for group, ratio in zip(groups, ratios, strict=True):
            group[key] = float(group[key]) * ratio
