"""``fairstep.contest``: the tournament around a function of one's own, from a script or a notebook."""

from __future__ import annotations

import hashlib
import inspect
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from fairstep.analysis import headline, verdict_rows
from fairstep.cli.shared.watch import Expected, watching
from fairstep.external import carry_out as carry_out_trial
from fairstep.external.call import accepted
from fairstep.external.guardian import VARIABLE
from fairstep.runs import Ledger, Run, Store, Trainer, Value, machine
from fairstep.runs.frozen import explain
from fairstep.study import Launcher, Patience, carry_out
from fairstep.study.file.command_schema import CommandStudyTable
from fairstep.study.file.command_study import CommandStudy, trainer_of
from fairstep.study.file.launcher import launcher_of
from fairstep.study.file.line_numbers import NoLines
from fairstep.study.launchers.base import Event


@dataclass(frozen=True)
class Contested:
    """A contest that was carried out. ``result`` is what ``--json`` prints (docs/reference/json.md)."""

    result: dict[str, Any]
    ledger: Ledger
    store: Store
    page: Path

    @property
    def verdicts(self) -> dict[str, str]:
        """Contestant -> faster, slower, not separable, baseline, diverged."""
        return {row["name"]: row["verdict"] for row in self.result["contestants"]}

    def __str__(self) -> str:
        rows = verdict_rows(self.result)
        width = max(len(row["name"]) for row in rows)
        lines = [f"{row['name']:{width}}  {row['loss']:16}  {row['speedup']:20}  {row['verdict']}" for row in rows]
        reasons = [f"* {row['name']}: {row['reason']}" for row in rows if row["reason"]]
        notes = [f"* {note}" for note in self.result["notes"]]
        return "\n".join([f"{headline(self.result)}.", "", *lines, *reasons, *notes, f"report: {self.page}"])


def contest(
    train: Callable[..., Any] | str,
    contestants: Mapping[str, Mapping[str, Value | Sequence[Value]]],
    *,
    baseline: str = "",
    seeds: int | str = 3,
    steps: int | None = None,
    tokens: int | str | None = None,
    cells: Iterable[Mapping[str, Any]] | None = None,
    batch_tokens: int | str = 1,
    budgets: Sequence[float] = (0.5, 2.0),
    seed: str | Sequence[str] = "seed",
    protocol: str | Mapping[str, Any] = "grid",
    refine: bool = False,
    extensions: int = 4,
    tolerance: float = 3e-3,
    constants: Mapping[str, Value] | None = None,
    code: Sequence[str] = (),
    name: str = "",
    store: str | Path | None = None,
    workers: int = 0,
    attempts: int = 2,
) -> Contested:
    """Tune every contestant alike, repeat the winners on fresh paired seeds, and judge them against the baseline.

        def train(optimizer, lr, seed, steps):
            ...
            return validation_loss

        print(fairstep.contest(train, {
            "adamw": {"optimizer": "adamw", "lr": [1e-3, 2e-3, 4e-3]},
            "muon": {"optimizer": "muon", "lr": [5e-3, 1e-2, 2e-2]},
        }, steps=1000))

    ``train`` is called with a contestant's values (a list is a grid that is searched), the seed, and what it takes of
    ``steps``, ``tokens`` and ``out`` (a folder of the trial's own). It returns its loss in nats per token, a dictionary
    with "loss", or yields (step, loss). A function that a worker can import is called in ``workers`` processes at a
    time: in a script, call ``contest`` under ``if __name__ == "__main__":``. Any other one (a closure, a notebook's)
    is called in this process, one trial after the other. "module:function" is imported by the workers alone.

    The contest is of one cell: ``steps`` or ``tokens``, or ``cells`` with one table as in a study file. Runs are kept
    in ``store`` (default: runs/ and the name), and the same call goes on without repeating a run. Changed code of
    ``train`` begins anew. Raises ValueError for what cannot be carried out, ContestError where a trial failed.
    """
    if VARIABLE in os.environ:
        raise RuntimeError('a worker imports this file: put fairstep.contest(...) under if __name__ == "__main__":')
    study, inside = _study(
        train,
        _contestants(contestants),
        cells=[dict(cell) for cell in cells] if cells is not None else [_length(steps, tokens)],
        baseline=baseline,
        seeds=seeds,
        budgets=[float(budget) for budget in budgets],
        protocol={"name": protocol} if isinstance(protocol, str) else dict(protocol),
        refine=refine,
        extensions=extensions,
        tolerance=tolerance,
        name=name,
        trainer={
            "batch_tokens": batch_tokens,
            "seeds": [seed] if isinstance(seed, str) else list(seed),
            "constants": dict(constants or {}),
            "code": list(code),
        },
        launcher={"workers": workers, "attempts": attempts},
    )
    described = study.contest()
    if len(described.cells) != 1:
        raise ValueError(f"contest is of one cell, and cells describe {len(described.cells)}; call it once for each")
    kept = Store(store or Path("runs") / study.name).writable()
    bases = study.ledgers(described, shlex.join([Path(sys.argv[0]).name or "python", *sys.argv[1:]]))
    launcher: Launcher = InProcess(inside) if inside else launcher_of(study)
    with launcher, watching(Expected.of(described, {})) as watch:
        ledgers = carry_out(described, bases, kept, launcher, watch, Patience(attempts=attempts))
    (ledger,) = ledgers.values()

    from fairstep.report import contest_page, load, write_page

    loaded = load(kept, ledger)
    page = write_page(contest_page(loaded), kept.path / "report.html")
    return Contested(loaded.result, ledger, kept, page.absolute())


