"""``fairstep doctor --trainer``: is somebody else's trainer fit to be refereed, and is its harness a no-op?"""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairstep.analysis.statistics import Equivalence, equivalence
from fairstep.external.examine import Finding, Trials, as_row, examine, fit
from fairstep.runs import CommandSpec, Value
from fairstep.study import Contestant
from fairstep.study.file.command_study import CommandStudy
from fairstep.study.file.study import read

MARKS = {"passed": "ok     ", "failed": "FAILED ", "skipped": "skipped"}


@dataclass(frozen=True)
class TrainerCheck:
    """``part``: of a cell's length, for the checks. ``patience``: seconds of silence until a trial hangs."""

    file: Path
    part: float = 0.1
    patience: float = 60.0
    reference: Path | None = None
    margin: float = 0.01
    json: bool = False


def check_trainer(asked: TrainerCheck) -> int:
    """Print the findings; the exit code."""
    study = read(asked.file)
    if not isinstance(study, CommandStudy):
        raise ValueError(f"{asked.file} has no [trainer]; --trainer takes a study around a trainer of your own")
    if not 0 < asked.part <= 1:
        raise ValueError(f"--part must be above 0 and at most 1, not {asked.part:g}")
    if asked.patience <= 0 or asked.margin <= 0:
        raise ValueError("--patience and --margin must be above 0")
    contest = study.contest()
    cell = min(study.cells(), key=lambda one: one.workload.steps)
    tokens = cell.workload.tokens_of(asked.part)
    specs: dict[str, CommandSpec] = {}
    searched: dict[str, dict[str, Sequence[Value]]] = {}
    for contestant in contest.contestants:
        start = contestant.problem(cell.name, cell.workload, 0, 0).start
        specs[contestant.name] = cell.workload.spec(contestant.name, {**contestant.hyperparameters, **start}, 0, tokens)
        searched[contestant.name] = {name: axis.values for name, axis in contestant.space.axes.items()}
    steps = next(iter(specs.values())).steps
    findings: list[Finding] = []
    if not asked.json:
        print(f"{study.trainer.name}: runs of {steps} steps of the {cell.workload.steps} in {cell.name}")
    with tempfile.TemporaryDirectory(prefix="fairstep-doctor-", ignore_cleanup_errors=True) as folder:
        for finding in examine(specs, searched, Path(folder), asked.patience):
            findings.append(finding)
            show(finding, asked.json)
        if asked.reference is not None and fit(findings[:1]):
            for finding in like_reference(asked, contest.contestants, study, Path(folder)):
                findings.append(finding)
                show(finding, asked.json)
    failed = sum(finding.status == "failed" for finding in findings)
    if asked.json:
        rows = [as_row(finding) for finding in findings]
        print(json.dumps({"trainer": study.trainer.name, "fit": fit(findings), "findings": rows}))
    elif failed:
        print(f"{failed} check(s) failed: mend {study.trainer.name} before it spends a budget.")
    else:
        print(f"Nothing is wrong with {study.trainer.name}.")
    return 1 if failed else 0


def show(finding: Finding, as_json: bool) -> None:
    if not as_json:
        print(f"  {MARKS[finding.status]}  {finding.title}", flush=True)
        if finding.message:
            print(f"           {finding.message}")


def like_reference(
    asked: TrainerCheck, contestants: Sequence[Contestant], study: CommandStudy, folder: Path
) -> list[Finding]:
    """The trainer's losses against reference runs, setting by setting. Raises ValueError for a table that is none."""
    assert asked.reference is not None
    findings: list[Finding] = []
    for setting, losses in reference_of(asked.reference).items():
        given = dict(setting)
        specs = [_spec(given, seed, contestants, study, asked.reference) for seed in range(1, len(losses) + 1)]
        with Trials(folder / f"reference-{len(findings)}", asked.patience) as trials:
            outcomes = [trials.of(spec)[0] for spec in specs]
        words = ", ".join(f"{name} {value}" for name, value in setting)
        title = f"the losses at {words or 'the one setting'} are those of the reference"
        mine = [one.loss for one in outcomes if one.loss is not None]
        if len(mine) < len(outcomes):
            lost = next(one.words for one in outcomes if one.loss is None)
            findings.append(Finding("reference", title, "failed", lost))
            continue
        found = equivalence(mine, losses, asked.margin)
        findings.append(Finding("reference", title, "passed" if found.equivalent else "failed", _told(found)))
    return findings


def _told(found: Equivalence) -> str:
    interval = f"{found.difference:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
    ends = f"difference {interval} (90 %, two one-sided tests at 5 %), margin {found.margin:g} nats"
    if found.equivalent:
        return ends
    different = found.low > found.margin or found.high < -found.margin
    return ends + ("; the harness changes the loss" if different else "; more runs, or a wider --margin, may decide")


def reference_of(path: Path) -> dict[tuple[tuple[str, str], ...], list[float]]:
    """Setting -> losses, of a CSV with the column loss (or final_loss) and placeholders. Raises ValueError."""
    settings: dict[tuple[tuple[str, str], ...], list[float]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file), 2):
            column = next((name for name in ("loss", "final_loss") if name in row), None)
            if column is None:
                raise ValueError(f"{path} has no column loss; it has {', '.join(row)}")
            try:
                loss = float(row[column])
            except (TypeError, ValueError):
                raise ValueError(f"{path}, line {number}: {column} must be a number, not {row[column]!r}") from None
            setting = tuple((name, value) for name, value in row.items() if name not in (column, "seed", "run"))
            settings.setdefault(setting, []).append(loss)
    if few := [losses for losses in settings.values() if len(losses) < 2]:
        raise ValueError(f"{path} has {len(few[0])} run(s) of a setting; a test needs at least 2, on different seeds")
    if not settings:
        raise ValueError(f"{path} has no rows")
    return settings


def _spec(
    given: Mapping[str, Any], seed: int, contestants: Sequence[Contestant], study: CommandStudy, path: Path
) -> CommandSpec:
    """The run of a setting: a contestant (by the column contestant, or the first whose fixed values agree), with the
    values of the columns."""
    values = {name: _value(text) for name, text in given.items() if name not in ("contestant", "steps", "tokens")}
    agreeing = [
        one
        for one in contestants
        if given.get("contestant", one.name) == one.name
        and all(
            one.hyperparameters[name] == value or name in one.space.axes
            for name, value in values.items()
            if name in one.hyperparameters
        )
        and values.keys() <= one.hyperparameters.keys()
    ]
    if not agreeing:
        known = "; ".join(f"{one.name} has {', '.join(one.hyperparameters)}" for one in contestants)
        raise ValueError(f"no contestant of the study can have the setting {dict(given)} of {path}; {known}")
    cells = study.cells()
    wanted = int(given["steps"]) if "steps" in given else cells[0].workload.steps
    workload = cells[0].workload
    return workload.spec(
        agreeing[0].name, {**agreeing[0].hyperparameters, **values}, seed, wanted * workload.batch_tokens
    )


def _value(text: str) -> Value:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
