"""A command as trainer: started in a process group of its own, listened to until it ends, and ended with all of it."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path

from fairstep.external.guardian import VARIABLE, Guardian, adopting, end_all
from fairstep.external.output import Output, TrialError
from fairstep.runs import CommandSpec
from fairstep.runs.command_spec import PROCESSES

GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL for a command whose worker is told to stop."""


def argv_of(spec: CommandSpec, out: Path) -> list[str]:
    """The command as it is run. ``python`` is the Python of this process."""
    command = spec.command(out, os.environ.get(PROCESSES, "1"))
    return [sys.executable, *command[1:]] if command[0] in ("python", "python3") else command


def run(argv: list[str], directory: str, attempt: str, output: Output, guardian: Guardian) -> tuple[int, int]:
    """Run to the end; (exit code, processes that the command left behind, which are killed). Raises TrialError."""
    guardian.watch(attempt)  # from here on it is ended with this process
    with adopting() as end_left:
        try:
            process = subprocess.Popen(
                argv,
                cwd=directory or None,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | {VARIABLE: attempt},
            )
        except (OSError, ValueError) as error:  # ValueError for a null byte in a value
            raise TrialError(_why_not(argv[0], directory, error)) from None
        try:
            guardian.watch(attempt, process.pid)
            _listen(process, output)
            left = end_left(process.pid) + end_all(attempt, process.pid)
        except BaseException:  # told to stop
            _stop(process, attempt)
            end_left(process.pid)
            raise
        finally:
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
            guardian.watch("")
    return process.returncode, left


def _why_not(program: str, directory: str, error: OSError | ValueError) -> str:
    if directory and not Path(directory).is_dir():
        return f"the folder {directory} that the command is started in does not exist"
    if isinstance(error, FileNotFoundError):
        return f"the command {program!r} is not found; give its full path, or put its folder on the PATH"
    why = error.strerror if isinstance(error, OSError) else str(error)
    return f"the command {program!r} cannot be started: {why}"


def _listen(process: subprocess.Popen[bytes], output: Output) -> None:
    """Take the output until the process ends; its children may hold the pipe open for longer."""
    assert process.stdout is not None
    pipe = process.stdout.fileno()
    os.set_blocking(pipe, False)
    ending = os.pidfd_open(process.pid) if hasattr(os, "pidfd_open") else None
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            if ending is not None:
                selector.register(ending, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in selector.select(None if ending is not None else 0.05)}
                ended = ending in ready or (ending is None and process.poll() is not None)
                if pipe in ready and not _take(pipe, output):
                    selector.unregister(pipe)
                if ended:
                    break
        deadline = time.monotonic() + GRACE  # of a child that goes on printing, no more than that
        while _take(pipe, output) and time.monotonic() < deadline:
            pass
    finally:
        if ending is not None:
            os.close(ending)


def _take(pipe: int, output: Output) -> bool:
    """Whether there was something."""
    try:
        chunk = os.read(pipe, 1 << 18)
    except BlockingIOError:
        return False
    if chunk:
        output.feed(chunk)
    return bool(chunk)


def _stop(process: subprocess.Popen[bytes], attempt: str) -> None:
    """SIGTERM to the command and its children, and SIGKILL for what is left after a while."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    end_all(attempt, process.pid)
