"""``fairstep published``: the two papers' numbers and the optimization track's, to read or to pipe into other tools."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import tyro

from fairstep import optim
from fairstep.analysis import published_speedups
from fairstep.analysis.verdict.track import result_rows
from fairstep.cli.shared import screen
from fairstep.cli.shared.options import parse
from fairstep.published import semenov, wen

if TYPE_CHECKING:
    import polars as pl

Variant = Literal[
    "figure_2025_05",
    "snapshot_fit_1_2_4_8",
    "snapshot_fit_with_16x",
    "snapshot_interpolation",
    "latest_fit_1_2_4_8",
    "latest_fit_with_16x",
    "latest_interpolation",
]
What = Literal["results", "speedups", "sweeps", "models", "configurations", "records", "track3"]


@dataclass(frozen=True)
class PublishedOptions:
    """Browse the published numbers of Wen et al. (wen), of Semenov et al. (semenov) and of modded-nanogpt's track 3.

    results: final losses of every cell. speedups: tokens of AdamW over tokens of the optimizer (wen), as printed and
    recomputed, with 95 % intervals from the noise that the records show. sweeps: losses when one hyperparameter
    changes (wen). models: sizes and shapes. configurations: hyperparameters. records: every value of semenov with its
    setting and uncertainty. track3: results of modded-nanogpt's optimization track with our intervals, each judged
    against the record before it. A null is not published.

    Variants of speedups: figure_2025_05 is what the paper prints. The others are recomputed here, from its losses of
    May 2025 (snapshot) or its latest ones (latest): fit_1_2_4_8 by a law through AdamW's losses at 1 to 8 Chinchilla
    lengths, fit_with_16x by one through 16 too, interpolation by straight lines between these losses.

    Example: fairstep published speedups --optimizer muon --size 1.2b --json
    Example: fairstep published speedups --optimizer muon --variant figure_2025_05
    Example: fairstep published results --paper semenov --size 720m
    """

    what: tyro.conf.Positional[What] = "results"
    """Which numbers."""
    paper: Literal["wen", "semenov", "both"] = "both"
    """Which paper."""
    optimizer: str = ""
    """Only this optimizer, in the spelling of either paper or of fairstep."""
    size: str = ""
    """Only this model size, for example 130m or 720m."""
    variant: Variant | Literal["all"] = "all"
    """Only this variant of speedups."""
    ratio: float = 0.0
    """Only this length, in Chinchilla ratios. Default: all."""
    json: bool = False
    """Print all columns as a JSON list of rows."""


def main(arguments: list[str]) -> int:
    options = parse(PublishedOptions, "published", arguments)
    rows = published_rows(options.what, options.paper)
    for option, column, wanted in (
        ("optimizer", "optimizer", options.optimizer),
        ("size", "model_size", options.size),
        ("variant", "variant", options.variant.removeprefix("all")),
        ("ratio", "chinchilla_ratio", f"{options.ratio:g}" if options.ratio else ""),
    ):
        rows = _filtered(rows, column, wanted, f"{options.what} of {option}") if wanted else rows
    if options.what == "results":
        rows = _ranked(rows)
    if options.json:
        print(json.dumps(rows, indent=1))
        return 0
    columns = [name for name in COLUMNS[options.what] if any(row.get(name) is not None for row in rows)]
    same = [name for name in columns[:-1] if len(rows) > 1 and len({str(row.get(name)) for row in rows}) == 1]
    columns = [name for name in columns if name not in same]
    cells = [[_cell(row.get(name), DIGITS.get(name, 4)) for name in columns] for row in rows]
    words = [name for name in columns if isinstance(rows[0].get(name), str)]
    all_of = ", ".join(f"{name} {_cell(rows[0][name], DIGITS.get(name, 4))}" for name in same)
    title = f"{len(rows)} {options.what}" + (f", all of {all_of}" if same else "")
    screen.print_table(title, columns, cells, left=len(words))
    for row in rows:
        if row.get("note") and options.what == "track3":
            screen.out(f"* {row['number']}: {row['note']}")
    return 0


COLUMNS: dict[What, tuple[str, ...]] = {
    "results": ("paper", "optimizer", "model_size", "id", "chinchilla_ratio", "tokens", "loss", "uncertainty"),
    "speedups": ("optimizer", "model_size", "variant", "chinchilla_ratio", "speedup", "low", "high"),
    "sweeps": ("optimizer", "model_size", "hyperparameter", "value", "chinchilla_ratio", "loss"),
    "models": ("paper", "model_size", "layers", "hidden", "heads", "parameters_matrix", "parameters"),
    "configurations": ("paper", "optimizer", "model_size", "hyperparameters", "chinchilla_ratio", "tokens"),
    "records": ("id", "optimizer", "metric", "varied", "status", "value", "uncertainty"),
    "track3": (
        *("number", "name", "steps", "record", "runs", "loss", "loss_low", "loss_high", "against"),
        *("lead_steps", "lead_low", "lead_high", "verdict"),
    ),
}
"""What the terminal shows; ``--json`` has every column."""

DIGITS = dict.fromkeys(("lead_steps", "lead_low", "lead_high"), 0)
"""Decimals of a column; otherwise 4."""


def published_rows(what: What, paper: str = "both") -> list[dict[str, Any]]:
    """Flat rows, each with its ``paper``. Raises ValueError when that paper published no such numbers."""
    tables = {name: table for (kind, name), table in _tables().items() if kind == what and paper in (name, "both")}
    if not tables:
        others = [name for kind, name in _tables() if kind == what]
        raise ValueError(f"{paper} published no {what}; {' and '.join(others)} did")
    return [{"paper": name, **row} for name, table in tables.items() for row in table()]


def _tables() -> dict[tuple[str, str], Callable[[], list[dict[str, Any]]]]:
    chosen = ("optimizer", "model_size", "chinchilla_ratio", "tokens", "phase", "configuration_loss", "hyperparameters")
    return {
        ("results", "wen"): lambda: wen.results().to_dicts(),
        ("results", "semenov"): lambda: _final_losses().to_dicts(),
        ("speedups", "wen"): published_speedups,
        ("sweeps", "wen"): lambda: wen.sweeps().to_dicts(),
        ("models", "wen"): lambda: wen.models().to_dicts(),
        ("models", "semenov"): lambda: _models().to_dicts(),
        ("configurations", "wen"): lambda: wen.results().select(chosen).to_dicts(),
        ("configurations", "semenov"): lambda: _configurations().to_dicts(),
        ("records", "semenov"): lambda: _sized(semenov.records()).to_dicts(),
        ("track3", "track3"): result_rows,
    }


def _final_losses() -> pl.DataFrame:
    import polars as pl

    final = semenov.records().filter((pl.col("metric") == semenov.FULL) & (pl.col("varied") == "{}"))
    batch_tokens = pl.col("batch_sequences") * pl.col("context")
    return _sized(final).rename({"value": "loss"}).with_columns(batch_tokens=batch_tokens).drop("varied")


def _models() -> pl.DataFrame:
    shape = ["model_size", "parameters", "layers", "heads", "hidden"]
    return _sized(semenov.configurations()).select(shape).unique(maintain_order=True)


def _configurations() -> pl.DataFrame:
    """With lr, weight decay and the rest in one JSON column, as W has them."""
    import polars as pl

    names = ["lr", "weight_decay", "warmup_steps", "clip_norm", "schedule", "betas", "other"]
    return _sized(semenov.configurations()).with_columns(hyperparameters=pl.struct(names).struct.json_encode())


def _sized(table: pl.DataFrame) -> pl.DataFrame:
    return table.rename({"scale": "model_size"})


def _filtered(rows: list[dict[str, Any]], column: str, wanted: str, what: str) -> list[dict[str, Any]]:
    """Rows with a value. Raises ValueError, with those that there are, if no row has it."""
    spelled = spellings(wanted) if column == "optimizer" else {_key(wanted)}
    values = [str(row.get(column) or "") for row in rows]
    kept = [row for row, value in zip(rows, values, strict=True) if _key(value) in spelled]
    if not kept:
        there = ", ".join(dict.fromkeys(filter(None, values)))
        raise ValueError(f"no published {what} {wanted!r}; there are {there or 'none'}")
    return kept


def _ranked(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Settings in their order, losses of one setting from the lowest."""
    settings: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        keys = ("paper", "model_size", "id", "chinchilla_ratio", "batch_tokens", "tokens")
        settings.setdefault(tuple(row.get(key) for key in keys), []).append(row)
    return [row for mine in settings.values() for row in sorted(mine, key=lambda row: float(row["loss"]))]


def spellings(name: str) -> set[str]:
    """Every paper's and our own spelling of an optimizer; case, hyphens and underscores do not matter."""
    spelled = {_key(name)}
    for spec in optim.specs().values():
        words = {_key(word) for word in (spec.name, *spec.aliases)}
        spelled |= words if spelled & words else set()
    return spelled


def _key(word: str) -> str:
    return re.sub(r"[-_ ]", "", word.lower())


def _cell(value: Any, digits: int) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else ""
    return f"{value:.{digits}f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
