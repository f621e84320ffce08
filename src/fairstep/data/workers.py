"""Work in other processes: tasks in, results out in the order of the tasks, whatever the number of workers.

A worker is ``python -m fairstep.data``. It reads tasks as JSON lines on standard input, and answers with reports and a
result on standard output. It needs no fork, which threads make unsafe, and does not import the caller's main module. It
ends when its input closes, so a killed parent leaves no worker behind for longer than a task. Tasks write each file
under another name and rename it, so a task that is done twice does no harm.
"""

import contextlib
import importlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fairstep.data.errors import DataError

Report = Callable[[dict[str, Any]], None]

TASKS = {
    "survey": "fairstep.data.survey:survey_unit",
    "sort": "fairstep.data.sorting:sort_unit",
    "encode": "fairstep.data.encoding:encode_shard",
    "scan": "fairstep.data.foreign:scan_shard",
}
SMALL = 32_000_000  # bytes; less is done in the calling process before others have started


def run(
    task: str, payloads: Sequence[dict[str, Any]], workers: int, on_report: Callable[[int, dict[str, Any]], None]
) -> list[dict[str, Any]]:
    """Carry out one task on every payload; 0 workers: in this process, with the libraries' threads.

    `on_report` is called with the payload's index and what the task says of itself, never by two threads at once.
    The first error of a task is raised: DataError, or OSError for what the system refused.
    """
    if not workers:
        function = _task(task)
        return [
            function(payload, lambda said, index=index: on_report(index, said))  # type: ignore[misc]
            for index, payload in enumerate(payloads)
        ]
    return _Pool(task, payloads, on_report).run_in_processes(min(workers, len(payloads)))


def counting(report: Callable[[str, float], None], stage: str, total: int) -> Callable[[int, dict[str, Any]], None]:
    """Tells of a stage how much of a total the tasks have done, by what they say of themselves."""
    done = 0

    def hear(index: int, said: dict[str, Any]) -> None:
        nonlocal done
        done += said["bytes"]
        report(stage, min(done / total, 1.0))

    return hear


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """A process that is started meanwhile never gets Ctrl-C, not even in its first imports: its parent ends it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Pool:
    """Some workers and one thread for each, which hands it tasks until there are no more."""

    def __init__(
        self, task: str, payloads: Sequence[dict[str, Any]], on_report: Callable[[int, dict[str, Any]], None]
    ) -> None:
        self._task, self._payloads, self._on_report = task, payloads, on_report
        self._results: list[dict[str, Any]] = [{}] * len(payloads)
        self._next = itertools.count()
        self._lock = threading.Lock()
        self._errors: list[BaseException] = []
        self._processes: list[subprocess.Popen[str]] = []

    def run_in_processes(self, workers: int) -> list[dict[str, Any]]:
        environment = os.environ | {"TOKENIZERS_PARALLELISM": "false", "POLARS_MAX_THREADS": "1"}
        try:
            for _ in range(workers):
                command = [sys.executable, "-m", "fairstep.data"]
                pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
                with _without_interrupts():
                    self._processes.append(subprocess.Popen(command, text=True, env=environment, **pipes))
            threads = [threading.Thread(target=self._serve, args=(process,)) for process in self._processes]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            for process in self._processes:
                process.kill()
                process.wait()
                for pipe in (process.stdin, process.stdout):
                    if pipe:
                        with contextlib.suppress(BrokenPipeError):  # closing writes what a dead worker did not take
                            pipe.close()
        if self._errors:
            raise self._errors[0]
        return self._results

    def _serve(self, process: subprocess.Popen[str]) -> None:
        try:
            while not self._errors and (index := next(self._next)) < len(self._payloads):
                self._results[index] = self._ask(process, index)
        except BaseException as error:
            self._errors.append(error)
            for other in self._processes:  # wakes the threads that wait for an answer
                other.kill()

    def _ask(self, process: subprocess.Popen[str], index: int) -> dict[str, Any]:
        assert process.stdin
        assert process.stdout
        try:
            process.stdin.write(json.dumps({"task": self._task, "payload": self._payloads[index]}) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it is dead, which its missing answer tells
        for line in process.stdout:
            answer = json.loads(line)
            if "result" in answer:
                return dict(answer["result"])
            if "error" in answer:
                raise DataError(answer["error"])
            if "refused" in answer:
                raise OSError(*answer["refused"])
            with self._lock:
                self._on_report(index, answer["said"])
        raise DataError(
            f"a worker process ended with code {process.wait()} before its work was done (was memory short?): "
            "run the same command again, it goes on where it stopped; --workers 1 needs the least memory"
        )


def _task(name: str) -> Callable[[dict[str, Any], Report], dict[str, Any]]:
    module, function = TASKS[name].split(":")
    found: Callable[[dict[str, Any], Report], dict[str, Any]] = getattr(importlib.import_module(module), function)
    return found


def main() -> None:
    """The worker's side."""

    def answer(**values: Any) -> None:
        sys.stdout.write(json.dumps(values) + "\n")
        sys.stdout.flush()

    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer(result=_task(request["task"])(request["payload"], lambda said: answer(said=said)))
        except DataError as error:
            answer(error=str(error))
        except OSError as error:
            answer(refused=[error.errno, error.strerror, error.filename and str(error.filename)])
