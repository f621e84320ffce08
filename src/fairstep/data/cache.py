"""The folder of prepared corpora: locks, names, and how a corpus gets into it.

CACHE/corpora/<fingerprint[:16]>-<tokenizer>/      a corpus
CACHE/corpora/.unfinished-.../                     one that is being made, or was when its process died
CACHE/locks/                                       one file a corpus; the kernel unlocks it with its process
CACHE/names/NAME                                   the folder of the corpus that was given this name last
CACHE/downloads/                                   text that was streamed from elsewhere
"""

import fcntl
import json
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fairstep.data.corpus import META, Corpus, cache_directory, open_corpus, open_directory, read_meta
from fairstep.data.errors import DataError, readable

_STALE = 7 * 86_400.0  # seconds, after which nobody will go on with an unfinished folder


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Put what the system refuses into a sentence."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot write the cache {folder} ({readable(error)}): make room there, or set FAIRSTEP_CACHE to a "
            "folder that can be written; the same command goes on where it stopped"
        ) from None


@contextmanager
def locked(cache: Path, name: str) -> Iterator[None]:
    """Hold the lock of one corpus or download: a second process waits, and then finds it finished."""
    (cache / "locks").mkdir(parents=True, exist_ok=True)
    with (cache / "locks" / name).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def install(meta: dict[str, Any], directory: Path, folder: Path | None = None) -> Corpus:
    """Give a complete corpus its name, in one step; when another process did so first, its corpus is the same."""
    alone = folder is None
    folder = folder or directory.parent / f".unfinished-{uuid.uuid4().hex}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        (folder / META).write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
        try:
            folder.rename(directory)
        except OSError:
            if not directory.is_dir():
                raise
    finally:
        if alone:
            shutil.rmtree(folder, ignore_errors=True)
    return open_directory(directory)


def existing(fingerprint: str, vocabulary: int, directory: Path) -> Corpus | None:
    """The corpus if it is there and whole; a damaged one is set aside."""
    if not directory.is_dir():
        return None
    try:
        return open_corpus(fingerprint, vocabulary, directory.parent.parent)
    except DataError:
        with suppress(FileNotFoundError):  # another process just did
            directory.rename(directory.parent / f".unfinished-damaged-{uuid.uuid4().hex}")
        return None


def sweep(corpora: Path) -> None:
    """Remove what processes that were killed long ago have left."""
    for leftover in corpora.glob(".unfinished-*"):
        with suppress(FileNotFoundError):  # somebody else sweeps, or has just finished
            if time.time() - leftover.stat().st_mtime > _STALE:
                shutil.rmtree(leftover, ignore_errors=True)


def give_name(corpus: Corpus, name: str, cache: Path | None = None) -> None:
    """Let a corpus be found under a name; the name may have been another's. Raises DataError."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise DataError(f"a corpus cannot be named {name!r}: use letters, digits, dots, dashes and underscores")
    names = (cache or cache_directory()) / "names"
    with writing(names):
        names.mkdir(parents=True, exist_ok=True)
        partial = names / f".{uuid.uuid4().hex}"
        partial.write_text(corpus.directory.name, encoding="utf-8")
        partial.rename(names / name)


def corpora(cache: Path | None = None) -> list[tuple[str, Path]]:
    """Every prepared corpus as (name, folder): given names first, then the others under the names of their text."""
    cache = cache or cache_directory()
    folders = {path.name: path for path in sorted((cache / "corpora").glob("[!.]*")) if (path / META).is_file()}
    named = [
        (path.name, folders[folder])
        for path in sorted((cache / "names").glob("[!.]*"))
        if (folder := path.read_text(encoding="utf-8").strip()) in folders
    ]
    known = {folder for _, folder in named}
    return named + [(_name(folder), folder) for folder in folders.values() if folder not in known]


def find_corpus(name: str, cache: Path | None = None, vocabulary: int = 0) -> Corpus | None:
    """A prepared corpus by its given name, its folder's name, its text's name, or its path.

    Several corpora may have the same text under other tokenizers; `vocabulary` then chooses. None when there is none,
    DataError when it is damaged or when there are several.
    """
    path = Path(name).expanduser()
    if (path / META).is_file():
        return _linked(path.resolve(), cache)
    cache = cache or cache_directory()
    if "/" in name:
        return None
    with suppress(OSError):
        return open_directory(cache / "corpora" / (cache / "names" / name).read_text(encoding="utf-8").strip())
    if (cache / "corpora" / name / META).is_file():
        return open_directory(cache / "corpora" / name)
    found = [folder for known, folder in corpora(cache) if known == name]
    if len(found) > 1:
        found = [folder for folder in found if read_meta(folder)["vocabulary"] == vocabulary] or found
    if len(found) > 1:
        listed = ", ".join(folder.name for folder in found)
        raise DataError(f"{len(found)} prepared corpora are called {name}: name the folder, one of {listed}")
    return open_directory(found[0]) if found else None


def _linked(directory: Path, cache: Path | None) -> Corpus:
    """A corpus anywhere on disk: runs look for it in the cache, so the cache gets a link to it."""
    corpora = (cache or cache_directory()) / "corpora"
    if directory.parent != corpora.resolve():
        with writing(corpora):
            corpora.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                (corpora / directory.name).symlink_to(directory)
        directory = corpora / directory.name
    return open_directory(directory)


def _name(folder: Path) -> str:
    with suppress(DataError):
        return str(read_meta(folder)["name"])
    return folder.name
