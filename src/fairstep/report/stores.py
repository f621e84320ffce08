"""The page of one contest, or of many: all contests of a store or a study, or several stores merged and compared.

A section compares what several stores say about the same run and the same cell.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fairstep.analysis import AnalysisError, Trials, count_text, plural
from fairstep.analysis.verdict.wording import speedup_text
from fairstep.report import contest_sections, scaling
from fairstep.report.borrowed import borrowed_section
from fairstep.report.compared import compared_section, disagreement, judged_alone
from fairstep.report.doublings import doubling_section
from fairstep.report.drawing import Look
from fairstep.report.loaded import LoadedContest
from fairstep.report.markup import text
from fairstep.report.published_wen import TREND_COLUMNS, trend_rows
from fairstep.report.section import Figure, Page, Part, Section, how, paragraph, template
from fairstep.report.table import Column, Table, numbers
from fairstep.runs import Store
from fairstep.runs.differences import distinct, facts, siblings
from fairstep.runs.ledger import chinchilla_ratio
from fairstep.runs.merge import StoredContest

Row = Mapping[str, Any]


def page(entries: Sequence[StoredContest], stores: Sequence[Store]) -> Page:
    """A page of one contest, or of several with an overview.

    Contests whose runs cannot be compared, or that have not begun, are left out; the overview names each with the
    reason. Raises AnalysisError when none is left.
    """
    many = len(entries) > 1 or len(stores) > 1
    loaded, problems = [], []
    for place, entry in enumerate(entries, 1):
        try:
            trials = Trials.read(entry.ledger, entry.runs)
            prefix = f"c{place}-" if many else ""
            loaded.append(LoadedContest.of(entry.ledger, trials, *entry.stores, prefix=prefix))
        except AnalysisError as error:
            problems.append(f"{entry.ledger.name}: {error}")
    if not loaded:
        raise AnalysisError(problems[0] if many else problems[0].partition(": ")[2])
    if not many:
        return contest_page(loaded[0])
    return _of_many(loaded, stores, problems)


def contest_page(loaded: LoadedContest) -> Page:
    """The page of one contest."""
    first, _, rest = loaded.headline.partition("; ")
    return Page(
        bar=contest_sections.cell_words(loaded.ledger),
        first=first,
        rest=rest,
        lede=contest_sections.lede(loaded),
        sections=[*contest_sections.sections(loaded), _method([loaded])],
        result=loaded.result,
        title=loaded.headline,
    )


def _of_many(loaded: Sequence[LoadedContest], stores: Sequence[Store], problems: Sequence[str]) -> Page:
    rows = flat_rows(loaded)
    sections = [_overview(rows, loaded, problems)]
    judged, alone = judged_alone(stores, loaded) if len(stores) > 1 else ([], [])
    if len(stores) > 1:
        sections.append(compared_section(judged, alone))
    sections += [doubling_section(rows), borrowed_section(loaded), _contests(loaded)]
    verdicts = [row["verdict"] for row in rows if row["verdict"] != "baseline"]
    counted = ", ".join(f"{verdicts.count(kind)} {kind}" for kind in dict.fromkeys(sorted(verdicts)))
    left_out = f" {plural(len(problems), 'contest')} left out." if problems else ""
    return Page(
        bar=" + ".join(str(store.path) for store in stores),
        first=f"{plural(len(loaded), 'contest')} in {plural(len(stores), 'store')}",
        rest=f"Verdicts on contestants: {counted}.{left_out} {disagreement(judged)}".strip(),
        lede="Each contest is one cell: a model, a token budget, a batch size and a text. Losses of different cells "
        "are never compared; speedups are.",
        sections=[*(section for section in sections if section.parts), _method(loaded)],
        result=rows,
    )


def flat_rows(loaded: Sequence[LoadedContest]) -> list[dict[str, Any]]:
    """One row for each contestant of each contest: the contest, its stores and cell, then the verdict's numbers."""
    rows = []
    told = distinct([item.ledger for item in loaded])
    for item in loaded:
        cell, known = item.ledger.cell, facts(item.ledger)
        differences = "; ".join(f"{name} {known[name]}" for name in told)
        head: dict[str, Any] = {
            "contest": item.ledger.name,
            "study": item.ledger.study,
            "store": " + ".join(item.stores),
        }
        head |= {"model": cell.model, "parameters_matrix": cell.parameters_matrix, "data": cell.data}
        head |= {"batch_tokens": cell.batch_tokens, "transfer": item.ledger.transfer}
        for row in item.result["contestants"]:
            plain = {key: value for key, value in row.items() if not isinstance(value, dict | list | tuple)}
            words = {"speedup_words": speedup_text(row), "differences": differences}
            rows.append({**head, "tokens": cell.tokens, **plain, **words})
    return rows


