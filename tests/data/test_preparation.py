"""Whatever happens while a corpus is prepared, the cache never holds half of one."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fairstep.data import Corpus, DataError, prepare
from fairstep.data.corpus import open_corpus

Texts = Callable[..., str]

# A process that prepares the corpus argv[1] and, where argv[2] names a stage, is killed at its end.
PREPARE = """
import os, signal, sys
from fairstep.data import prepare
def kill(stage, fraction):
    if stage == sys.argv[2] and fraction == 1.0:
        os.kill(os.getpid(), signal.SIGKILL)
print(prepare(sys.argv[1], vocabulary=300, progress=kill).fingerprint)
"""


def start(source: str, stage: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PREPARE, source, stage]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def files(corpus: Corpus) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in corpus.directory.iterdir()}


def unfinished(cache: Path) -> list[Path]:
    return list((cache / "corpora").glob(".unfinished-*"))


@pytest.mark.parametrize("stage", ["copying", "training the tokenizer", "encoding"])
def test_a_killed_process_leaves_no_corpus_and_its_work(cache: Path, texts: Texts, tmp_path: Path, stage: str) -> None:
    source = texts(30)
    undisturbed = prepare(source, vocabulary=300, cache=tmp_path / "other")
    killed = start(source, stage)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert len(unfinished(cache)) == 1
    with pytest.raises(DataError, match="is not in"):
        open_corpus(undisturbed.fingerprint, 300)
    (before,) = (path.stat().st_mtime_ns for path in unfinished(cache)[0].glob("run-*.text"))
    copied: list[int] = []

    def watch(stage: str, fraction: float) -> None:
        if stage == "training the tokenizer":
            copied.extend(path.stat().st_mtime_ns for path in unfinished(cache)[0].glob("run-*.text"))

    assert files(prepare(source, vocabulary=300, progress=watch)) == files(undisturbed)
    assert set(copied) == {before}, "what was sorted before is not sorted again"
    assert unfinished(cache) == []


def test_leftovers_are_swept_when_old(cache: Path, texts: Texts) -> None:
    for name, age in (("dead", 8 * 86_400.0), ("at-work", 60.0)):
        folder = cache / "corpora" / f".unfinished-{name}"
        folder.mkdir(parents=True)
        (folder / "run-0.text").write_text("half", encoding="utf-8")
        os.utime(folder, (time.time() - age, time.time() - age))
    prepare(texts(30), vocabulary=300)
    assert [path.name for path in unfinished(cache)] == [".unfinished-at-work"]


def test_processes_at_once(cache: Path, texts: Texts) -> None:
    source = texts(30)
    processes = [start(source) for _ in range(3)]
    found = {process.communicate()[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert found == {prepare(source, vocabulary=300).fingerprint}
    open_corpus(found.pop(), 300).verify()
    assert len(list((cache / "corpora").iterdir())) == 1


def test_the_slower_of_two_waits_for_the_first(cache: Path, texts: Texts) -> None:
    """The second process is started while the first one works, and writes nothing of its own."""
    source = texts(30)
    other: list[subprocess.Popen[str]] = []

    def begin(stage: str, fraction: float) -> None:
        if stage == "training the tokenizer" and not other:
            other.append(start(source, "copying"))  # which would be killed if it copied anything
            time.sleep(1.0)

    first = prepare(source, vocabulary=300, progress=begin)
    assert other[0].communicate()[0].strip() == first.fingerprint
    assert other[0].returncode == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))])
def test_an_interrupt_and_a_full_disk_lose_nothing(cache: Path, texts: Texts, error: type[BaseException]) -> None:
    def interrupt(stage: str, fraction: float) -> None:
        if stage == "encoding":
            raise error

    source = texts(30)
    with pytest.raises((KeyboardInterrupt, DataError)) as raised:
        prepare(source, vocabulary=300, progress=interrupt)
    if isinstance(raised.value, DataError):
        assert "No space left on device): make room there" in str(raised.value)
        assert "goes on where it stopped" in str(raised.value)
    assert len(unfinished(cache)) == 1
    prepare(source, vocabulary=300).verify()
    assert unfinished(cache) == []


def test_text_that_cannot_be_used_leaves_nothing(cache: Path, texts: Texts) -> None:
    with pytest.raises(DataError, match="too small for a vocabulary"):
        prepare(texts(30), vocabulary=9_000)
    assert list((cache / "corpora").iterdir()) == []


def test_files_that_change_meanwhile(cache: Path, texts: Texts, tmp_path: Path) -> None:
    source = texts(30)

    def change(stage: str, fraction: float) -> None:
        if stage == "reading" and fraction == 1.0:
            (tmp_path / "texts/007.txt").write_text("another text", encoding="utf-8")

    with pytest.raises(DataError, match="the files of texts changed while they were read: try again"):
        prepare(source, vocabulary=300, progress=change)


def test_a_cache_that_cannot_be_written(texts: Texts, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(DataError, match=r"cannot write the cache .*Not a directory.*set FAIRSTEP_CACHE"):
        prepare(texts(30), vocabulary=300, cache=tmp_path / "file")
