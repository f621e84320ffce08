"""What makes tokens of text, by the name that a user gives it.

* ``bpe`` - a byte-level BPE trained on the corpus (the default; the only one with a vocabulary of the user's size);
* ``bytes`` - 256 bytes and the end of a text;
* ``gpt2`` - GPT-2's, by tiktoken;
* a file - ``tokenizer.json`` of Hugging Face, ``*.tiktoken`` or ``vocab.bpe`` - or a folder with a tokenizer.json;
* a prepared corpus, by name or folder - its tokenizer.
"""

import hashlib
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fairstep.data.bpe import FileTokenizer, byte_level
from fairstep.data.errors import DataError, damaged
from fairstep.data.formats import SEPARATOR
from fairstep.data.gpt2 import RankTokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer as HuggingFace

OWN = "bpe"


class Tokenizer(Protocol):
    """Text to tokens and back."""

    kind: str
    file: str  # its name in a corpus's folder; "" when it needs none
    vocabulary: int
    end_of_text: int
    mark: str  # the text of that token

    def encode(self, texts: Iterable[str]) -> Iterator[NDArray[Any]]:
        """The tokens of each text, with the end-of-text token behind them."""

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, end-of-text marks included."""

    def text_bytes(self, tokens: NDArray[Any]) -> int:
        """Bytes of the text of tokens, without the marks."""

    def save(self, folder: Path) -> None:
        """Write `file`."""

    def hugging_face(self) -> "HuggingFace":
        """The same tokens by Hugging Face's library, nothing added to them."""


class ByteTokenizer:
    """A token a byte."""

    kind, file, vocabulary, end_of_text, mark = "bytes", "", 257, 256, SEPARATOR

    def encode(self, texts: Iterable[str]) -> Iterator[NDArray[Any]]:
        for text in texts:
            yield np.append(np.frombuffer(text.encode(), dtype=np.uint8).astype("<u2"), np.uint16(self.end_of_text))

    def decode(self, tokens: Sequence[int]) -> str:
        marked = b"".join(bytes([token]) if token < 256 else b"<|endoftext|>" for token in tokens)
        return marked.decode("utf-8", "replace")

    def text_bytes(self, tokens: NDArray[Any]) -> int:
        return int(np.count_nonzero(tokens != self.end_of_text))

    def save(self, folder: Path) -> None:
        pass

    def hugging_face(self) -> "HuggingFace":
        names = {bytes([byte]): byte for byte in range(256)}
        return byte_level(names, [], self.mark, divided=False)


def named(name: str) -> Tokenizer | None:
    """The tokenizer of a name, a file or a folder; None for the corpus's own BPE. Raises DataError."""
    if name == OWN:
        return None
    if name == ByteTokenizer.kind:
        return ByteTokenizer()
    if name == "gpt2":
        return RankTokenizer.named()
    path = Path(name).expanduser()
    if path.is_dir():
        path = next((file for file in (path / FileTokenizer.file, path / RankTokenizer.file) if file.exists()), path)
    if path.suffix in (".tiktoken", ".bpe") and path.is_file():
        if (ranks := RankTokenizer.read(path)).kind != "gpt2":
            raise DataError(
                f"{path} does not hold GPT-2's ranks, and how its encoding divides a text is not written in it: name "
                "the tokenizer.json of that encoding"
            )
        return ranks
    if path.suffix == ".json" and path.is_file():
        return FileTokenizer.read(path)
    raise DataError(
        f"unknown tokenizer {name!r}: say bpe, bytes, gpt2, a file (tokenizer.json, *.tiktoken, vocab.bpe) or the name "
        "of a prepared corpus"
    )


def of_corpus(folder: Path, facts: Mapping[str, Any]) -> Tokenizer | None:
    """The tokenizer that a prepared corpus was made with; None for token files of others that came without."""
    kind = facts.get("kind", OWN)
    if kind == ByteTokenizer.kind:
        return ByteTokenizer()
    if not (name := facts.get("file", FileTokenizer.file)):
        return None
    if not (folder / name).is_file():
        raise damaged(folder, f"{name} is missing")
    if name == RankTokenizer.file:
        return RankTokenizer.read(folder / name)
    return FileTokenizer.read(folder / name, own=kind == OWN, end_of_text=facts.get("end_of_text"))


def digest_of(tokenizer: Tokenizer) -> str:
    """What tells tokenizers apart: the kind, the checksum of the file, and an end of text that is not the usual one."""
    if not tokenizer.file:
        return tokenizer.kind
    end = tokenizer.named_end if isinstance(tokenizer, FileTokenizer) else ""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(Path(folder))
        return f"{tokenizer.kind} {end}{hashlib.sha256((Path(folder) / tokenizer.file).read_bytes()).hexdigest()}"


def characters_kept(tokenizer: Tokenizer, texts: Sequence[str]) -> float:
    """The share of the texts' characters that encoding and decoding gives back. White space, the size of letters,
    accents and the order of the characters do not count."""
    total = kept = 0
    for text, tokens in zip(texts, tokenizer.encode(texts), strict=True):
        given = _letters(text)
        total += given.total()
        back = tokenizer.decode(tokens[:-1].tolist())
        kept += (given if back == text else given & _letters(back)).total()
    return kept / total if total else 1.0


def _letters(text: str) -> Counter[str]:
    counts = Counter(unicodedata.normalize("NFKD", text.casefold()))
    for each in [each for each in counts if each.isspace() or unicodedata.combining(each)]:
        del counts[each]
    return counts
