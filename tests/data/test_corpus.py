"""A corpus follows from its text alone, and says what is wrong with it."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fairstep.data import Corpus, DataError, cache_directory, check_budget, open_corpus, prepare

FILES = ("tokenizer.json", "train.bin", "validation.bin")
Texts = Callable[..., str]
Prose = Callable[[int], str]


def contents(corpus: Corpus) -> list[bytes]:
    return [(corpus.directory / name).read_bytes() for name in FILES]


def documents(corpus: Corpus) -> tuple[list[str], list[str]]:
    """The texts of both splits, from their tokens."""
    splits = []
    for tokens in (corpus.train(), corpus.validation()):
        assert tokens[-1] == 0
        splits.append(corpus.decode(tokens).split("<|endoftext|>")[:-1])
    return splits[0], splits[1]


def test_every_document_is_in_one_split(cache: Path, texts: Texts, prose: Prose) -> None:
    corpus = prepare(texts(60), vocabulary=300)
    train, validation = documents(corpus)
    assert sorted(train + validation) == sorted(prose(seed) for seed in range(60))
    assert (len(train) + len(validation), len(validation)) == (corpus.documents, corpus.validation_documents)
    assert len(validation) >= 1
    assert (len(corpus.train()), len(corpus.validation())) == (corpus.train_tokens, corpus.validation_tokens)
    assert corpus.train().dtype == np.dtype("<u2")
    assert int(np.asarray(corpus.train()).max()) < 300
    text_bytes = sum(len(text.encode()) for text in validation)
    assert corpus.bytes_per_token == pytest.approx(text_bytes / corpus.validation_tokens)
    corpus.verify()


def test_a_second_preparation_gives_the_same_files(tmp_path: Path, texts: Texts) -> None:
    source = texts(30)
    one, two = (prepare(source, vocabulary=400, cache=tmp_path / name) for name in ("one", "two"))
    assert contents(one) == contents(two)
    assert one.fingerprint == two.fingerprint


def test_threads_do_not_matter(tmp_path: Path, texts: Texts) -> None:
    source = texts(30)
    found = []
    for threads in ("false", "true"):
        code = f"import fairstep.data as d; print(d.prepare({source!r}, vocabulary=400).directory)"
        env = {"FAIRSTEP_CACHE": str(tmp_path / threads), "TOKENIZERS_PARALLELISM": threads}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        found.append([(Path(done.stdout.strip()) / name).read_bytes() for name in FILES])
    assert found[0] == found[1]


def test_the_place_of_the_files_does_not_matter(tmp_path: Path, texts: Texts, prose: Prose) -> None:
    texts(25)
    (tmp_path / "elsewhere").mkdir()
    shutil.move(tmp_path / "texts", tmp_path / "elsewhere" / "renamed")
    moved = prepare(str(tmp_path / "elsewhere/renamed/*.txt"), vocabulary=300, cache=tmp_path / "one")
    again = prepare(texts(25), vocabulary=300, cache=tmp_path / "two")
    assert moved.fingerprint == again.fingerprint
    (tmp_path / "texts/024.txt").write_text(prose(99), encoding="utf-8")
    changed = prepare(str(tmp_path / "texts/*.txt"), vocabulary=300, cache=tmp_path / "two")
    assert changed.fingerprint != again.fingerprint


def test_the_order_of_the_documents_does_not_matter(tmp_path: Path, prose: Prose) -> None:
    found = []
    for name, order in (("one", range(30)), ("two", range(29, -1, -1))):
        lines = (json.dumps({"text": prose(seed)}) for seed in order)
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
        found.append(prepare(str(tmp_path / f"{name}.jsonl"), vocabulary=300, cache=tmp_path / "cache"))
    assert found[0] == found[1]
    assert found[0].fingerprint_version == 2


def test_a_document_keeps_its_side_in_a_larger_collection(tmp_path: Path, texts: Texts) -> None:
    small = prepare(texts(100, "small", 200), vocabulary=300, cache=tmp_path / "cache")
    large = prepare(texts(300, "large", 200), vocabulary=300, cache=tmp_path / "cache")
    assert set(documents(small)[0]) < set(documents(large)[0])
    assert set(documents(small)[1]) < set(documents(large)[1])
    assert 0.02 < large.validation_documents / large.documents < 0.09


def test_duplicates_are_counted_once(cache: Path, tmp_path: Path, texts: Texts, prose: Prose) -> None:
    source = texts(30)
    (tmp_path / "texts/copy.txt").write_text(prose(3), encoding="utf-8")
    (tmp_path / "texts/link.txt").symlink_to("004.txt")
    corpus = prepare(source, vocabulary=300)
    train, validation = documents(corpus)
    assert corpus.documents == len(set(train + validation)) == 30
    assert corpus.source["duplicates"] == 2


def test_few_documents_are_cut(cache: Path, texts: Texts) -> None:
    corpus = prepare(texts(2, characters=200_000), vocabulary=300)
    assert corpus.documents > 20
    assert corpus.validation_tokens < 0.2 * corpus.train_tokens


def test_text_may_hold_the_mark_and_any_character(cache: Path, tmp_path: Path, texts: Texts) -> None:
    source = texts(30)
    odd = "a mark <|endoftext|> in a line, \t tabs, 你好 🙂 é e\u0301 \x01 end\n"
    (tmp_path / "texts/odd.txt").write_text(odd, encoding="utf-8")
    (tmp_path / "odd.jsonl").write_text('{"text": "half \\ud83d a character"}\n', encoding="utf-8")
    corpus = prepare([source, str(tmp_path / "odd.jsonl")], vocabulary=300)
    whole = corpus.decode(np.concatenate([corpus.train(), corpus.validation()]))
    assert odd in whole
    assert "half ? a character" in whole
    marks = sum(np.count_nonzero(np.asarray(split) == 0) for split in (corpus.train(), corpus.validation()))
    assert marks == corpus.documents == 32


def test_prepared_once(cache: Path, texts: Texts) -> None:
    source = texts(30)
    stages: list[tuple[str, float]] = []
    first = prepare(source, vocabulary=300, progress=lambda *report: stages.append(report))
    names = list(dict.fromkeys(stage for stage, _ in stages))
    assert names == ["reading", "copying", "training the tokenizer", "encoding"]
    for name in names:
        fractions = [fraction for stage, fraction in stages if stage == name]
        assert fractions == sorted(fractions)
        assert fractions[-1] == 1.0
    before = (first.directory / "train.bin").stat().st_mtime_ns
    stages.clear()
    assert prepare(source, vocabulary=300, progress=lambda *report: stages.append(report)) == first
    assert {stage for stage, _ in stages} == {"reading"}
    assert (first.directory / "train.bin").stat().st_mtime_ns == before
    assert prepare(source, vocabulary=301).directory != first.directory


def test_opened_by_identity(cache: Path, texts: Texts) -> None:
    corpus = prepare(texts(30), vocabulary=300)
    assert open_corpus(corpus.fingerprint, 300) == corpus
    assert corpus.directory == cache / "corpora" / f"{corpus.fingerprint[:16]}-bpe300"
    assert sorted(path.name for path in corpus.directory.iterdir()) == sorted([*FILES, "meta.json"])
    with pytest.raises(DataError, match=r"-bpe999 is not in .*: prepare it again .* or set FAIRSTEP_CACHE"):
        open_corpus(corpus.fingerprint, 999)
    with pytest.raises(DataError, match="it holds the corpus"):
        open_corpus(corpus.fingerprint[:16] + "0" * 48, 300)


def test_damage_is_told_and_mended(cache: Path, texts: Texts) -> None:
    source = texts(30)
    corpus = prepare(source, vocabulary=300)
    shard = corpus.directory / "train.bin"
    whole = shard.read_bytes()

    def cut_short() -> None:
        shard.write_bytes(whole[:-100])

    for harm, message in (
        (cut_short, "train.bin has .* bytes instead of .*: delete that folder and prepare the corpus again"),
        (shard.unlink, "train.bin has 0 bytes"),
        ((corpus.directory / "meta.json").unlink, "meta.json is missing"),
        (lambda: (corpus.directory / "meta.json").write_text('{"name": '), "meta.json cannot be understood"),
        (lambda: (corpus.directory / "meta.json").write_text("{}"), "meta.json cannot be understood"),
    ):
        harm()
        with pytest.raises(DataError, match=message):
            open_corpus(corpus.fingerprint, 300)
        assert prepare(source, vocabulary=300) == corpus
        assert shard.read_bytes() == whole

    shard.write_bytes(whole[:-100] + bytes(100))  # the right size: only its checksum tells
    with pytest.raises(DataError, match=r"checksum of train\.bin does not match"):
        open_corpus(corpus.fingerprint, 300).verify()
    shutil.rmtree(corpus.directory)
    with pytest.raises(DataError, match=r"damaged \(train\.bin: No such file"):
        corpus.train()[0]


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("FAIRSTEP_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_directory() == Path("/home/me/.cache/fairstep")
    monkeypatch.setenv("XDG_CACHE_HOME", "/tmp/xdg")
    assert cache_directory() == Path("/tmp/xdg/fairstep")
    monkeypatch.setenv("FAIRSTEP_CACHE", "~/mine")
    assert cache_directory() == Path("/home/me/mine")
    monkeypatch.setenv("FAIRSTEP_CACHE", "~nobody-of-that-name/mine")
    with pytest.raises(DataError, match="no home folder is known: set FAIRSTEP_CACHE"):
        cache_directory()


@pytest.mark.parametrize("vocabulary", [-1, 256, 65_536])
def test_a_vocabulary_must_be_possible(cache: Path, texts: Texts, vocabulary: int) -> None:
    with pytest.raises(
        DataError, match=rf"a vocabulary of {vocabulary:,} tokens is not possible: ask for 257 to 65,535"
    ):
        prepare(texts(2), vocabulary=vocabulary)


def test_too_little_text(cache: Path, tmp_path: Path, texts: Texts) -> None:
    source = texts(30)
    with pytest.raises(DataError, match=r"too small for a vocabulary of 9,000: it gives [\d,]+ tokens") as error:
        prepare(source, vocabulary=9_000)
    most = int(str(error.value).split("gives ")[1].split()[0].replace(",", ""))
    assert prepare(source, vocabulary=most).vocabulary == most
    with pytest.raises(DataError, match=r"single document of 2,\d+ bytes: give more text"):
        prepare(str(tmp_path / "texts/000.txt"))
    (tmp_path / "blank.txt").write_text(" \n\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"nothing to read in blank\.txt"):
        prepare(str(tmp_path / "blank.txt"))


def test_budgets(cache: Path, texts: Texts) -> None:
    corpus = prepare(texts(60), vocabulary=300)
    most, evaluable = corpus.train_tokens, corpus.validation_tokens
    assert check_budget(corpus, most, 64, 640) == pytest.approx(1.0, rel=0.02)
    for (tokens, context, evaluation, epochs), message in (
        ((5 * most, 64, 640, 4), r"a budget of [\d,]+ tokens would read .* 5\.\d+ times, and at most 4 are allowed"),
        ((2 * most, 64, 640, 1.5), r"at most 1\.5 are allowed: ask for at most [\d,]+ tokens, or give a text of"),
        ((64, most, 640, 4), f"too few for a context of {most:,}: give at least {2 * most:,} tokens of text"),
        ((64, evaluable, 64, 4), f"{evaluable:,} validation tokens, too few for a context of {evaluable:,}"),
        ((64, 64, most, 4), rf"an evaluation on {most:,} tokens needs more than .*: ask for at most \d"),
    ):
        with pytest.raises(DataError, match=message):
            check_budget(corpus, tokens, context, evaluation, max_epochs=epochs)


def test_no_torch_and_no_tokenizers_at_import() -> None:
    code = "import fairstep.data, sys; print({'torch', 'tokenizers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
