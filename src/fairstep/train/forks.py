"""A fork of a training process is not the run: it holds none of its files, and a worker's ends when the worker does.

An optimizer may fork. A child that comes back from its step would otherwise train the run a second time into the same
files (``end_if_forked``), and one that stays would hold the run's lock and its launcher's pipe for ever.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Iterator

PR_SET_PDEATHSIG = 1
"""Of <sys/prctl.h>: the signal that a process gets when its parent ends."""

_files: set[int] = set()
_worker = False


@contextlib.contextmanager
def not_in_children(file: int) -> Iterator[None]:
    """Children close this file descriptor."""
    _files.add(file)
    try:
        yield
    finally:
        _files.discard(file)


def become_worker(*files: int) -> None:
    """Children also end with this process, and never have these file descriptors."""
    global _worker
    _worker = True
    _files.update(files)


def end_if_forked(process: int) -> None:
    """End this process, without a word, if it is a fork of that one."""
    if os.getpid() != process:
        os._exit(0)


def _in_child() -> None:
    for file in _files:
        with contextlib.suppress(OSError):
            os.close(file)
    _files.clear()
    if _worker:
        with contextlib.suppress(OSError, AttributeError):  # not on Linux
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


os.register_at_fork(after_in_child=_in_child)
