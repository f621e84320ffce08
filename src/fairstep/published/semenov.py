"""S: Semenov, Pagliardini, Jaggi, *Benchmarking Optimizers for LLM Pretraining* (arXiv 2509.01440).

The paper prints almost no tables of losses. Most numbers were read off its figures, so each has an ``uncertainty``.
Losses are nats per token of the GPT-2 tokenizer on FineWeb, with one seed per setting.

Two metrics exist and must never be compared. ``FULL`` is the final loss on the full validation split, which the paper's
rankings use. ``SUBSET`` is the loss on a fixed subset at the end of training, which its curves show; it reads about
0.02 higher for the same run.

Configurations are from the 48 run scripts of the public repository (epfml/llm-optimizer-benchmark, state of
2025-12-30). Optimizers carry the paper's names in lower case.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from fairstep.published.files import compact, frame_of, read_json

if TYPE_CHECKING:
    import polars as pl

CITATION = "Semenov, Pagliardini, Jaggi (2025), arXiv 2509.01440"
FULL = "final loss, full validation split"
SUBSET = "loss at the end, fixed validation subset"

_SETTING = ("id", "scale", "batch_sequences", "context", "steps", "tokens", "warmup_steps", "metric")
_PROVENANCE = ("source", "how", "certainty", "note")


@functools.cache
def records() -> pl.DataFrame:
    """468 published values, one a row, with setting, uncertainty and source.

    ``id`` names the record (a panel or a table of the paper); ``optimizer``; ``value`` in the unit of ``metric`` (nats
    per token, but for wall clock, perplexity differences and norms), null if ``status`` is diverged; ``uncertainty``:
    half the width of what the reading allows, same unit (null: not known); ``offset``: nats by which the value may be
    off against the record's other optimizers, because the panel seems to mix both metrics; ``varied``: JSON of what
    differs between the values of one record. Setting: ``scale, batch_sequences, context, steps, tokens, warmup_steps``
    (null: the paper's default or not stated). Provenance: ``source`` (figure or table), ``how`` it was read,
    ``certainty, note``.
    """
    import polars as pl

    rows = []
    for record in record_list():
        for optimizer, value, status, uncertainty, varied, *offset in record["values"]:
            row = {key: record[key] for key in _SETTING}
            row |= {key: varied[key] for key in _SETTING if key in varied}
            row |= {"optimizer": optimizer, "value": value, "status": status, "uncertainty": uncertainty}
            row |= {"offset": offset[0] if offset else 0.0, "varied": compact(varied)}
            rows.append(row | {key: record[key] for key in _PROVENANCE})
    types = dict.fromkeys(("batch_sequences", "context", "steps", "tokens", "warmup_steps"), pl.Int64)
    overrides: dict[str, Any] = types | dict.fromkeys(("value", "uncertainty", "offset"), pl.Float64)
    return pl.DataFrame(rows, schema_overrides=overrides, infer_schema_length=None)


def record_list() -> list[dict[str, Any]]:
    """The 47 records as plain values: setting, provenance, ``values`` and ``printed_order`` (best first, or null).

    Four records have an order and no numbers: the paper states the outcome in words only.
    """
    records: list[dict[str, Any]] = read_json("semenov_records.json")
    return records


@functools.cache
def configurations() -> pl.DataFrame:
    """The 48 configurations of the run scripts: 12 optimizers x 4 scales, the longest run of each.

    ``id, scale, optimizer, script``; ``parameters, layers, heads, hidden``; ``batch_sequences`` of 512 tokens,
    ``steps, tokens, warmup_steps``; ``lr`` (Prodigy: its multiplier; Muon, MARS: the rate of the matrices), decoupled
    ``weight_decay``, ``clip_norm``, ``schedule`` with its parameters as JSON, ``betas`` as JSON (null: none; Muon,
    D-Muon: of their AdamW part), ``other`` hyperparameters as JSON, ``evaluate_every_steps``.
    """
    return frame_of(configuration_list(), ("schedule_parameters", "betas", "other"))


def configuration_list() -> list[dict[str, Any]]:
    """``configurations`` as plain values."""
    return [entry for entry in read_json("semenov_configurations.json") if entry["schedule"] != "wsd"]


@functools.cache
def grids() -> pl.DataFrame:
    """Every value tried in tuning (Appendix E): ``scale, optimizer, batch, table, grid`` (JSON, name -> values).

    ``batch``: small 32, large 256, 1M 1984, 2M 3936 sequences of 512 tokens. Which value won is not recorded here.
    """
    return frame_of(read_json("semenov_grids.json"), ("grid",))


@functools.cache
def step_seconds() -> dict[int, dict[str, tuple[float, float]]]:
    """Measured seconds of 100 steps, with the uncertainty of reading them: parameters -> optimizer -> both."""
    seconds: dict[int, dict[str, tuple[float, float]]] = {}
    record = next(record for record in record_list() if record["id"] == "wallclock")
    for optimizer, value, _, uncertainty, varied, *_ in record["values"]:
        seconds.setdefault(varied["parameters"], {})[optimizer] = (value, uncertainty or 0.0)
    return seconds


def facts() -> dict[str, Any]:
    """What fits in no table: ``models_trained`` by optimizer, and the totals stated (Appendix B)."""
    table: dict[str, Any] = read_json("semenov_facts.json")
    return table