COLUMNS = (
    Column("contest", "contest"),
    Column("differences", "what differs", long=True),
    Column("model", "model"),
    *numbers(count_text, tokens="tokens", batch_tokens="batch"),
    Column("name", "contestant"),
    Column("verdict", "verdict"),
    Column("loss", "final loss", number=True, show=".4f"),
    Column("speedup", "speedup", number=True),
    Column("speedup_words", "with its interval"),
    Column("time_speedup", "in time", number=True),
    Column("reason", "reason", long=True),
    Column("store", "store"),
)


def _overview(rows: Sequence[Row], loaded: Sequence[LoadedContest], problems: Sequence[str]) -> Section:
    table = Table("overview", "Verdicts of all contests", COLUMNS, rows, ("contest", "name", "verdict"))
    names = tuple(dict.fromkeys(row["name"] for row in rows))
    baseline = loaded[0].ledger.baseline
    look = Look.of(names, baseline)
    points = [
        {
            "optimizer": row["name"],
            "model_size": row["model"] + (f", {row['transfer']}" if row["transfer"] else ""),
            "parameters": row["parameters_matrix"],
            "rule": row["transfer"],
            "chinchilla_ratio": (ratio := chinchilla_ratio(row["tokens"], row["parameters_matrix"])),
            "ratio": f"{ratio:g}" + (f", {row['transfer']}" if row["transfer"] else ""),
            "speedup": row["speedup"],
            "low": row["speedup_low"],
            "high": row["speedup_high"],
            "label": row["contest"],
        }
        for row in rows
        if row["speedup"] and row["verdict"] != "baseline"
    ]
    ledgers = [item.ledger for item in loaded]
    attempts = [sentence for ledger in ledgers if (sentence := siblings(ledger, ledgers))]
    notes = [contest_sections.notes("Left out", problems), contest_sections.notes("Several attempts", attempts)]
    parts: list[Part] = [*notes, table]
    for key, axis, group, titles in (
        ("ratio", "chinchilla_ratio", "model_size", ("Chinchilla ratio", "size")),
        ("size", "parameters", "ratio", ("matrix parameters", "ratio")),
    ):
        if len({row[axis] for row in points}) > 1:
            drawing = scaling.speedups(points, axis, group, look, titles)
            caption = f"Speedups in tokens against {titles[0]}, as verdicts."
            parts.append(Figure(key, f"Speedup against {titles[0]}", caption, drawing))
    parameters = {row["model_size"]: row["parameters"] for row in points}
    trends = []
    for rule in dict.fromkeys(row["rule"] for row in points):
        alike = trend_rows([row for row in points if row["rule"] == rule], parameters)
        trends += [{**row, "optimizer": f"{row['optimizer']}, {rule}" if rule else row["optimizer"]} for row in alike]
    if trends:
        parts.append(paragraph("Trend: the factor of a speedup when the size or the data ratio doubles."))
        parts.append(Table("trends", "Does the advantage shrink?", TREND_COLUMNS, trends))
    paths = dict.fromkeys(path for item in loaded for path in item.stores)
    parts.append(how(shlex.join(["fairstep", "report", *paths, "--json"])))
    return Section("overview-section", "All verdicts", parts)


def _contests(loaded: Sequence[LoadedContest]) -> Section:
    """Every contest behind a fold, whose figures are drawn when it is opened."""
    parts: list[Part] = []
    for item in loaded:
        where = f"{contest_sections.cell_words(item.ledger)} · {' + '.join(item.stores)}"
        summary = f"<summary>{text(item.ledger.name)}: {text(item.headline)}</summary>"
        parts.append(f'<details class="contest">{summary}<p class="how">{text(where)}</p>')
        parts += [*contest_sections.sections(item), "</details>"]
    return Section("contests", "The contests one by one", parts)


def _method(loaded: Iterable[LoadedContest]) -> Section:
    baselines = list(dict.fromkeys(contest.ledger.baseline for contest in loaded))
    name = baselines[0] if len(baselines) == 1 else "the baseline"
    return Section("method", "Method", [template("method.html", baseline=text(name))])
