"""Sorted documents to shards of tokens, each shard by one worker."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fairstep.data.meta import write_json
from fairstep.data.sorting import Range, read_range
from fairstep.data.tokenizer import of_corpus
from fairstep.data.workers import Report


def encode_shard(payload: dict[str, Any], report: Report) -> dict[str, Any]:
    """Write one shard, unless it is there from before; what is known of it."""
    work, path = Path(payload["work"]), Path(payload["path"])
    done = work / f"{path.name}.done"
    if done.exists() and path.exists():
        facts = dict(json.loads(done.read_text(encoding="utf-8")))
        report({"bytes": facts["text_bytes"]})
        return facts
    tokenizer = of_corpus(path.parent, payload["tokenizer"])
    assert tokenizer
    ranges: list[Range] = [(bytes.fromhex(low), bytes.fromhex(high)) for low, high in payload["ranges"]]
    documents = text_bytes = tokens = unreported = size = 0
    checksum = hashlib.sha256()
    sizes: list[int] = []  # of the texts that were given and whose tokens have not come back

    def texts() -> Iterator[str]:
        for piece in ranges:
            for data in read_range(work, piece):
                sizes.append(len(data))
                yield data.decode("utf-8")

    partial = path.with_name(path.name + ".part")
    with partial.open("wb") as file:
        for encoded in tokenizer.encode(texts()):
            data = encoded.tobytes()
            file.write(data)
            checksum.update(data)
            size += len(data)
            tokens += len(encoded)
            documents += 1
            unreported += sizes[0]
            text_bytes += sizes.pop(0)
            if unreported >= 200_000:
                report({"bytes": unreported})
                unreported = 0
    partial.rename(path)
    facts = {
        "documents": documents,
        "text_bytes": text_bytes,
        "tokens": tokens,
        "file": {"bytes": size, "sha256": checksum.hexdigest()},
    }
    write_json(done, facts)
    report({"bytes": unreported})
    return facts
