"""The cells of a study: every combination of the lists of a ``[[cells]]`` table, as workloads."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from fairstep.model import AnyPreset, named
from fairstep.model.config import ModelConfig
from fairstep.model.foreign.sources import described, is_foreign
from fairstep.model.named import changed
from fairstep.model.shapes import chinchilla_tokens
from fairstep.runs import DataSpec, Execution, Value
from fairstep.study.file.line_numbers import WrongKey, about
from fairstep.study.file.schema import CellsTable, LawTable, listed, token_count
from fairstep.study.transfer import HyperP, Law, MuP, Transfer
from fairstep.study.workload import WARMUPS, Workload

LENGTHS = ("tokens", "chinchilla", "steps")
BATCHES = ("batch_sequences", "batch_tokens")
MODEL_OPTIONS = ("init_std", "z_loss", "qk_norm")
RUN_LISTS = (*WARMUPS, "schedule", "final_fraction", "decay_fraction", "decay_shape", "clip_norm")
RUN_VALUES = ("warmup_shape", "warmup_start", "positions")


@dataclass(frozen=True)
class Text:
    """What a study must know of a corpus: its identity and how many tokens can be evaluated (0: as many as asked)."""

    data: DataSpec
    validation_tokens: int = 0

    def evaluable(self, context: int) -> int:
        """Tokens of all whole windows."""
        return (self.validation_tokens - 1) // context * context


@dataclass(frozen=True)
class Place:
    """Where trials run: what is the same for all of them and no part of the experiment; ``precision`` is "auto"'s."""

    execution: Execution
    precision: Literal["float32", "bf16"]


@dataclass(frozen=True)
class StudyCell:
    """A workload with its name, the number of its ``[[cells]]`` table, and the key that gave its length."""

    name: str
    table: int
    workload: Workload
    length: str


def cells_of(table: CellsTable, number: int, texts: Mapping[str, Text], place: Place) -> Iterator[StudyCell]:
    """The cells of one table. Raises WrongKey."""
    for key in table.model_fields_set:
        if getattr(table, key) == []:
            raise WrongKey(key, f"the list of {key} is empty; give it at least one value, or leave it out")
    length = _one_of(table, LENGTHS, "the length of its runs", needed=True)
    batch = _one_of(table, BATCHES, "its batch size")
    warmup = _one_of(table, WARMUPS, "its warm-up")
    names = listed(table.data) or list(texts)
    if unknown := [name for name in names if name not in texts]:
        raise WrongKey("data", f"there is no [data.{unknown[0]}]; the study's texts are {', '.join(texts)}")
    varied = {"model": listed(table.model), "data": names, "length": listed(getattr(table, length))}
    varied["batch"] = listed(getattr(table, batch)) if batch else [None]
    others = [
        key for key in (*RUN_LISTS, *MODEL_OPTIONS, "transfer") if listed(getattr(table, key)) and key not in WARMUPS
    ]
    for key in [*([warmup] if warmup else []), *others]:
        varied[key] = listed(getattr(table, key))
    base = _base(table)
    made: list[tuple[dict[str, Any], AnyPreset, Workload]] = []
    for values in itertools.product(*varied.values()):
        chosen = dict(zip(varied, values, strict=True))
        size = _named(chosen["model"], table.context)
        made.append((chosen, size, _workload(table, size, texts[chosen["data"]], chosen, length, batch, place)))
    rules = _rules(table, base, [(size, workload) for _, size, workload in made])
    for chosen, size, workload in made:
        if rule := rules.get(chosen.get("transfer", "none")):
            with about("transfer"):
                workload = replace(workload, model=rule.model(workload.model), transfer=rule)
        yield StudyCell(_name(table, {**chosen, "model": size.name}, varied, length), number, workload, length)


def _workload(
    table: CellsTable, size: AnyPreset, text: Text, chosen: Mapping[str, Any], length: str, batch: str, place: Place
) -> Workload:
    sequences = size.batch_sequences
    if batch == "batch_sequences":
        sequences = chosen["batch"]
    elif batch:
        wanted = _tokens(chosen["batch"], batch)
        if wanted % size.context:
            raise WrongKey(batch, f"batch_tokens must be whole sequences of {size.context} tokens, not {wanted}")
        sequences = wanted // size.context
    batch_tokens = sequences * size.context
    if length == "steps":
        tokens = chosen["length"] * batch_tokens
    elif length == "tokens":
        tokens = _tokens(chosen["length"], length) // batch_tokens * batch_tokens
    else:
        tokens = chinchilla_tokens(size.parameters_matrix, chosen["length"]) // batch_tokens * batch_tokens
    if tokens < batch_tokens:
        raise WrongKey(length, f"a run must be at least one batch of {batch_tokens:,} tokens, not {chosen['length']}")
    given = {key: chosen[key] for key in RUN_LISTS if key in chosen}
    if "warmup_tokens" in given:
        given["warmup_tokens"] = _tokens(given["warmup_tokens"], "warmup_tokens")
    choices = {key: chosen[key] for key in MODEL_OPTIONS if key in chosen}
    with about(next(iter(choices), "model")):
        model = changed(size.config(text.data.vocabulary), choices)
    evaluated = table.evaluation_tokens
    if text.validation_tokens:
        evaluated = min(evaluated, text.evaluable(size.context))
    micro = {"micro_batch_sequences": table.micro_batch_sequences or place.execution.micro_batch_sequences}
    return Workload(
        model=model,
        data=text.data,
        batch_sequences=sequences,
        tokens=tokens,
        precision=place.precision if table.precision == "auto" else table.precision,
        evaluation_tokens=evaluated,
        execution=place.execution.model_copy(update=micro),
        **{key: getattr(table, key) for key in RUN_VALUES},
        **given,
    )


