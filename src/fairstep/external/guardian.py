"""No process of a trial outlives its worker, however the worker ends.

Every process of an attempt at a trial carries the variable ``FAIRSTEP_TRIAL`` in the environment that it was started
with (the run's directory and a word of the attempt's own), and a command's processes are a group. A *guardian* is a
small fork of the worker that reads a pipe from it. When the pipe ends, the worker is dead, and the guardian kills the
attempt's processes. Forks of a callable end with the worker.

A daemon of a command may start without that variable and leave the group. On Linux the worker is therefore the parent
of what the command leaves behind (``adopting``), and ends all of it when the command has ended. Such a daemon outlives
a worker that is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

VARIABLE = "FAIRSTEP_TRIAL"
PR_SET_PDEATHSIG = 1
"""Of <sys/prctl.h>: the signal that a process gets when its parent ends."""
PR_SET_CHILD_SUBREAPER = 36
"""Of <sys/prctl.h>: the process becomes the parent of what its descendants leave behind."""
SCANS = 40
"""Times that a guardian looks for processes of a dead worker's attempt, 50 ms apart; it stops after two without any."""


def attempt_at(trial: str) -> str:
    """What marks the processes of a new attempt at the run in a directory."""
    return f"{trial}#{secrets.token_hex(8)}"


def end_all(attempt: str, group: int = 0) -> int:
    """Kill the processes of an attempt, but for this one; of every attempt, for a name that ends in #. Returns how many
    were found by their environment (0 where the system has no /proc)."""
    if group:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    found, mark = 0, f"{VARIABLE}={attempt}".encode(errors="surrogateescape")
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir("/proc"):  # noqa: PTH208  (five times as fast)
            if name.isdigit() and int(name) != os.getpid():
                with contextlib.suppress(OSError):
                    environ = Path("/proc", name, "environ").read_bytes()
                    if mark in environ and _carries(environ, mark):
                        os.kill(int(name), signal.SIGKILL)
                        found += 1
    return found


@contextlib.contextmanager
def adopting() -> Iterator[Callable[[int], int]]:
    """Be the parent of processes whose parents end inside. What is yielded kills every child that this process got
    since, but for the one of the given number, and what descends from them; it returns how many were alive."""
    before = _children()

    def end_left(command: int) -> int:
        found = 0
        while left := _children() - before - {command}:
            for child in left:
                with contextlib.suppress(ChildProcessError):
                    if os.waitpid(child, os.WNOHANG) == (0, 0):
                        found += 1
                        os.kill(child, signal.SIGKILL)
                        os.waitpid(child, 0)
        return found

    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield end_left
    finally:
        _prctl(PR_SET_CHILD_SUBREAPER, 0)


def _children() -> set[int]:
    """Children of this process; empty where the system does not list them."""
    with contextlib.suppress(OSError):
        return {
            int(child) for one in Path("/proc/self/task").iterdir() for child in (one / "children").read_text().split()
        }
    return set()


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):  # not on Linux
        ctypes.CDLL(None).prctl(option, value)


def _carries(environ: bytes, mark: bytes) -> bool:
    entries = environ.split(b"\0")
    return any(entry.startswith(mark) for entry in entries) if mark.endswith(b"#") else mark in entries


class Guardian:
    """Made before the worker has threads."""

    def __init__(self) -> None:
        inbox, self._pipe = os.pipe()
        if os.fork() == 0:
            _watch(inbox, self._pipe)
        os.close(inbox)
        os.register_at_fork(after_in_child=self._in_child)

    def watch(self, attempt: str, group: int = 0) -> None:
        """What is to be killed if this process dies now; nothing for no name. Ends this process if the guardian was
        killed, because nothing would then end the attempt's processes; a launcher starts another worker."""
        try:
            os.write(self._pipe, f"{group} {attempt}\n".encode(errors="surrogateescape"))
        except BrokenPipeError:
            if attempt:
                raise SystemExit("the guardian of this worker's processes was killed") from None

    def _in_child(self) -> None:
        """A fork of the worker must not keep the pipe open, and ends with the worker."""
        with contextlib.suppress(OSError):
            os.close(self._pipe)
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _watch(inbox: int, outbox: int) -> None:
    """The guardian's life."""
    os.close(outbox)
    os.setsid()
    for told in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(told, signal.SIG_IGN)
    nothing = os.open(os.devnull, os.O_RDWR)
    for file in (0, 1, 2):
        os.dup2(nothing, file)
    group, attempt, text = 0, "", b""
    while chunk := os.read(inbox, 65536):
        *lines, text = (text + chunk).split(b"\n")
        if lines:
            number, _, name = lines[-1].partition(b" ")
            group, attempt = int(number), name.decode(errors="surrogateescape")
    empty = 0
    for _ in range(SCANS if attempt else 0):
        empty = 0 if end_all(attempt, group) else empty + 1
        if empty == 2:
            break
        time.sleep(0.05)
    os._exit(0)
