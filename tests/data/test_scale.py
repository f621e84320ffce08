"""The path of large text, on small text: processes, several shards, resumed work, formats, streams."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from fairstep.data import Corpus, DataError, prepare, sorting, survey, workers

Texts = Callable[..., str]
Prose = Callable[[int], str]


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have texts of kilobytes treated like those of gigabytes."""
    shrink(monkeypatch)


def shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "SMALL", 0)
    monkeypatch.setattr(survey, "_UNIT", 20_000)
    monkeypatch.setattr(sorting, "RUN_BYTES", 15_000)


def tokens(corpus: Corpus) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(corpus.train()), np.asarray(corpus.validation())


def same(one: Corpus, two: Corpus) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(tokens(one), tokens(two), strict=True))


@pytest.mark.slow
def test_processes_runs_and_shards_do_not_matter(texts: Texts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process with one run and one shard, one worker and three workers: the same tokens, and of the latter two the
    same files."""
    source = texts(60)
    plain = prepare(source, vocabulary=300, cache=tmp_path / "plain")
    shrink(monkeypatch)
    found = [prepare(source, vocabulary=300, cache=tmp_path / str(n), workers=n) for n in (1, 3)]
    assert all(same(plain, corpus) and corpus.fingerprint == plain.fingerprint for corpus in found)
    files = [{path.name: path.read_bytes() for path in corpus.directory.iterdir()} for corpus in found]
    assert files[0] == files[1]
    assert len(list(found[0].directory.glob("train-*.bin"))) > 3
    assert found[0].train()[-1000:].tolist() == tokens(plain)[0][-1000:].tolist(), "slices run over shards"


KILLED = """
import os, signal, sys
from fairstep.data import prepare, sorting, survey, workers
workers.SMALL, survey._UNIT, sorting.RUN_BYTES = 0, 20_000, 15_000
def kill(stage, fraction):
    if stage == sys.argv[2] and fraction >= float(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
prepare(sys.argv[1], vocabulary=300, workers=2, progress=kill)
"""


@pytest.mark.slow
def test_a_preparation_killed_twice_in_the_middle_goes_on(
    large: None, texts: Texts, cache: Path, tmp_path: Path
) -> None:
    source = texts(60)
    for stage, fraction, written in (("copying", 0.4, "*.done"), ("encoding", 0.6, "train-*.bin.done")):
        command = [sys.executable, "-c", KILLED, source, stage, str(fraction)]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
        (work,) = (cache / "corpora").glob(".unfinished-*")
        time.sleep(0.5)  # a worker may still be at its task
        before = {path: path.stat().st_mtime_ns for path in work.glob(written)}
        assert before
    seen: dict[Path, int] = {}

    def watch(stage: str, fraction: float) -> None:
        if stage == "encoding":
            seen.update({path: path.stat().st_mtime_ns for path in before if path.exists()})

    corpus = prepare(source, vocabulary=300, progress=watch, workers=1)
    assert seen == before, "shards that were finished are not written again"
    corpus.verify()
    assert same(corpus, prepare(source, vocabulary=300, cache=tmp_path / "other", workers=1))
    assert not list((cache / "corpora").glob(".unfinished-*"))


@pytest.mark.slow
def test_a_worker_that_dies_is_told(large: None, texts: Texts, cache: Path) -> None:
    source = texts(30)

    def murder(stage: str, fraction: float) -> None:
        if stage == "encoding":
            children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
            for child in {int(number) for file in children for number in file.read_text().split()}:
                os.kill(child, signal.SIGKILL)

    with pytest.raises(DataError, match=r"a worker process ended with code -9 .*it goes on where it stopped"):
        prepare(source, vocabulary=300, workers=1, progress=murder)
    prepare(source, vocabulary=300, workers=1).verify()


def test_a_worker_that_dies_before_it_takes_its_task_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    start = subprocess.Popen

    def start_and_let_die(command: list[str], **options: Any) -> subprocess.Popen[str]:
        process = start([sys.executable, "-c", "raise SystemExit(3)"], **options)
        process.wait()
        return process

    monkeypatch.setattr(subprocess, "Popen", start_and_let_die)
    with pytest.raises(DataError, match="a worker process ended with code 3 before its work was done"):
        workers.run("encode", [{}], 1, lambda index, said: None)


def test_an_error_in_a_worker_is_the_same_sentence(large: None, texts: Texts, tmp_path: Path, cache: Path) -> None:
    source = texts(30)
    (tmp_path / "texts/bad.txt").write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match=r"bad\.txt is not text in UTF-8"):
        prepare(source, vocabulary=300, workers=2)


def test_every_format_gives_the_same_tokens(tmp_path: Path, prose: Prose, cache: Path) -> None:
    import zstandard

    documents = [prose(seed) for seed in range(30)]
    lines = "\n".join(json.dumps({"body": text}) for text in documents)
    (tmp_path / "a.jsonl").write_text(lines, encoding="utf-8")
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as file:
        file.write(lines)
    with zstandard.open(tmp_path / "c.jsonl.zst", "wt") as file:
        file.write(lines)
    pl.DataFrame({"id": range(30), "body": documents}).write_parquet(tmp_path / "d.parquet", row_group_size=7)
    names = ("a.jsonl", "b.jsonl.gz", "c.jsonl.zst", "d.parquet")
    first, *others = [prepare(str(tmp_path / name), vocabulary=300, column="body") for name in names]
    assert all(same(first, other) for other in others)
    assert first.documents == 30


def test_files_that_are_not_what_they_are_called(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no more")
    (tmp_path / "b.jsonl.zst").write_bytes(b"no zstandard")
    pl.DataFrame({"content": ["some text"], "id": [1]}).write_parquet(tmp_path / "c.parquet")
    for name, message in (
        ("a.parquet", "is not a parquet file that can be read"),
        ("b.jsonl.zst", r"cannot read .*b\.jsonl\.zst"),
        ("c.parquet", "has no column 'text' of text; its columns of text are content"),
    ):
        with pytest.raises(DataError, match=message):
            prepare(str(tmp_path / name), vocabulary=300)


@pytest.fixture
def dataset(tmp_path: Path, prose: Prose) -> str:
    """A local dataset that the library `datasets` streams."""
    (tmp_path / "dataset").mkdir()
    for part in range(3):
        rows = [{"text": prose(seed), "url": "x"} for seed in range(part * 20, part * 20 + 20)]
        pl.DataFrame(rows).write_parquet(tmp_path / f"dataset/{part}.parquet")
    return f"hf:{tmp_path}/dataset"


@pytest.mark.slow
def test_a_stream_ends_at_its_limit_and_goes_on_after_a_crash(
    dataset: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prose: Prose
) -> None:
    from fairstep.data import hub

    monkeypatch.setattr(hub, "_FILE_BYTES", 10_000)
    whole = prepare(dataset, vocabulary=300, cache=tmp_path / "whole")
    assert whole.documents == 60

    def interrupt(stage: str, fraction: float) -> None:
        if stage == "downloading" and len(list(cache.glob("downloads/*/text-*.jsonl"))) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(dataset, vocabulary=300, progress=interrupt)
    kept = {path: path.stat().st_mtime_ns for path in cache.glob("downloads/*/text-*.jsonl")}
    assert len(kept) == 4
    again = prepare(dataset, vocabulary=300)
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert same(again, whole)
    assert again.fingerprint == whole.fingerprint

    limited = prepare(dataset, tokenizer="bytes", max_tokens=41_000)
    sizes = np.cumsum([len(prose(seed).encode()) + 1 for seed in range(60)])
    expected = sizes[np.searchsorted(sizes, 41_000)]
    assert limited.train_tokens + limited.validation_tokens == expected
    with pytest.raises(DataError, match="a limit in tokens needs a tokenizer that exists before the text"):
        prepare(dataset, max_tokens=1000)


def test_a_machine_without_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach 'HuggingFaceFW/fineweb' on the Hub\nmore lines")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(
        DataError, match=r"cannot open .*fineweb: Couldn't reach .* on the Hub \(is there a network"
    ) as error:
        prepare("hf:fineweb", vocabulary=300, max_bytes=1000)
    assert "\n" not in str(error.value)


def test_a_dataset_that_cannot_be_had(tmp_path: Path, cache: Path, dataset: str) -> None:
    (tmp_path / "empty").mkdir()
    for source, options, message in (
        (f"hf:{tmp_path}/empty", {}, "holds no dataset"),
        (f"hf:{tmp_path}/no-such-folder", {}, "holds no dataset"),
        ("hf:a:b:c:d", {}, "is not understood"),
        (dataset, {"column": "body"}, "has no column 'body' of text; it has text, url"),
    ):
        with pytest.raises(DataError, match=message):
            prepare(source, vocabulary=300, **options)


FULL = """
import resource, sys
from fairstep.data import prepare, sorting, survey, workers
workers.SMALL, survey._UNIT, sorting.RUN_BYTES = 0, 20_000, 15_000
resource.setrlimit(resource.RLIMIT_FSIZE, (16_000, 16_000))  # of every file, also of the workers'
prepare(sys.argv[1], tokenizer="bytes", workers=1)
"""


@pytest.mark.slow
def test_a_worker_that_may_not_write_is_told_and_gone_on_with(large: None, texts: Texts, cache: Path) -> None:
    """The system refuses a worker's write in the middle; later it does not."""
    source = texts(60)
    done = subprocess.run([sys.executable, "-c", FULL, source], check=False, capture_output=True, text=True)
    assert "DataError: cannot write the cache" in done.stderr
    assert "File too large): make room there" in done.stderr
    assert list((cache / "corpora").glob(".unfinished-*/run-*.text")), "the sorted text is kept"
    prepare(source, tokenizer="bytes", workers=1).verify()
