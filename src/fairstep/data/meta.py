"""meta.json: what is known of a prepared corpus, and whether that can be so.

Its last field is a digest of the others, so that a changed number is found. Corpora of the first version have none:
their facts are held against one another.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from fairstep.data.errors import DataError, damaged, readable
from fairstep.data.shards import Shard

META = "meta.json"
VERSION_2 = "v2-"
"""Beginning of a fingerprint of version 2, which covers the texts alone, so that the same texts are the same corpus for
everyone. One of version 1 is 64 hexadecimal digits, and covers the names and the order of the files too."""
SPLITS = ("train", "validation")
_FACTS = {"name", "fingerprint", "vocabulary", "train", "validation", "files", "source"}
_MOST = 2**62  # tokens and bytes that any corpus can have


def fingerprint_version(fingerprint: str) -> int:
    """1 or 2. Every version stays readable."""
    return 2 if fingerprint.startswith(VERSION_2) else 1


def write_json(path: Path, value: Any) -> None:
    """Write a file that is there whole or not at all."""
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(value), encoding="utf-8")
    partial.rename(path)


def seal(meta: dict[str, Any]) -> dict[str, Any]:
    """The facts with their digest."""
    return meta | {"digest": digest(meta)}


def digest(meta: dict[str, Any]) -> str:
    """The SHA-256 of facts, whatever their order. ``digest`` itself is left out."""
    facts = {name: value for name, value in meta.items() if name != "digest"}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def read_meta(directory: Path) -> dict[str, Any]:
    """The facts of a prepared corpus. Raises DataError."""
    meta = None
    path = directory / META
    try:
        if prepared := directory.is_dir():
            if path.exists() and not path.is_file():  # a pipe would be waited for
                raise damaged(directory, f"{META} is no file")
            meta = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise damaged(directory, f"{META} is missing") from None
    except OSError as error:
        raise DataError(f"cannot read the prepared corpus {directory}: {readable(error)}") from None
    except DataError:
        raise
    except (ValueError, RecursionError):
        pass
    if not prepared:
        raise DataError(
            f"the corpus {directory.name} is not in {directory.parent}: prepare it again from the same text, "
            "or set FAIRSTEP_CACHE to the cache that holds it"
        )
    if not isinstance(meta, dict) or not meta.keys() >= _FACTS:
        raise damaged(directory, f"{META} cannot be understood")
    if ("digest" in meta or fingerprint_version(str(meta["fingerprint"])) > 1) and meta.get("digest") != digest(meta):
        raise damaged(directory, f"{META} was changed: its digest does not match")
    try:
        problem = _contradiction(meta)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError):
        problem = f"{META} cannot be understood"
    if problem:
        raise damaged(directory, problem)
    return meta


def shard_facts(meta: dict[str, Any], split: str) -> list[tuple[str, int, int]]:
    """File, tokens and offset of every shard. Without a list of shards there is one, without a header."""
    if meta.get("parts"):
        return []
    plain = [{"file": f"{split}.bin", "tokens": meta[split]["tokens"]}]
    return [(each["file"], each["tokens"], each.get("offset", 0)) for each in meta[split].get("shards", plain)]


def shards_of(directory: Path, meta: dict[str, Any], split: str) -> list[Shard]:
    """The shards of a split, in their order."""
    size = token_bytes(meta)
    return [Shard(directory / file, tokens, size, offset) for file, tokens, offset in shard_facts(meta, split)]


def token_bytes(meta: dict[str, Any]) -> int:
    """Bytes of a token on disk."""
    return int(meta.get("tokenizer", {}).get("item_bytes", 2))


def _contradiction(meta: dict[str, Any]) -> str:
    """What in the facts cannot be, or nothing. Raises the errors of a form that is not theirs."""
    if not all(isinstance(meta[name], str) for name in ("name", "fingerprint")):
        return f"{META} cannot be understood"
    for name, facts in meta["files"].items():
        _whole(facts["bytes"])
        if not isinstance(facts["sha256"], str) or not (Path(name).is_absolute() or name == Path(name).name):
            return f"{META} names the file {name!r}"
    vocabulary, size = _whole(meta["vocabulary"]), token_bytes(meta)
    tokenizer = meta.get("tokenizer", {})
    end, file = _whole(tokenizer.get("end_of_text", 0)), tokenizer.get("file", "")
    if size not in (1, 2, 4) or not end < vocabulary or (file and file not in (Path(file).name, "")):
        return f"{META} cannot be understood"
    seen: set[str] = set()
    for split in SPLITS:
        facts = meta[split]
        tokens, shards = _whole(facts["tokens"]), shard_facts(meta, split)
        _whole(facts["documents"])
        text_bytes = facts["text_bytes"] if split == "validation" else facts.get("text_bytes")
        if text_bytes is not None and not 0 <= text_bytes < _MOST:
            return f"the bytes of the {split} text cannot be {text_bytes}"
        for name, count, offset in shards:
            if name in seen:
                return f"{name} is there for two splits"
            if name not in meta["files"] or _whole(offset) + _whole(count) * size != meta["files"][name]["bytes"]:
                return f"{name} does not have {count} tokens"
            seen.add(name)
        if shards and sum(count for _, count, _ in shards) != tokens:
            return f"the {split} shards do not have {tokens} tokens"
    for part in meta.get("parts", ()):
        if not (isinstance(part["fingerprint"], str) and 0 < part["share"] <= 1):
            return f"{META} cannot be understood"
    if not all(isinstance(each["name"] + each["fingerprint"], str) for each in meta.get("further", ())):
        return f"{META} cannot be understood"
    return "" if isinstance(meta["source"], dict) else f"{META} cannot be understood"


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _MOST:
        raise ValueError(value)
    return value
