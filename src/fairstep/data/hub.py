"""Hugging Face datasets, streamed to files of text in the cache.

    hf:OWNER/NAME            the dataset's default configuration, split "train"
    hf:OWNER/NAME:CONFIG     one configuration
    hf:OWNER/NAME:CONFIG:SPLIT
    hf:fineweb               a short name, see `KNOWN`
    hf:./folder              a folder of parquet or jsonl files, through the same library

Documents come in the dataset's own order until it or the limit ends, into files of about 64 MB; every finished file
records where the stream stood, so that a download that was killed goes on. The text then goes the way of all text.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fairstep.data.bpe import batches
from fairstep.data.cache import locked, writing
from fairstep.data.corpus import cache_directory
from fairstep.data.documents import Collection
from fairstep.data.errors import DataError, needs_extra
from fairstep.data.meta import digest, write_json
from fairstep.data.survey import Progress, utf8
from fairstep.data.tokenizer import Tokenizer, digest_of

PREFIX = "hf:"

KNOWN = {  # of both papers, and the usual ones
    "fineweb": "HuggingFaceFW/fineweb:sample-100BT",
    "fineweb-edu": "HuggingFaceFW/fineweb-edu:sample-100BT",
    "c4": "allenai/c4:en",
    "slimpajama": "DKYoon/SlimPajama-6B",
    "dclm": "mlfoundations/dclm-baseline-1.0",
    "openwebtext": "Skylion007/openwebtext",
    "wikitext": "Salesforce/wikitext:wikitext-103-raw-v1",
}

_FILE_BYTES = 64_000_000
_TOGETHER = 64  # documents whose tokens are counted at once


@dataclass(frozen=True)
class Limit:
    """Where a stream ends: with the document that reaches it. 0 is no limit."""

    tokens: int = 0
    bytes: int = 0

    def __bool__(self) -> bool:
        return bool(self.tokens or self.bytes)


def download(
    source: str, column: str, limit: Limit, tokenizer: Tokenizer | None, cache: Path | None, report: Progress
) -> Collection:
    """The text of a dataset, from the cache or streamed now.

    Raises DataError when there is no such dataset, no network, or a limit in tokens before there is a tokenizer.
    """
    if limit.tokens and tokenizer is None:
        raise DataError(
            "a limit in tokens needs a tokenizer that exists before the text: choose gpt2, bytes or a file as the "
            "tokenizer, or limit the bytes"
        )
    name, config, split = _parsed(source)
    counted = digest_of(tokenizer) if tokenizer and limit.tokens else ""
    request = {"dataset": name, "config": config, "split": split, "column": column, "counted": counted} | asdict(limit)
    key = digest(request)[:8]
    title = source.removeprefix(PREFIX).rstrip("/").split("/")[-1].replace(":", "-")
    cache = cache or cache_directory()
    folder = cache / "downloads" / f"{title}-{key}"
    with writing(folder):
        if not (folder / "done.json").exists():
            with locked(cache, f"download-{folder.name}"):
                folder.mkdir(parents=True, exist_ok=True)
                if not (folder / "done.json").exists():
                    _stream(folder, name, config, split, column, limit, tokenizer, report)
                    write_json(folder / "done.json", request)
    files = tuple((path.name, path) for path in sorted(folder.glob("text-*.jsonl")))
    if not files:
        raise DataError(f"the dataset {source} has no documents in its split {split!r}")
    return Collection(name=title, files=files)


def _parsed(source: str) -> tuple[str, str | None, str]:
    name = source.removeprefix(PREFIX)
    name = KNOWN.get(name, name)
    name, config, split, *more = [*name.split(":"), "", ""][: max(3, name.count(":") + 1)]
    if more or not name:
        raise DataError(f"{source} is not understood: write hf:OWNER/NAME, with :CONFIGURATION and :SPLIT behind it")
    return name, config or None, split or "train"


def _stream(
    folder: Path,
    name: str,
    config: str | None,
    split: str,
    column: str,
    limit: Limit,
    tokenizer: Tokenizer | None,
    report: Progress,
) -> None:
    """Write what is still missing of the text files."""
    dataset = _dataset(name, config, split)
    finished = sorted(folder.glob("text-*.state"))
    reached = {"tokens": 0, "bytes": 0}
    if finished:
        state = json.loads(finished[-1].read_text(encoding="utf-8"))
        dataset.load_state_dict(state["stream"])
        reached = state["reached"]
    documents = _documents(dataset, name, column)
    number, over = len(finished), _over(reached, limit)
    while not over:
        partial, size, ended = folder / "text.part", 0, True
        with partial.open("w", encoding="utf-8") as file:
            for texts in batches(documents, _TOGETHER if limit.tokens else 1):
                counts = (
                    (len(ids) if text else 0 for ids, text in zip(tokenizer.encode(texts), texts, strict=True))
                    if tokenizer and limit.tokens
                    else [0] * len(texts)
                )
                for text, tokens in zip(texts, counts, strict=True):
                    if over:
                        break
                    file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
                    length = len(text.encode())
                    size += length
                    reached = {"tokens": reached["tokens"] + tokens, "bytes": reached["bytes"] + length}
                    over = _over(reached, limit)
                report("downloading", _fraction(reached, limit))
                if over or size >= _FILE_BYTES:
                    ended = False
                    break
        if size:
            partial.rename(folder / f"text-{number:05}.jsonl")
            write_json(folder / f"text-{number:05}.state", {"stream": dataset.state_dict(), "reached": reached})
            number += 1
        if ended:
            break
    (folder / "text.part").unlink(missing_ok=True)
    report("downloading", 1.0)


def _dataset(name: str, config: str | None, split: str) -> Any:
    folder = Path(name).expanduser()
    if name.startswith((".", "/", "~")) and not (folder.is_dir() and any(folder.iterdir())):
        raise DataError(f"the folder {name} holds no dataset: name one with parquet or jsonl files in it")
    with needs_extra("data", "reading Hugging Face datasets"):
        import datasets
    datasets.disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries; how it ends is said below
    try:
        return datasets.load_dataset(str(folder), config, split=split, streaming=True)
    except Exception as error:  # requests', the hub's, the file system's and the library's own
        raise DataError(
            f"cannot open the dataset {name}: {_first_line(error)} (is there a network? a folder of its parquet files "
            "does as well: hf:./FOLDER)"
        ) from None


def _documents(dataset: Any, name: str, column: str) -> Iterator[str]:
    """The texts; one that is null or white space is the empty text, half a character a question mark."""
    number = 0
    try:
        for row in dataset:
            number += 1
            if not isinstance(row.get(column, 0), str | None):
                raise DataError(
                    f"the dataset {name} has no column {column!r} of text; it has {', '.join(row)}: name one with "
                    "`fairstep data prepare --column`"
                )
            text = row[column] or ""
            yield "" if text.isspace() else utf8(text).decode()
    except DataError:
        raise
    except Exception as error:
        if _may_pass(error):
            raise DataError(
                f"the stream of {name} broke off: {_first_line(error)}; the same command goes on where it stopped"
            ) from None
        raise DataError(
            f"the dataset {name} cannot be read behind its document {number:,}, and not by trying again either: "
            f"{_first_line(error)}; mend or leave out that file"
        ) from None


def _may_pass(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, is one of a network or a disk."""
    while error is not None:
        kinds = {kind.__module__.split(".")[0] for kind in type(error).__mro__}
        if isinstance(error, OSError | TimeoutError) or kinds & {"requests", "httpx", "aiohttp", "urllib3", "httpcore"}:
            return True
        error = error.__cause__ or error.__context__
    return False


def _over(reached: dict[str, int], limit: Limit) -> bool:
    return any(most and reached[name] >= most for name, most in asdict(limit).items())


def _fraction(reached: dict[str, int], limit: Limit) -> float:
    return min(1.0, max((reached[name] / most for name, most in asdict(limit).items() if most), default=0.0))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
