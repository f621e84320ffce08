"""What tells the contests of one store apart: the facts of a ledger, and which of them differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fairstep.runs.certificate import words
from fairstep.runs.ledger import Ledger


def facts(ledger: Ledger) -> dict[str, str]:
    """A contest in words, by heading."""
    finals: dict[str, set[str]] = {}
    budgets: dict[int, int] = {}
    settings = []
    for trial in ledger.trials:
        if trial.phase == "final":
            finals.setdefault(trial.contestant, set()).add(trial.run)
        if trial.phase == "budget":
            budgets[trial.tokens] = budgets.get(trial.tokens, 0) + 1
    for name, choice in ledger.choices.items():
        if choice.hyperparameters:
            settings.append(f"{name}: {words(choice.hyperparameters)}")
    cell = ledger.cell
    return {
        "title": ledger.title,
        "model": cell.model,
        "tokens": f"{cell.tokens:,}",
        "batch": f"{cell.batch_tokens:,}",
        "text": cell.data,
        "fingerprint": cell.fingerprint[:16],
        "precision": cell.precision,
        "contestants": ", ".join(ledger.contestants),
        "baseline": ledger.baseline,
        "seeds": str(max(map(len, finals.values()), default=0)),
        "options": options_of(ledger.command),
        "budgets": str(len(budgets)),
        "chosen": "; ".join(settings),
    }


def options_of(command: str) -> str:
    """The options of the command that decide what is compared, without the store's and the machine's."""
    import shlex

    try:
        given = shlex.split(command)
    except ValueError:
        return ""
    kept: list[str] = []
    keep = False
    for word in given[1:]:
        if word.startswith("--"):
            keep = word.partition("=")[0] not in ELSEWHERE
        elif not kept and not keep:
            continue
        if keep:
            kept.append(word)
    return " ".join(kept)


ELSEWHERE = ("--store", "--report", "--json", "--workers", "--threads", "--save", "--launcher", "--title", "--seeds")


def distinct(ledgers: Iterable[Ledger]) -> list[str]:
    """The headings of ``facts`` whose values differ between these contests. What was chosen is a result, and is used
    only where nothing else differs."""
    tables = [facts(ledger) for ledger in ledgers]
    names = [name for name in (tables[0] if tables else ()) if len({table[name] for table in tables}) > 1]
    return [name for name in names if name != "chosen"] or names


def siblings(ledger: Ledger, ledgers: Sequence[Ledger]) -> str:
    """Which contest of the same contestants in the same cell of the store this is, if there are several."""
    same = [one for one in ledgers if _kind(one) == _kind(ledger)]
    same.sort(key=lambda one: min((look.time for look in one.looks), default=""))  # a file's time is of its last change
    place = next((place for place, one in enumerate(same, 1) if one.name == ledger.name), 0)
    if len(same) < 2 or place < 2:
        return ""
    who = "these two" if len(ledger.contestants) == 2 else f"these {len(ledger.contestants)}"
    return (
        f"{ledger.name} is the {_ordinal(place)} contest of {who} ({', '.join(ledger.contestants)}) in this store. "
        "Of many attempts one may come out well by chance; the first is the one that was planned."
    )


def _kind(ledger: Ledger) -> tuple[object, ...]:
    return frozenset(ledger.contestants), ledger.baseline, ledger.cell.model


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
