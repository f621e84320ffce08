"""Token files of nanoGPT, llm.c and modded-nanogpt, as those programs write them."""

import os
from pathlib import Path

import numpy as np
import pytest

from fairstep.data import Corpus, DataError, open_corpus, prepare

MARK = 50_256


def stream(count: int, seed: int = 0) -> np.ndarray:
    tokens = np.random.default_rng(seed).integers(0, MARK, count)
    tokens[::100] = MARK
    return tokens


def with_header(path: Path, tokens: np.ndarray, magic: int = 20240520, version: int = 1, dtype: str = "<u2") -> None:
    """llm.c's layout: 256 int32, then the tokens."""
    header = np.zeros(256, dtype="<i4")
    header[:3] = magic, version, len(tokens)
    path.write_bytes(header.tobytes() + tokens.astype(dtype).tobytes())


@pytest.fixture
def shards(tmp_path: Path) -> str:
    for number in (1, 2):
        with_header(tmp_path / f"fineweb_train_{number:06}.bin", stream(3_000, number))
    with_header(tmp_path / "fineweb_val_000000.bin", stream(1_000))
    return str(tmp_path / "fineweb_*.bin")


def test_shards_of_llm_c(shards: str, cache: Path) -> None:
    corpus = prepare(shards, name="fineweb")
    np.testing.assert_array_equal(np.asarray(corpus.train()), np.concatenate([stream(3_000, 1), stream(3_000, 2)]))
    np.testing.assert_array_equal(np.asarray(corpus.validation()), stream(1_000))
    assert (corpus.vocabulary, corpus.documents, corpus.validation_documents) == (50_257, 70, 10)
    assert np.isnan(corpus.bytes_per_token)
    assert [path.name for path in corpus.directory.iterdir()] == ["meta.json"], "nothing is copied"
    assert prepare("fineweb") == prepare(shards) == open_corpus(corpus.fingerprint, 50_257)
    with pytest.raises(DataError, match="came without a tokenizer: prepare it again with --tokenizer"):
        corpus.decode([1])


def test_files_of_nanogpt_have_no_header(tmp_path: Path, cache: Path) -> None:
    for name, count in (("train.bin", 4_000), ("val.bin", 900)):
        stream(count).astype("<u2").tofile(tmp_path / name)
    corpus = prepare([str(tmp_path / "train.bin"), str(tmp_path / "val.bin")])
    assert (corpus.train_tokens, corpus.validation_tokens) == (4_000, 900)
    np.testing.assert_array_equal(corpus.train()[:50], stream(4_000)[:50])


def test_llama_3_has_four_bytes_a_token(tmp_path: Path, cache: Path) -> None:
    tokens = np.arange(127_000, 128_200)
    for split in ("train", "val"):
        with_header(tmp_path / f"x_{split}_000000.bin", tokens, magic=20240801, version=7, dtype="<u4")
    corpus = prepare(str(tmp_path / "x_*.bin"))
    np.testing.assert_array_equal(np.asarray(corpus.train()), tokens)
    assert corpus.vocabulary == 128_256


def test_a_known_file_is_not_read_again_unless_it_changed(shards: str, cache: Path, tmp_path: Path) -> None:
    stages: list[str] = []

    def note(stage: str, fraction: float) -> None:
        stages.append(stage)

    first = prepare(shards, progress=note)
    assert stages
    stages.clear()
    assert prepare(shards, progress=note) == first
    assert not stages
    with_header(tmp_path / "fineweb_train_000002.bin", stream(3_000, 9))
    assert prepare(shards, progress=note).fingerprint != first.fingerprint
    assert stages


def test_a_shard_that_changed_is_told(shards: str, cache: Path, tmp_path: Path) -> None:
    corpus = prepare(shards)
    path = tmp_path / "fineweb_train_000002.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:-2] + b"\1\1")
    with pytest.raises(DataError, match=r"checksum of .*000002\.bin does not match"):
        corpus.verify()
    os.truncate(path, 5_000)
    with pytest.raises(DataError, match=r"000002\.bin has 5,000 bytes instead of 7,024"):
        open_corpus(corpus.fingerprint, corpus.vocabulary)
    with pytest.raises(DataError, match=r"its header says 3,000 tokens, which are 7,024 bytes, and it has 5,000"):
        prepare(shards)


def test_a_further_validation_shard(shards: str, cache: Path, tmp_path: Path) -> None:
    with_header(tmp_path / "other_val_000000.bin", stream(700, 5))
    corpus: Corpus = prepare(shards, validation={"other": str(tmp_path / "other_val_000000.bin")}, name="both")
    assert {name: len(tokens) for name, tokens in corpus.validation_sets().items()} == {"both": 1_000, "other": 700}


def test_files_that_are_no_token_files(tmp_path: Path, cache: Path) -> None:
    with_header(tmp_path / "hellaswag_val.bin", stream(500), magic=20240522)
    with_header(tmp_path / "short_train.bin", stream(500))
    os.truncate(tmp_path / "short_train.bin", 1_500)
    (tmp_path / "odd_train.bin").write_bytes(b"abc")
    np.full(2_000, 60_000, dtype="<u2").tofile(tmp_path / "large_train.bin")
    stream(2_000).astype("<u2").tofile(tmp_path / "good_train.bin")
    stream(2_000).astype("<u2").tofile(tmp_path / "good_val.bin")
    for names, message in (
        (["hellaswag_val"], "holds llm.c's evaluation examples, not a stream of tokens"),
        (["short_train"], "its header says 500 tokens, which are 2,024 bytes, and it has 1,500"),
        (["odd_train"], "has 3 bytes, and uint16 tokens need an even number"),
        (["large_train", "good_val"], "holds the token 60,000, and the vocabulary has 50,257"),
        (["good_train"], "none of the 1 token files is for validation: name both"),
        (["good_val"], "none of the 1 token files is for train"),
    ):
        with pytest.raises(DataError, match=message):
            prepare([str(tmp_path / f"{name}.bin") for name in names])


