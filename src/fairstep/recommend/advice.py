"""What a recommended optimizer would be started with, and what it would cost: hyperparameters, memory, overhead.

Every number comes with the reason for it in one line. The speedups are forecasts of ``kriging``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fairstep import optim
from fairstep.analysis import AnalysisError, count_text, hyperparameter_law
from fairstep.cost.devices import Device
from fairstep.cost.run_cost import Cost, cost
from fairstep.model.shapes import chinchilla_tokens
from fairstep.model.sized import sized
from fairstep.optim import Tuning
from fairstep.published import semenov
from fairstep.recommend.kriging import Forecast
from fairstep.recommend.points import NOT_OURS, Target, log_distance
from fairstep.runs import AnyModelSpec, DataSpec, Execution, Ledger, ModelSpec, OptimizerChoice, RunSpec, ScheduleSpec

LEAST_LAW_CELLS = 6
SAME_BATCH = 4.0
"""Factor within which a batch counts as one that W tuned learning rates for."""
MOST_WARMUP = 0.2
PAPERS = {"W": "wen", "S": "semenov"}


@dataclass(frozen=True)
class Setting:
    """Hyperparameters of the optimizer and of the run, with the reason for each set and for the learning rate."""

    hyperparameters: dict[str, Any]
    run: dict[str, Any]
    reason: str
    lr_reason: str


def shape(target: Target) -> ModelSpec:
    """A dense Llama of about so many matrix parameters: the preset nearest in size, made wider or narrower."""
    return sized(target.parameters, max(2 ** math.floor(math.log2(target.batch_tokens)), 8)).model


def shape_text(model: AnyModelSpec) -> str:
    words = f"{model.vocabulary:,} tokens of vocabulary, sequences of {model.context}"
    if isinstance(model, ModelSpec):
        return f"{model.layers} layers of width {model.width} (as in {model.preset}), {words}"
    return f"{model.preset}, {words}"


def hyperparameters_for(name: str, target: Target, ledgers: Iterable[Ledger] = ()) -> Setting:
    """From the cell nearest in size, tokens and batch, the papers' or the ledgers', and laws for the learning rate."""
    spec = optim.get(name)
    steps = max(int(target.tokens // target.batch_tokens), 2)
    choice = _ledger_choice(name, target, ledgers)
    near = _nearest(name, target)
    table = spec.defaults_at(round(target.parameters))
    defaults: dict[str, Any] = {key: default.value for key, default in table.items()}
    if choice is not None:
        place, chosen, label = choice
        if near is None or log_distance(place, target) <= log_distance(_target(near), target):
            reason = f"chosen in your contest {label}"
            return Setting(defaults | chosen, {}, reason, reason)
    if near is None:
        reason = f"defaults of the optimizer ({table['lr'].source}); neither paper tuned it"
        return Setting(defaults, {}, reason, reason)
    hyper: dict[str, Any] = dict(near.chosen)
    run: dict[str, Any] = dict(near.run)
    at = f"tuned at {count_text(near.parameters_matrix)} matrix parameters, {count_text(near.tokens)} tokens"
    reason = f"{near.source}: {at}, batches of {count_text(run.pop('batch_tokens', None))}"
    if "schedule_steps" in hyper:
        hyper["schedule_steps"] = steps
    if isinstance(run.get("warmup_steps"), int | float) and run["warmup_steps"] > MOST_WARMUP * steps:
        reason += f"; its warm-up of {run['warmup_steps']:,} steps shortened to {MOST_WARMUP:.0%} of this run"
        run["warmup_steps"] = round(MOST_WARMUP * steps)
    value, lr_reason = _rate(name, target, near)
    return Setting(hyper | {"lr": value}, run, reason, lr_reason)


def advise(
    forecasts: Iterable[Forecast],
    target: Target,
    memory_bytes: int = 0,
    ledgers: Iterable[Ledger] = (),
    model: AnyModelSpec | None = None,
) -> list[dict[str, Any]]:
    """One flat row for every optimizer that fairstep has; a foreign one of a store has no memory and no overhead.

    ``memory_bytes``: of one device, 0: not asked. ``model``: whose memory is meant; default: ``shape``. Gaps are nats,
    memory bytes of one process that holds the whole model (bf16, compiled, one sequence at a time); ``overhead`` is the
    rule's share of the model's FLOPs.
    """
    model, ledgers = model or shape(target), tuple(ledgers)
    return [_row(forecast, target, model, memory_bytes, ledgers) for forecast in forecasts]


def _row(
    forecast: Forecast, target: Target, model: AnyModelSpec, memory_bytes: int, ledgers: tuple[Ledger, ...]
) -> dict[str, Any]:
    row: dict[str, Any] = {key: value for key, value in asdict(forecast).items() if key not in ("nearest", "outside")}
    row |= {
        "against_adamw": verdict(forecast),
        "outside": "; ".join(forecast.outside),
        "reason": speedup_reason(forecast),
    }
    chosen = hyperparameters_for(forecast.optimizer, target, ledgers)
    row |= {"lr": chosen.hyperparameters.get("lr"), "hyperparameters": json.dumps(chosen.hyperparameters)}
    row |= {"run": json.dumps(chosen.run), "hyperparameters_reason": chosen.reason, "lr_reason": chosen.lr_reason}
    price = _price(forecast.optimizer, chosen.hyperparameters, target, model, memory_bytes)
    return row | (_costs(forecast, price, model) if price else dict.fromkeys(COSTS))


COSTS = ("state_bytes", "memory_bytes", "fits", "overhead", "time_speedup", "memory_reason", "overhead_reason")


def _costs(forecast: Forecast, price: Cost, model: AnyModelSpec) -> dict[str, Any]:
    assert price.optimizer_flops is not None
    overhead = price.optimizer_flops / price.flops
    floats = price.memory.state / 4 / price.parameters_total
    memory_reason = f"{floats:.2f} numbers of float32 state a parameter of {shape_text(model)}; peak with one sequence"
    overhead_reason = "FLOPs of the rule a step over the model's; memory traffic is not in it"
    if measured := _measured(forecast.optimizer, price.parameters_total):
        overhead_reason += f"; {measured}"
    values = (price.memory.state, price.memory_bytes, price.fits, overhead, forecast.speedup / (1 + overhead))
    return dict(zip(COSTS, (*values, memory_reason, overhead_reason), strict=True))


def verdict(forecast: Forecast) -> str:
    """faster, slower or tie, against AdamW: what the interval of the speedup says, or no verdict outside the data."""
    if forecast.outside:
        return "no verdict"
    return "faster" if forecast.low > 1 else "slower" if forecast.high < 1 else "tie" if forecast.cells else "baseline"


def speedup_reason(forecast: Forecast) -> str:
    """Where a forecast is from, in one line."""
    near = forecast.nearest
    if near is None:
        return "the measuring stick"
    ends = (2 ** (near.value + side * 1.96 * near.deviation) for side in (-1, 1))
    there = "{:.2f} [{:.2f}, {:.2f}]".format(2**near.value, *ends)
    text = f"from {forecast.cells} cells; nearest {near.study} {near.label}: {there}"
    return f"{text}; OUTSIDE: {', '.join(forecast.outside)}" if forecast.outside else text


def _price(name: str, hyper: Mapping[str, Any], target: Target, model: AnyModelSpec, memory_bytes: int) -> Cost | None:
    spec = optim.get(name)
    if not spec.parts:
        return None
    sequences = max(round(target.batch_tokens / model.context), 1)
    batch = sequences * model.context
    run = RunSpec(
        model=model,
        data=DataSpec(name="any", fingerprint="", vocabulary=model.vocabulary),
        optimizer=OptimizerChoice(name=spec.name, hyperparameters=spec.validate(hyper)),
        schedule=ScheduleSpec(warmup_steps=0),
        batch_sequences=sequences,
        tokens=max(round(target.tokens / batch), 1) * batch,
        precision="bf16",
        execution=Execution(micro_batch_sequences=1),
    )
    return cost(run, Device("accelerator", 1e15, memory_bytes, 0.4, "any"))


def _rate(name: str, target: Target, near: Tuning) -> tuple[Any, str]:
    """The learning rate: by a law over W's cells where the batch is like theirs, else the nearest cell's."""
    cells = [t for t in _tuned(name) if t.paper == "W" and t.chosen.get("lr")]
    rate = near.chosen.get("lr")
    copied = f"as in {near.source}; try half and twice of it too"
    batches = [_target(t).batch_tokens for t in cells]
    if len(cells) < LEAST_LAW_CELLS or not (
        min(batches) / SAME_BATCH <= target.batch_tokens <= SAME_BATCH * max(batches)
    ):
        return rate, copied
    sizes, tokens = [t.parameters_matrix for t in cells], [t.tokens for t in cells]
    try:
        law = hyperparameter_law(sizes, tokens, [float(t.chosen["lr"]) for t in cells])
    except AnalysisError:
        return rate, copied
    value, (low, high) = law.at(target.parameters, target.tokens), law.interval_at(target.parameters, target.tokens)
    if not _allowed(name, value):
        return rate, copied
    beyond = "" if law.covers(target.parameters, target.tokens) else ", beyond its cells"
    return float(f"{value:.2g}"), f"power law over {len(cells)} cells of W: {value:.2g} [{low:.2g}, {high:.2g}]{beyond}"


def _allowed(name: str, rate: float) -> bool:
    try:
        optim.get(name).validate({"lr": rate})
    except ValueError:
        return False
    return True


def _tuned(name: str) -> list[Tuning]:
    """Dense tunings with a choice, of the variants that the speedups are of."""
    dense = [t for t in optim.get(name).tunings if t.chosen and not t.scale.startswith("moe")]
    return [t for t in dense if (PAPERS[t.paper], name) not in NOT_OURS]


def _nearest(name: str, target: Target) -> Tuning | None:
    return min(_tuned(name), key=lambda t: log_distance(_target(t), target), default=None)


def _target(tuning: Tuning) -> Target:
    batch = tuning.run.get("batch_tokens", 524_288)
    return Target(tuning.parameters_matrix, tuning.tokens or chinchilla_tokens(tuning.parameters_matrix), float(batch))


def _ledger_choice(name: str, target: Target, ledgers: Iterable[Ledger]) -> tuple[Target, dict[str, Any], str] | None:
    """Workload, hyperparameters and name of the nearest contest that chose some; None without one. Contests around
    somebody else's trainer (no vocabulary) have hyperparameters in units of its own."""
    choices = [
        (Target(ledger.cell.parameters_matrix, ledger.cell.tokens, ledger.cell.batch_tokens), choice, ledger.name)
        for ledger in ledgers
        if (choice := ledger.choices.get(name)) and choice.hyperparameters and ledger.cell.vocabulary
    ]
    if not choices:
        return None
    place, choice, label = min(choices, key=lambda item: log_distance(item[0], target))
    return place, dict(choice.hyperparameters), label


def _measured(name: str, parameters: float) -> str:
    """What S measured of a step, with the model nearest in size; empty if nothing."""
    tables = {size: table for size, table in semenov.step_seconds().items() if name in table and "adamw" in table}
    if not tables or name == "adamw":
        return ""
    nearest = min(tables, key=lambda size: abs(math.log(size / parameters)))
    ratio = tables[nearest][name][0] / tables[nearest]["adamw"][0]
    return f"S measured steps {ratio:.2f} times as long as AdamW's at {count_text(nearest)} with 16 sequences of 512"
