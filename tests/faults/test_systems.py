"""File systems without locks, and clocks that somebody sets."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest
from tests.study.test_runner import Pretender, carried, timeless
from tests.train.test_resume import TOKENS, execution, interrupted

from fairstep.data import DataError, prepare
from fairstep.runs import Store
from fairstep.train import train

CLOCKS = 12
UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


def test_no_locks(tally: Any, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training and preparing say which folder it is, and why; nothing waits and nothing is half done."""
    (tmp_path / "text.txt").write_text("\n\n".join(f"document {n} says {n * n}. " * 9 for n in range(300)))
    right = 0
    for number in UNSUPPORTED:

        def refuse(*_: object, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", refuse)
        store, cache, reason = tmp_path / f"store{number}", tmp_path / f"cache{number}", f"({os.strerror(number)})"
        with pytest.raises(ValueError, match="no file locks") as trained:
            train(tiny(tokens=TOKENS), Store(store))
        right += str(store) in str(trained.value) and reason in str(trained.value)
        with pytest.raises(DataError, match="no locks") as prepared:
            prepare(str(tmp_path / "text.txt"), tokenizer="bytes", cache=cache)
        right += str(cache) in str(prepared.value) and reason in str(prepared.value)
    tally("file systems without locks", 2 * len(UNSUPPORTED), right, 0)


def test_clocks(draw: random.Random, tally: Any, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set while a run is interrupted, with files of the past and of the future, and running backwards."""
    spec = tiny(tokens=TOKENS, execution=execution())
    whole = train(spec, Store(tmp_path / "whole"))
    contest = timeless(carried(Store(tmp_path / "contest").writable(), Pretender()))
    right = 0
    for trial in range(CLOCKS):
        store, other = Store(tmp_path / str(trial)).writable(), Store(tmp_path / f"contest{trial}").writable()
        run = interrupted(spec, store)
        with pytest.raises(KeyboardInterrupt):
            carried(other, Pretender(stop_after=7))
        for path in (*run.directory.rglob("*"), *other.path.rglob("*")):
            os.utime(path, (0, draw.randrange(2**32)))
        now = draw.choice([0.0, time.time(), 2.0**32])
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda now=now: now - 1e3 * draw.random())
            train(spec, store)
            ended = timeless(carried(other, Pretender()))
        same = (run.directory / "metrics.jsonl").read_bytes() == (whole.directory / "metrics.jsonl").read_bytes()
        right += same and run.status == "done" and ended == contest
    tally("clocks set while a run is interrupted", CLOCKS, right, CLOCKS - right)
