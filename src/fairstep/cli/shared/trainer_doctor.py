"""``fairstep doctor --trainer``: is somebody else's trainer fit to be refereed, and is its harness a no-op?"""

from __future__ import annotations

import csv
import json
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fairstep.analysis.statistics import Equivalence, equivalence
from fairstep.cli.shared import screen
from fairstep.cli.shared.options import value_of
from fairstep.external.examine import Finding, Trials, examine, fit
from fairstep.runs import CommandSpec, Value
from fairstep.runs.command_spec import LENGTHS
from fairstep.study import Contestant
from fairstep.study.file.command_study import CommandCell, CommandStudy
from fairstep.study.file.schema import token_count
from fairstep.study.file.study import read


def check_trainer(
    file: Path, part: float, patience: float, reference: Path | None, margin: float, as_json: bool = False
) -> int:
    """Print the findings; the exit code. ``part``: of a cell's length, for the checks. ``patience``: seconds of silence
    until a trial hangs."""
    study = read(file)
    if not isinstance(study, CommandStudy):
        raise ValueError(f"{file} has no [trainer]; --trainer takes a study around a trainer of your own")
    if not 0 < part <= 1:
        raise ValueError(f"--part must be above 0 and at most 1, not {part:g}")
    if patience <= 0 or margin <= 0:
        raise ValueError("--patience and --margin must be above 0")
    contest = study.contest()
    references = referenced(reference, contest.contestants, study) if reference is not None else []
    cell = min(study.cells(), key=lambda one: one.workload.steps)
    tokens = cell.workload.tokens_of(part)
    specs: dict[str, CommandSpec] = {}
    searched: dict[str, dict[str, Sequence[Value]]] = {}
    for contestant in contest.contestants:
        start = contestant.start(cell.name, cell.workload)
        specs[contestant.name] = cell.workload.spec(contestant.name, {**contestant.hyperparameters, **start}, 0, tokens)
        searched[contestant.name] = {name: axis.values for name, axis in contestant.space.axes.items()}
    steps = next(iter(specs.values())).steps
    findings: list[Finding] = []
    told: Callable[[Finding], object] = (lambda finding: None) if as_json else screen.finding
    if not as_json:
        print(f"{study.trainer.name}: runs of {steps} steps of the {cell.workload.steps} in {cell.name}")
    with tempfile.TemporaryDirectory(prefix="fairstep-doctor-", ignore_cleanup_errors=True) as folder:
        for finding in examine(specs, searched, Path(folder), patience):
            findings.append(finding)
            told(finding)
        if references and fit(findings[:1]):
            with Trials(Path(folder, "reference"), patience) as trials:
                for one in references:
                    findings.append(like_reference(one, margin, trials))
                    told(findings[-1])
    failed = sum(finding.status == "failed" for finding in findings)
    if as_json:
        rows = [asdict(finding) for finding in findings]
        print(json.dumps({"trainer": study.trainer.name, "fit": fit(findings), "findings": rows}))
    elif failed:
        print(f"{failed} check(s) failed: mend {study.trainer.name} before it spends a budget.")
    else:
        print(f"Nothing is wrong with {study.trainer.name}.")
    return 1 if failed else 0


@dataclass(frozen=True)
class Referenced:
    """A setting of reference runs in words, their losses, and as many runs of the trainer there."""

    setting: str
    losses: list[float]
    specs: list[CommandSpec]


def referenced(path: Path, contestants: Sequence[Contestant], study: CommandStudy) -> list[Referenced]:
    """Every setting of the table. Raises ValueError for a setting that the study cannot have, and for no table."""
    found = []
    for setting, losses in reference_of(path).items():
        specs = [_spec(dict(setting), seed, contestants, study, path) for seed in range(1, len(losses) + 1)]
        words = ", ".join(f"{name} {value}" for name, value in setting)
        found.append(Referenced(words or "the one setting", losses, specs))
    return found


