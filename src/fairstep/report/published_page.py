"""The page of published numbers of both papers and a track: figures that our functions draw from tables, and claims."""

from __future__ import annotations

import math
from typing import Any

from fairstep.analysis import claims_text, count_text, plural, published_speedups
from fairstep.analysis.claims import claim_rows
from fairstep.analysis.claims.published_evidence import semenov_evidence, wen_evidence
from fairstep.analysis.verdict.track import result_rows
from fairstep.published import semenov, wen
from fairstep.report import published_track3, published_wen, scaling
from fairstep.report.claims import claims_table
from fairstep.report.drawing import Look
from fairstep.report.published_figures import gaps_to_baseline
from fairstep.report.section import Figure, Page, Part, Section, command, how, paragraph
from fairstep.report.table import Column, Table, numbers

BASELINE = "adamw"


def published_page() -> Page:
    """Both papers and the track on one page."""
    claims = claim_rows()
    speedups = published_speedups()
    names = [row["optimizer"] for row in speedups] + [name for c in semenov_evidence().cells for name in c.losses]
    contestants = tuple(dict.fromkeys([BASELINE, *names]))
    look = Look.of(contestants, BASELINE)
    track = published_track3.section()
    sections = [
        published_wen.speedups(speedups, look),
        published_wen.laws(look),
        _settings(look),
        published_wen.sweeps(look),
        _time(look),
        track,
        _claims(claims),
        _numbers(),
        _reproduce(),
    ]
    verdicts = [row["verdict"] for row in claims]
    counted = claims_text(verdicts)
    best = max((row for row in speedups if row["variant"] == published_wen.FIGURE), key=lambda row: row["speedup"])
    first = f"Against a tuned AdamW no speedup that Wen et al. printed exceeds {best['speedup']:.2f}x"
    largest = max(speedups, key=lambda row: row["speedup"])
    recomputed = (
        f"The largest of the speedups recomputed here from their losses is {largest['speedup']:.2f}x "
        f"({largest['optimizer']}, {largest['model_size']}, {largest['chinchilla_ratio']:g}x Chinchilla, by "
        f"{largest['variant']})."
    )
    return Page(
        bar="published numbers of two studies and a public track",
        first=first,
        rest=f"Of {len(claims)} claims of both papers and the track {counted}. {recomputed}",
        lede="W: Wen, Hall, Ma, Liang, arXiv 2509.02046. S: Semenov, Pagliardini, Jaggi, arXiv 2509.01440. T: "
        "modded-nanogpt's optimization track. Every number below is from their tables, figures and logs, through the "
        "same functions that judge contests of your own.",
        sections=sections,
        result={"claims": claims, "speedups": speedups, "track3": result_rows()},
    )


def _settings(look: Look) -> Section:
    panels: dict[str, list[dict[str, Any]]] = {}
    rows: list[dict[str, Any]] = []
    for cell in [*semenov_evidence().select(metric="main"), *wen_evidence().cells]:
        paper = "S" if cell.data == "semenov" else "W"
        for name in cell.ranked():
            gap = cell.gap(name, BASELINE)
            if gap is None or not math.isfinite(gap.value):
                continue
            low, high = (0.0, 0.0) if name == BASELINE else (gap.low, gap.high)
            row: dict[str, Any] = {"paper": paper, "setting": f"{paper} {cell.label}", "optimizer": name}
            row |= {"loss": cell.losses[name].value, "gap": gap.value, "low": low, "high": high}
            rows.append(row)
            panels.setdefault(row["setting"], []).append(row)
    table = Table(
        "settings",
        "Final losses by setting",
        (
            Column("setting", "setting"),
            Column("optimizer", "optimizer"),
            Column("loss", "final loss", number=True, show=".4f"),
            *numbers("+.4f", gap="nats below AdamW", low="low", high="high"),
        ),
        rows,
        ("paper", "setting", "optimizer"),
    )
    caption = (
        "Every setting of both papers: model, batch (sequences x tokens) and tokens of S, size and Chinchilla ratio of "
        "W. S's bars are the width of reading its figures, W's the noise of its records; neither has a second seed."
    )
    drawing = gaps_to_baseline(panels, look, "AdamW")
    figure = Figure("settings", "Nats below AdamW in one setting", caption, drawing)
    repeat = how("fairstep published results --json", "fairstep claims F1 F2 F3 F17")
    return Section("settings-section", "Who is ahead where", [figure, table, repeat])


