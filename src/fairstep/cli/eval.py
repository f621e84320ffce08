"""``fairstep eval``: downstream tasks through lm-eval, of a run, or of a contest's final runs beside one another."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from contextlib import nullcontext, redirect_stderr
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from fairstep.cli.export import trained_again
from fairstep.cli.shared import screen
from fairstep.cli.shared.options import parse
from fairstep.runs import Run, Store, machine

if TYPE_CHECKING:
    from fairstep.analysis.verdict.tasks import Task, TaskDifference

Scores = dict[str, dict[str, Any]]
"""Task -> metric of lm-eval -> value."""


@dataclass(frozen=True)
class EvalOptions:
    """Score a finished run on tasks of lm-eval, or a contest's final runs, paired over seeds (needs the extra eval: pip
    install 'fairstep[eval]').

    Example: fairstep eval 3f2a --store runs/train --tasks piqa arc_easy
    Example: fairstep eval --contest texts --store runs/texts --again --tasks piqa arc_easy
    """

    run: tyro.conf.Positional[str] = ""
    """A run's directory, or its identity in the store, or the beginning of it."""
    tasks: Annotated[tuple[str, ...], tyro.conf.arg(metavar="TASK [TASK ...]")] = ()
    """Names of lm-eval's tasks."""
    contest: str = ""
    """Instead of a run: all final runs of this contest of the store, against its baseline's."""
    task_folder: Path | None = None
    """A folder with tasks of your own, as lm-eval's YAML files."""
    few_shot: int | None = None
    """Worked examples before each question. Default: the task's own number."""
    limit: int | None = None
    """Only so many examples of each task."""
    batch_sequences: int = 8
    """Sequences scored at a time."""
    store: Path = Path("runs/train")
    """Folder of the runs."""
    again: bool = False
    """Train runs whose weights were not kept again, as their specs say, in the store runs/again."""
    json: bool = False
    """Print the result as JSON."""


def main(arguments: list[str]) -> int:
    options = parse(EvalOptions, "eval", arguments)
    if bool(options.run) == bool(options.contest):
        raise ValueError("eval takes a run, or --contest with the name of a contest (fairstep store list)")
    if not options.tasks:
        raise ValueError("--tasks needs at least one task of lm-eval, for example piqa")
    if options.task_folder is not None and not options.task_folder.is_dir():
        raise ValueError(f"--task-folder {options.task_folder} is not a folder")
    store = Store(options.store)

    def score(run: Run) -> Scores:
        from fairstep.train.downstream import score  # loads torch
        from fairstep.train.export import WEIGHTS

        if options.again and not run.has(WEIGHTS):
            run = trained_again(run)
        # lm-eval shows a dozen bars a run; in a contest a run is a line
        with redirect_stderr(io.StringIO()) if options.contest else nullcontext():
            return score(
                run,
                options.tasks,
                task_folder=options.task_folder,
                few_shot=options.few_shot,
                limit=options.limit,
                batch_sequences=options.batch_sequences,
                device=machine().device,
            )

    if options.contest:
        return contest_scores(store, options.contest, score, options.json)
    run = store.find(options.run)
    scores = score(run)
    if options.json:
        print(json.dumps({"run": run.id, "tasks": scores}, default=str))
        return 0
    rows = [
        [task, name, f"{value:.4f}", f"{row.get(error, '')}"[:6], str(row["samples"])]
        for task, row in scores.items()
        for name, value, error in metrics(row)
    ]
    screen.print_table(f"run {run.id}", ["task", "metric", "value", "error", "examples"], rows, left=2)
    return 0


def metrics(row: dict[str, Any]) -> list[tuple[str, float, str]]:
    """The metrics of a task: name, value, and the key of its standard error."""
    return [
        (name.removesuffix(",none"), value, name.replace(",", "_stderr,"))
        for name, value in row.items()
        if isinstance(value, float) and math.isfinite(value) and "_stderr" not in name
    ]


def contest_scores(store: Store, name: str, score: Callable[[Run], Scores], as_json: bool) -> int:
    """Score every final run that is done, and print the tasks by their signal over noise."""
    from fairstep.analysis import Trials, verdicts
    from fairstep.analysis.statistics import plain
    from fairstep.analysis.verdict.tasks import tasks

    ledger = store.ledger(name)
    if ledger is None:
        raise ValueError(f"{store.path} holds no contest {name!r}; fairstep store list {store.path} names its contests")
    trials = Trials.read(ledger, store.runs())
    finals = [row for one in trials.names for row in trials[one].finals if row["status"] == "done"]
    if not finals:
        raise ValueError(f"no final run of {name} is done; fairstep eval scores a single run by its identity")
    scores: dict[str, dict[str, float]] = {}
    falling = set()
    for number, row in enumerate(finals, 1):
        found = score(trials.runs[row["run"]])
        mine = {f"{task} {metric}": value for task, of in found.items() for metric, value, _ in metrics(of)}
        falling |= {
            f"{task} {metric}"
            for task, of in found.items()
            for metric, _, _ in metrics(of)
            if metric.partition(",")[0] in of["falling"]  # a filter's name follows the comma
        }
        scores[row["run"]] = mine
        words = ", ".join(f"{task} {value:.4f}" for task, value in mine.items())
        screen.say(f"{number} of {len(finals)}: {row['contestant']}, seed {row['init_seed']}: {words}")
    decided = [row.name for row in verdicts(trials) if row.verdict in ("faster", "slower")]
    table = tasks(trials, scores, falling, decided)
    if as_json:
        told = {
            task.name: {
                "signal_over_noise": plain(task.signal_over_noise),
                "contestants": {
                    row.name: {key: plain(value) for key, value in asdict(row).items() if key != "name"}
                    for row in task.contestants
                },
            }
            for task in table
        }
        print(json.dumps({"contest": name, "baseline": trials.baseline, "tasks": told, "runs": scores}))
        return 0
    names = [one for one in trials.names if one != trials.baseline]
    headings = ["task", f"{trials.baseline}: mean", *names, "signal over noise"]
    rows = [cells(task, trials.baseline, names) for task in table]
    screen.print_table(f"{name}: scores over {trials.baseline}'s", headings, rows, left=1)
    screen.say(MEANING)
    return 0


MEANING = (
    "Differences from the baseline with 95 % t-intervals of the pairs of final runs on one seed, not corrected for the "
    "number of tasks. Signal over noise: the deviation of the contestants' means over the deviation of one run over "
    "seeds; a task far below 1 cannot tell these contestants apart. A difference in loss that the verdict has decided "
    "transfers if the task has it too, is reversed there, or cannot be separated."
)


def cells(task: Task, baseline: str, names: list[str]) -> list[str]:
    of = {row.name: row for row in task.contestants}
    mean = f"{of[baseline].mean:.4f}" if baseline in of else ""
    ratio = f"{task.signal_over_noise:.2g}" if math.isfinite(task.signal_over_noise) else ""
    return [task.name, mean, *(words(of.get(name)) for name in names), ratio]


def words(row: TaskDifference | None) -> str:
    if row is None or math.isnan(row.difference):
        return ""
    ends = "" if math.isnan(row.low) else f" [{row.low:+.4f}, {row.high:+.4f}]"
    return f"{row.difference:+.4f}{ends}{'' if row.transfer == 'nothing to transfer' else f' {row.transfer}'}"