def raw(tmp_path: Path, tokens: np.ndarray, dtype: str) -> list[str]:
    """train.bin and val.bin without a header."""
    for name, part in (("train", tokens), ("val", tokens[-500:])):
        part.astype(dtype).tofile(tmp_path / f"{name}.bin")
    return [str(tmp_path / "train.bin"), str(tmp_path / "val.bin")]


@pytest.fixture
def large_vocabulary(tmp_path: Path) -> str:
    """A tokenizer of 70,000 words, the end of a text the last one."""
    from tokenizers import Tokenizer, models

    vocabulary = {f"w{number}": number for number in range(69_999)} | {"</s>": 69_999}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    tokenizer.add_special_tokens(["</s>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return str(tmp_path / "tokenizer.json")


def test_a_large_vocabulary_has_four_bytes_a_token(tmp_path: Path, cache: Path, large_vocabulary: str) -> None:
    tokens = np.random.default_rng(0).integers(0, 69_999, 60_000)
    tokens[::100] = 69_999
    corpus = prepare(raw(tmp_path, tokens, "<u4"), tokenizer=large_vocabulary)
    assert (corpus.train_tokens, corpus.validation_tokens, corpus.documents) == (60_000, 500, 605)
    np.testing.assert_array_equal(np.asarray(corpus.train()), tokens)
    assert open_corpus(corpus.fingerprint, 70_000) == corpus


@pytest.mark.parametrize("dtype", ["<u4", "<i4"])
def test_gpt2_in_four_bytes_is_seen(tmp_path: Path, cache: Path, dtype: str) -> None:
    corpus = prepare(raw(tmp_path, stream(4_000), dtype))
    np.testing.assert_array_equal(np.asarray(corpus.train()), stream(4_000))
    assert (corpus.vocabulary, corpus.documents) == (50_257, 45)


def test_the_index_of_megatron_says_the_bytes(tmp_path: Path, cache: Path) -> None:
    def index(code: int) -> None:
        for name in ("train", "val"):
            (tmp_path / f"{name}.idx").write_bytes(b"MMIDIDX\0\0" + bytes([1, *bytes(7), code]) + bytes(64))

    index(4)
    np.testing.assert_array_equal(np.asarray(prepare(raw(tmp_path, stream(4_000), "<i4")).train()), stream(4_000))
    index(5)
    with pytest.raises(DataError, match="numbers of the kind 5, and only uint16 and int32 can be read"):
        prepare(raw(tmp_path, stream(4_000), "<i8"))


def test_other_layouts_are_refused(tmp_path: Path, cache: Path, large_vocabulary: str) -> None:
    """Not taken for GPT-2's, whatever their bytes are as uint16."""
    import gzip
    import io

    npy = io.BytesIO()
    np.save(npy, stream(2_000).astype("<u2"))
    text = ("the words of a text and the words again\n" * 90).encode()
    header = np.zeros(256, dtype="<i4")
    header[:3] = 20240520, 2, 500
    small = np.random.default_rng(0).integers(1, 200, 4_000)
    for data, tokenizer, message in (
        (npy.getvalue(), "bpe", "is a NumPy file, not a stream of tokens"),
        (gzip.compress(stream(2_000).astype("<u2").tobytes()), "bpe", "is compressed with gzip"),
        (b"PK\x03\x04" + bytes(200), "bpe", "is a zip archive, as PyTorch saves"),
        (stream(2_000).astype("<u8").tobytes(), "bpe", "has 8 bytes a token: convert it"),
        (text, "bpe", r"has 1,800 tokens of 2 bytes, and none of them is the end of a text \(50,256\)"),
        (small.astype("u1").tobytes(), "bpe", "none of them is the end of a text|holds the token 5"),
        (np.arange(2_000).astype("<u2").tobytes(), "bpe", "none of them is the end of a text"),
        (small.astype(">u2").tobytes(), "bytes", "the vocabulary has 257: name the tokenizer"),
        (small.astype("<f4").tobytes(), "bpe", "none of them is the end|holds the token"),
        (header.tobytes() + bytes(1_000), "bpe", "has llm.c's header in version 2, and only version 1 can be read"),
        (bytes(4_000), "bpe", "has 8 bytes a token|none of them is the end"),
        (stream(2_001).astype("<u2").tobytes(), large_vocabulary, "uint32 tokens need a multiple of 4"),
        (
            stream(2_000).astype("<u2").tobytes(),
            large_vocabulary,
            "and the vocabulary has 70,000",
        ),
    ):
        for name in ("train", "val"):
            (tmp_path / f"{name}.bin").write_bytes(data)
        with pytest.raises(DataError, match=message):
            prepare([str(tmp_path / "train.bin"), str(tmp_path / "val.bin")], tokenizer=tokenizer)
    (tmp_path / "index.json").write_text("{}")
    (tmp_path / "chunk-0-0.bin").write_bytes(bytes(100))
    with pytest.raises(DataError, match="is a chunk of litdata"):
        prepare(str(tmp_path / "chunk-0-0.bin"))
