"""From paths to sources: every file and folder under them that a format claims."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from fairstep.imported.formats import formats
from fairstep.imported.names import Found
from fairstep.imported.source import InputError, Source, frame_of, table

MOST_FILES = 20_000
SAVED = {
    **dict.fromkeys((".xlsx", ".xls", ".ods", ".numbers"), "save its sheet as CSV"),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".7z"), "unpack it, and name the folder"),
    ".json": "write one JSON object a line, as .jsonl",
}
"""Ending -> what would be right."""


Read = list[tuple[Found, Source]]


def read_paths(paths: Sequence[Path], only: str = "", pattern: str = "") -> tuple[Read, list[str]]:
    """Every source with where it was found, and sentences on what was not read. Raises InputError.

    ``only``: name of the one format to read. ``pattern``: a regular expression with the groups ``step`` and ``loss``,
    by which plain text is read.
    """
    known = formats()
    if only and only not in known:
        raise InputError(f"--format takes {', '.join(known)}, not {only!r}")
    chosen = [known[only]] if only else list(known.values())
    expression = _expression(pattern)
    read: Read = []
    unread: Counter[str] = Counter()
    for root in dict.fromkeys(paths):
        if not root.exists():
            raise InputError(f"{root} does not exist")
        kinds: dict[str, Path] = {}
        for path in _files(root, chosen):
            found = Found(path, root if path != root else path)
            if expression is not None and path.is_file():
                sources = _by_pattern(path, expression)
                if not sources:
                    unread[path.suffix or "no ending"] += 1
                    continue
            else:
                module = next((module for module in chosen if module.claims(path)), None)
                if module is None:
                    if path == root and path.is_file():
                        raise InputError(_unknown(path, chosen))
                    unread[path.suffix or "no ending"] += path.is_file()
                    continue
                kinds.setdefault(module.__name__.rpartition(".")[2], path)
                sources = module.read(path)
            read += [(found, source) for source in sources]
        if len(kinds) > 1:
            what = " and ".join(f"{name} ({path})" for name, path in kinds.items())
            raise InputError(
                f"{root} holds runs in several formats, perhaps the same ones twice: {what}; choose one with --format"
            )
    if not read:
        raise InputError(_unknown(paths[0], chosen))
    notes = list(dict.fromkeys(note for _, source in read for note in source.notes))
    if unread := +unread:
        ends = ", ".join(f"{count} {ending}" for ending, count in unread.most_common(6))
        notes.append(f"Files of no format that is known were not read: {ends}.")
    return read, notes


def _files(root: Path, chosen: Sequence[ModuleType]) -> Iterator[Path]:
    """The path itself, or the files under it in order; a folder that a format claims as a whole in place of its files.

    Hidden files and folders are left out, and links to folders are not followed.
    """
    if not root.is_dir():
        yield root
        return
    count = 0
    for folder, inner, files in os.walk(root):
        here = Path(folder)
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        owner = next((module for module in chosen if module.claims(here)), None)
        if owner is not None:
            yield here
            if owner.KIND == "fairstep store":
                inner.clear()
                continue
        for name in sorted(files):
            path = here / name
            if not name.startswith(".") and path.is_file() and not (owner is not None and owner.claims(path)):
                yield path
            count += 1
        if count > MOST_FILES:
            raise InputError(f"{root} holds more than {MOST_FILES:,} files; name the folder of the runs")


def _unknown(path: Path, chosen: Sequence[ModuleType]) -> str:
    if remedy := SAVED.get(path.suffix.lower()):
        return f"{path} is of no format that is known; {remedy}"
    kinds = ", ".join(module.KIND for module in chosen)
    what = "holds no file of" if path.is_dir() else "is of no"
    return (
        f"{path} {what} {'a ' if path.is_dir() else ''}format that is known ({kinds}); for other text give --pattern, "
        "for example 'step (?P<step>\\d+).*val loss (?P<loss>\\S+)'"
    )


def _expression(pattern: str) -> re.Pattern[str] | None:
    if not pattern:
        return None
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise InputError(f"--pattern is no regular expression: {error}") from None
    if "loss" not in expression.groupindex:
        raise InputError(
            "--pattern needs a group named loss, for example 'step (?P<step>\\d+).*val loss (?P<loss>\\S+)'; further "
            "groups become columns"
        )
    return expression


def _by_pattern(path: Path, expression: re.Pattern[str]) -> list[Source]:
    """One row for each line in which the pattern is found; groups are columns, of texts."""
    with path.open(encoding="utf-8", errors="replace") as file:
        rows = [{"run": str(path)} | hit.groupdict() for line in file if (hit := expression.search(line))]
    return [table(path, "text by --pattern", frame_of(rows), log="step" in expression.groupindex)] if rows else []
