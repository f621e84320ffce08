"""Tokenizers of the library `tokenizers`: a byte-level BPE trained on the corpus, or any Hugging Face tokenizer file.

The published vocabularies (50,000 tokens) would put most parameters of a laptop-sized model into its embedding. A few
hundred to a few thousand tokens fit such a model. Losses per token cannot be compared across vocabularies; bits per
byte can: ``loss / ln 2 / bytes_per_token``.

The library gives the same file for the same text in the same order with any number of threads, provided that the
initial alphabet is sorted. It slows down on long texts, so the corpus's own BPE gets texts in pieces. A given tokenizer
file gets whole documents, because cutting would change their tokens.
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
_ENDS = (
    SEPARATOR,
    "<|end_of_text|>",
    "</s>",
    "<eos>",
    "<|eot_id|>",
    "[EOS]",
    "[SEP]",
    "<｜end▁of▁sentence｜>",
    "<|im_end|>",
    "<|END_OF_TURN_TOKEN|>",
)
_MOST_GROWTH = 1_000.0  # times; a normaliser that makes more of a text takes all memory


def check_vocabulary(vocabulary: int) -> None:
    if not SMALLEST <= vocabulary <= LARGEST:
        raise DataError(f"a vocabulary of {vocabulary:,} tokens is not possible: ask for {SMALLEST:,} to {LARGEST:,}")


class FileTokenizer:
    """A ``tokenizer.json`` of Hugging Face's library; `own` for one that was trained by `train`."""

    file = "tokenizer.json"

    def __init__(self, tokenizer: "Tokenizer", end_of_text: int, own: bool = False) -> None:
        self.kind = "bpe" if own else "file"
        self.end_of_text = end_of_text
        self.mark = str(tokenizer.id_to_token(end_of_text))
        self.vocabulary = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1  # there may be holes
        self._tokenizer = tokenizer
        # A document may talk about the mark itself: only we end a text.
        tokenizer.encode_special_tokens = True
        # Settings of whoever saved the file: a text has all of its tokens, no others, and the same ones each time.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        for setting in ("dropout", "alpha", "nbest_size"):
            if getattr(tokenizer.model, setting, None) is not None:
                setattr(tokenizer.model, setting, None)

    @property
    def named_end(self) -> str:
        """What a fingerprint says of an end of text that is not the first usual mark of the file."""
        usual = _first_token(self._tokenizer, _ENDS)
        return "" if self.end_of_text == usual else f"end {self.end_of_text} "

    @classmethod
    def read(cls, path: Path, own: bool = False, end_of_text: int | None = None) -> "FileTokenizer":
        """A tokenizer file. The end of a text is the given token, else the ``eos_token`` of the tokenizer_config.json
        beside it, else the first of the usual marks in it. Raises DataError."""
        from tokenizers import Tokenizer

        with _library(f"{path} is not a tokenizer of Hugging Face's tokenizers"):
            content = path.read_text(encoding="utf-8")
            _check_growth(path, json.loads(content))
            tokenizer = Tokenizer.from_str(content)
            known = tokenizer.get_vocab(with_added_tokens=True)
        if end_of_text is None:
            configured = _configured_end(path.with_name("tokenizer_config.json"))
            if configured and configured[0] not in known:
                raise DataError(
                    f"{path} has no token {configured[0]!r}, which the tokenizer_config.json beside it names as "
                    "eos_token"
                )
            end_of_text = _first_token(tokenizer, [*configured, *_ENDS])
        if end_of_text is None or tokenizer.id_to_token(end_of_text) is None:
            raise DataError(
                f"{path} has no end-of-text token among {', '.join(_ENDS)}: name it as eos_token in a "
                "tokenizer_config.json beside it"
            )
        if len(known) < 2:
            raise DataError(f"{path} has no vocabulary beside its end-of-text token: name the whole tokenizer")
        found = cls(tokenizer, end_of_text, own)
        found._make_mark_special(path)
        return found

    def _make_mark_special(self, path: Path) -> None:
        """Have the characters of the mark be text in a text, where the file has it as an ordinary added token."""
        from tokenizers import AddedToken

        with _library(f"the tokenizer {path} cannot encode a text"):
            encoded = self._tokenizer.encode(f"a {self.mark} b", add_special_tokens=False)
        if self.end_of_text in encoded.ids:
            self._tokenizer.add_special_tokens([AddedToken(self.mark, special=True, normalized=False)])

    def encode(self, texts: Iterable[str]) -> Iterator[NDArray[Any]]:
        _allow_threads()
        dtype = f"<u{item_bytes(self.vocabulary)}"
        for batch in batches(texts, _BATCH, len):
            pieces = [list(cut(text, _PIECE)) if self.kind == "bpe" else [text] for text in batch]
            flat = [piece for text in pieces for piece in text]
            with _library("the tokenizer cannot encode this text"):
                encoded = iter(self._tokenizer.encode_batch_fast(flat, add_special_tokens=False))
            for text in pieces:
                ids = [token for _ in text for token in next(encoded).ids]
                if self.end_of_text in ids:
                    raise DataError(
                        f"the tokenizer makes its end-of-text token {self.mark!r} of characters of a document: name "
                        "another token as eos_token in a tokenizer_config.json beside it"
                    )
                yield np.array([*ids, self.end_of_text], dtype=dtype)

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=False))

    def text_bytes(self, tokens: NDArray[Any]) -> int:
        return len(self.decode(tokens[tokens != self.end_of_text].tolist()).encode())

    def save(self, folder: Path) -> None:
        self._tokenizer.save(str(folder / self.file))

    def hugging_face(self) -> "Tokenizer":
        """A copy, whose texts begin and end as they did in training: with nothing."""
        from tokenizers import Tokenizer

        copy = Tokenizer.from_str(self._tokenizer.to_str())
        if copy.num_special_tokens_to_add(is_pair=False):
            copy.post_processor = None
        return copy


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


