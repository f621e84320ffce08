"""``fairstep eval``: downstream tasks of a run through lm-eval."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fairstep.cli.shared import screen
from fairstep.cli.shared.options import parse
from fairstep.runs import Store, machine


@dataclass(frozen=True)
class EvalOptions:
    """Score a finished run on tasks of lm-eval (needs the extra eval: pip install 'fairstep[eval]').

    Example: fairstep eval 3f2a --store runs/train --tasks piqa arc_easy
    """

    run: tyro.conf.Positional[str]
    """A run's directory, or its identity in the store, or the beginning of it."""
    tasks: Annotated[tuple[str, ...], tyro.conf.arg(metavar="TASK [TASK ...]")]
    """Names of lm-eval's tasks."""
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
    json: bool = False
    """Print the result as JSON."""


def main(arguments: list[str]) -> int:
    options = parse(EvalOptions, "eval", arguments)
    if not options.tasks:
        raise ValueError("--tasks needs at least one task of lm-eval, for example piqa")
    if options.task_folder is not None and not options.task_folder.is_dir():
        raise ValueError(f"--task-folder {options.task_folder} is not a folder")
    run = Store(options.store).find(options.run)

    from fairstep.train.downstream import score  # loads torch

    scores = score(
        run,
        options.tasks,
        task_folder=options.task_folder,
        few_shot=options.few_shot,
        limit=options.limit,
        batch_sequences=options.batch_sequences,
        device=machine().device,
    )
    if options.json:
        print(json.dumps({"run": run.id, "tasks": scores}, default=str))
        return 0
    rows = [
        [task, name.removesuffix(",none"), f"{value:.4f}", f"{row.get(error, '')}"[:6], str(row["samples"])]
        for task, row in scores.items()
        for name, value in row.items()
        if isinstance(value, float) and "_stderr" not in name
        for error in [name.replace(",", "_stderr,")]
    ]
    screen.print_table(f"run {run.id}", ["task", "metric", "value", "error", "examples"], rows, left=2)
    return 0