def _time(look: Look) -> Section:
    rows = []
    for size, taken in semenov.step_seconds().items():
        if BASELINE in taken:
            base, error = taken[BASELINE]
            for name, (value, width) in taken.items():
                low, high = (value - width) / (base + error), (value + width) / (base - error)
                low, high = (1.0, 1.0) if name == BASELINE else (low, high)
                rows.append(
                    {
                        "optimizer": name,
                        "parameters": size,
                        "seconds": value / 100,
                        "ratio": value / base,
                        "low": low,
                        "high": high,
                        "label": count_text(size),
                    }
                )
    table = Table(
        "steps",
        "Seconds of a step",
        (
            Column("optimizer", "optimizer"),
            Column("parameters", "parameters", number=True, show=count_text),
            *numbers(seconds="seconds a step", ratio="times AdamW's", low="low", high="high"),
        ),
        rows,
        ("optimizer",),
    )
    drawn = [row | {"speedup": row["ratio"], "group": "16 sequences of 512"} for row in rows]
    picture = scaling.speedups(drawn, "parameters", "group", look, ("parameters", "batch of"))
    picture["layout"]["yaxis"]["title"]["text"] = "seconds of a step over AdamW's"
    figure = Figure(
        "steps",
        "Step time relative to AdamW against model size",
        "S's measurement of step times on one GPU, relative to AdamW's (read off its figure; the bars are the "
        "reading). Neither paper published memory; `fairstep recommend` counts it from the rules.",
        picture,
    )
    repeat = how("fairstep published records --paper semenov --json", "fairstep claims F18")
    return Section("time-section", "Wall-clock", [figure, table, repeat])


def _claims(rows: list[dict[str, Any]]) -> Section:
    words = (
        "A claim holds if every part of it is supported, fails if one is contradicted, and is inconclusive if an "
        "interval contains both or something is missing; the evidence says which."
    )
    repeat = how("fairstep claims", "fairstep claims W3a", "fairstep claims --store runs/mine")
    return Section("claims-section", "The papers' claims", [paragraph(words), claims_table("claims", rows), repeat])


def _numbers() -> Section:
    """Where every value is from."""
    columns = ("id", "optimizer", "scale", "tokens", "metric", "value", "uncertainty", "varied", "source", "how")
    counted = ("tokens", "value", "uncertainty")
    shapes = tuple(
        Column(key, key, number=key in counted, long=key in ("varied", "source", "how"), show=_shown(key))
        for key in columns
    )
    values = semenov.records().to_dicts()
    records = Table("records", "S's values with their sources", shapes, values, ("id", "optimizer"))
    keys = ("optimizer", "model_size", "chinchilla_ratio", "loss", "loss_snapshot_2025_05", "phase", "hyperparameters")
    cells = Table(
        "cells",
        "W's cells with the best configuration",
        tuple(
            Column(
                key,
                key.replace("_", " "),
                number=key in ("chinchilla_ratio", "loss", "loss_snapshot_2025_05"),
                long=key == "hyperparameters",
                show=_shown(key),
            )
            for key in keys
        ),
        wen.results().to_dicts(),
        ("optimizer", "model_size", "phase"),
    )
    parts: list[Part] = [
        paragraph(f"{plural(len(cells.rows), 'cell')} of W: the best loss on record and its configuration."),
        cells,
        paragraph(f"{plural(len(records.rows), 'value')} of S, with the figure or table, and how it was read."),
        records,
        how("fairstep published configurations --json", "fairstep published records --json"),
    ]
    return Section("numbers-section", "Every published number, with its source", parts)


def _shown(key: str) -> Any:
    if key == "tokens":
        return count_text
    return ".4f" if key.startswith("loss") else ""


def _reproduce() -> Section:
    words = (
        "The numbers are part of the package; nothing is downloaded. In Python: "
        "from fairstep.published import wen, semenov, track3; from fairstep.analysis import published_speedups."
    )
    return Section("reproduce", "Reproduce", [command("fairstep report --published --out site/"), paragraph(words)])