def _base(table: CellsTable) -> ModelConfig | None:
    """The table's model of base width, the shallowest of them; None without a rule of transfer. Raises WrongKey."""
    rules = [rule for rule in listed(table.transfer) if rule != "none"]
    if table.law and "law" not in rules:
        raise WrongKey("law", 'law has the exponents of transfer = "law"; add that, or leave law out')
    if not rules:
        if table.base_width:
            raise WrongKey("base_width", 'base_width is of transfer = "mup"; add that, or leave base_width out')
        return None
    models = [_named(name, table.context).model for name in listed(table.model)]
    ours = [model for model in models if isinstance(model, ModelConfig)]
    if len(ours) < len(models):
        raise WrongKey(
            "transfer", f'transfer = "{rules[0]}" goes by the sizes of fairstep\'s own models; leave it out for others'
        )
    widths = sorted({model.width for model in ours})
    base = table.base_width or widths[0]
    if base not in widths:
        there = ", ".join(map(str, widths))
        raise WrongKey("base_width", f"no model of these cells has base_width {base}; their widths are {there}")
    return min((model for model in ours if model.width == base), key=lambda model: model.layers)


def _rules(table: CellsTable, base: ModelConfig | None, cells: list[tuple[AnyPreset, Workload]]) -> dict[str, Transfer]:
    """The table's rules of transfer by name, from the base model's shortest runs."""
    if base is None:
        return {}
    first = min((one for size, one in cells if size.model == base), key=lambda one: one.tokens)
    law = table.law or LawTable()
    return {
        "mup": MuP(base),
        "hyperp": HyperP(base, first.tokens, first.batch_tokens),
        "law": Law(base, first.tokens, law.tokens, law.width, law.depth),
    }


def _name(table: CellsTable, chosen: Mapping[str, Any], varied: Mapping[str, list[Any]], length: str) -> str:
    """MODEL-LENGTH and whatever else a table varies; or as the table says."""
    value = chosen["length"]
    words = {
        **{key: f"{one:g}" if isinstance(one, float) else str(one) for key, one in chosen.items()},
        "length": f"{value:g}x" if length == "chinchilla" else f"{value}-steps" if length == "steps" else str(value),
        length: str(value),
    }
    if table.name:
        return filled_name(table.name, words)
    more = [key for key in varied if key not in ("model", "length") and len(varied[key]) > 1]
    labels = {"batch": "b", "data": ""}
    return "-".join([words["model"], words["length"], *(f"{labels.get(key, f'{key}=')}{words[key]}" for key in more)])


def _one_of(table: CellsTable, keys: tuple[str, ...], what: str, needed: bool = False) -> str:
    given = [key for key in keys if listed(getattr(table, key))]
    if len(given) > 1:
        raise WrongKey(given[1], f"contradictory ties: {what} is given by {' and by '.join(given)}; keep one of them")
    if needed and not given:
        raise WrongKey("model", f"{what} is missing; give one of {', '.join(keys)}")
    return given[0] if given else ""


def filled_name(template: str, words: Mapping[str, str]) -> str:
    """The name of a cell. Raises WrongKey."""
    try:
        return template.format(**words)
    except (KeyError, IndexError, ValueError):
        listed = ", ".join(f"{{{key}}}" for key in words)
        raise WrongKey("name", f"name may hold {listed}, not {template!r}") from None


def foreign_names(table: CellsTable) -> dict[str, str]:
    """What its foreign models are called by their code, config and context, by what the table calls them."""
    with about("model"):
        return {name: described(name, table.context).preset for name in listed(table.model) if is_foreign(name)}


def _named(name: str, context: int) -> AnyPreset:
    with about("model"):
        return named(name, context)


def _tokens(value: Value, key: str) -> int:
    with about(key):
        return token_count(str(value), key)
