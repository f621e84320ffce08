"""The Slurm launcher: every trial a batch job, through submitit.

A job is ``python -m fairstep.train DIRECTORY`` and needs no scheduler of ours. If this process is killed, queued jobs
finish all the same, and the next call finds their results. A job waits for an earlier one of the same name
(``--dependency=singleton``) and then finds the run finished, so a trial that is queued twice is trained once. Progress
is read from the run's directory, which all machines must see under the same path.
"""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from fairstep.runs import Run, Value
from fairstep.runs.command_spec import PROCESSES
from fairstep.study.launchers.base import Event, command, death, environment

PROGRESS_EVERY = 5.0
"""Seconds between looks at the directory of a run."""


@dataclass
class _Job:
    """``steps``: of the run. ``step``: the last one that was told, from a look at its directory at ``looked``."""

    job: Any
    run: Run
    steps: int
    looked: float
    step: int = 0


class SlurmLauncher:
    """``workers``: most jobs queued or running. ``cpus``, ``gpus`` (whole ones) of one job and all its ``processes``.
    ``cluster``: "local" runs them as processes here; default: what submitit finds."""

    def __init__(
        self,
        workers: int = 100,
        cpus: float = 1.0,
        gpus: float = 0.0,
        minutes: int = 1440,
        partition: str = "",
        options: Mapping[str, Value] | None = None,
        cluster: str | None = None,
        processes: int = 1,
    ) -> None:
        if gpus != int(gpus):
            raise ValueError(f"Slurm gives whole GPUs, not {gpus:g}; set gpus of [launcher] to {math.ceil(gpus)}")
        self._submitit = imported()
        self.workers, self.threads, self.gpus = workers, max(1, math.ceil(cpus)), int(gpus)
        self.minutes, self.partition, self.cluster, self.processes = minutes, partition, cluster, processes
        self.options = dict(options or {})
        self._jobs: dict[str, _Job] = {}
        self._waiting: list[str] = []
        """Jobs that were queued since ``events`` was last asked."""
        self._executor: Any = None

    def __str__(self) -> str:
        share = f"{self.threads} CPU(s)" + (f" and {self.gpus} GPU(s)" if self.gpus else "")
        return f"Slurm{f' ({self.cluster})' if self.cluster else ''}, {self.workers} jobs at a time with {share} each"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Cancels the jobs that have not ended."""
        for one in self._jobs.values():
            one.job.cancel(check=False)
        self._jobs.clear()

    @property
    def free(self) -> int:
        return self.workers - len(self._jobs)

    def start(self, run: Run) -> None:
        """Raises ValueError where there is no Slurm, or where it refuses the job."""
        name, spec = f"fairstep-{run.id}", run.spec
        try:
            executor = self._executor_in(run.directory.parent.parent / "jobs")
            executor.update_parameters(name=name)
            with _told_nothing():
                started = command(self.processes, spec.worker)
                job = executor.submit(_train, started, run.directory.absolute(), self.processes)
            self._jobs[run.id] = _Job(job, run, spec.steps, time.monotonic())
        except (RuntimeError, self._submitit.core.utils.FailedJobError) as error:
            raise ValueError(f"the job could not be queued: {error}") from None
        self._waiting.append(run.id)

    def _executor_in(self, folder: Path) -> Any:
        if self._executor is None:
            made = self._submitit.AutoExecutor(folder=folder, cluster=self.cluster)
            if made.cluster == "local" and self.cluster != "local":
                raise RuntimeError("there is no sbatch on this machine; go where there is one, or use another launcher")
            made.update_parameters(timeout_min=self.minutes, cpus_per_task=self.threads, gpus_per_node=self.gpus)
            if made.cluster == "slurm":
                extra: dict[str, Any] = {"dependency": "singleton", **self.options}
                made.update_parameters(slurm_additional_parameters=extra)
                if self.partition:
                    made.update_parameters(slurm_partition=self.partition)
            self._executor = made
        return self._executor

    def events(self, timeout: float) -> Iterator[Event]:
        """Ends of jobs, and progress as the run directories show it."""
        until = time.monotonic() + timeout
        while True:
            said = list(self._said())
            if said or time.monotonic() >= until:
                break
            time.sleep(min(0.1, timeout))
        yield from said

    def _said(self) -> Iterator[Event]:
        now = time.monotonic()
        yield from ({"event": "waiting", "run": identity} for identity in self._waiting)
        self._waiting.clear()
        for identity, one in list(self._jobs.items()):
            if one.job.done():
                del self._jobs[identity]
                yield {"event": "end", "run": identity, **self._end(one.job, one.run)}
            elif now - one.looked >= PROGRESS_EVERY:
                one.looked = now
                yield from self._progress(one)

    @staticmethod
    def _progress(one: _Job) -> Iterator[Event]:
        rows = [row for row in one.run.metrics()[-20:] if row.get("kind") == "train"]
        if rows and rows[-1]["step"] > one.step:
            one.step = rows[-1]["step"]
            rate = next((row["tokens_per_second"] for row in one.run.timings()[-1:]), 0.0)
            progress = {"step": one.step, "steps": one.steps, "loss": rows[-1]["loss"]}
            yield {"event": "progress", "run": one.run.id, "tokens_per_second": rate, **progress}

    @staticmethod
    def _end(job: Any, run: Run) -> Event:
        summary = run.summary
        if summary is not None:
            return {"status": summary.status, "message": summary.message}
        try:
            said = (job.stderr() or "").strip().splitlines()
        except OSError:
            said = []
        message = f"its job {job.job_id} ended ({job.state})" + (f": {said[-1]}" if said else "")
        return {"status": "failed", "message": message}

    def cancel(self, identity: str) -> None:
        if identity in self._jobs:
            self._jobs[identity].job.cancel(check=False)


def _train(command: list[str], directory: Path, processes: int = 1) -> None:
    """The job. Raises RuntimeError if its process said nothing of the run's end."""
    run = Run(directory)
    told = os.environ | {PROCESSES: str(processes)}
    with tempfile.TemporaryFile() as errors:
        nothing = subprocess.DEVNULL
        worker = subprocess.run([*command, str(directory)], stdin=nothing, stdout=nothing, stderr=errors, env=told)
        if run.summary is None:
            raise RuntimeError(death(run, worker.returncode, errors)["message"])


@contextlib.contextmanager
def _told_nothing() -> Iterator[None]:
    """The environment as ``base.environment`` has it: a job inherits what its submitter has."""
    before = dict(os.environ)
    kept = environment()
    for name in before.keys() - kept.keys():
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(before)


def imported() -> Any:
    """Raises ValueError with the command that installs it."""
    try:
        import submitit
        import submitit.core.utils
    except ImportError:
        raise ValueError("the launcher slurm needs submitit: pip install 'fairstep[slurm]'") from None
    return submitit
