"""Disks without room, at any byte of any file, and folders that may only be read.

The system's limit on the size of a file stands for a full disk: the write that is one byte too long fails in the same
place, and nothing has to be mounted. A process of root's becomes nobody for the folders.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import resource
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import FakeContest, fill_demo
from tests.study.test_runner import Pretender, carried
from tests.train.test_resume import TOKENS, execution

from fairstep.cli import main
from fairstep.runs import Store
from fairstep.runs.files import sentence_of
from fairstep.train import train

TRIALS = 24
FULL = "the disk is full (File too large); nothing that was finished is lost, make room and run the same command again"


@contextlib.contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file can grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_training(asynchronous: bool, draw: random.Random, tally: Any, tiny: Any, tmp_path: Path) -> None:
    """A full disk in the middle of a training: one sentence, and with room the same command ends in the same bytes."""
    spec = tiny(tokens=TOKENS, execution=execution(asynchronous=asynchronous, save_weights=True))
    whole = train(spec, Store(tmp_path / "whole"))
    largest = max(path.stat().st_size for path in whole.directory.iterdir())
    right = silent = 0
    for trial in range(TRIALS):
        store, said = Store(tmp_path / str(trial)), ""
        size = int(math.exp(draw.uniform(math.log(100), math.log(2 * largest))))
        with room_for(size):
            try:
                train(spec, store)
            except OSError as error:
                said = sentence_of(error)
        run = store.run(spec)
        left = [path.name for path in run.directory.iterdir() if "unfinished" in path.name]
        plain = (said == FULL and run.status == "unfinished") if said else run.status == "done"
        train(spec, store)
        same = (run.directory / "metrics.jsonl").read_bytes() == (whole.directory / "metrics.jsonl").read_bytes()
        same &= run.summary is not None and run.summary.final_loss == whole.summary.final_loss  # type: ignore[union-attr]
        right, silent = right + (plain and same and not left), silent + (not same)
    tally("a full disk while a model is trained", TRIALS, right, silent)


def test_a_contest(draw: random.Random, tally: Any, tmp_path: Path) -> None:
    """No room for the ledger, or for a summary: what was finished stays, and the contest goes on from there."""
    whole = carried(Store(tmp_path / "whole").writable(), Pretender())
    largest = (tmp_path / "whole/ledgers/test.json").stat().st_size
    right = 0
    for trial in range(TRIALS):
        store, first, said = Store(tmp_path / str(trial)).writable(), Pretender(), ""
        with room_for(draw.randrange(200, largest)):
            try:
                carried(store, first)
            except OSError as error:
                said = sentence_of(error)
        done = {run.id for run in store.runs() if run.finished}
        again = Pretender()
        ledger = carried(store, again)
        right += said == FULL and not done & set(again.started) and ledger.choices == whole.choices
    tally("a full disk while a contest is carried out", TRIALS, right, 0)


def test_readers(draw: random.Random, tally: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No room for a page or a table: nothing of the store changes."""
    contest = FakeContest(tmp_path / "store")
    fill_demo(contest)
    contest.store.write_ledger(contest.ledger)
    before, right = files(contest.store.path), 0
    for _ in range(TRIALS):
        with room_for(draw.randrange(1, 3_000_000)):
            code = main(["report", str(contest.store.path), "--out", str(tmp_path / "page.html")])
        said = capsys.readouterr()
        right += code == 2 and said.err.strip() == f"fairstep: {FULL}" and files(contest.store.path) == before
    tally("a full disk while a page is written", TRIALS, right, 0)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nobody may write in the folder meanwhile, and we are nobody."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for path in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
            path.chmod(0o755)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that everybody may enter."""
    folder = Path(tempfile.mkdtemp(prefix="fairstep-faults-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def test_read_only_stores(tally: Any, open_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Verbs that read work, verbs that write name the folder or the file, and nothing changes."""
    contest = FakeContest(open_folder / "store")
    fill_demo(contest)
    contest.store.write_ledger(contest.ledger)
    store = str(contest.store.path)
    before = files(contest.store.path)
    expected = {
        ("study", "status", store): (0, ""),
        ("store", "check", store): (0, ""),
        ("store", "list", store): (0, ""),
        ("claims", "--store", store): (0, ""),
        ("report", store, "--out", str(open_folder / "page.html")): (0, ""),
        ("report", store): (2, f"Permission denied ({store}/report.html)"),
        ("report", store, "--export", f"{store}/tables", "--out", str(open_folder / "page.html")): (2, "denied"),
        ("train", "adamw", "--store", store): (2, f"the store {store} cannot be written (Permission denied); name"),
        ("compare", "adamw", "muon", "--store", store): (2, f"the store {store} cannot be written (Permission denied)"),
    }
    right = 0
    for arguments, (code, sentence) in expected.items():
        with read_only(contest.store.path):
            answer = main(list(arguments))
        said = capsys.readouterr().err
        right += answer == code and sentence in said and "Traceback" not in said
    changed = files(contest.store.path) != before
    tally("verbs on a read-only store", len(expected), right, int(changed))
