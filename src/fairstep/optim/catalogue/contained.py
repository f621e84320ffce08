"""Other people's code at work in our process: what it prints and where it moves to is not ours."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def printing_to_stderr() -> Iterator[None]:
    """Standard output holds results. What Python, C or a child process writes to it meanwhile goes to standard
    error."""
    sys.stdout.flush()
    try:
        ours = os.dup(1)
    except OSError:  # it is closed
        ours = -1
    try:
        with contextlib.suppress(OSError):
            os.dup2(2, 1)
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        with contextlib.suppress(OSError, AttributeError, ValueError):
            sys.stderr.flush()
            ctypes.CDLL(None).fflush(None)  # what C has buffered
        if ours >= 0:
            os.dup2(ours, 1)
            os.close(ours)


@contextlib.contextmanager
def contained() -> Iterator[None]:
    """``printing_to_stderr``, and the working folder and the environment are as before at the end."""
    folder, environment = Path.cwd(), dict(os.environ)
    try:
        with printing_to_stderr():
            yield
    finally:
        if dict(os.environ) != environment:
            os.environ.clear()
            os.environ.update(environment)
        with contextlib.suppress(OSError):
            os.chdir(folder)
