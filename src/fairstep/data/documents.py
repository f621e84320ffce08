"""From what a user names to a stream of documents.

A `Collection` is an ordered list of text files under names that do not depend on where they lie: either the
standard library of the running Python (nothing to download; code and documentation, about 11 MB) or the files that
the user's paths and globs match. `fairstep.data.formats` reads them, one document at a time.
"""

import glob
import os
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fairstep.data.errors import DataError
from fairstep.data.formats import PLAIN, Form, reading

STDLIB = "stdlib"

# Installed packages differ between machines; tests and caches are not worth reading.
_SKIPPED_FOLDERS = {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idlelib", "lib2to3"}


@dataclass(frozen=True)
class Collection:
    """Text files in a fixed order, each under its name inside the collection."""

    name: str
    files: tuple[tuple[str, Path], ...]
    python: str | None = None  # version of the interpreter whose library this is
    form: Form = PLAIN

    def bytes_on_disk(self) -> int:
        size = 0
        for _, path in self.files:
            with reading(path):
                size += path.stat().st_size
        return size


def find(source: str | Sequence[str] | None, form: Form = PLAIN) -> Collection:
    """The collection that the user means by a path, a glob, several of them, or nothing (the standard library)."""
    sources = [STDLIB] if source is None else [source] if isinstance(source, str) else list(source)
    if sources == [STDLIB]:
        return _standard_library()
    if STDLIB in sources:
        raise DataError(f"{STDLIB!r} cannot be mixed with files: name one or the other")
    if not sources:
        raise DataError(f"no data named: give a file, a pattern such as 'texts/*.txt', or {STDLIB!r}")
    # Not resolved: a link's name says what is in the file, its target's may not.
    paths = sorted({Path(os.path.abspath(path)) for named in sources for path in _match(named)})  # noqa: PTH100
    base = Path(os.path.commonpath([path.parent for path in paths]))
    files = sorted((path.relative_to(base).as_posix(), path) for path in paths)
    return Collection(name=paths[0].name if len(paths) == 1 else base.name or "files", files=tuple(files), form=form)


def _standard_library() -> Collection:
    root = Path(sysconfig.get_paths()["stdlib"])
    files = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(set(folders) - _SKIPPED_FOLDERS)
        paths = [Path(folder, name) for name in sorted(names) if name.endswith(".py")]
        files += [(path.relative_to(root).as_posix(), path) for path in paths]
    if not files:
        raise DataError(f"this Python keeps no source files in {root}: name text files instead of {STDLIB!r}")
    return Collection(name=STDLIB, files=tuple(files), python=sys.version)


def _match(named: str) -> list[Path]:
    """The files that one path or glob names."""
    path = Path(os.path.expanduser(named))  # noqa: PTH111 - leaves the home of nobody as it is
    with reading(path):
        if path.is_dir():
            raise DataError(f"{named} is a folder: name the files in it, for example {str(path / '*.txt')!r}")
        if path.exists():
            if not path.is_file():
                raise DataError(f"{named} is neither a file nor a folder: name text files")
            if path.stat().st_size == 0:
                raise DataError(f"{named} is empty: name a file with text in it")
            return [path]
    if not glob.has_magic(named):
        raise DataError(f"{named} does not exist: check the path")
    # Path.glob takes no absolute patterns.
    files = [match for match in map(Path, glob.glob(str(path), recursive=True)) if match.is_file()]  # noqa: PTH207
    if not files and "[" in named:
        literal = named.replace("[", "[[]")
        raise DataError(
            f"no file matches {named!r}: in a pattern [ and ] stand for one of the characters between them; write [[] "
            f"for a bracket of a name, here {literal!r}"
        )
    if not files:
        raise DataError(f"no file matches {named!r}: check the pattern")
    return files
