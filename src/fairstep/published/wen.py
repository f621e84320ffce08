"""W: Wen, Hall, Ma, Liang, *Fantastic Pretraining Optimizers and Where to Find Them* (arXiv 2509.02046).

Every number, unless a docstring says otherwise, is from the result records of the study's public experiment code:
branch ``kaiyue/optimizers`` of a fork of the Marin project, state of 2025-08-27. The paper's figures were drawn from an
earlier state, 2025-05. A loss is the last evaluation of a run at the end of a full schedule, on the Paloma C4-en set,
in nats per token of the Llama-3 tokenizer. There is one seed per configuration, so no number here has an error bar.

Optimizers carry the study's names in lower case (``soap`` is its ``soape``, ``adam_mini`` its ``mini``). Sizes 130m,
300m, 520m and 1.2b count matrix parameters; ``chinchilla_ratio`` 1 is 20 tokens per matrix parameter. Units: learning
rates follow each optimizer's convention, warm-up is in steps, ``train_batch_size`` in sequences of 4096 tokens, and
``decay`` (Muon, Scion) in fractions of the run.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fairstep.published.files import frame_of, read_csv, read_json

if TYPE_CHECKING:
    import polars as pl

CITATION = "Wen, Hall, Ma, Liang (2025), arXiv 2509.02046"
SIZES = ("130m", "300m", "520m", "1.2b")
RATIOS = (1, 2, 4, 8, 16)
DIVERGED = 4.5
"""Nats: recorded losses above this are the last ones of runs that diverged."""


@functools.cache
def results() -> pl.DataFrame:
    """150 cells: the best loss found for each optimizer, size and ratio.

    ``optimizer, model_size, chinchilla_ratio, tokens``; ``loss`` (state of 2025-08) and ``loss_snapshot_2025_05``, in
    nats per token; ``configuration_loss``: loss of the best configuration on record, which is the best loss itself but
    in 13 cells (``note``); ``steps``; ``phase`` of the study (I, II, III_1.2b, III_16x); ``hyperparameters`` of that
    configuration as JSON; ``configuration_from``: the record that holds it.
    """
    import polars as pl

    text = dict.fromkeys(("optimizer", "model_size"), pl.String)
    losses = dict.fromkeys(("loss", "loss_snapshot_2025_05", "configuration_loss"), pl.Float64)
    ends = dict.fromkeys(("phase", "hyperparameters", "configuration_from", "note"), pl.String)
    schema = {**text, "chinchilla_ratio": pl.Int64, "tokens": pl.Int64, **losses, "steps": pl.Int64, **ends}
    return read_csv("wen_results.csv", schema)


@functools.cache
def sweeps() -> pl.DataFrame:
    """1,841 final losses of one-dimensional sweeps: a cell's centre, and the centre with one hyperparameter replaced.

    ``optimizer, model_size, chinchilla_ratio, phase, record``; ``hyperparameter`` and ``value`` (its new value, as
    JSON) are null in the row of the centre itself (whose configuration is in ``cells``); ``loss`` in nats per token.
    Losses above ``DIVERGED`` are of runs that diverged. Runs without a recorded loss are not listed.
    """
    import polars as pl

    names = ("optimizer", "model_size", "chinchilla_ratio", "phase", "record", "hyperparameter", "value", "loss")
    types = {"chinchilla_ratio": pl.Int64, "loss": pl.Float64}
    return read_csv("wen_sweeps.csv", {name: types.get(name, pl.String) for name in names})


@functools.cache
def cells() -> pl.DataFrame:
    """153 searched cells (3 of Sophia without results): what was searched, from where, and what came near the best.

    ``optimizer, model_size, chinchilla_ratio, phase, best_loss``, and as JSON: ``grid`` (hyperparameter -> values),
    ``start`` (the first configuration), ``centres`` (list of ``record, loss, hyperparameters``, the centres of
    ``sweeps``), ``near_optimal`` (null, or ``tolerance, loss, names, values``: all configurations whose loss was within
    ``tolerance`` of ``loss`` in the state of 2025-05; their own losses were not published).
    """
    return frame_of(cell_records(), ("grid", "start", "centres", "near_optimal"))


def cell_records() -> list[dict[str, Any]]:
    """``cells`` as plain values, for code that replays a search."""
    records: list[dict[str, Any]] = read_json("wen_cells.json")
    return records


@functools.cache
def speedups() -> pl.DataFrame:
    """Speedups over AdamW in tokens (W's definition: AdamW's law of the same size inverted at the other's loss).

    ``optimizer, model_size, chinchilla_ratio, variant, speedup``. Variant ``figure_2025_05`` is published: the 114
    points of the paper's figures (those at ratio 16 from a fit that includes 16). The others were computed from the
    published losses by a script that shares no code with this package, and tell what the choice of fit and of losses
    changes: losses ``snapshot`` (2025-05) or ``latest`` (2025-08); the law fitted to ratios 1, 2, 4, 8
    (``fit_1_2_4_8``), to 16 too where it exists (``fit_with_16x``), or ``interpolation`` in log tokens without a law.
    """
    wide = _speedup_columns()
    variants = [name for name in wide.columns if name not in (*_CELL, "loss_delta_vs_adamw", "pct_change_per_1e3_loss")]
    return wide.unpivot(variants, index=_CELL, variable_name="variant", value_name="speedup").drop_nulls("speedup")


@functools.cache
def models() -> pl.DataFrame:
    """The four models: Llama-2 style, SwiGLU, no biases, untied vocabulary matrices (from the configuration code).

    ``model_size, layers, hidden, mlp, heads, head_dimension, context, vocabulary`` and parameter counts:
    ``parameters_matrix`` (what the names and the Chinchilla ratio count), ``parameters_norm``,
    ``parameters_embedding_and_head``, ``parameters`` (all). ``tokens_1x``: tokens at ratio 1.
    """
    import polars as pl

    names = "model_size layers hidden mlp heads head_dimension context vocabulary parameters_matrix parameters_norm"
    columns = [*names.split(), "parameters_embedding_and_head", "parameters", "tokens_1x"]
    return read_csv("wen_models.csv", {name: pl.String if name == "model_size" else pl.Int64 for name in columns})


def near_optimal(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The near-optimal configurations of one of ``cell_records``; empty where it has none."""
    near = record["near_optimal"] or {"names": [], "values": []}
    return [dict(zip(near["names"], values, strict=True)) for values in near["values"]]


def sensitive(near: Sequence[Sequence[Mapping[str, Any]]]) -> list[str]:
    """Hyperparameters of which no single value occurs in the near-optimal set of every cell (W's rule, section 3).

    ``near``: for every cell its near-optimal configurations. A cell without any says nothing. A hyperparameter that
    some set does not have counts as absent there, which is a value like any other.
    """
    sets = [configurations for configurations in near if configurations]
    names = dict.fromkeys(name for configurations in sets for c in configurations for name in c)
    return [name for name in names if not set.intersection(*({c.get(name) for c in one} for one in sets))]


def facts() -> dict[str, Any]:
    """What fits in no table, by name: figure and text facts of the paper and of its records.

    ``figure_8x_by_size``: speedups at ratio 8 as printed in 2025-05 and 2025-08. ``downstream_1.2b``: accuracies,
    optimizer -> ratio -> task. ``weight_decay_130m_4x``, ``soap_lr_520m_8x``: optimizer -> value -> final loss.
    ``gpt3_recipe_130m``: losses after so many steps of 128 sequences. ``muon_weight_decay_520m_1x_near_step_20000``:
    weight decay -> loss. ``muon_weight_decay_520m_1x_lead_of_0``: share of training -> nats by which weight decay 0 is
    below 0.1 there (vector data of a figure of NCPL, arXiv 2602.10300, which draws W's runs; the curves cross at about
    91 %). ``sensitive_hyperparameters``: those kept in phase II, by the paper and its records.
    ``law_inputs``, ``law_predictions_1.2b``, ``run_at_1.2b``: phase III (inputs in the order 130m, 300m, 520m by ratio
    1, 2, 4, 8). ``thresholds``: nats, of acceptance and near-optimality. ``mudam_losses``: a later experiment.
    """
    table: dict[str, Any] = read_json("wen_facts.json")
    return table


_CELL = ["optimizer", "model_size", "chinchilla_ratio"]


def _speedup_columns() -> pl.DataFrame:
    import polars as pl

    fits = ("fit_1_2_4_8", "fit_with_16x", "interpolation")
    variants = [f"{losses}_{fit}" for losses in ("snapshot", "latest") for fit in fits]
    numbers = ["figure_2025_05", *variants, "loss_delta_vs_adamw", "pct_change_per_1e3_loss"]
    schema = {"optimizer": pl.String, "model_size": pl.String, "chinchilla_ratio": pl.Int64}
    return read_csv("wen_speedups.csv", schema | dict.fromkeys(numbers, pl.Float64))
