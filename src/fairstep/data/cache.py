"""The folder of prepared corpora: locks, names, and how a corpus gets into it.

CACHE/corpora/<fingerprint[:16]>-<tokenizer>/      a corpus
CACHE/corpora/.unfinished-.../                     one that is being made, or was when its process died
CACHE/locks/                                       one file a corpus; the kernel unlocks it with its process
CACHE/names/NAME                                   the folder of the corpus that was given this name
CACHE/verified/                                    the state of the files of each corpus that was read through
CACHE/downloads/                                   text that was streamed from elsewhere
CACHE/packages/                                    archives of packages, and the text that they ship
"""

import errno
import json
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from fairstep.data.corpus import Corpus, cache_directory, open_corpus, open_directory
from fairstep.data.documents import STDLIB
from fairstep.data.errors import DataError, readable
from fairstep.data.meta import META, read_meta, seal
from fairstep.data.verification import forget

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
    with (cache / "locks" / name).open("a") as file:
        _lock(file, cache)
        yield


def _lock(file: IO[str], cache: Path, wait: bool = True) -> bool:
    """Whether the lock could be had. Raises DataError where there are no locks."""
    try:
        import fcntl
    except ImportError:
        raise DataError(
            "this system has no file locks (fcntl), which preparing data needs: use Linux or macOS"
        ) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
            raise DataError(
                f"the file system of {cache} has no locks ({readable(error)}): set FAIRSTEP_CACHE to a folder on "
                "another one"
            ) from None
        raise
    return True


def install(meta: dict[str, Any], directory: Path, folder: Path | None = None) -> Corpus:
    """Give a complete corpus its name, in one step, under its lock; when another process did so first, its corpus is
    the same."""
    alone = folder is None
    folder = folder or directory.parent / f".unfinished-{directory.name}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        (folder / META).write_text(json.dumps(seal(meta), indent=2) + "\n", encoding="utf-8")
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
    """Remove what processes that were killed long ago have left; what is being made has a lock, whatever its age."""
    locks = corpora.parent / "locks"
    for leftover in corpora.glob(".unfinished-*"):
        with suppress(FileNotFoundError):  # somebody else sweeps, or has just finished
            if time.time() - leftover.stat().st_mtime <= _STALE:
                continue
            locks.mkdir(exist_ok=True)
            with (locks / leftover.name.removeprefix(".unfinished-")).open("a") as file:
                if _lock(file, corpora.parent, wait=False):
                    shutil.rmtree(leftover, ignore_errors=True)


def give_name(corpus: Corpus, name: str, cache: Path | None = None) -> None:
    """Let a corpus be found under a name. Raises DataError for a name that cannot be, or that another corpus has."""
    check_name(name)
    cache = cache or cache_directory()
    other = _named_folder(cache / "names" / name)
    if other not in ("", corpus.directory.name) and (cache / "corpora" / other).exists():
        raise DataError(
            f"another corpus is called {name!r} ({other}): choose another --name for {corpus.directory.name}, which is "
            f"prepared, or remove the other one with `fairstep data remove {name}`"
        )
    names = cache / "names"
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
        if (folder := _named_folder(path)) in folders
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
    found = _called(name, cache or cache_directory())
    if len(found) > 1:
        found = [folder for folder in found if read_meta(folder)["vocabulary"] == vocabulary] or found
    if len(found) > 1:
        raise _several(name, found)
    return open_directory(found[0]) if found else None


def _called(name: str, cache: Path) -> list[Path]:
    """The folders of the corpora that a name may mean: as it was given, as a folder's, as their text's."""
    if "/" in name:
        return []
    if folder := _named_folder(cache / "names" / name):
        return [cache / "corpora" / folder]
    if (cache / "corpora" / name / META).is_file():
        return [cache / "corpora" / name]
    return [folder for known, folder in corpora(cache) if known == name]


def _several(name: str, folders: list[Path]) -> DataError:
    listed = ", ".join(folder.name for folder in folders)
    return DataError(f"{len(folders)} prepared corpora are called {name}: name the folder, one of {listed}")


def remove(name: str) -> tuple[Path, list[str]]:
    """Delete a prepared corpus and its names: its folder and the names. Text and token files of others stay.

    Raises DataError when there is none, when there are several of that name, or when a mixture is made of it.
    """
    cache = cache_directory()
    folders = _called(name, cache)
    if len(folders) > 1:
        raise _several(name, folders)
    if not folders:
        listed = ", ".join(sorted({each for each, _ in corpora(cache)})) or "none"
        raise DataError(f"no prepared corpus is called {name!r}; there are {listed}")
    (directory,) = folders
    if mixtures := _mixtures_of(directory, cache):
        raise DataError(f"{directory.name} is part of the mixture {mixtures[0]}: remove that one first")
    with writing(cache / "corpora"), locked(cache, directory.name):
        names = [path for path in sorted((cache / "names").glob("[!.]*")) if _named_folder(path) == directory.name]
        for path in names:
            path.unlink(missing_ok=True)
        forget(directory)
        if directory.is_symlink():  # of a corpus elsewhere, which is not the cache's
            directory.unlink()
        elif directory.exists():
            gone = directory.with_name(f".unfinished-removed-{uuid.uuid4().hex}")
            directory.rename(gone)
            shutil.rmtree(gone)
    return directory, [path.name for path in names]


def _mixtures_of(directory: Path, cache: Path) -> list[str]:
    """The names of the mixtures that have this corpus as a part or as a further validation set."""
    found = []
    with suppress(DataError):  # a damaged corpus can be removed
        meta = read_meta(directory)
        for name, other in corpora(cache):
            with suppress(DataError):
                mixture = read_meta(other)
                parts = [part["fingerprint"] for part in [*mixture.get("parts", ()), *mixture.get("further", ())]]
                if mixture["vocabulary"] == meta["vocabulary"] and meta["fingerprint"] in parts:
                    found.append(name)
    return found


def check_name(name: str) -> None:
    """Raises DataError for a name that no corpus can have."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise DataError(f"a corpus cannot be named {name!r}: use letters, digits, dots, dashes and underscores")
    if name == STDLIB:
        raise DataError(f"a corpus cannot be named {name!r}: that is the text of Python's standard library")


def _named_folder(path: Path) -> str:
    """The folder in the cache that a name stands for; none for a file that says something else."""
    with suppress(OSError, ValueError):
        if path.is_file():
            folder = path.read_text(encoding="utf-8").strip()
            return folder if re.fullmatch(r"[\w-][\w.-]*", folder) else ""
    return ""


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
