"""Tokenizers by name and by file, against the libraries they come from."""

import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fairstep.data import DataError, prepare
from fairstep.data.gpt2 import RankTokenizer
from fairstep.data.tokenizer import digest_of, named

Texts = Callable[..., str]
Prose = Callable[[int], str]

ODD = " naïve café 你好 🙂\n\n  def f(x):\n\treturn x's 123456 <|endoftext|>"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of Hugging Face's library as GPT-2's is written down: tokenizer.json and vocab.bpe."""
    from tokenizers import ByteLevelBPETokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    library = ByteLevelBPETokenizer()
    library.train_from_iterator(
        ["the cat sees a dog's model; naïve café 你好 in 1234 or 12 words.\n\n def f(x): return x"] * 20,
        vocab_size=400,
        min_frequency=2,
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    library.save(str(folder / "tokenizer.json"))
    library.save_model(str(folder))
    (folder / "merges.txt").rename(folder / "vocab.bpe")
    return folder


def test_bytes(cache: Path, texts: Texts, prose: Prose) -> None:
    corpus = prepare(texts(30), tokenizer="bytes")
    assert corpus.vocabulary == 257
    assert corpus.directory.name.endswith("-bytes")
    text = corpus.decode(corpus.train())
    assert text.count("<|endoftext|>") == corpus.documents - corpus.validation_documents
    assert sorted((text + corpus.decode(corpus.validation())).split("<|endoftext|>")[:-1]) == sorted(
        prose(seed) for seed in range(30)
    )


def test_a_vocabulary_of_merges_gives_the_librarys_tokens(trained: Path, prose: Prose) -> None:
    """The ids of vocab.bpe follow from the merges alone; the token strings must be those of tokenizers."""
    from tokenizers import Tokenizer

    ranks, library = RankTokenizer.read(trained / "vocab.bpe"), Tokenizer.from_file(str(trained / "tokenizer.json"))
    library.encode_special_tokens = True
    for text in (ODD, prose(1), "the café's cat sees 你好"):
        (ours,) = ranks.encode([text])
        assert ours[-1] == ranks.end_of_text
        pieces = [ranks.decode([token]) for token in ours[:-1].tolist()]
        theirs = [library.decode([token]) for token in library.encode(text).ids]
        assert pieces == theirs
        assert ranks.decode(ours[:-1].tolist()) == text
        assert ranks.text_bytes(ours) == len(text.encode())


def test_a_tokenizer_file_gives_the_librarys_ids(trained: Path, cache: Path, tmp_path: Path, prose: Prose) -> None:
    from tokenizers import Tokenizer

    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": prose(n)}) for n in range(30)), encoding="utf-8")
    corpus = prepare(str(tmp_path / "a.jsonl"), tokenizer=str(trained / "tokenizer.json"))
    library = Tokenizer.from_file(str(trained / "tokenizer.json"))
    end = library.token_to_id("<|endoftext|>")
    expected = {tuple(library.encode(prose(n)).ids) for n in range(30)}
    stream = np.concatenate([corpus.train(), corpus.validation()])
    bounds = [0, *(np.flatnonzero(stream == end) + 1)]
    assert {tuple(stream[a : b - 1].tolist()) for a, b in itertools.pairwise(bounds)} == expected


def test_a_corpus_lends_its_tokenizer(cache: Path, texts: Texts) -> None:
    first = prepare(texts(30), vocabulary=300, name="first")
    second = prepare(texts(40, "more"), tokenizer="first")
    assert digest_of(second.open_tokenizer()) == digest_of(first.open_tokenizer())
    assert second.vocabulary == 300


def test_tokenizers_that_are_none(tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_text("{}", encoding="utf-8")
    (tmp_path / "b.tiktoken").write_text("IQ== 0\nIg== 2\n", encoding="utf-8")
    (tmp_path / "c.bpe").write_bytes(b"\xff\xfe")
    for name, message in (
        ("gpt3", "unknown tokenizer 'gpt3': say bpe, bytes, gpt2, a file"),
        (str(tmp_path / "a.json"), "is not a tokenizer of Hugging Face's tokenizers"),
        (str(tmp_path / "b.tiktoken"), "is not a vocabulary in the form of GPT-2's"),
        (str(tmp_path / "c.bpe"), "is not a vocabulary in the form of GPT-2's"),
    ):
        with pytest.raises(DataError, match=message):
            named(name)


def test_gpt2_needs_a_vocabulary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tiktoken

    def offline(name: str) -> None:
        raise ConnectionError(name)

    monkeypatch.setattr(tiktoken, "get_encoding", offline)
    with pytest.raises(DataError, match=r"cannot be fetched .*: name a local gpt2\.tiktoken or vocab\.bpe"):
        named("gpt2")


@pytest.mark.skipif("FAIRSTEP_GPT2" not in os.environ, reason="FAIRSTEP_GPT2 names no gpt2.tiktoken or vocab.bpe")
def test_known_answers_of_gpt2() -> None:
    """Ids that GPT-2's tokenizer is known for."""
    tokenizer = named(os.environ["FAIRSTEP_GPT2"])
    assert tokenizer
    assert (tokenizer.kind, tokenizer.vocabulary, tokenizer.end_of_text) == ("gpt2", 50_257, 50_256)
    for text, ids in (
        ("Hello world", [15496, 995]),
        ("The quick brown fox jumps over the lazy dog.", [464, 2068, 7586, 21831, 18045, 625, 262, 16931, 3290, 13]),
        ("\n\n  def f(x):\n\treturn x", [628, 220, 825, 277, 7, 87, 2599, 198, 197, 7783, 2124]),
        (" naïve café 你好 🙂", [41492, 40304, 220, 19526, 254, 25001, 121, 32485]),
        ("<|endoftext|>", [27, 91, 437, 1659, 5239, 91, 29]),
    ):
        (found,) = tokenizer.encode([text])
        assert found.tolist() == [*ids, 50_256]