def _contestants(given: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    if len(given) < 2:
        raise ValueError(f"a contest needs two or more contestants, not {', '.join(given) or 'none'}")
    tables = []
    for name, values in given.items():
        grid = {key: list(value) for key, value in values.items() if isinstance(value, list | tuple)}
        fixed = {key: value for key, value in values.items() if key not in grid}
        tables.append({"name": name, "set": fixed, "grid": grid})
    return tables


def _length(steps: int | None, tokens: int | str | None) -> dict[str, Any]:
    if (steps is None) == (tokens is None):
        raise ValueError("the length of a run is steps=... or tokens=..., and one of the two")
    return {"steps": steps} if steps is not None else {"tokens": tokens}


def _study(
    train: Callable[..., Any] | str, contestants: list[dict[str, Any]], **tables: Any
) -> tuple[CommandStudy, Callable[..., Any] | None]:
    """The study, and the function if it is to be called in this process. Raises ValueError."""
    path, directory = (train, Path.cwd()) if isinstance(train, str) else importable(train)
    names, any_name = (set(), True) if isinstance(train, str) else accepted(train)
    function = None if isinstance(train, str) or path else train
    shown = path or f"{getattr(train, '__module__', '')}:{getattr(train, '__name__', 'train')}"
    if names:
        tables["trainer"]["budget"] = "tokens" if "tokens" in names and "steps" not in names else "steps"
    tables["trainer"]["call"] = shown
    tables["name"] = tables["name"] or "-".join(one["name"] for one in contestants)
    try:
        table = CommandStudyTable.model_validate({**tables, "contestants": contestants})
    except ValidationError as error:
        raise ValueError(explain(error)) from None
    if function is None:
        trainer = trainer_of(table.trainer, NoLines(), directory)
    else:
        seeds = tuple(table.trainer.seeds)
        trainer = Trainer(call=shown, seeds=seeds, constants=table.trainer.constants, code=hash_of(function))
    accepts = None if any_name else frozenset(names)
    required = frozenset() if isinstance(train, str) else _required(train)
    return CommandStudy(table.name, table, NoLines(), trainer, accepts, required), function


def _required(function: Callable[..., Any]) -> frozenset[str]:
    parameters = inspect.signature(function).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return frozenset(one.name for one in parameters if one.kind in kinds and one.default is one.empty)


def importable(function: Callable[..., Any]) -> tuple[str, Path]:
    """Path of a function as a worker imports it, and the folder to start in; no path for one that it cannot."""
    name, module = getattr(function, "__qualname__", ""), sys.modules.get(getattr(function, "__module__", None) or "")
    nowhere = "", Path.cwd()
    if module is None or not name.isidentifier() or getattr(module, name, None) is not function:
        return nowhere
    file = getattr(module, "__file__", None)
    if not file or not Path(file).is_file():
        return nowhere
    if module.__name__ == "__main__":
        code = getattr(inspect.unwrap(function), "__code__", None)
        if code is not None and Path(code.co_filename).absolute() != Path(file).absolute():
            return nowhere  # a console's: its main module is a file that does not have the function
        return f"{Path(file).name}:{name}", Path(file).absolute().parent
    up = module.__name__.count(".") + (Path(file).name == "__init__.py")
    return f"{module.__name__}:{name}", Path(file).absolute().parents[up]


def hash_of(function: Callable[..., Any]) -> str:
    """SHA-256 of a function's source, or of its byte code where there is no source."""
    try:
        text = inspect.getsource(function).encode()
    except (OSError, TypeError):
        code = getattr(function, "__code__", None)
        text = repr(function).encode() if code is None else code.co_code + repr(code.co_consts).encode()
    return hashlib.sha256(text).hexdigest()


class InProcess:
    """A launcher that calls a function in this process, one trial at a time."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.threads = machine().cores
        self._runs: list[Run] = []

    def __str__(self) -> str:
        return "this process, 1 trial at a time"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._runs.clear()

    @property
    def free(self) -> int:
        return 1 - len(self._runs)

    def start(self, run: Run) -> None:
        self._runs.append(run)

    def events(self, timeout: float) -> Iterator[Event]:
        """The trial is carried out here."""
        if not self._runs:
            time.sleep(timeout)
            return
        said: list[Event] = []
        run = self._runs.pop()
        summary = carry_out_trial(run, said.append, function=self.function)
        yield from said
        yield {"event": "end", "run": run.id, "status": summary.status, "message": summary.message}

    def cancel(self, identity: str) -> None:
        """Nothing runs between two calls of ``events``."""
