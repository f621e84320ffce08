"""``python -m fairstep.train DIRECTORY...``: train the runs whose ``spec.json`` lies in these directories.

This is the one command that launchers start. It is idempotent: a finished run is not repeated. With ``-`` it reads
directories from standard input, a line each (plain, or a JSON string), so that one process (one import, one
compilation) serves many runs. It then ends at once when standard input ends, in the middle of a run too.
``--attached DIRECTORY...`` ends in that way as well. Under torchrun all processes train each run together, and the
first speaks. The command writes one JSON object a line. What anybody else prints goes to standard error.

    {"event": "ready"}
    {"event": "begin", "run": ...}
    {"event": "progress", "run": ..., "step": ..., "steps": ..., "loss": ..., "tokens_per_second": ..., ...}
    {"event": "note" | "waiting", "run": ..., "note": "a sentence", ...}
    {"event": "end", "run": ..., "status": "done" | "diverged" | "failed", "message": ...}

A run that met an error (out of memory, full disk, missing data) ends as failed, with a sentence, and its traceback is
in error.txt. It is not a result and may be started again. The exit code is 0 if every run has a result, else 1.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from fairstep.runs.channel import Channel, open_channel
from fairstep.runs.files import sentence_of
from fairstep.train.forks import become_worker
from fairstep.train.ranks.started import speaks

if TYPE_CHECKING:
    from fairstep.train import Progress


def main(arguments: list[str]) -> int:
    if not arguments:
        print("fairstep.train: name run directories, or - to read them from standard input", file=sys.stderr)
        return 2
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the launcher's to handle; it then closes our input
    from fairstep.train.run import train  # noqa: F401  (load torch before saying that we are ready)

    channel = open_channel(speaks())
    become_worker(*channel.files)
    faulthandler.enable()
    channel.emit(event="ready")
    failed = False
    for directory in channel.directories(arguments):
        failed |= train_directory(directory, channel) == "failed"
    return 1 if failed else 0


def train_directory(directory: Path, channel: Channel) -> str:
    """Train one run; returns its status and emits the end event."""
    from fairstep.runs import Run, Store, Summary
    from fairstep.train.run import train

    run, message = Run(directory), ""
    channel.emit(event="begin", run=run.id)

    def report(progress: Progress) -> None:
        kind = "waiting" if progress.waiting else "note" if progress.note else "progress"
        channel.emit(event=kind, **dataclasses.asdict(progress))

    try:
        train(run.own_spec, Store(directory.parent.parent), report)
        status = run.status
        message = run.summary.message if run.summary else ""
    except Exception as error:
        status, message = "failed", explain(error)
        try:
            if channel.speaks:
                run.write_error(traceback.format_exc())
                message += f" (traceback: {directory.parent.name}/{run.id}/error.txt)"
                run.write_summary(Summary(status="failed", message=message))
        except OSError as unwritten:
            message += f" (and the summary could not be written: {unwritten.strerror})"
    channel.emit(event="end", run=run.id, status=status, message=message)
    return status


def explain(error: Exception) -> str:
    """One line; torch's messages may be long and begin with file names."""
    if isinstance(error, OSError) and error.errno:
        return sentence_of(error)
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return text if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {text}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