def like_reference(one: Referenced, margin: float, trials: Trials) -> Finding:
    """The trainer's losses at a setting against the reference's."""
    title = f"the losses at {one.setting} are those of the reference"
    outcomes = [trials.of(spec)[0] for spec in one.specs]
    lost = [outcome.words for outcome in outcomes if outcome.loss is None]
    if lost:
        return Finding("reference", title, "failed", lost[0])
    found = equivalence([outcome.loss for outcome in outcomes if outcome.loss is not None], one.losses, margin)
    return Finding("reference", title, "passed" if found.equivalent else "failed", _told(found))


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
                loss = math.nan
            if not math.isfinite(loss):
                raise ValueError(f"{path}, line {number}: {column} must be a number, not {row[column]!r}")
            setting = tuple(
                (name, value) for name, value in row.items() if name and value and name not in (column, "seed", "run")
            )
            settings.setdefault(setting, []).append(loss)
    if few := [losses for losses in settings.values() if len(losses) < 2]:
        raise ValueError(f"{path} has {len(few[0])} run(s) of a setting; a test needs at least 2, on different seeds")
    if not settings:
        raise ValueError(f"{path} has no rows")
    return settings


def _spec(
    given: Mapping[str, str], seed: int, contestants: Sequence[Contestant], study: CommandStudy, path: Path
) -> CommandSpec:
    """The run of a setting: of a contestant and a cell (by the columns contestant and cell, or the only ones that can
    have the values of the others). Lengths that no cell has are allowed. Raises ValueError."""
    cells = study.cells()
    cell = _cell(given, cells, path)
    mine = {"contestant", "cell", *LENGTHS, *cell.workload.values}
    values = {name: value_of(text) for name, text in given.items() if name not in mine}
    agreeing = [one for one in contestants if given.get("contestant", one.name) == one.name and _can_have(one, values)]
    if not agreeing:
        known = "; ".join(f"{one.name} has {', '.join(one.hyperparameters)}" for one in contestants)
        raise ValueError(f"no contestant of the study can have the setting {dict(given)} of {path}; {known}")
    if len(agreeing) > 1:
        names = " and ".join(one.name for one in agreeing)
        raise ValueError(f"the setting {dict(given)} of {path} is one of {names}; add a column contestant")
    (contestant,) = agreeing
    exact = {name: _as_in_study(contestant, name, value) for name, value in values.items()}
    settings = {**contestant.hyperparameters, **exact}
    return cell.workload.spec(contestant.name, settings, seed, _tokens(given, cell, path))


def _cell(given: Mapping[str, str], cells: Sequence[CommandCell], path: Path) -> CommandCell:
    """The cell whose name, values and length are given; of a length that none has, the only one by the rest."""
    fitting = [
        one
        for one in cells
        if given.get("cell", one.name) == one.name
        and all(one.workload.values[name] == value_of(given[name]) for name in one.workload.values if name in given)
    ]
    listed = ", ".join(one.name for one in cells)
    if not fitting:
        raise ValueError(f"no cell of the study has the setting {dict(given)} of {path}; there are {listed}")
    exact = [one for one in fitting if _tokens(given, one, path) == one.workload.tokens]
    if len(fitting) > 1 and len(exact) != 1:
        names = " and ".join(one.name for one in exact or fitting)
        raise ValueError(f"the setting {dict(given)} of {path} is one of the cells {names}; add a column cell")
    return exact[0] if exact else fitting[0]


def _tokens(given: Mapping[str, str], cell: CommandCell, path: Path) -> int:
    """The length that is given, or the cell's. Raises ValueError."""
    workload = cell.workload
    for name, unit in zip(LENGTHS, (workload.batch_tokens, 1), strict=True):
        if name in given:
            try:
                length = token_count(given[name], name) * unit
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None
            if length % workload.batch_tokens:
                raise ValueError(
                    f"{path}: {name} {given[name]} is no whole number of batches of {workload.batch_tokens:,}"
                )
            return length
    return workload.tokens


def _can_have(contestant: Contestant, values: Mapping[str, Value]) -> bool:
    """Whether a contestant has these placeholders, and its fixed ones with these values."""
    fixed = contestant.hyperparameters
    return all(
        name in fixed and (name in contestant.space.axes or fixed[name] == value) for name, value in values.items()
    )


def _as_in_study(contestant: Contestant, name: str, value: Value) -> Value:
    """As the study writes an equal value: 64 and 64.0 are not one word of a command."""
    axis = contestant.space.axes.get(name)
    known = (*(axis.values if axis else ()), contestant.hyperparameters[name])
    return next((one for one in known if one == value and isinstance(one, bool) == isinstance(value, bool)), value)
