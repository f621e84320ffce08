"""One page for many contests: those of a store or a study, or of several stores merged and compared.

A contest that lies in several stores under one name is one contest: its trials and runs are united, as if the folders
had been copied into one another, and of a run that ended in two of them the first store's is taken. What the stores
say about the same run or the same cell is compared in a section of its own.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairstep.analysis import AnalysisError, count_text, plural
from fairstep.report import contest, scaling
from fairstep.report.compared import compared_section
from fairstep.report.contest import Contest, Loaded
from fairstep.report.drawing import Look
from fairstep.report.markup import colours, symbols, text
from fairstep.report.published_wen import TREND_COLUMNS, trend_rows
from fairstep.report.section import Page, Section, figure, how, paragraph, template
from fairstep.report.table import Column, Table
from fairstep.runs import Certificate, Choice, Ledger, Run, Store, Trial

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Entry:
    """A contest and the stores it is from, as the user named them."""

    ledger: Ledger
    runs: tuple[Run, ...]
    stores: tuple[str, ...]


def gather(stores: Sequence[Store], wanted: str = "") -> list[Entry]:
    """All contests, or those whose name or study is ``wanted``; contests of one name are merged.

    Raises ValueError when there is none, StoreError for a ledger that cannot be read.
    """
    found: dict[str, list[tuple[Store, Ledger]]] = {}
    for store in stores:
        ledgers = store.ledgers()
        if not ledgers:
            raise ValueError(f"{store.path} holds no contest; `fairstep compare` or `fairstep demo` makes one")
        for ledger in ledgers:
            found.setdefault(ledger.name, []).append((store, ledger))
    chosen = {n: m for n, m in found.items() if wanted in ("", n, m[0][1].study)}
    if not chosen:
        where = ", ".join(str(store.path) for store in stores)
        raise ValueError(f"{where} holds no contest {wanted!r}; it holds {', '.join(found)}")
    return [merged(members) for members in chosen.values()]


def merged(members: Sequence[tuple[Store, Ledger]]) -> Entry:
    """One contest from its copies. A trial counts once; its run is that of the first store where it has ended."""
    trials: dict[tuple[str, str, str], Trial] = {}
    runs: dict[str, Run] = {}
    choices: dict[str, Choice] = {}
    proofs: dict[str, Certificate] = {}
    for store, ledger in members:
        choices = {**ledger.choices, **choices}
        proofs = {**ledger.certificates, **proofs}
        for trial in ledger.trials:
            trials.setdefault((trial.contestant, trial.phase, trial.run), trial)
            run = store.run(trial.run)
            if trial.run not in runs or not runs[trial.run].finished:
                runs[trial.run] = run if run.directory.is_dir() or trial.run not in runs else runs[trial.run]
    first = members[0][1]
    names = tuple(dict.fromkeys(name for _, ledger in members for name in ledger.contestants))
    ledger = first.model_copy(
        update={
            "contestants": names,
            "choices": choices,
            "certificates": proofs,
            "trials": tuple(trials.values()),
        }
    )
    return Entry(ledger, tuple(runs.values()), tuple(str(store.path) for store, _ in members))


def page(entries: Sequence[Entry], stores: Sequence[Store]) -> Page:
    """A page of one contest, or of several with an overview.

    Of several, those whose runs cannot be compared, or that have not begun, are named with the reason. Raises
    AnalysisError when none is left.
    """
    many = len(entries) > 1 or len(stores) > 1
    loaded, shown, problems = [], [], []
    for place, entry in enumerate(entries, 1):
        try:
            loaded.append(Contest.read(entry.ledger, entry.runs, entry.stores[0], f"c{place}-" if many else ""))
            shown.append(entry)
        except AnalysisError as error:
            problems.append(f"{entry.ledger.name}: {error}")
    if not loaded:
        raise AnalysisError(problems[0] if many else problems[0].partition(": ")[2])
    baseline = _shared(item.ledger.baseline for item in loaded)
    method = Section("method", "Method", template("method.html", baseline=text(baseline)))
    return _of_many(loaded, shown, stores, problems, method) if many else _of_one(loaded[0], method)


def _of_one(only: Loaded, method: Section) -> Page:
    first, _, rest = only.headline.partition("; ")
    return Page(
        bar=contest.cell_words(only.ledger),
        first=first,
        rest=rest,
        lede=contest.lede(only),
        sections=[*contest.sections(only), method],
        result=only.result,
        title=only.headline,
    )


def _of_many(
    loaded: Sequence[Loaded],
    entries: Sequence[Entry],
    stores: Sequence[Store],
    problems: Sequence[str],
    method: Section,
) -> Page:
    rows = flat_rows(loaded, entries)
    sections = [_overview(loaded, entries, problems)]
    if len(stores) > 1:
        sections.append(compared_section(stores, entries))
    sections.append(_contests(loaded, entries))
    verdicts = [row["verdict"] for row in rows if row["verdict"] != "baseline"]
    counted = ", ".join(f"{verdicts.count(kind)} {kind}" for kind in dict.fromkeys(sorted(verdicts)))
    left_out = f" {plural(len(problems), 'contest')} left out." if problems else ""
    return Page(
        bar=" + ".join(str(store.path) for store in stores),
        first=f"{plural(len(entries), 'contest')} in {plural(len(stores), 'store')}",
        rest=f"Verdicts on contestants: {counted}.{left_out}",
        lede="Each contest is one cell: a model, a token budget, a batch size and a text. Losses of different cells "
        "are never compared; speedups are.",
        sections=[*(section for section in sections if section.body), method],
        result=rows,
    )


def flat_rows(loaded: Iterable[Loaded], entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """One row for each contestant of each contest: the contest, its stores and cell, then the verdict's numbers."""
    rows = []
    for item, entry in zip(loaded, entries, strict=True):
        cell = item.ledger.cell
        head: dict[str, Any] = {
            "contest": item.ledger.name,
            "study": item.ledger.study,
            "store": " + ".join(entry.stores),
        }
        head |= {"model": cell.model, "parameters_matrix": cell.parameters_matrix, "data": cell.data}
        head |= {"batch_tokens": cell.batch_tokens}
        for row in item.result["contestants"]:
            plain = {key: value for key, value in row.items() if not isinstance(value, dict | list | tuple)}
            rows.append({**head, "tokens": cell.tokens, **plain})
    return rows


