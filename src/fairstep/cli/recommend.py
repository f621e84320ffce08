"""``fairstep recommend``: which optimizer for a workload, with which hyperparameters, and how sure that is."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from fairstep import optim
from fairstep.analysis import bytes_text, count_text
from fairstep.analysis.verdict.wording import DASH
from fairstep.cli.shared import screen
from fairstep.cli.shared.options import at_least, budget_of, parse, token_count
from fairstep.cli.shared.sizes import SizeOptions, sequences_of, size_of
from fairstep.model import AnyPreset
from fairstep.model.shapes import chinchilla_tokens
from fairstep.runs import Store
from fairstep.runs.certificate import words


@dataclass(frozen=True)
class RecommendOptions:
    """Rank optimizers for a workload by what both papers and your own contests measured.

    Speedups are over a tuned AdamW, in tokens, with 95 % intervals. Optimizers whose order the data cannot tell share a
    range of ranks. Where nobody measured (a doubling beyond all cells, or below 100 steps) there is no verdict.

    Example: fairstep recommend --params 350M --tokens 7B --batch-tokens 500k --memory 40GB
    Example: fairstep recommend --model hf:examples/hf/config.json --store runs/demo
    """

    size: Annotated[SizeOptions, tyro.conf.arg(name="")] = field(default_factory=SizeOptions)
    memory: str = ""
    """Memory of one device, for example 40GB: nothing is recommended that does not fit."""
    store: tuple[Path, ...] = ()
    """Folders of your own contests, which then count as of the same study as this workload."""
    top: int = 5
    """Of how many optimizers the reasons are printed; --json has all."""
    json: bool = False
    """Print a JSON list of rows."""


def main(arguments: list[str]) -> int:
    options = parse(RecommendOptions, "recommend", arguments)
    at_least(options, 0, "top")
    asked, size = options.size, size_of(options.size)
    parameters = token_count(asked.params, "--params") if asked.params else size.parameters_matrix
    tokens = budget_of(asked.tokens, asked.chinchilla, size) or chinchilla_tokens(parameters)
    batch = batch_of(asked, size)
    if batch > tokens:
        raise ValueError(f"a batch of {count_text(batch)} is more than the run's {count_text(tokens)} tokens")
    memory = bytes_of(options.memory)

    from fairstep.recommend import Target, recommendation

    target = Target(parameters, tokens, batch)
    model = None if asked.params else size.config(asked.vocabulary)
    rows, notes = recommendation(target, memory, [Store(path) for path in options.store], model)
    if options.json:
        print(json.dumps(rows, indent=1))
        return 0
    show(target, rows, notes, memory, options.top)
    return 0


def batch_of(options: SizeOptions, size: AnyPreset) -> int:
    """Tokens of an optimizer step. Raises ValueError."""
    if options.batch_tokens and not options.batch_sequences:
        return token_count(options.batch_tokens, "--batch-tokens")
    if options.batch_sequences or options.model:
        return sequences_of(options, size) * size.context
    return USUAL_BATCH


USUAL_BATCH = 500_000
"""Tokens of an optimizer step for a model that has no batch."""


def bytes_of(text: str) -> int:
    """40GB, 512MB or a number of bytes; 0 for nothing. Raises ValueError."""
    if not text:
        return 0
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([kmgt]?)i?b?\s*", text, re.IGNORECASE)
    value = float(match[1]) * 1000 ** ["", "k", "m", "g", "t"].index(match[2].lower()) if match else 0.0
    if not 1 <= value < 1e18:
        raise ValueError(f"--memory must be an amount such as 40GB, not {text!r}")
    return round(value)


HEADER = ["rank", "optimizer", "", "speedup in tokens", "chance", "nats below adamw", "lr", "state", "peak", "overhead"]


def show(target: Any, rows: list[dict[str, Any]], notes: list[str], memory: int, top: int) -> None:
    screen.out(headline(rows, memory) + "\n")
    title = (
        f"{count_text(target.parameters)} matrix parameters, {count_text(target.tokens)} tokens "
        f"({2 ** target.place[1]:.2g}x Chinchilla), batches of {count_text(target.batch_tokens)}"
    )
    dropped = ("overhead", "state", "peak", "nats below adamw", "lr", "chance")
    screen.print_table(title, HEADER, [line(row) for row in rows], left=3, drop=dropped)
    for row in rows[:top]:
        screen.out(f"\n{row['optimizer']}: {'rank ' + rank_text(row) if rank_text(row) else 'no rank'}")
        screen.out(f"  speedup          {row['reason']}")
        screen.out(f"  hyperparameters  {words(json.loads(row['hyperparameters']))}; {row['hyperparameters_reason']}")
        screen.out(f"  run              {words(json.loads(row['run'])) or 'as in your contest'}")
        screen.out(f"  lr               {row['lr_reason']}")
        if row["memory_reason"]:
            screen.out(f"  memory           {row['memory_reason']}")
            screen.out(f"  overhead         {row['overhead_reason']}")
    print()
    outside = [row["outside"] for row in rows if row["outside"]]
    if outside:
        screen.out(
            f"* OUTSIDE THE DATA of {len(outside)} of {len(rows)} optimizers ({min(outside, key=len)}): no verdict."
        )
    if memory:
        large = [row["optimizer"] for row in rows if row["fits"] is False]
        fitting = f"{', '.join(large)} do not fit" if large else "all fit"
        screen.out(f"* Memory of {bytes_text(memory)}: {fitting} with one sequence at a time and no sharding.")
    screen.out("* Ranks are ranges: optimizers whose ranges overlap are ties. chance: that the speedup is above 1.")
    for note in notes:
        screen.out(f"* {note}")
    if pasted := paste(rows):
        print(f"\nto use it:\n{pasted}")


def paste(rows: list[dict[str, Any]]) -> str:
    """The optimizer on average best, as a line of Python and as a contest that checks it on one's own text.

    Nothing where no optimizer that fits was measured near here.
    """
    rows = [row for row in rows if row["against_adamw"] in ("faster", "tie") and row["fits"] is not False]
    if not rows:
        return ""
    best = max(rows, key=lambda row: row["speedup"])
    name = best["optimizer"]
    values = ", ".join(f"{key}={value!r}" for key, value in json.loads(best["hyperparameters"]).items() if key != "lr")
    rate = "" if best["lr"] is None else f"lr={best['lr']:.3g}"
    settings = ", ".join(filter(None, [rate, values]))
    lines = []
    if "+" not in name:
        lines += [f"  from fairstep.optim import {optim.get(name).class_name}"]
        lines += [f"  optimizer = {optim.get(name).class_name}(model, {settings})"]
    other = name if name != "adamw" else "muon"
    return "\n".join([*lines, f"  fairstep compare adamw {other} --data 'texts/*.txt' --store runs/mine"])


def headline(rows: list[dict[str, Any]], memory: int = 0) -> str:
    """What to take of the optimizers that fit, in a sentence that claims no more than the intervals and the data."""
    fitting = [row for row in rows if row["fits"] is True or not memory]
    if not fitting:
        small = min((row for row in rows if row["memory_bytes"]), key=lambda row: row["memory_bytes"])
        least = f"{small['optimizer']} has the smallest peak, {bytes_text(small['memory_bytes'])}"
        return f"Nothing fits into {bytes_text(memory)}: {least} with one sequence at a time and no sharding."
    where = f" of what fits into {bytes_text(memory)}" if len(fitting) < len(rows) else ""
    judged = [row for row in fitting if row["against_adamw"] in ("faster", "slower", "tie")]
    if not judged:
        outside = min((row["outside"] for row in fitting if row["outside"]), key=len, default="")
        return f"No verdict{where}: " + (f"nobody measured anything like it ({outside})." if outside else "only adamw.")
    faster = [row["optimizer"] for row in judged if row["against_adamw"] == "faster"]
    if faster:
        return f"Faster than adamw here{where}, at 95 %: {', '.join(faster)}."
    best = [f"{row['optimizer']} ({row['chance']:.0%} to be faster)" for row in judged if row["speedup"] > 1]
    likely = ", ".join(best[:3]) or "none"
    return f"No optimizer{where} is faster than adamw at 95 % here; best on average: {likely}."


def line(row: dict[str, Any]) -> list[str]:
    speedup = f"{row['speedup']:.2f}x [{row['low']:.2f}, {row['high']:.2f}]"
    gap = f"{row['gap']:+.3f} [{row['gap_low']:+.3f}, {row['gap_high']:+.3f}]"
    chance = f"{row['chance']:.0%}"
    if row["against_adamw"] == "baseline":
        speedup, gap, chance = "1.00x", "0", ""
    elif row["against_adamw"] == "no verdict":
        chance = DASH
    fits = "" if row["fits"] is not False else " too large"
    return [
        rank_text(row),
        row["optimizer"],
        row["against_adamw"].removeprefix("baseline"),
        speedup,
        chance,
        gap,
        DASH if row["lr"] is None else f"{row['lr']:.3g}",
        bytes_text(row["state_bytes"]),
        bytes_text(row["memory_bytes"]) + fits,
        DASH if row["overhead"] is None else f"{row['overhead']:.2%}",
    ]


def rank_text(row: dict[str, Any]) -> str:
    """1-4, or nothing outside the data."""
    first, last = row["rank_best"], row["rank_worst"]
    return "" if row["outside"] else f"{first}" if first == last else f"{first}-{last}"
