"""What a tokenizer file changes of a text beside its vocabulary is switched off or refused."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fairstep.data import Corpus, DataError, open_corpus, prepare
from fairstep.data.bpe import FileTokenizer
from fairstep.data.tokenizer import digest_of, named

Texts = Callable[..., str]
Prose = Callable[[int], str]


def library(**settings: Any) -> Any:
    """A byte-level tokenizer with Llama-2's marks: <unk> 0, <s> 1, </s> 2."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(**settings))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<unk>", "<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["ba co di fu ga he il jo ka lu me no or pe. Text"] * 9, trainer)
    return tokenizer


def saved(tmp_path: Path, tokenizer: Any, name: str = "tokenizer.json") -> str:
    tokenizer.save(str(tmp_path / name))
    return str(tmp_path / name)


def template(tokenizer: Any) -> None:
    from tokenizers import processors

    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )


def dropout(tokenizer: Any) -> None:
    tokenizer.model.dropout = 0.5


SETTINGS: dict[str, Callable[[Any], None]] = {
    "truncation": lambda tokenizer: tokenizer.enable_truncation(16),
    "padding": lambda tokenizer: tokenizer.enable_padding(length=4_000),
    "both": lambda tokenizer: (tokenizer.enable_truncation(9, stride=2), tokenizer.enable_padding())[0],
    "template": template,
    "dropout": dropout,
    "special tokens in a text": lambda tokenizer: setattr(tokenizer, "encode_special_tokens", False),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_of_a_file_do_not_count(setting: str, tmp_path: Path, cache: Path, texts: Texts) -> None:
    source, changed = texts(30), library()
    SETTINGS[setting](changed)
    paths = saved(tmp_path, library(), "plain.json"), saved(tmp_path, changed, "changed.json")
    plain, other = (prepare(source, tokenizer=path, cache=tmp_path / path[-9:]) for path in paths)
    np.testing.assert_array_equal(np.asarray(plain.train()), np.asarray(other.train()))
    if setting != "template":
        assert plain.fingerprint == other.fingerprint


def test_ids_with_a_hole(tmp_path: Path, cache: Path, texts: Texts) -> None:
    content = json.loads(library().to_str())
    last = max(content["model"]["vocab"], key=content["model"]["vocab"].get)
    content["model"]["vocab"][last] += 20
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    corpus = prepare(texts(30), tokenizer=str(tmp_path / "tokenizer.json"))
    assert corpus.vocabulary == max(content["model"]["vocab"].values()) + 1
    assert open_corpus(corpus.fingerprint, corpus.vocabulary) == corpus


def documents(corpus: Corpus, end: int) -> list[int]:
    return [int(np.count_nonzero(np.asarray(part) == end)) for part in (corpus.train(), corpus.validation())]


def test_the_configured_end_of_text_is_the_corpus_s(tmp_path: Path, cache: Path, texts: Texts) -> None:
    """Tokens, what the corpus says of them, and its fingerprint: the file alone would say </s>."""
    source, path = texts(30), saved(tmp_path, library())
    usual = prepare(source, tokenizer=path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "<s>"}}))
    other = prepare(source, tokenizer=path)
    assert (usual.tokenizer["end_of_text"], other.tokenizer["end_of_text"]) == (2, 1)
    assert sum(documents(usual, 2)) == sum(documents(other, 1)) == 30
    assert usual.fingerprint != other.fingerprint
    other.verify()
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<end>"}))
    with pytest.raises(DataError, match="has no token '<end>', which the tokenizer_config"):
        prepare(source, tokenizer=path)


def test_a_mark_that_is_no_special_token_is_text_in_a_text(tmp_path: Path, cache: Path, texts: Texts) -> None:
    content = json.loads(library().to_str())
    for token in content["added_tokens"]:
        token["special"] = False
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    source = texts(30)
    (tmp_path / "texts" / "mark.txt").write_text("a text </s> about </s>", encoding="utf-8")
    corpus = prepare(source, tokenizer=str(tmp_path / "tokenizer.json"))
    assert sum(documents(corpus, 2)) == corpus.documents == 31


def test_a_mark_that_stays_a_word_is_refused_in_a_text(tmp_path: Path) -> None:
    from tokenizers import pre_tokenizers

    tokenizer = word_level([])
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    encoding = FileTokenizer.read(Path(saved(tmp_path, tokenizer)))
    with pytest.raises(DataError, match="makes its end-of-text token '</s>' of characters of a document"):
        list(encoding.encode(["a text </s> about"]))


