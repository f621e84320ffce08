"""Tokenizers of the library `tokenizers`: a byte-level BPE trained on the corpus, or any Hugging Face tokenizer file.

The published vocabularies (50,000 tokens) would put most parameters of a laptop-sized model into its embedding. A few
hundred to a few thousand tokens fit such a model. Losses per token cannot be compared across vocabularies; bits per
byte can: ``loss / ln 2 / bytes_per_token``.

The library gives the same file for the same text in the same order with any number of threads, provided that the
initial alphabet is sorted. It slows down on long texts, so the corpus's own BPE gets texts in pieces. A given tokenizer
file gets whole documents, because cutting would change their tokens.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fairstep.data.errors import DataError, readable
from fairstep.data.formats import SEPARATOR, cut

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SMALLEST, LARGEST = 257, 65_535  # every byte and the end-of-text token; what uint16 holds
END_OF_TEXT = 0  # the id of the special token, which the trainer numbers first
_PIECE = 10_000  # characters; pieces are at most twice as long
_BATCH = 1_000_000  # characters encoded at once: enough for all threads, little memory
_ENDS = (SEPARATOR, "<|end_of_text|>", "</s>", "<eos>", "<|eot_id|>", "[EOS]", "[SEP]")


def check_vocabulary(vocabulary: int) -> None:
    if not SMALLEST <= vocabulary <= LARGEST:
        raise DataError(f"a vocabulary of {vocabulary:,} tokens is not possible: ask for {SMALLEST:,} to {LARGEST:,}")


class FileTokenizer:
    """A ``tokenizer.json`` of Hugging Face's library; `own` for one that was trained by `train`."""

    file = "tokenizer.json"

    def __init__(self, tokenizer: "Tokenizer", end_of_text: int, own: bool = False) -> None:
        self.kind = "bpe" if own else "file"
        self.end_of_text = end_of_text
        self.vocabulary = int(tokenizer.get_vocab_size())
        self._tokenizer = tokenizer
        # A document may talk about the mark itself: only we end a text.
        tokenizer.encode_special_tokens = True

    @classmethod
    def read(cls, path: Path, own: bool = False) -> "FileTokenizer":
        """A tokenizer file. The end of a text is the ``eos_token`` of the tokenizer_config.json beside it, else the
        first of the usual marks in its vocabulary. Raises DataError."""
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing more particular
            raise DataError(f"{path} is not a tokenizer of Hugging Face's tokenizers: {readable(error)}") from None
        marks = [*_configured_end(path.with_name("tokenizer_config.json")), *_ENDS]
        found = (tokenizer.token_to_id(mark) for mark in marks)
        end_of_text = next((token for token in found if token is not None), None)
        if end_of_text is None:
            raise DataError(
                f"{path} has no end-of-text token among {', '.join(_ENDS)}: name it as eos_token in a "
                "tokenizer_config.json beside it"
            )
        return cls(tokenizer, end_of_text, own)

    def encode(self, texts: Iterable[str]) -> Iterator[NDArray[Any]]:
        _allow_threads()
        dtype = f"<u{item_bytes(self.vocabulary)}"
        for batch in _batches(texts):
            pieces = [list(cut(text, _PIECE)) if self.kind == "bpe" else [text] for text in batch]
            flat = [piece for text in pieces for piece in text]
            encoded = iter(self._tokenizer.encode_batch_fast(flat, add_special_tokens=False))
            for text in pieces:
                ids = [next(encoded).ids for _ in text]
                yield np.array([*(i for piece in ids for i in piece), self.end_of_text], dtype=dtype)

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=False))

    def text_bytes(self, tokens: NDArray[Any]) -> int:
        return len(self.decode(tokens[tokens != self.end_of_text].tolist()).encode())

    def save(self, folder: Path) -> None:
        self._tokenizer.save(str(folder / self.file))


def train(texts: Iterable[str], vocabulary: int) -> FileTokenizer:
    """A tokenizer of at most `vocabulary` tokens: fewer when the text has no more pairs that repeat."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    _allow_threads()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=[SEPARATOR],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((piece for text in texts for piece in cut(text, _PIECE)), trainer)
    return FileTokenizer(tokenizer, END_OF_TEXT, own=True)


def item_bytes(vocabulary: int) -> int:
    """Bytes of a token on disk."""
    return 2 if vocabulary <= 2**16 else 4


def _configured_end(path: Path) -> list[str]:
    try:
        end = json.loads(path.read_text(encoding="utf-8")).get("eos_token")
    except (OSError, ValueError, AttributeError):
        return []
    end = end.get("content") if isinstance(end, dict) else end
    return [end] if isinstance(end, str) else []


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    length = 0
    for text in texts:
        batch.append(text)
        length += len(text)
        if length >= _BATCH:
            yield batch
            batch, length = [], 0
    if batch:
        yield batch


def _allow_threads() -> None:
    """Say that threads are wanted: left unsaid, the library prints a warning whenever the process forks later."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
