"""Our own stores: a contest under its ledger, with its design, its looks and the checks of its files.

Nothing is found out by names: the ledger says what every run was for.
"""

from __future__ import annotations

from pathlib import Path

from fairstep.analysis import Trials
from fairstep.imported.source import InputError, Source
from fairstep.runs import Store
from fairstep.runs.merge import gather

KIND = "fairstep store"


def claims(path: Path) -> bool:
    if (path / "pack.json").is_file():
        return True
    return path.is_dir() and (path / "ledgers").is_dir() and (path / "runs").is_dir()


def read(path: Path) -> list[Source]:
    contests = gather([Store(path)])
    if len(contests) > 1:
        names = ", ".join(contest.ledger.name for contest in contests)
        raise InputError(
            f"{path} holds {len(contests)} contests ({names}); `fairstep report {path}` judges each of them"
        )
    return [Source(path, KIND, trials=Trials.read(contests[0].ledger, contests[0].runs))]
