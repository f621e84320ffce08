"""Claims of S (arXiv 2509.01440) about settings: schedules, decay, warm-up, learning rates, betas, cost and effort."""

from __future__ import annotations

from collections.abc import Iterator

from fairstep.analysis.claims.claim import (
    NOT_PRINTED,
    SEED,
    Finding,
    Part,
    State,
    below,
    best,
    claim,
    every,
    inside,
    printed,
    swept,
)
from fairstep.analysis.claims.evidence import Evidence, gap
from fairstep.analysis.claims.semenov_rankings import EQUAL, series_of_lengths
from fairstep.analysis.claims.settings_on_stores import betas_by_length, final_rates, setups, warmups
from fairstep.analysis.claims.settings_on_stores import schedules as schedules_on_stores
from fairstep.published import semenov


@claim(
    "F7",
    "Weight decay 0.5 beats 0.1 in short runs, 0.1 wins in long ones, and no decay is worse.",
    "124M, 256x512",
    "Figs 7, 23; takeaway 3",
)
def weight_decay(evidence: Evidence) -> Finding:
    if evidence.from_store:
        parts = [
            swept(cell, name, hyper, max(table), 0.0)
            for cell in evidence.cells
            for (name, hyper), table in cell.sweeps.items()
            if hyper == "weight_decay" and 0.0 in table
        ]
        return every(parts, "No decay against the largest tried.", "sweeps of weight decay with 0")
    cell = evidence.cell("weight_decay_curve_ends")
    parts = [swept(cell, "adamw", "weight_decay", 0.1, 0.5), swept(cell, "adamw", "weight_decay", 0.1, 0.0)]
    return every([*parts, Part("missing", "losses of the shorter runs")], SEED)


def _kept_rates(evidence: Evidence) -> Iterator[Part]:
    """The best learning rate of the shortest runs with a sweep, among the longest. The next larger one takes the place
    of 2e-3."""
    swept_at = [
        (name, [cell for cell in cells if (name, "lr") in cell.sweeps])
        for cells in series_of_lengths(evidence)
        for name in dict.fromkeys(name for cell in cells for name, hyper in cell.sweeps if hyper == "lr")
    ]
    for name, own in swept_at:
        first, last = own[0], own[-1]
        rate, table = best(first.sweeps[name, "lr"]), last.sweeps[name, "lr"]
        larger = min((other for other in table if other > rate), default=None)
        smaller = max((other for other in table if other < rate), default=None)
        if first.tokens == last.tokens or rate not in table:
            continue
        if name == "mars":
            losses = sorted((loss for loss in table.values() if not loss.diverged), key=lambda loss: loss.value)
            most = gap(losses[0], losses[-1])
            yield Part(inside(most.low, most.high, -EQUAL, EQUAL), f"MARS varies by {most} at {last.label}")
        elif name in ("sophia", "signum", "lion") and larger is not None:
            state: State = "yes" if table[larger].diverged else "no"
            yield Part(state, f"{name} diverges at lr {larger:g} at {last.label}")
        elif name in ("sf-adamw", "soap", "d-muon") and larger is not None:
            yield swept(last, name, "lr", larger, rate)
        else:
            yield from (swept(last, name, "lr", rate, other) for other in (smaller, larger) if other is not None)


@claim(
    "F10",
    "The learning rate tuned on 2.1B tokens is right for 16.8B, but that SF-AdamW, SOAP and D-Muon gain a little from "
    "2e-3, where Sophia, Signum and Lion diverge; MARS is flat.",
    "124M, 256x512, learning rates 1e-4 to 2e-3",
    "Fig. 9; takeaway 4",
    _kept_rates,
    "sweeps of one optimizer's learning rate at two lengths",
)
def learning_rate(evidence: Evidence) -> Finding:
    cell, parts = evidence.cell("124m_lr_sweep"), []
    for (name, _), table in cell.sweeps.items():
        if name in ("sophia", "signum", "lion"):
            parts.append(Part("yes" if table[2e-3].diverged else "no", f"{name} diverges at 2e-3"))
        elif name in ("sf-adamw", "soap", "d-muon"):
            parts.append(swept(cell, name, "lr", 2e-3, 1e-3))
        elif name == "mars":
            most = gap(*sorted(table.values(), key=lambda loss: loss.value)[:: len(table) - 1])
            parts.append(Part(inside(most.low, most.high, -EQUAL, EQUAL), f"MARS varies by {most} from 1e-4 to 2e-3"))
        else:
            parts += [swept(cell, name, "lr", 1e-3, other) for other in (5e-4, 2e-3)]
    return every(parts, SEED)


@claim(
    "F11",
    "2,000 steps of warm-up suit most; Signum, SF-AdamW, Sophia and Lion want 8,000 or more, where Lion passes AdamW.",
    "124M, 256x512, 16.8B tokens, warm-up 2k, 8k, 32k",
    "Figs 10, 22; takeaway 5",
    warmups,
    "a sweep of warm-up steps",
)
def warmup(evidence: Evidence) -> Finding:
    cell = evidence.cell("124m_b256_128k")
    longer = ("signum", "sf-adamw", "sophia", "lion")
    parts = []
    for name in cell.losses:
        table = cell.sweeps.get((name, "warmup_steps"), {})
        if name in longer:
            own = best({steps: table[steps] for steps in (8000.0, 32000.0)})
            parts.append(swept(cell, name, "warmup_steps", own, 2000.0))
        else:
            parts.append(swept(cell, name, "warmup_steps", 2000.0, 8000.0))
    parts += [below(evidence.cell(f"124m_warmup_{steps}k"), "lion", "adamw") for steps in (8, 32)]
    return every(parts, SEED)


