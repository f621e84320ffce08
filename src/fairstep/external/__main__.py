"""``python -m fairstep.external DIRECTORY...``: carry out the runs of somebody else's trainer in these directories.

The same command for launchers as ``python -m fairstep.train``: with ``-`` it reads directories from standard input,
``--attached`` ends with standard input, a finished run is not repeated, and events are JSON lines on standard output.
SIGTERM is passed on to the trainer. Exit code 0 if every run has a result, else 1.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

from fairstep.external.guardian import Guardian
from fairstep.external.trial import carry_out
from fairstep.runs import Run
from fairstep.runs.channel import Channel, open_channel


def main(arguments: list[str]) -> int:
    if not arguments:
        print("fairstep.external: name run directories, or - to read them from standard input", file=sys.stderr)
        return 2
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the launcher's to handle; it then closes our input
    signal.signal(signal.SIGTERM, _stop)
    guardian = Guardian()
    channel = open_channel()
    channel.emit(event="ready")
    failed = False
    for directory in channel.directories(arguments):
        failed |= _one(Run(directory), channel, guardian) == "failed"
    return 1 if failed else 0


def _one(run: Run, channel: Channel, guardian: Guardian) -> str:
    """Carry out one run; returns its status and emits the end event."""
    channel.emit(event="begin", run=run.id)
    status = "failed"
    try:
        summary = carry_out(run, lambda event: channel.emit(**event), guardian)
        status, message = summary.status, summary.message
    except (ValueError, OSError) as error:
        message = str(error) or type(error).__name__
    channel.emit(event="end", run=run.id, status=status, message=message)
    return status


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
