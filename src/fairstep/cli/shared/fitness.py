"""Whether an optimizer of another package may compete: what the doctor would say, before any compute is spent."""

from __future__ import annotations

from collections.abc import Iterable

from fairstep import optim
from fairstep.cli.shared import screen
from fairstep.study.file.schema import ContestantTable


def check_fitness(contestants: Iterable[ContestantTable], unchecked: bool) -> None:
    """Raise ValueError for one that a contest would be wrong with; with ``unchecked`` only say that nobody looked."""
    for contestant in contestants:
        path = str(contestant.optimizer)
        name = contestant.name or path
        if not optim.version(path):
            continue
        if unchecked:
            screen.say(f"{name} competes unchecked; `fairstep doctor {path}` says what is wrong with it")
            continue
        from fairstep.optim.doctor import examine  # loads torch
        from fairstep.train.checkpoints.resumption import resume

        tried = {key: values[len(values) // 2] for key, values in contestant.grid.items()}
        findings = examine(path, {**tried, **contestant.set}, resume, only_needed=True)
        wrong = [finding for finding in findings if finding.needed and finding.status == "failed"]
        if wrong:
            others = f", and {len(wrong) - 1} further check(s) failed" if len(wrong) > 1 else ""
            raise ValueError(
                f"{name} may not compete: {wrong[0].message}{others}. `fairstep doctor {path}` says all; "
                "--unchecked lets it compete as it is"
            )
