"""Two or more stores compared: runs that both have, and contestants that competed in the same cell."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairstep.analysis import AnalysisError, Outcome, Trials, paired_difference, plural, verdicts
from fairstep.report.loaded import LoadedContest
from fairstep.report.section import Part, Section, paragraph
from fairstep.report.table import Column, Table, numbers
from fairstep.runs import Ledger, Store

Row = dict[str, Any]

RUNS = (
    Column("run", "run"),
    Column("first", "store"),
    Column("second", "other store"),
    *numbers(".6f", loss="final loss", other="other's"),
    Column("difference", "difference", number=True, show="+.2e"),
)
CONTESTANTS = (
    Column("contestant", "contestant"),
    Column("cell", "cell"),
    Column("first", "store: contest", long=True),
    Column("second", "other store: contest", long=True),
    *numbers(".4f", loss="final loss", other="other's"),
    *numbers("+.4f", difference="difference", low="low", high="high"),
    Column("seeds", "shared seeds", number=True),
    Column("verdict", "verdict"),
    Column("other_verdict", "other's verdict"),
    Column("agree", "agree"),
)


@dataclass(frozen=True)
class Judged:
    """A contest as one store has it. ``verdicts``: contestant -> outcome."""

    store: str
    ledger: Ledger
    trials: Trials
    verdicts: Mapping[str, Outcome]

    @classmethod
    def of(cls, store: Store, ledger: Ledger) -> Judged:
        """Raises AnalysisError when the runs cannot be compared."""
        trials = Trials.read(ledger, store.runs())
        return cls(str(store.path), ledger, trials, {one.name: one.verdict for one in verdicts(trials)})


def judged_alone(stores: Sequence[Store], contests: Sequence[LoadedContest]) -> tuple[list[Judged], list[str]]:
    """The contests as each store has them; and of those that cannot be judged in one store alone, a sentence each."""
    wanted = {contest.ledger.name for contest in contests}
    judged, problems = [], []
    for store, ledger in [(at, one) for at in stores for one in at.ledgers() if one.name in wanted]:
        try:
            judged.append(Judged.of(store, ledger))
        except AnalysisError as error:
            problems.append(f"{store.path}, {ledger.name}: {error}")
    return judged, problems


def disagreement(judged: Sequence[Judged]) -> str:
    """What two stores contradict one another in; empty if nothing."""
    losses = [abs(row["difference"]) for row in shared_runs(judged) if row["difference"] != 0]
    said = [f"{plural(len(losses), 'run')} with another loss, by at most {max(losses):.2g} nats"] if losses else []
    turned = sum(row["agree"] == "no" for row in contestant_rows(judged))
    said += [f"{plural(turned, 'contestant')} with another verdict"] if turned else []
    return f"The stores disagree: {' and '.join(said)}." if said else ""


def compared_section(judged: Sequence[Judged], problems: Sequence[str]) -> Section:
    """Both comparisons, with a sentence where there is nothing to compare. ``problems``: of ``judged_alone``."""
    same = shared_runs(judged)
    parts: list[Part] = [paragraph(_same_words(same)), *(paragraph(f"Not compared: {line}.") for line in problems)]
    if same:
        parts.append(Table("shared-runs", "Runs that ended in both stores", RUNS, same))
    if beside := contestant_rows(judged):
        words = (
            "The same contestant in the same cell (model, text, budget, batch, precision): difference of final losses, "
            "store minus other store, paired where they share seeds, with its 95 % interval."
        )
        same_cells = Table("same-cells", "Contestants of the same cell", CONTESTANTS, beside, ("contestant", "agree"))
        parts += [paragraph(words), same_cells]
    else:
        parts.append(paragraph("No contestant competed in the same cell in both stores, so no losses are compared."))
    return Section("compared", "The stores compared", parts)


def shared_runs(judged: Iterable[Judged]) -> list[Row]:
    """Runs of one identity with a final loss in two stores; they are the same experiment."""
    losses: dict[str, dict[str, float]] = {}
    for contest in judged:
        ended = {row["run"]: row["final_loss"] for row in contest.trials.rows if row["final_loss"] is not None}
        losses[contest.store] = losses.get(contest.store, {}) | ended
    rows = []
    for first, second in itertools.combinations(losses, 2):
        for run in sorted(losses[first].keys() & losses[second].keys()):
            loss, other = losses[first][run], losses[second][run]
            row: Row = {"run": run, "first": first, "second": second}
            rows.append(row | {"loss": loss, "other": other, "difference": loss - other})
    return rows


def contestant_rows(judged: Iterable[Judged]) -> list[Row]:
    """One row for each contestant of two contests in different stores and the same cell."""
    rows = []
    for mine, theirs in itertools.combinations(judged, 2):
        if mine.store == theirs.store or _cell(mine.ledger) != _cell(theirs.ledger):
            continue
        for name in (name for name in mine.verdicts if name in theirs.verdicts):
            losses, other = mine.trials[name].losses, theirs.trials[name].losses
            row: Row = {"contestant": name, "cell": f"{mine.ledger.cell.model}, {mine.ledger.cell.tokens} tokens"}
            row |= {"first": f"{mine.store}: {mine.ledger.name}", "second": f"{theirs.store}: {theirs.ledger.name}"}
            row |= {"loss": _mean(losses), "other": _mean(other)}
            row |= {"verdict": mine.verdicts[name], "other_verdict": theirs.verdicts[name]}
            row["agree"] = "yes" if mine.verdicts[name] == theirs.verdicts[name] else "no"
            rows.append(row | _difference(losses, other))
    return rows


def _difference(losses: Mapping[Any, float], other: Mapping[Any, float]) -> Row:
    try:
        difference = paired_difference(losses, other)
    except AnalysisError:  # no shared seed
        return {"difference": None, "low": None, "high": None, "seeds": 0}
    ends = (difference.low, difference.high) if difference.has_interval else (None, None)
    return {"difference": difference.value, "low": ends[0], "high": ends[1], "seeds": difference.count}


def _cell(ledger: Ledger) -> tuple[Any, ...]:
    cell = ledger.cell
    return (cell.model, cell.parameters, cell.fingerprint, cell.tokens, cell.batch_tokens, cell.precision)


def _mean(losses: Mapping[Any, float]) -> float | None:
    return sum(losses.values()) / len(losses) if losses else None


def _same_words(rows: Sequence[Row]) -> str:
    if not rows:
        return "No run ended in two of the stores."
    differ = [row for row in rows if row["difference"] != 0]
    if not differ:
        return f"{len(rows)} runs ended in two stores, with the same losses to the last bit."
    largest = max(abs(row["difference"]) for row in differ)
    return (
        f"{len(rows)} runs ended in two stores; {len(differ)} of them with different losses, by at most {largest:.2e} "
        "nats. A run gives the same losses on one machine and software, and only there."
    )