@claim(
    "F12",
    "Cosine is the best schedule for most; linear is level or better for Signum, Lion, SOAP, MARS; WSD suits Muon.",
    "124M, 256x512",
    "Figs 11, 26; takeaway 6",
    schedules_on_stores,
    "one contest under several schedules",
)
def schedules(evidence: Evidence) -> Finding:
    values = {kind: min(table.values()) for kind, table in _final_lr().items()}
    parts = [
        printed(f"AdamW at 210M: cosine below {kind}", values[kind] - values["cosine"], 0.0014)
        for kind in ("linear", "wsd")
    ]
    return every([*parts, Part("missing", f"other optimizers: {NOT_PRINTED}")], SEED)


@claim(
    "F14",
    "The learning rate should end well below 10 % of its peak.",
    "AdamW, 210M (and 124M), cosine, linear, WSD",
    "Figs 15, 30; takeaway 8",
    final_rates,
    "one optimizer with several final learning rates",
)
def final_rate(evidence: Evidence) -> Finding:
    parts = [
        printed(f"{kind}: ending at 1 % below ending at 10 %", table[0.1] - table[0.01], 0.0014)
        for kind, table in _final_lr().items()
    ]
    return every(parts, SEED)


@claim(
    "F16",
    "z-loss, tiny weight decay and decay to 10 % together cost loss and turn the order of AdamW and SOAP round.",
    "583M, 2M-token batch",
    "Fig. 16; takeaway 9",
    setups,
    "AdamW and SOAP under two setups",
)
def codebase_setup(evidence: Evidence) -> Finding:
    rows = semenov.records().filter(id="583m_zloss").iter_rows(named=True)
    losses = {("common" in row["varied"], row["optimizer"]): row["value"] for row in rows}
    own, other = ([losses[setup, name] for name in ("adamw", "soap")] for setup in (False, True))
    cost = printed("the other setup costs, whichever bar is whose, at least", min(other) - max(own), 0.001)
    reversal = Part(
        "missing",
        f"which of {own[0]}, {own[1]} and of {other[0]}, {other[1]} is AdamW's: the numbers were assigned to bars by "
        "the reversal that the text states, so they cannot confirm it (circular)",
    )
    return every([cost, reversal], SEED)


@claim(
    "F18",
    "A step takes about as long for all but SOAP, whose ratio to AdamW grows from 1.2 to 1.8 with size.",
    "one GPU, 16x512, 30M to 1B",
    "Figs 18, 43, 44; takeaway 11",
    needs="times of a step without other load at several sizes (`benchmarks/` measures them)",
)
def wall_clock(evidence: Evidence) -> Finding:
    seconds = semenov.step_seconds()
    sizes = sorted(seconds)
    parts = []
    for name, size, least, most in (
        ("soap", sizes[0], 1.1, 1.3),
        ("soap", sizes[-2], 1.6, 2.0),
        ("soap", sizes[-1], 1.6, 2.0),
        *((other, size, 0.85, 1.15) for other in ("ademamix", "muon") for size in sizes),
    ):
        (value, width), (base, error) = seconds[size][name], seconds[size]["adamw"]
        ratio, low, high = value / base, (value - width) / (base + error), (value + width) / (base - error)
        state = "yes" if least <= ratio <= most else inside(low, high, least, most)
        parts.append(Part(state, f"{name} {ratio:.2f} [{low:.2f}, {high:.2f}] times AdamW at {size / 1e6:g}M"))
    parts.append(Part("missing", "times of the other optimizers: they were not read off"))
    return every(parts, "About as long: within 15 %.")


@claim(
    "F20",
    "beta2 should grow with the length of training: 0.999 at 124M, and less at 720M with fewer, larger steps.",
    "AdamW, SOAP, AdEMAMix at 124M; SOAP, D-Muon, Prodigy at 720M",
    "Sec. 4.1, D.1, E.4; takeaway 14",
    betas_by_length,
    "sweeps of beta2 at two lengths",
)
def beta2(evidence: Evidence) -> Finding:
    tuned = {(e["optimizer"], e["scale"]): e["betas"][1] for e in semenov.configuration_list() if e["betas"]}
    parts = [
        Part(
            "yes" if tuned[n, "720m"] < tuned[n, "124m"] else "no",
            f"{n}: {tuned[n, '124m']} at 124M, {tuned[n, '720m']} at 720M",
        )
        for n in ("soap", "d-muon", "prodigy")
    ]
    note = "Values chosen in the run scripts; a choice says what S believed, not what it measured."
    return every([*parts, Part("missing", "losses with other values of beta2")], note)


@claim(
    "F28",
    "About 2,900 models were trained, 750 of them with AdamW.",
    "",
    "Appendix B",
    needs="a ledger of S; your own effort is in `fairstep report`",
)
def effort(evidence: Evidence) -> Finding:
    counts = semenov.facts()["models_trained"]
    total, stated = sum(counts.values()), semenov.facts()["models_trained_stated"]
    least = min((name for name in counts if not name.startswith("mars-")), key=lambda name: counts[name])
    ratio = counts["adamw"] / counts[least]
    part = Part("yes" if abs(total / stated - 1) < 0.05 else "no", f"the counts add up to {total}")
    own = "The counts and their sum are both S's: the addition is checked, not the runs."
    return every([part], f"{own} Effort was not equal: AdamW had {ratio:.1f} times the models of {least}.")


def _final_lr() -> dict[str, dict[float, float]]:
    """Schedule -> final fraction -> loss of AdamW at 210M."""
    losses: dict[str, dict[float, float]] = {}
    record = next(record for record in semenov.record_list() if record["id"] == "210m_final_lr")
    for _, value, _, _, varied in record["values"]:
        losses.setdefault(varied["schedule"], {})[varied["final_fraction"]] = value
    return losses
