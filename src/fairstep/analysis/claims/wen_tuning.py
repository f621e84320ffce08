"""Claims of W (arXiv 2509.02046) about tuning: weak baselines, blind transfer, sensitivity, and laws for it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from fairstep.analysis.claims.claim import (
    ACCEPT,
    Finding,
    Part,
    best,
    claim,
    every,
    inside,
    mostly,
    printed,
    sign,
    swept,
)
from fairstep.analysis.claims.evidence import Evidence, gap
from fairstep.analysis.claims.settings_on_stores import common_rate
from fairstep.published import wen


@claim(
    "W1",
    "Tuning the learning rate of the GPT-3 recipe for AdamW alone is worth about 2x in steps or more.",
    "130M, batch 128 x 4096",
    "introduction; finding 1",
    lambda evidence: common_rate(evidence, wen.facts()["gpt3_recipe_130m"][0]["lr"]),
    "the same optimizer at a common and at a tuned learning rate, at two budgets",
)
def weak_baseline(evidence: Evidence) -> Finding:
    slow, fast = wen.facts()["gpt3_recipe_130m"][:2]
    ratio, left = slow["step"] / fast["step"], slow["loss"] - fast["loss"]
    part = Part(
        "yes" if left > 0 and ratio >= 1.9 else "no" if left < 0 else "open",
        f"lr {slow['lr']:g} is still {left:.3f} nats above after {ratio:.2f} times the steps of lr {fast['lr']:g}",
    )
    return every([part], "The slow run ends there, so the ratio is a lower bound.")


@claim(
    "W2a",
    "The best hyperparameters of one optimizer are not the best of another, so copying them is unfair.",
    "all searched cells",
    "abstract; finding 2",
)
def blind_transfer(evidence: Evidence) -> Finding:
    """Using another optimizer's best value costs more than the noise, wherever both swept the same hyperparameter."""
    parts = []
    for cell in evidence.cells:
        for (name, hyper), table in cell.sweeps.items():
            base = cell.sweeps.get(("adamw", hyper), {})
            if name == "adamw" or not base or hyper not in ("weight_decay", "learning_rate", "lr"):
                continue
            own, copied = best(table), best(base)
            if own != copied and copied in table:
                cost = gap(table[own], table[copied])
                text = f"{name} with AdamW's {hyper} {copied:g} for its {own:g} loses {cost} at {cell.label}"
                parts.append((cost.value, Part(sign(cost), text)))
    worst_first = [part for _, part in sorted(parts, key=lambda pair: -pair[0])]
    share = mostly(worst_first, "transfers that change a value cost more than the noise")
    lacking = "sweeps of one hyperparameter for AdamW and for another optimizer in one cell"
    return every(share, "".join(f"The largest loss: {part.text}." for part in worst_first[:1]), lacking)


def _decays(evidence: Evidence) -> Iterator[Part]:
    """Lion's best weight decay is larger than AdamW's, and each loses by the other's."""
    for cell in evidence.cells:
        tables = [cell.sweeps.get((name, "weight_decay"), {}) for name in ("adamw", "lion")]
        if not all(tables):
            continue
        adamw, lion = map(best, tables)
        if lion > adamw:
            yield swept(cell, "adamw", "weight_decay", adamw, lion)
            yield swept(cell, "lion", "weight_decay", lion, adamw)
        else:
            text = f"lowest at {adamw:g} for AdamW and at {lion:g} for Lion at {cell.label}"
            yield Part("open", text) if lion == adamw else swept(cell, "lion", "weight_decay", adamw, lion)


@claim(
    "W2b",
    "At 130M 4x AdamW wants weight decay 0.1 and Lion 0.6.",
    "130M, 4x",
    "finding 2",
    _decays,
    "sweeps of weight decay for AdamW and Lion in one cell",
)
def decay_matters(evidence: Evidence) -> Finding:
    cell, tables = evidence.cell("130m@4x"), wen.facts()["weight_decay_130m_4x"]
    error = cell.losses["adamw"].error * math.sqrt(2)
    parts = []
    for name, own, others in (("adamw", "0.1", ("0.0", "0.2")), ("lion", "0.6", ("0.0", "0.1"))):
        for other in others:
            value = tables[name][other] - tables[name][own]
            parts.append(printed(f"{name}: weight decay {own} below {other}", value, error))
    return every(parts)


