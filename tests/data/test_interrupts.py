"""Ctrl-C, clocks and rows that cannot be read."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fairstep.data import DataError, prepare
from fairstep.data.cache import locked, sweep

Texts = Callable[..., str]
Prose = Callable[[int], str]

PREPARE = """
import sys
from fairstep.data import prepare, survey, workers
workers.SMALL, survey._UNIT = 0, 20_000
print("ready", flush=True)
try:
    prepare(sys.argv[1], tokenizer="bytes", workers=2)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("delay", [0.05, 0.3])
def test_ctrl_c_to_the_whole_group_is_said_once(cache: Path, texts: Texts, delay: float) -> None:
    """The workers get it too, in their first imports."""
    source = texts(60)
    process = subprocess.Popen(
        [sys.executable, "-c", PREPARE, source],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert errors == ""
    assert process.returncode in (0, 130)
    prepare(source, tokenizer="bytes").verify()


def test_work_that_goes_on_is_not_swept_whatever_its_age(cache: Path) -> None:
    corpora = cache / "corpora"
    for name in ("at-work", "dead"):
        (corpora / f".unfinished-{name}").mkdir(parents=True)
        os.utime(corpora / f".unfinished-{name}", (0, 0))
    with locked(cache, "at-work"):
        sweep(corpora)
    assert [path.name for path in corpora.iterdir()] == [".unfinished-at-work"]
    sweep(corpora)
    assert not list(corpora.iterdir())


def test_a_file_system_without_locks_is_named(cache: Path, texts: Texts, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(DataError, match=r"the file system of .*cache has no locks \(No locks available\): set FAIR"):
        prepare(texts(30), tokenizer="bytes")


def test_half_a_character_in_a_streamed_folder(cache: Path, tmp_path: Path, prose: Prose) -> None:
    """What the library cannot read it cannot read the next time either; what it gives has no halves."""
    folder = tmp_path / "rows"
    folder.mkdir()
    rows = [json.dumps({"text": prose(seed)}) for seed in range(30)]
    (folder / "a.jsonl").write_text("\n".join(rows[:20]) + "\n", encoding="utf-8")
    (folder / "b.jsonl").write_text("\n".join([*rows[20:], '{"text": "half \\ud83d a character"}']) + "\n")
    try:
        corpus = prepare(f"hf:{folder}", tokenizer="bytes")
    except DataError as error:
        assert "goes on where it stopped" not in str(error)
        assert "cannot be read behind its document" in str(error)
        assert "mend or leave out that file" in str(error)
    else:
        assert corpus.documents == 31


def test_rows_of_a_stream_without_text_are_counted(cache: Path, tmp_path: Path, prose: Prose) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    texts = [prose(seed) for seed in range(30)]
    rows = [json.dumps({"text": text}) for text in [texts[0], None, "", " \n", *texts[1:]]]
    (folder / "a.jsonl").write_text("\n".join(rows), encoding="utf-8")
    for cache_folder, limit in ((tmp_path / "one", 0), (tmp_path / "two", 1_000_000)):
        corpus = prepare(f"hf:{folder}", tokenizer="bytes", max_tokens=limit, cache=cache_folder)
        assert (corpus.documents, corpus.source["blank"]) == (30, 3)


def test_a_broken_network_may_come_back(monkeypatch: pytest.MonkeyPatch, cache: Path, tmp_path: Path) -> None:
    from fairstep.data import hub

    class Stream:
        def __init__(self, error: Exception) -> None:
            self.error = error

        def __iter__(self) -> object:
            yield {"text": "a"}
            raise self.error

    for error, message in (
        (ConnectionError("reset"), "broke off: reset; the same command goes on where it stopped"),
        (
            ValueError("bad row"),
            "cannot be read behind its document 1, and not by trying again either: bad row; mend",
        ),
    ):
        monkeypatch.setattr(hub, "_dataset", lambda *_, error=error: Stream(error))
        with pytest.raises(DataError, match=message):
            prepare("hf:x", tokenizer="bytes")