def word_level(words: list[str]) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {word: number for number, word in enumerate(["</s>", "[UNK]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def test_a_tokenizer_that_drops_text_is_refused(tmp_path: Path, cache: Path, texts: Texts) -> None:
    from tokenizers import AddedToken, Tokenizer, models

    source = texts(30)
    empty = Tokenizer(models.BPE())
    empty.add_special_tokens(["<|endoftext|>"])
    dropping = Tokenizer(models.BPE(vocab={"a": 0, "b": 1}, merges=[]))
    dropping.add_special_tokens([AddedToken("</s>")])
    for tokenizer, message in (
        (empty, "has no vocabulary beside its end-of-text token"),
        (dropping, r"does not fit the text of texts: of a sample's characters its tokens give back \d+\.\d%, and at"),
        (word_level(["ba", "co"]), "does not fit the text of texts"),
    ):
        with pytest.raises(DataError, match=message):
            prepare(source, tokenizer=saved(tmp_path, tokenizer))
    assert not list((cache / "corpora").glob("*"))


def test_a_tokenizer_in_small_letters_is_taken(tmp_path: Path, cache: Path, texts: Texts) -> None:
    from tokenizers import normalizers

    lower = library()
    lower.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()])
    assert prepare(texts(30), tokenizer=saved(tmp_path, lower)).source["characters_kept"] == 1.0


def test_hostile_tokenizer_files(tmp_path: Path, cache: Path, texts: Texts) -> None:
    content = json.loads(library().to_str())
    backtracking = {"type": "Split", "pattern": {"Regex": "(" * 50}, "behavior": "Isolated", "invert": False}
    growing = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    for change, message in (
        ({"pre_tokenizer": backtracking}, "is not a tokenizer of Hugging Face's tokenizers"),
        ({"normalizer": {"type": "Sequence", "normalizers": [growing] * 30}}, "more than 1,000 times as long"),
        ({"normalizer": growing | {"pattern": {"Regex": ""}, "content": "x" * 5_000}}, "more than 1,000 times as long"),
        ({"model": None}, "is not a tokenizer of Hugging Face's tokenizers"),
    ):
        (tmp_path / "tokenizer.json").write_text(json.dumps(content | change), encoding="utf-8")
        with pytest.raises(DataError, match=message) as error:
            named(str(tmp_path / "tokenizer.json"))
        assert "\n" not in str(error.value)
    (tmp_path / "tokenizer.json").write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(DataError, match="is not a tokenizer"):
        named(str(tmp_path / "tokenizer.json"))


def test_what_the_library_panics_over_is_a_sentence(tmp_path: Path, cache: Path, texts: Texts) -> None:
    class PanicException(BaseException):
        pass

    class Panicking:
        def encode_batch_fast(self, *_: object, **__: object) -> None:
            raise PanicException("called `Result::unwrap()` on an `Err` value\nmore")

    tokenizer = FileTokenizer(library(), 2)
    tokenizer._tokenizer = Panicking()  # type: ignore[assignment]
    with pytest.raises(DataError, match=r"cannot encode this text: called `Result::unwrap\(\)` on an `Err` value$"):
        list(tokenizer.encode(["a"]))


def test_ranks_of_another_encoding_are_refused(tmp_path: Path) -> None:
    ranks = [bytes([byte]) for byte in range(256)] + [b"th", b"the"]
    lines = b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(ranks))
    (tmp_path / "cl100k.tiktoken").write_bytes(lines)
    with pytest.raises(DataError, match=r"cl100k\.tiktoken does not hold GPT-2's ranks.* name the tokenizer\.json"):
        named(str(tmp_path / "cl100k.tiktoken"))


def test_the_same_tokens_by_the_library(tmp_path: Path, prose: Prose) -> None:
    """What an export writes gives a corpus's tokens, by every kind of tokenizer."""
    from tokenizers import ByteLevelBPETokenizer, Tokenizer

    from fairstep.data.gpt2 import RankTokenizer
    from fairstep.data.tokenizer import ByteTokenizer

    odd = " naïve café 你好 🙂\n\n  def f(x):\n\treturn x's 123456   <|endoftext|> "
    merges = ByteLevelBPETokenizer()
    merges.train_from_iterator([odd, prose(1)] * 9, vocab_size=400, min_frequency=2, show_progress=False)
    merges.save_model(str(tmp_path))
    (tmp_path / "merges.txt").rename(tmp_path / "vocab.bpe")
    changed = library()
    template(changed)
    changed.enable_truncation(5)
    for tokenizer in (
        ByteTokenizer(),
        RankTokenizer.read(tmp_path / "vocab.bpe"),
        FileTokenizer.read(Path(saved(tmp_path, changed))),
    ):
        theirs = Tokenizer.from_str(tokenizer.hugging_face().to_str())
        assert theirs.token_to_id(tokenizer.mark) == tokenizer.end_of_text
        theirs.encode_special_tokens = True
        for text in (odd, prose(2)):
            (ours,) = tokenizer.encode([text])
            assert theirs.encode(text).ids == ours[:-1].tolist()
            assert theirs.decode(theirs.encode(text).ids) == text


def test_digests_are_of_what_counts(tmp_path: Path) -> None:
    plain = FileTokenizer.read(Path(saved(tmp_path, library())))
    cut = library()
    cut.enable_truncation(7)
    assert digest_of(FileTokenizer.read(Path(saved(tmp_path, cut)))) == digest_of(plain)
    assert digest_of(FileTokenizer.read(Path(saved(tmp_path, cut)), end_of_text=0)) != digest_of(plain)
