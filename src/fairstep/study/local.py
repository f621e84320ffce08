"""The local launcher: worker processes on this machine, each with its own cores, one run at a time.

A worker is ``python -m fairstep.train -``: it takes run directories on standard input and says on standard output how
they go. It serves many runs, so that torch is loaded and the model compiled once per worker. The launcher knows
run directories and events only; it never imports the training room.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from fairstep.runs import Machine, Run


@dataclass(frozen=True)
class Layout:
    """How this machine is divided: ``workers`` processes with ``threads`` cores each."""

    workers: int
    threads: int


def layout(machine: Machine, parameters: int, workers: int = 0, threads: int = 0) -> Layout:
    """One thread for models so small that a second one only waits; all cores for one run from a few million on.

    As many workers as cores and memory allow: a process takes about 0.7 GB beside its model.
    """
    if machine.gpus:
        return Layout(workers or machine.gpus, threads or max(1, machine.cores // machine.gpus))
    threads = threads or (1 if parameters < 2_000_000 else machine.cores)
    room = int(machine.memory_bytes * 0.8 / (0.7e9 + 64 * parameters)) if machine.memory_bytes else machine.cores
    return Layout(workers or max(1, min(machine.cores // threads, room)), threads)


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    slot: int
    run: Run | None = None
    buffer: bytes = b""


class LocalLauncher:
    """Use as a context manager; leaving it ends the workers, in the middle of a run too."""

    def __init__(self, machine: Machine, layout: Layout) -> None:
        self.machine, self.layout = machine, layout
        self._selector = selectors.DefaultSelector()
        self._workers: list[_Worker] = []

    def __str__(self) -> str:
        return f"local, {self.layout.workers} trial(s) at a time with {self.layout.threads} thread(s)"

    @property
    def threads(self) -> int:
        return self.layout.threads

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

    @property
    def running(self) -> list[str]:
        return [worker.run.id for worker in self._workers if worker.run is not None]

    def start(self, run: Run) -> None:
        """Hand a run to a free worker; its directory must hold spec.json."""
        worker = next((w for w in self._workers if w.run is None), None) or self._spawn()
        worker.run = run
        assert worker.process.stdin is not None
        # A worker that died in the meantime is noticed in events().
        with contextlib.suppress(BrokenPipeError):
            worker.process.stdin.write(f"{run.directory.absolute()}\n".encode())
            worker.process.stdin.flush()

    def cancel(self, identity: str) -> None:
        """Kill the worker of a run; its end event follows from the end of its output."""
        for worker in self._workers:
            if worker.run is not None and worker.run.id == identity:
                worker.process.kill()

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
                event = json.loads(line)
                if event["event"] == "end":
                    worker.run = None
                yield event

    def _spawn(self) -> _Worker:
        slot = next(i for i in range(self.layout.workers) if i not in {w.slot for w in self._workers})
        threads = str(self.layout.threads)
        environment = os.environ | {
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "TORCHINDUCTOR_COMPILE_THREADS": threads,
        }
        if self.machine.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = str(slot % self.machine.gpus)
        errors = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the worker)
        process = subprocess.Popen(
            [sys.executable, "-m", "fairstep.train", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
        )
        self._pin(process.pid, slot)
        worker = _Worker(process, errors, slot)
        self._workers.append(worker)
        assert process.stdout is not None
        self._selector.register(process.stdout, selectors.EVENT_READ, worker)
        return worker

    def _pin(self, pid: int, slot: int) -> None:
        """Give the worker its own cores (before it starts threads), if there are enough of them."""
        if not hasattr(os, "sched_setaffinity"):
            return
        cores = sorted(os.sched_getaffinity(0))
        mine = cores[slot * self.layout.threads : (slot + 1) * self.layout.threads]
        if len(mine) == self.layout.threads:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(pid, mine)

    def _bury(self, worker: _Worker) -> Iterator[dict[str, Any]]:
        """A worker's output ended: it died, or is about to."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(timeout=5)
        worker.errors.seek(0)
        said = worker.errors.read().decode(errors="replace").strip().splitlines()
        self._end(worker)
        self._workers.remove(worker)
        if worker.run is not None:
            code = worker.process.returncode
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            message = f"its process {how}" + (f": {said[-1]}" if said else "")
            yield {"event": "end", "run": worker.run.id, "status": "failed", "message": message}

    def _end(self, worker: _Worker) -> None:
        assert worker.process.stdin is not None
        assert worker.process.stdout is not None
        self._selector.unregister(worker.process.stdout)
        worker.process.kill()
        worker.process.wait()
        with contextlib.suppress(BrokenPipeError):
            worker.process.stdin.close()
        worker.process.stdout.close()
        worker.errors.close()