def _one_step(evidence: Evidence) -> list[Part]:
    """Of two tuned contestants that are separated, the lower one is above the other with the next learning rate of its
    own sweep, somewhere. One part: that it happens at all. The first clear case stands for it; without one the claim
    stays open, since other pairs may have it. Clear is a difference of twice its interval's half, because many cases
    are looked at. A divergence is no place in a ranking."""
    cases = 0
    for cell in evidence.cells:
        for ahead, behind in itertools.permutations(cell.ranked(), 2):
            rates, before = cell.sweeps.get((ahead, "lr"), {}), cell.gap(ahead, behind)
            if len(rates) < 2 or before is None or before.low <= 0:
                continue
            order, place = sorted(rates), sorted(rates).index(best(rates))
            for rate in order[max(place - 1, 0) : place] + order[place + 1 : place + 2]:
                cases += 1
                after = gap(cell.losses[behind], rates[rate])
                if not rates[rate].diverged and 2 * after.low > after.value:
                    text = (
                        f"{ahead} is below {behind} by {before}, and at lr {rate:g} above it by {after} at {cell.label}"
                    )
                    return [Part("yes", text)]
    return (
        [Part("open", f"none of {cases} next learning rates puts a contestant clearly behind one it is ahead of")]
        if cases
        else []
    )


@claim(
    "W6",
    "One step of the learning rate can change the ranking.",
    "520M, 8x, SOAP against MARS",
    "finding 6",
    _one_step,
    "a sweep of the learning rate of a contestant that is ahead of another",
)
def sensitive_ranking(evidence: Evidence) -> Finding:
    cell = evidence.cell("520m@8x")
    losses, error = wen.facts()["soap_lr_520m_8x"], cell.losses["soap"].error * math.sqrt(2)
    before, after = (losses["mars"]["0.004"] - losses["soap"][lr] for lr in ("0.004", "0.008"))
    parts = [
        printed("SOAP at lr 0.004 below MARS", before, error),
        printed("SOAP at lr 0.008 above MARS", -after, error),
    ]
    return every(parts)


@claim(
    "W13",
    "Hyperparameters extrapolated to 1.2B by a law are within 0.003 nats of a full search.",
    "AdamW, 1.2B, 1x",
    "phase III",
    needs="a law's choice and a full search at a larger size",
)
def law_transfer(evidence: Evidence) -> Finding:
    """The configuration chosen by law is within W's threshold of the best of the full star at 1.2B 1x.

    The star's centre is where the search ended, and not the law's choice. The star differs from its centre in one
    value at a time, so the law's values are looked up one by one.
    """
    cell = evidence.cell("1.2b@1x")
    record = next(c for c in wen.cell_records() if (c["optimizer"], c["model_size"]) == ("adamw", "1.2b"))
    chosen, centre = wen.facts()["run_at_1.2b"]["adamw"], record["centres"][0]["hyperparameters"]
    parts = []
    for name in (name for name in chosen if chosen[name] != centre.get(name)):
        lost = gap(cell.losses["adamw"], cell.sweeps["adamw", name][float(chosen[name])])
        text = lost.said(f"the law's {name} {chosen[name]:g} alone is above the best found")
        parts.append(Part(inside(lost.low, lost.high, -math.inf, ACCEPT), text))
    both = Part("missing", f"the loss of the law's {len(parts)} changed values together at 1.2b 1x")
    muon = wen.results().filter(optimizer="muon", model_size="1.2b", chinchilla_ratio=1).row(0, named=True)
    cost = muon["loss_snapshot_2025_05"] - muon["loss"]
    return every([*parts, both], f"Muon's learning rate by law at 1.2b 1x lost {cost:.4f} to twice the rate.")


@claim(
    "W14",
    "Few hyperparameters depend on scale: most have one value that is near-optimal in all six regimes.",
    "phase I, tolerance 0.005",
    "phase II",
    needs="all near-optimal configurations of several regimes",
)
def few_sensitive(evidence: Evidence) -> Finding:
    """Rederive which hyperparameters have no value shared by all near-optimal sets of the six phase I regimes."""
    published = wen.facts()["sensitive_hyperparameters"]["repository_2025_05"]
    parts, same = [], 0
    for name, listed in published.items():
        ours, searched = sensitive_hyperparameters(name)
        same += set(ours) == set(listed)
        text = f"{name}: {len(ours)} of {len(searched)} ({', '.join(sorted(ours)) or 'none'})"
        parts.append(Part("yes" if len(ours) < len(searched) / 2 else "no", text))
    return every(parts, f"Derived here; {same} of {len(published)} lists equal W's records.")


def sensitive_hyperparameters(optimizer: str) -> tuple[list[str], list[str]]:
    """Those without a value that occurs in the near-optimal set of every phase I regime (W section 3, phase II), and
    all that take more than one value in the grids."""
    cells = [c for c in wen.cell_records() if c["optimizer"] == optimizer and c["phase"] == "I"]
    searched = [name for name in cells[0]["grid"] if any(len(c["grid"].get(name, ())) > 1 for c in cells)]
    return wen.sensitive([wen.near_optimal(cell) for cell in cells]), searched
