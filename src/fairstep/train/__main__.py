"""``python -m fairstep.train DIRECTORY...``: train the runs whose ``spec.json`` lies in these directories.

This is the one command that launchers start. It is idempotent: a finished run is not repeated. With ``-`` it reads
directories from standard input, a line each, so that one process (one import, one compilation) serves many runs. It
then ends at once when standard input ends, in the middle of a run too. ``--attached DIRECTORY...`` ends in that way as
well. Under torchrun all processes train each run together, and the first speaks. The command writes one JSON object a
line:

    {"event": "ready"}
    {"event": "progress", "run": ..., "step": ..., "steps": ..., "loss": ..., "tokens_per_second": ..., ...}
    {"event": "note", "run": ..., "note": "a sentence", ...}
    {"event": "end", "run": ..., "status": "done" | "diverged" | "failed", "message": ...}

A run that met an error (out of memory, full disk, missing data) ends as failed, with a sentence. It is not a result and
may be started again. The exit code is 0 if every run has a result, else 1.
"""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairstep.train import Progress


FIRST = os.environ.get("RANK", "0") == "0"
"""Whether this process speaks for all of its run."""


def main(arguments: list[str]) -> int:
    if not arguments:
        print("fairstep.train: name run directories, or - to read them from standard input", file=sys.stderr)
        return 2
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the launcher's to handle; it then closes our input
    from fairstep.train.run import train  # noqa: F401  (load torch before saying that we are ready)

    emit(event="ready")
    if arguments[0] == "--attached":
        threading.Thread(target=end_with_input, daemon=True).start()
        arguments = arguments[1:]
    failed = False
    for directory in standard_input() if arguments == ["-"] else map(Path, arguments):
        failed |= train_directory(directory) == "failed"
    return 1 if failed else 0


def train_directory(directory: Path) -> str:
    """Train one run; returns its status and emits the end event."""
    from fairstep.runs import Run, Store, Summary
    from fairstep.train.run import train

    run, message = Run(directory), ""
    try:
        train(run.spec, Store(directory.parent.parent), report)
        status = run.status
        message = run.summary.message if run.summary else ""
    except Exception as error:
        status, message = "failed", explain(error)
        try:
            if FIRST:
                run.write_summary(Summary(status="failed", message=message))
        except OSError as unwritten:
            message += f" (and the summary could not be written: {unwritten.strerror})"
    emit(event="end", run=run.id, status=status, message=message)
    return status


def report(progress: Progress) -> None:
    """A progress event, or a note."""
    emit(event="note" if progress.note else "progress", **dataclasses.asdict(progress))


def explain(error: Exception) -> str:
    """One line; torch's messages may be long and begin with file names."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return text if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {text}"


def end_with_input() -> None:
    """End this process at once when its launcher dies or closes our input."""
    sys.stdin.read()
    os._exit(1)


def standard_input() -> Iterator[Path]:
    """Directories as they come. When the launcher dies, its end of the pipe closes and this process ends."""
    lines: queue.Queue[str] = queue.Queue()
    idle = threading.Event()

    def read() -> None:
        for line in sys.stdin:
            idle.clear()
            lines.put(line.strip())
        if not idle.is_set():
            os._exit(1)
        lines.put("")

    threading.Thread(target=read, daemon=True).start()
    while True:
        if lines.empty():
            idle.set()
        line = lines.get()
        if not line:
            return
        yield Path(line)


def emit(**event: Any) -> None:
    if FIRST:
        print(json.dumps(event), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
