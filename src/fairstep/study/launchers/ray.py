"""The Ray launcher: trials on a Ray cluster that is running, or on one that is started on this machine.

Each slot is an actor with one worker, ``python -m fairstep.train -``, as in ``local.py``: torch is loaded and the model
compiled once for many runs of one kind. A run of several processes is a torchrun on the actor's machine. The actor asks
Ray for its share of the cluster, and Ray names the GPU; fractions of a GPU put several trials on one. A lost actor ends
its run as failed, and the runner starts the run again elsewhere. All machines must see the store under the same path
and have fairstep installed.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from fairstep.runs import Run
from fairstep.study.launchers.base import Event, command, death, environment, event_of, kind_of, limits

RESOURCES_EVERY = 5.0
"""Seconds between questions about the size of the cluster, which may grow."""


class _Worker:
    """The actor: one worker process, or the several of one run, one run at a time."""

    def __init__(self, threads: int, processes: int = 1) -> None:
        self.processes, self.kind = processes, ""
        self.environment = environment() | limits(threads)
        self.process: subprocess.Popen[str] | None = None
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the actor)

    def train(self, directory: str, kind: str = "") -> Iterator[Event]:
        """The run's events, the last of which is its end. A worker that served another kind ends first."""
        if self.process is not None and kind != self.kind and self.processes == 1:
            self.process.kill()
            self.process.wait()
        self.kind = kind
        if self.processes > 1 or self.process is None or self.process.poll() is not None:
            self.errors.seek(0)
            self.errors.truncate()
            self.process = subprocess.Popen(
                [*command(self.processes), *(("--attached", directory) if self.processes > 1 else ("-",))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                text=True,
                errors="replace",
                env=self.environment,
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # noticed below, as the end of its output
            if self.processes == 1:
                self.process.stdin.write(json.dumps(directory) + "\n")
                self.process.stdin.flush()
        for line in self.process.stdout:
            event = event_of(line)
            if event is not None:
                yield event
                if event["event"] == "end":
                    return
        yield death(Run(Path(directory)), self.process.wait(), self.errors)


class RayLauncher:
    """``workers`` 0: as many as the cluster has room for. ``cpus`` and ``gpus`` of one trial, of all its ``processes``
    together, each with ``threads``; ``address`` of a running cluster ("auto", "ray://HOST:10001"), or nothing to start
    one here."""

    def __init__(
        self,
        workers: int = 0,
        cpus: float = 1.0,
        gpus: float = 0.0,
        threads: int = 0,
        address: str = "",
        processes: int = 1,
    ) -> None:
        self.workers, self.cpus, self.gpus, self.address = workers, cpus, gpus, address
        self.processes = processes
        self.threads = (threads or max(1, int(cpus) // processes)) * processes
        self._running: dict[str, tuple[Any, Any]] = {}
        self._idle: list[Any] = []
        self._waiting: list[str] = []
        """Runs that were started since ``events`` was last asked; Ray may keep them in its queue."""
        self._room = (-RESOURCES_EVERY, 0)
        self._ray = imported()

    def __str__(self) -> str:
        where = f"the Ray cluster at {self.address}" if self.address else "Ray on this machine"
        share = f"{self.cpus:g} CPU" + (f" and {self.gpus:g} GPU" if self.gpus else "")
        return f"{where}, {self.workers or 'as many trials as fit'} at a time with {share} each"

    def __enter__(self) -> Self:
        """Raises ConnectionError when there is no cluster at the address, or none can be started here."""
        quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
        try:
            if self.address:
                self._ray.init(address=self.address, **quiet)
            else:
                self._ray.init(address="local", include_dashboard=False, object_store_memory=100_000_000, **quiet)
        except Exception as error:  # Ray raises plain ones
            what = f"no Ray cluster answers at {self.address}" if self.address else "Ray could not be started here"
            raise ConnectionError(f"{what}: {str(error).splitlines()[0]}") from None
        self._actor = self._ray.remote(_Worker)
        return self

    def __exit__(self, *exception: object) -> None:
        """Ends the actors, with them their workers; and the cluster, if it was started here."""
        for actor, _ in self._running.values():
            self._ray.kill(actor)
        for actor in self._idle:
            self._ray.kill(actor)
        self._running.clear()
        self._idle.clear()
        self._ray.shutdown()

    @property
    def free(self) -> int:
        asked, room = self._room
        if time.monotonic() - asked >= RESOURCES_EVERY:
            has = self._ray.cluster_resources()
            if not self.address and not has.get("CPU"):
                raise ConnectionError(
                    "the Ray that was started here has died; no finished run is lost, the same command does the rest"
                )
            room = int(has.get("CPU", 0) / self.cpus)
            if self.gpus:
                room = min(room, int(has.get("GPU", 0) / self.gpus))
            self._room = (time.monotonic(), room)
        return min(room, self.workers or room) - len(self._running)

    def start(self, run: Run) -> None:
        actor = self._idle.pop() if self._idle else self._new()
        self._running[run.id] = (actor, self._events_of(actor, run))
        self._waiting.append(run.id)

    def _new(self) -> Any:
        return self._actor.options(num_cpus=self.cpus, num_gpus=self.gpus).remote(
            self.threads // self.processes, self.processes
        )

    @staticmethod
    def _events_of(actor: Any, run: Run) -> Any:
        return actor.train.options(num_returns="streaming").remote(str(run.directory.absolute()), kind_of(run))

    def events(self, timeout: float) -> Iterator[Event]:
        if not self._running:
            time.sleep(timeout)
            return
        yield from ({"event": "waiting", "run": identity} for identity in self._waiting)
        self._waiting.clear()
        said = {generator: identity for identity, (_, generator) in self._running.items()}
        ready, _ = self._ray.wait(list(said), num_returns=len(said), timeout=0)
        if not ready:
            ready, _ = self._ray.wait(list(said), num_returns=1, timeout=timeout)
        for generator in ready:
            identity = said[generator]
            event = self._next(generator)
            if event["event"] == "end":
                actor, _ = self._running.pop(identity)
                if event.pop("lost", False):
                    with contextlib.suppress(Exception):  # it is gone already
                        self._ray.kill(actor)
                else:
                    self._idle.append(actor)
            yield {"run": identity, **event}

    def _next(self, generator: Any) -> Event:
        """The next event of a run; the loss of its actor is its end."""
        try:
            return dict(self._ray.get(next(generator)))
        except StopIteration:
            message = "its worker said nothing of its end"
        except self._ray.exceptions.RayError as error:
            message = f"its Ray worker was lost ({type(error).__name__})"
        return {"event": "end", "status": "failed", "message": message, "lost": True}

    def cancel(self, identity: str) -> None:
        """Kill the run's actor; its end event follows."""
        if identity in self._running:
            self._ray.kill(self._running[identity][0])


def imported() -> Any:
    """Raises ValueError with the command that installs it."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray's line on a lost worker goes to standard output, whatever ``init`` is told; the runner says it with the trial.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "^A worker died or was killed while executing a task")
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")  # a busy machine takes longer than the default of 30
    try:
        import ray
    except ImportError:
        raise ValueError("the launcher ray needs Ray: pip install 'fairstep[ray]'") from None
    return ray
