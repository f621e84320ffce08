"""The local launcher: worker processes on this machine, each with its own cores, one run at a time.

A worker is ``python -m fairstep.train -``. It reads run directories from standard input and reports on standard output.
It serves many runs of one kind (``base.kind_of``), so torch is loaded and the model compiled once per worker. A run of
several processes has a worker for itself: a torchrun of them. The launcher knows run directories and events only; it
never imports ``train``.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

from fairstep.runs import Machine, Run
from fairstep.study.launchers.base import command, death, environment, event_of, kind_of, limits


@dataclass(frozen=True)
class Layout:
    """How this machine is divided: ``workers`` runs at a time, of ``processes`` with ``threads`` cores each."""

    workers: int
    threads: int
    processes: int = 1


def layout(machine: Machine, parameters: int, workers: int = 0, threads: int = 0, processes: int = 1) -> Layout:
    """One thread for models so small that a second one only waits; all cores for one run from a few million on.

    As many workers as cores and memory allow: a process takes about 0.7 GB beside its model. On a machine with GPUs
    each process has one. Raises ValueError for more processes than it has GPUs.
    """
    if machine.gpus:
        if processes > machine.gpus:
            raise ValueError(
                f"a trial of {processes} processes needs as many GPUs, and this machine has {machine.gpus}"
            )
        threads = threads or max(1, machine.cores // machine.gpus)
        return Layout(workers or machine.gpus // processes, threads, processes)
    threads = threads or (1 if parameters < 2_000_000 else max(1, machine.cores // processes))
    need = processes * (0.7e9 + 64 * parameters)
    room = int(machine.memory_bytes * 0.8 / need) if machine.memory_bytes else machine.cores
    return Layout(workers or max(1, min(machine.cores // (threads * processes), room)), threads, processes)


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    slot: int
    kind: str
    run: Run | None = None
    buffer: bytes = b""


class LocalLauncher:
    """Use as a context manager; leaving it ends the workers, in the middle of a run too. ``environment``: variables of
    the workers, added to this process's (``base.environment``)."""

    def __init__(self, machine: Machine, layout: Layout, environment: Mapping[str, str] | None = None) -> None:
        self.machine, self.layout, self.environment = machine, layout, dict(environment or {})
        self._selector = selectors.DefaultSelector()
        self._workers: list[_Worker] = []

    def __str__(self) -> str:
        several = f" in {self.layout.processes} processes" if self.layout.processes > 1 else ""
        return f"local, {self.layout.workers} trial(s) at a time{several} with {self.layout.threads} thread(s)"

    @property
    def threads(self) -> int:
        return self.layout.threads * self.layout.processes

    def __enter__(self) -> LocalLauncher:
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in self._workers:
            self._end(worker)
        self._workers.clear()
        self._selector.close()

    @property
    def free(self) -> int:
        """How many more runs can be started now."""
        return self.layout.workers - sum(worker.run is not None for worker in self._workers)

    def start(self, run: Run) -> None:
        """Hand a run to a free worker; its directory must hold spec.json."""
        if self.layout.processes > 1:
            self._spawn("", "--attached", str(run.directory.absolute())).run = run
            return
        worker = self._worker_for(kind_of(run))
        worker.run = run
        worker.errors.truncate(0)
        assert worker.process.stdin is not None
        # A worker that died in the meantime is noticed in events().
        with contextlib.suppress(BrokenPipeError):
            worker.process.stdin.write(json.dumps(str(run.directory.absolute())).encode() + b"\n")
            worker.process.stdin.flush()

    def _worker_for(self, kind: str) -> _Worker:
        """A free worker of that kind, or a new one, for which one of another kind ends if there is no room."""
        idle = [worker for worker in self._workers if worker.run is None]
        for worker in idle:
            if worker.kind == kind:
                return worker
        if len(self._workers) == self.layout.workers:
            self._end(idle[0])
            self._workers.remove(idle[0])
        return self._spawn(kind, "-")

    def cancel(self, identity: str) -> None:
        """Kill the worker of a run; its end event follows from the end of its output."""
        for worker in self._workers:
            if worker.run is not None and worker.run.id == identity:
                self._stop(worker)

    def events(self, timeout: float) -> Iterator[dict[str, Any]]:
        """What the workers said within ``timeout`` seconds; a worker that died is an end event with status failed."""
        for key, _ in self._selector.select(timeout):
            worker: _Worker = key.data
            assert worker.process.stdout is not None
            chunk = os.read(worker.process.stdout.fileno(), 65536)
            if not chunk:
                yield from self._bury(worker)
                continue
            *lines, worker.buffer = (worker.buffer + chunk).split(b"\n")
            for line in lines:
                event = event_of(line)
                if event is None:
                    continue
                if event["event"] == "end":
                    worker.run = None
                    if self.layout.processes > 1:
                        self._end(worker)
                        self._workers.remove(worker)
                yield event

    def _spawn(self, kind: str, *arguments: str) -> _Worker:
        slot = next(i for i in range(self.layout.workers) if i not in {w.slot for w in self._workers})
        variables = environment() | self.environment | limits(self.layout.threads)
        if self.machine.gpus:
            count = self.layout.processes
            gpus = (str((slot * count + n) % self.machine.gpus) for n in range(count))
            variables["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        errors = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the worker)
        process = subprocess.Popen(
            [*command(self.layout.processes), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=variables,
        )
        self._pin(process.pid, slot)
        worker = _Worker(process, errors, slot, kind)
        self._workers.append(worker)
        assert process.stdout is not None
        self._selector.register(process.stdout, selectors.EVENT_READ, worker)
        return worker

    def _pin(self, pid: int, slot: int) -> None:
        """Give the worker its own cores (before it starts threads), if the layout takes all cores. With cores to spare
        the kernel does better: two contests beside one another would share the first cores and leave the others."""
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
        if self.layout.workers * self.threads == len(cores):
            with contextlib.suppress(OSError):
                os.sched_setaffinity(pid, cores[slot * self.threads : (slot + 1) * self.threads])

    def _bury(self, worker: _Worker) -> Iterator[dict[str, Any]]:
        """A worker's output ended: it died, or is about to."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(timeout=5)
        self._workers.remove(worker)
        self._kill(worker)
        with worker.errors:
            end = death(worker.run, worker.process.returncode, worker.errors) if worker.run is not None else None
        if end is not None:
            yield end

    def _stop(self, worker: _Worker) -> None:
        """Kill what works, at once. Processes of a torchrun, which a kill would orphan, end with their input."""
        assert worker.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            worker.process.stdin.close()
        if self.layout.processes > 1:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(timeout=10)
        worker.process.kill()

    def _kill(self, worker: _Worker) -> None:
        assert worker.process.stdout is not None
        self._selector.unregister(worker.process.stdout)
        self._stop(worker)
        worker.process.wait()
        worker.process.stdout.close()

    def _end(self, worker: _Worker) -> None:
        self._kill(worker)
        worker.errors.close()
