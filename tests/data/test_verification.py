"""Training reads a corpus once; nothing that can be changed in its folder stays unseen."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.data.conftest import written

from fairstep.data import Corpus, DataError, corpora, find_corpus, open_corpus, prepare, verification
from fairstep.data.cache import give_name
from fairstep.data.meta import digest, read_meta, seal

Texts = Callable[..., str]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with one corpus, which ``corpus`` copies."""
    folder = tmp_path_factory.mktemp("prepared")
    for seed in range(40):
        (folder / f"{seed:03}.txt").write_text(written(seed), encoding="utf-8")
    prepare(str(folder / "*.txt"), vocabulary=300, name="mine", cache=folder / "cache")
    return folder / "cache"


@pytest.fixture
def corpus(cache: Path, prepared: Path) -> Corpus:
    shutil.copytree(prepared, cache)
    found = find_corpus("mine")
    assert found
    return found


def opened(corpus: Corpus) -> Corpus:
    return open_corpus(corpus.fingerprint, corpus.vocabulary)


def test_files_are_read_once(corpus: Corpus, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr(verification, "_remembered", {})
    whole = verification.verify_files
    monkeypatch.setattr(verification, "verify_files", lambda path, meta: (read.append(path), whole(path, meta))[1])
    assert opened(corpus) == opened(corpus) == corpus
    assert len(read) == 1
    monkeypatch.setattr(verification, "_remembered", {})  # another process
    opened(corpus)
    assert len(read) == 1
    os.utime(corpus.directory / "train.bin", (1, 1))
    opened(corpus)
    assert len(read) == 2
    (cache / "verified" / f"{corpus.directory.name}.json").write_text("[" * 99_999)
    monkeypatch.setattr(verification, "_remembered", {})
    opened(corpus)
    assert len(read) == 3


def test_a_cache_that_cannot_be_written_is_read_once_a_process(
    corpus: Corpus, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache / "verified").write_text("in the way")
    read: list[Path] = []
    whole = verification.verify_files
    monkeypatch.setattr(verification, "verify_files", lambda path, meta: (read.append(path), whole(path, meta))[1])
    assert opened(corpus) == opened(corpus)
    assert len(read) == 1


@pytest.mark.parametrize("name", ["train.bin", "validation.bin", "tokenizer.json", "meta.json"])
def test_a_flipped_bit_is_found_when_a_run_opens_the_corpus(corpus: Corpus, name: str) -> None:
    opened(corpus)
    path, draw = corpus.directory / name, random.Random(0)
    data = path.read_bytes()
    for _ in range(20):
        place = draw.randrange(len(data))
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)]) + data[place + 1 :])
        with pytest.raises(DataError, match=r"is damaged \(.*\): delete that folder and prepare the corpus again"):
            opened(corpus)
        with pytest.raises(DataError, match="is damaged"):
            (find_corpus("mine") or corpus).verify()
    path.write_bytes(data)
    assert opened(corpus) == corpus


def set_in(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(meta: dict[str, Any]) -> None:
        *names, last = path.split(".")
        place: Any = meta
        for name in names:
            place = place[int(name) if isinstance(place, list) else name]
        before = place[int(last) if isinstance(place, list) else last]
        place[last] = value(before) if callable(value) else value

    return change


VALID_EDITS = {
    "validation on the training text": set_in("validation.shards.0.file", "train.bin"),
    "bytes of a token": set_in("tokenizer.item_bytes", 1),
    "half the tokens": set_in("validation.shards.0.tokens", lambda tokens: tokens // 2),
    "twice the bytes": set_in("validation.text_bytes", lambda size: 2 * size),
    "other documents": set_in("train.documents", lambda count: count + 1),
    "other end of text": set_in("tokenizer.end_of_text", 7),
    "vocabulary": set_in("vocabulary", 299),
    "no vocabulary": set_in("vocabulary", 0),
    "words": set_in("train.tokens", "many"),
    "huge": set_in("train.tokens", 10**400),
    "negative": set_in("validation.tokens", -1),
    "list": set_in("files", []),
    "null": set_in("validation", None),
    "elsewhere": set_in("validation.shards.0.file", "../../../etc/passwd"),
    "no number": set_in("validation.text_bytes", float("nan")),
}


@pytest.mark.parametrize("edit", VALID_EDITS)
@pytest.mark.parametrize("first_version", [False, True])
def test_valid_edits_of_the_facts_are_found(corpus: Corpus, edit: str, first_version: bool) -> None:
    """By the digest; in a corpus of the first version, which has none, by what else is there."""
    path = corpus.directory / "meta.json"
    meta = json.loads(path.read_text())
    if first_version:
        meta["fingerprint"] = meta["fingerprint"].removeprefix("v2-")
        del meta["digest"]
        path.write_text(json.dumps(meta))
        found = find_corpus("mine")
        assert found
        found.verify()
    VALID_EDITS[edit](meta)
    path.write_text(json.dumps(meta))
    with pytest.raises(DataError, match="is damaged"):
        (find_corpus("mine") or corpus).verify()


def test_a_token_beyond_the_vocabulary(corpus: Corpus) -> None:
    """Whoever changes the tokens and all checksums is still told before an embedding is."""
    path = corpus.directory / "validation.bin"
    path.write_bytes(path.read_bytes()[:-2] + (300).to_bytes(2, "little"))
    meta = read_meta(corpus.directory)
    from fairstep.data.shards import file_facts

    meta["files"]["validation.bin"] = file_facts(path)
    (corpus.directory / "meta.json").write_text(json.dumps(seal(meta)))
    with pytest.raises(DataError, match=r"validation\.bin holds the token 300, and the vocabulary has 300"):
        opened(corpus)


@pytest.mark.parametrize("name", ["train.bin", "meta.json", "tokenizer.json"])
def test_pipes_are_not_waited_for(corpus: Corpus, name: str) -> None:
    (corpus.directory / name).unlink()
    os.mkfifo(corpus.directory / name)
    with pytest.raises(DataError, match=f"{name} is no file"):
        opened(corpus)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"../../elsewhere", b"", b"/etc"])
def test_a_damaged_name_is_no_name(cache: Path, texts: Texts, content: bytes) -> None:
    corpus = prepare(texts(30), tokenizer="bytes")
    give_name(corpus, "mine")
    assert find_corpus("mine") == corpus
    (cache / "names" / "mine").write_bytes(content)
    assert find_corpus("mine") is None
    assert [folder for _, folder in corpora()] == [corpus.directory]
    (cache / "names" / "mine").unlink()
    os.mkfifo(cache / "names" / "mine")
    assert find_corpus("mine") is None


def test_a_digest_does_not_depend_on_the_order() -> None:
    assert digest({"a": 1, "b": [2.5]}) == digest({"b": [2.5], "a": 1, "digest": "x"}) != digest({"a": 2, "b": [2.5]})