COLUMNS = (
    Column("contest", "contest"),
    Column("model", "model"),
    Column("tokens", "tokens", number=True, show=count_text),
    Column("batch_tokens", "batch", number=True, show=count_text),
    Column("name", "contestant"),
    Column("verdict", "verdict"),
    Column("loss", "final loss", number=True, show=lambda value: f"{value:.4f}"),
    Column("speedup", "speedup", number=True),
    Column("speedup_low", "low", number=True),
    Column("speedup_high", "high", number=True),
    Column("time_speedup", "in time", number=True),
    Column("reason", "reason", long=True),
    Column("store", "store"),
)


def _overview(loaded: Sequence[Loaded], entries: Sequence[Entry], problems: Sequence[str]) -> Section:
    rows = flat_rows(loaded, entries)
    table = Table("overview", "Verdicts of all contests", COLUMNS, rows, ("contest", "name", "verdict"))
    names = tuple(dict.fromkeys(row["name"] for row in rows))
    baseline = loaded[0].ledger.baseline
    look = Look(colours(names, baseline), symbols(names))
    known = [
        {
            "optimizer": row["name"],
            "model_size": row["model"],
            "parameters": row["parameters_matrix"],
            "chinchilla_ratio": float(f"{row['tokens'] / (20 * row['parameters_matrix']):.2g}"),
            "speedup": row["speedup"],
            "low": row["speedup_low"],
            "high": row["speedup_high"],
            "label": row["contest"],
        }
        for row in rows
        if row["speedup"] and row["verdict"] != "baseline"
    ]
    body, drawn, tables = contest.notes("Left out", problems) + table.html(), {}, [table]
    for key, axis, group, titles in (
        ("ratio", "chinchilla_ratio", "model_size", ("Chinchilla ratio", "size")),
        ("size", "parameters", "chinchilla_ratio", ("matrix parameters", "ratio")),
    ):
        if len({row[axis] for row in known}) > 1:
            body += figure(key, f"Speedup against {titles[0]}", f"Speedups in tokens against {titles[0]}, as verdicts.")
            drawn[key] = scaling.speedups(known, axis, group, look, titles)
    trends = trend_rows(known, {row["model_size"]: row["parameters"] for row in known})
    if trends:
        found = Table("trends", "Does the advantage shrink?", TREND_COLUMNS, trends)
        body += paragraph("Trend: the factor of a speedup when the size or the data ratio doubles.") + found.html()
        tables.append(found)
    paths = dict.fromkeys(path for entry in entries for path in entry.stores)
    repeat = shlex.join(["fairstep", "report", *paths, "--json"])
    return Section("overview-section", "All verdicts", body + how(repeat), drawn, tuple(tables))


def _contests(loaded: Sequence[Loaded], entries: Sequence[Entry]) -> Section:
    """Every contest behind a fold, whose figures are drawn when it is opened."""
    folds, tables = "", []
    figures: dict[str, Any] = {}
    for item, entry in zip(loaded, entries, strict=True):
        parts = contest.sections(item)
        inside = "".join(section.html() for section in parts)
        where = f"{contest.cell_words(item.ledger)} · {' + '.join(entry.stores)}"
        folds += (
            f'<details class="contest"><summary>{text(item.ledger.name)}: {text(item.headline)}</summary>'
            f'<p class="how">{text(where)}</p>{inside}</details>'
        )
        figures |= {key: value for section in parts for key, value in section.figures.items()}
        tables += [table for section in parts for table in section.tables]
    return Section("contests", "The contests one by one", folds, figures, tuple(tables))


def _shared(names: Iterable[str]) -> str:
    found = list(dict.fromkeys(names))
    return found[0] if len(found) == 1 else "the baseline"
