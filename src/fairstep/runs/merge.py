"""The contests of one or several stores, each from all of its copies.

A contest that lies in several stores under one name is one contest. Its trials and runs are united, as if the folders
had been copied into one another. Of a run that ended in two stores the first store's copy is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fairstep.runs.certificate import Certificate
from fairstep.runs.ledger import Choice, Ledger, Trial
from fairstep.runs.run import Run
from fairstep.runs.store import Store


@dataclass(frozen=True)
class StoredContest:
    """A contest with its runs and the stores that it is from, as the user named them."""

    ledger: Ledger
    runs: tuple[Run, ...]
    stores: tuple[str, ...]


def gather(stores: Sequence[Store], wanted: str = "") -> list[StoredContest]:
    """All contests, or the ones whose name or study is ``wanted``; contests of one name are merged.

    Raises ValueError when there is none, StoreError for a ledger that cannot be read.
    """
    copies: dict[str, list[tuple[Store, Ledger]]] = {}
    for store in stores:
        ledgers = store.ledgers()
        if not ledgers and store.path.is_file():
            raise ValueError(f"{store.path} is a file; name a store, which is the folder that a contest was run in")
        if not ledgers:
            raise ValueError(f"{store.path} holds no contest; `fairstep compare` or `fairstep demo` makes one")
        for ledger in ledgers:
            copies.setdefault(ledger.name, []).append((store, ledger))
    chosen = {name: members for name, members in copies.items() if wanted in ("", name, members[0][1].study)}
    if not chosen:
        where = ", ".join(str(store.path) for store in stores)
        raise ValueError(f"{where} holds no contest {wanted!r}; it holds {', '.join(copies)}")
    return [merged(members) for members in chosen.values()]


def merged(copies: Sequence[tuple[Store, Ledger]]) -> StoredContest:
    """One contest from its copies. A trial counts once; its run is the first store's in which it has ended."""
    trials: dict[tuple[str, str, str], Trial] = {}
    runs: dict[str, Run] = {}
    choices: dict[str, Choice] = {}
    certificates: dict[str, Certificate] = {}
    for store, ledger in copies:
        choices = {**ledger.choices, **choices}
        certificates = {**ledger.certificates, **certificates}
        for trial in ledger.trials:
            trials.setdefault((trial.contestant, trial.phase, trial.run), trial)
        for identity in dict.fromkeys(trial.run for trial in ledger.trials):
            run, earlier = store.run(identity), runs.get(identity)
            if earlier is None or (run.exists and not earlier.finished):
                runs[identity] = run
    first = copies[0][1]
    names = tuple(dict.fromkeys(name for _, ledger in copies for name in ledger.contestants))
    ledger = first.model_copy(
        update={
            "contestants": names,
            "choices": choices,
            "certificates": certificates,
            "trials": tuple(trials.values()),
            "altered": any(ledger.altered for _, ledger in copies),
            "unsealed": any(ledger.unsealed for _, ledger in copies),
        }
    )
    return StoredContest(ledger, tuple(runs.values()), tuple(str(store.path) for store, _ in copies))
