"""The published page's sections on W: speedups with their trends, scaling laws, sweeps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from fairstep.analysis import AnalysisError, loss_law, ratio_trend, size_trend
from fairstep.analysis.claims.published_evidence import wen_evidence
from fairstep.analysis.claims.wen_tables import losses, noise
from fairstep.published import wen
from fairstep.report import scaling
from fairstep.report.drawing import Look
from fairstep.report.published_figures import rate_sweeps
from fairstep.report.section import Figure, Part, Section, how, paragraph
from fairstep.report.table import Column, Table, numbers

FIGURE = "figure_2025_05"
"""The variant that W printed."""


def speedups(rows: list[dict[str, Any]], look: Look) -> Section:
    parameters = dict(wen.models().select("model_size", "parameters_matrix").iter_rows())
    shown = [
        row | {"parameters": parameters[row["model_size"]], "label": f"{row['model_size']} {row['chinchilla_ratio']}x"}
        for row in rows
        if row["variant"] == FIGURE
    ]
    trends = Table(
        "trends", "Does the advantage shrink?", TREND_COLUMNS, trend_rows(shown, parameters), filters=("against",)
    )
    table = Table(
        "speedups",
        "Speedups in tokens",
        (
            Column("optimizer", "optimizer"),
            Column("model_size", "size"),
            Column("chinchilla_ratio", "Chinchilla ratio", number=True),
            Column("variant", "variant"),
            *numbers(speedup="speedup", low="low", high="high"),
            Column("per_millinat", "change for 0.001 nats", number=True, show=".2%"),
        ),
        rows,
        ("optimizer", "model_size", "variant"),
    )
    sigma = noise()
    parts: list[Part] = [
        Figure(
            "ratio",
            "Speedup against data ratio",
            "Tokens that AdamW needs for the optimizer's loss, by AdamW's law of the same size, over the optimizer's "
            "tokens (W's figures, state of 2025-05). Intervals are from the noise that W's own records show "
            f"({sigma.sigma:.5f} nats; one seed a cell), and leave out what another seed would add.",
            scaling.speedups(shown, "chinchilla_ratio", "model_size", look, ("Chinchilla ratio", "size")),
        ),
        Figure(
            "size",
            "Speedup against model size",
            "The same against matrix parameters.",
            scaling.speedups(shown, "parameters", "chinchilla_ratio", look, ("matrix parameters", "ratio")),
        ),
        paragraph(
            "Trend: the factor by which a speedup changes when the model (at ratios 1 to 8) or the data ratio doubles, "
            "with its 95 % interval. The model size is the unit, because all speedups of a size share AdamW's law."
        ),
        trends,
        paragraph("All variants: published, and recomputed with other losses, other points of the law, or no law."),
        table,
        how("fairstep published speedups --json", "fairstep claims W3a W3b W3c"),
    ]
    return Section("speedups-section", "Speedup against size and data", parts)


TREND_COLUMNS = (
    Column("optimizer", "optimizer"),
    Column("against", "when this doubles"),
    *numbers(factor="the speedup is multiplied by", low="low", high="high", sizes="sizes"),
    Column("direction", "so it"),
)


def trend_rows(rows: Iterable[Mapping[str, Any]], parameters: Mapping[str, float]) -> list[dict[str, Any]]:
    """Trends of every optimizer that has enough cells; infinite ends are null."""
    rows, trends = list(rows), []
    for name in dict.fromkeys(row["optimizer"] for row in rows):
        mine = [row for row in rows if row["optimizer"] == name]
        ratios = sorted({row["chinchilla_ratio"] for row in mine if row["chinchilla_ratio"] < 16})
        for against in ("size", "data ratio"):
            try:
                trend = size_trend(mine, parameters, ratios) if against == "size" else ratio_trend(mine)
            except AnalysisError:
                continue
            ends = {"low": trend.low, "high": trend.high}
            trends.append(
                {
                    "optimizer": name,
                    "against": against,
                    "factor": trend.factor,
                    **{key: value if math.isfinite(value) else None for key, value in ends.items()},
                    "sizes": trend.sizes,
                    "direction": trend.direction,
                }
            )
    return trends


def laws(look: Look) -> Section:
    """Laws of every optimizer and size with four budgets or more, on the losses of 2025-08."""
    table = losses()
    fits: dict[str, dict[str, Any]] = {}
    rows = []
    for name in look.colour:
        for size in wen.SIZES:
            curve = {ratio: loss for (who, where, ratio), loss in table.items() if (who, where) == (name, size)}
            if len(curve) > 3:
                law = loss_law(sorted(curve), [curve[ratio] for ratio in sorted(curve)], noise())
                fits.setdefault(name, {})[size] = law
                rows.append({"optimizer": name, "model_size": size, **law.row()})
    sizes = Look.of(wen.SIZES, "")
    columns = [Column("optimizer", "optimizer"), Column("model_size", "size")]
    for key in ("alpha", "B", "beta"):
        columns += [Column(key, key, number=True), Column(f"{key}_low", "low", number=True)]
        columns += [Column(f"{key}_high", "high", number=True)]
    columns += [Column("points", "points", number=True), Column("leave_one_out", "left out", number=True)]
    columns += [Column("warnings", "to know", long=True)]
    fitted = Table("laws", "Scaling laws", tuple(columns), rows, ("optimizer", "model_size"))
    caption = (
        "Final losses of W at Chinchilla ratio D and the law alpha D^-B + beta of each size, with residuals below. "
        "Left out: the error of predicting each point from the others, in nats."
    )
    drawing = scaling.laws(fits, sizes, "Chinchilla ratio")
    figure = Figure("laws", "Loss against data ratio with fitted laws and residuals", caption, drawing)
    repeat = how("fairstep published results --paper wen --json")
    return Section("laws-section", "Scaling laws", [figure, fitted, repeat])


def sweeps(look: Look) -> Section:
    panels: dict[str, dict[str, dict[float, float]]] = {}
    for cell in wen_evidence().cells:
        for (name, hyperparameter), values in cell.sweeps.items():
            finite = {value: loss.value for value, loss in values.items() if not loss.diverged and value > 0}
            if hyperparameter == "learning_rate" and len(finite) > 1:
                panels.setdefault(cell.label, {})[name] = finite
    caption = "W's sweeps of the learning rate around each optimizer's best configuration, without diverged runs."
    figure = Figure("sweeps", "Loss above the best one against learning rate", caption, rate_sweeps(panels, look))
    repeat = how("fairstep published sweeps --optimizer muon --size 130m --json", "fairstep study replay")
    return Section("sweeps-section", "Sweeps", [figure, repeat])