def characters() -> dict[int, str]:
    """What byte-level vocabularies write for a byte, in GPT-2's order of bytes: printable ones stand for themselves,
    the others for the characters from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}


def byte_level(
    ids: Mapping[bytes, int], merges: Iterable[tuple[bytes, bytes]], mark: str, divided: bool = True
) -> "Tokenizer":
    """A byte-level BPE of these tokens and merges, the mark behind them; `divided`: into words before it merges."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    letters = characters()

    def name(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    model = models.BPE({name(token): n for token, n in ids.items()}, [(name(a), name(b)) for a, b in merges])
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=divided)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(mark, special=True, normalized=False)])
    return tokenizer


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


def _first_token(tokenizer: "Tokenizer", marks: Iterable[str]) -> int | None:
    return next((token for mark in marks if (token := tokenizer.token_to_id(mark)) is not None), None)


def _check_growth(path: Path, content: Any) -> None:
    """Raises DataError for normalisers that make very long texts of short ones: the library takes all memory."""
    if _growth(content.get("normalizer") if isinstance(content, dict) else None) > _MOST_GROWTH:
        raise DataError(f"{path} has a normaliser that makes texts more than {_MOST_GROWTH:,.0f} times as long")


def _growth(normalizer: Any) -> float:
    """How many times as long a normaliser can make a text of some characters."""
    if not isinstance(normalizer, dict):
        return 1.0
    if normalizer.get("type") == "Sequence":
        return math.prod(min(_growth(each), _MOST_GROWTH * 2) for each in normalizer.get("normalizers") or ())
    pattern, content = normalizer.get("pattern"), normalizer.get("content")
    if normalizer.get("type") != "Replace" or not isinstance(content, str):
        return 1.0
    replaced = pattern.get("String") if isinstance(pattern, dict) else None
    return max(1.0, len(content) / max(len(replaced or ""), 1))


@contextmanager
def _library(what: str) -> Iterator[None]:
    """Put the library's errors into a sentence. What it panics over is not an Exception."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # the library raises nothing more particular
        raise DataError(f"{what}: {readable(error)}") from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise DataError(f"{what}: {(str(error).splitlines() or ['no reason'])[0]}") from None


def batches(texts: Iterable[str], most: int, size: Callable[[str], int] = lambda text: 1) -> Iterator[list[str]]:
    """Texts together, until there are so many, or so much by their size."""
    batch: list[str] = []
    length = 0
    for text in texts:
        batch.append(text)
        length += size(text)
        if length >= most:
            yield batch
            batch, length = [], 0
    if batch:
        yield batch


def _allow_threads() -> None:
    """Say that threads are wanted: left unsaid, the library prints a warning whenever the process forks later."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
