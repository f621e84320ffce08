"""Contestants and seeds from the names of files and folders, where no column has them.

``adamw-seed3.txt`` is contestant adamw, seed 3. Logs in several folders are named by their folders, else by their
files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fairstep.imported.unpacking import PACKED

SEED = re.compile(r"(?i)(?:^|[-_. /])(?:seed|rng)[-_=:. ]?(\d+)(?=$|[-_. /])|(?:[-_. /])s[-_=]?(\d+)$")
GENERIC = re.compile(
    r"(?i)^(checkpoint-\d+|trainer_state|events\.out\.tfevents.*|run-.*\.wandb|offline-run-.*|run-\d{8}.*|logs?|files|"
    r"metrics|results?|output|stdout|version_\d+|runs|[a-z]{3}\d{2}_\d{2}-\d{2}-\d{2}_.*)$"
)
ENDINGS = (*PACKED, ".txt", ".log", ".out", ".csv", ".tsv", ".jsonl", ".parquet", ".json", ".db", ".ndjson")
"""What is taken from the end of a file's name, in this order."""


@dataclass(frozen=True)
class Found:
    """A file that was found under a path that the user gave (``root``; the file itself if it was given)."""

    path: Path
    root: Path


def split_seed(name: str) -> tuple[str, str | None]:
    """``adamw_seed3`` -> (adamw, 3); a name without a seed stays as it is."""
    hits = list(SEED.finditer(name))
    if not hits:
        return name, None
    hit = hits[-1]
    rest = (name[: hit.start()] + name[hit.end() :]).strip("-_. /")
    return re.sub(r"/{2,}", "/", rest), hit[1] or hit[2]


def labels(found: Sequence[Found]) -> list[tuple[str, str, str | None]]:
    """(folder label, file label, seed) of each file; labels may be empty."""
    parents = {one.path.parent for one in found if one.root == one.path}
    roots = {one.root for one in found}
    rows = []
    for one in found:
        inside = one.root != one.path
        parts = list(one.path.relative_to(one.root).parts) if inside else [one.path.name]
        if one.path.is_file() or one.path.suffix:
            parts[-1] = _stem(parts[-1])
        parts = [part for part in parts if not GENERIC.match(part)]
        whole, seed = split_seed("/".join(parts))
        folders = (
            [part for part in one.path.relative_to(one.root).parts[:-1] if not GENERIC.match(part)] if inside else []
        )
        folder, _ = split_seed("/".join(folders))
        if inside and not folder and len(roots) > 1:
            folder, own = split_seed(one.root.name)
            seed = seed or own
        elif not inside and len(parents) > 1:
            folder, own = split_seed(one.path.parent.name)
            seed = seed or own
        rows.append((folder, whole or folder, seed))
    return rows


def contestants(found: Sequence[Found]) -> list[tuple[str, str, str | None]]:
    """(contestant, folder, seed) of each file. The contestant is the folder if folders tell at least two apart, else
    the file. The folder of a file that is in none below the path that was given is the file's own name."""
    rows = labels(found)
    by_folder = [folder or file for folder, file, _ in rows]
    several = len({folder for folder, _, _ in rows if folder}) > 1
    chosen = by_folder if several else [file for _, file, _ in rows]
    return [
        (name or one.path.parent.name or one.path.name, folder, seed)
        for name, folder, one, (_, _, seed) in zip(chosen, by_folder, found, rows, strict=True)
    ]


def _stem(name: str) -> str:
    for ending in ENDINGS:
        name = name[: -len(ending)] if name.lower().endswith(ending) else name
    return name
