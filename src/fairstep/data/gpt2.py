"""GPT-2's tokenizer, by the library `tiktoken`: from its own cache or download, or from a local vocabulary file.

A vocabulary file is ``*.tiktoken`` (a token in base 64 and its rank a line) or ``vocab.bpe`` (GPT-2's merges, from
which the ranks follow: the 256 bytes, printable ones first, then the merges in order). Special tokens in a text are
not interpreted; ``<|endoftext|>`` has the id behind the last rank, 50256, as in every published GPT-2 token file.
"""

import base64
import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fairstep.data.bpe import batches, byte_level, characters, item_bytes
from fairstep.data.errors import DataError, needs_extra
from fairstep.data.formats import SEPARATOR, reading

if TYPE_CHECKING:
    from tokenizers import Tokenizer

VOCABULARY, END_OF_TEXT = 50_257, 50_256

# How GPT-2 divides a text before the merges, in the form of its inventors' library, which does not backtrack.
_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
_KNOWN = "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930"  # SHA-256 of GPT-2's ranks as a file
_BATCH = 64  # documents encoded at once


class RankTokenizer:
    """A byte-pair encoding by ranks; `kind` is "gpt2" when the ranks are GPT-2's."""

    file, mark = "tokenizer.tiktoken", SEPARATOR

    def __init__(self, ranks: dict[bytes, int]) -> None:
        with needs_extra("data", "the GPT-2 tokenizer"):
            import tiktoken
        self._dump = b"".join(
            base64.b64encode(token) + b" %d\n" % rank for token, rank in sorted(ranks.items(), key=lambda item: item[1])
        )
        self.kind = "gpt2" if hashlib.sha256(self._dump).hexdigest() == _KNOWN else "ranks"
        self._ranks = ranks
        self.end_of_text = len(ranks)
        self.vocabulary = len(ranks) + 1
        self._encoding = tiktoken.Encoding(
            self.kind, pat_str=_PATTERN, mergeable_ranks=ranks, special_tokens={SEPARATOR: self.end_of_text}
        )

    @classmethod
    def read(cls, path: Path) -> "RankTokenizer":
        """A ``*.tiktoken`` or ``vocab.bpe`` file. Raises DataError."""
        with reading(path):
            data = path.read_bytes()
        try:
            ranks = _from_merges(data) if path.suffix == ".bpe" else _from_ranks(data)
        except (ValueError, KeyError) as error:
            raise DataError(f"{path} is not a vocabulary in the form of GPT-2's: {error}") from None
        if sorted(ranks.values()) != list(range(len(ranks))) or len(ranks) < 256:
            raise DataError(f"{path} is not a vocabulary in the form of GPT-2's: its ranks have gaps")
        return cls(ranks)

    @classmethod
    def named(cls) -> "RankTokenizer":
        """GPT-2's, from tiktoken's cache (TIKTOKEN_CACHE_DIR) or the network."""
        with needs_extra("data", "the GPT-2 tokenizer"):
            import tiktoken
        try:
            return cls(tiktoken.get_encoding("gpt2")._mergeable_ranks)
        except Exception as error:  # requests' and the file system's
            raise DataError(
                f"GPT-2's vocabulary is not here and cannot be fetched ({type(error).__name__}): name a local "
                "gpt2.tiktoken or vocab.bpe as the tokenizer"
            ) from None

    def encode(self, texts: Iterable[str]) -> Iterator[NDArray[Any]]:
        dtype, threads = f"<u{item_bytes(self.vocabulary)}", 1
        if os.environ.get("TOKENIZERS_PARALLELISM") != "false":
            threads = os.cpu_count() or 1
        for batch in batches(texts, _BATCH):
            for ids in self._encoding.encode_ordinary_batch(batch, num_threads=threads):
                yield np.array([*ids, self.end_of_text], dtype=dtype)

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._encoding.decode(list(tokens)))

    def text_bytes(self, tokens: NDArray[Any]) -> int:
        return len(self._encoding.decode_bytes(tokens[tokens != self.end_of_text].tolist()))

    def save(self, folder: Path) -> None:
        (folder / self.file).write_bytes(self._dump)

    def hugging_face(self) -> "Tokenizer":
        merges = [_parts(token, rank, self._ranks) for token, rank in self._ranks.items() if len(token) > 1]
        return byte_level(self._ranks, merges, self.mark)


def _parts(token: bytes, rank: int, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """The two tokens whose merge makes this one: all merges of a lower rank leave them."""
    pieces = [token[place : place + 1] for place in range(len(token))]
    while len(pieces) > 2:
        known = [(ranks.get(a + b, rank), place) for place, (a, b) in enumerate(itertools.pairwise(pieces))]
        lowest, place = min(known)
        if lowest >= rank:
            break
        pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]
    if len(pieces) != 2:
        raise DataError("these ranks do not follow from merges, so there is no tokenizer.json of them")
    return pieces[0], pieces[1]


def _from_ranks(data: bytes) -> dict[bytes, int]:
    pairs = (line.split() for line in data.splitlines() if line)
    return {base64.b64decode(token, validate=True): int(rank) for token, rank in pairs}


def _from_merges(data: bytes) -> dict[bytes, int]:
    """Ranks from GPT-2's merges, whose characters stand for bytes: printable bytes for themselves, the others for the
    characters from 256 on."""
    byte_of = {character: byte for byte, character in characters().items()}
    ranks = {bytes([byte]): rank for rank, byte in enumerate(characters())}
    for line in data.decode("utf-8").splitlines():
        if line and not line.startswith("#version"):
            left, right = line.split()
            ranks[bytes(byte_of[character] for character in left + right)] = len(ranks)
    return ranks
