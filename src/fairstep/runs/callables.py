"""Functions that a spec names: ``package.module:function`` or ``path/file.py:function``, and the files of their code.

A trainer is such a function, and so is a model's factory. A spec holds the path and the folder that it is relative to,
because a worker may start elsewhere.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from fairstep.runs.frozen import SpecError

INSTALLED = {"site-packages", "dist-packages"}


class NotFoundError(SpecError):
    """A path names no function; one sentence."""


def load(path: str, directory: str = "", what: str = "function") -> Callable[..., Any]:
    """The function of a path. ``what`` it is in messages. Raises NotFoundError; what the module's own code raises goes
    through."""
    place, _, name = path.rpartition(":")
    if directory and directory not in sys.path:
        sys.path.insert(0, directory)
    if place.endswith(".py"):
        module = _module_of(file_of(path, directory, what), what)
    else:
        try:
            module = importlib.import_module(place)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{place}.".startswith(f"{error.name}."):
                raise
            raise NotFoundError(f"the {what} {path} is not found: there is no module {error.name}") from None
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise NotFoundError(f"the {what} {path} is not found: {place} has no function {name}")
    return found


def file_of(path: str, directory: str = "", what: str = "function") -> Path:
    """The file that a function is in. Raises NotFoundError."""
    place = path.rpartition(":")[0]
    if place.endswith(".py"):
        file = Path(directory, place).resolve()
        if not file.is_file():
            raise NotFoundError(f"the {what} {path} is not found: there is no file {file}")
        return file
    if directory and directory not in sys.path:
        sys.path.insert(0, directory)
    try:
        described = importlib.util.find_spec(place)
    except (ModuleNotFoundError, ValueError):
        described = None
    if described is None or described.origin is None:
        raise NotFoundError(f"the {what} {path} is not found: there is no module {place}")
    return Path(described.origin).resolve()


def root_of(path: str, file: Path) -> Path:
    """The folder from which a function's module and its neighbours are imported."""
    place = path.rpartition(":")[0]
    above = 0 if place.endswith(".py") else place.count(".") + (file.name == "__init__.py")
    return file.parents[above]


def sources(file: Path, root: Path) -> list[str]:
    """The file and every file below ``root`` that it imports, directly or by way of others, relative to ``root``.

    Imports inside functions count. Of an installed package its own files count, and no other package's.
    """
    first = file.relative_to(root).parts[0].removesuffix(".py")
    found: set[Path] = set()
    ahead = [file]
    while ahead:
        path = ahead.pop()
        if path in found:
            continue
        found.add(path)
        for name in _imported(path, root):
            if not INSTALLED & set(root.parts) or name.partition(".")[0] == first:
                ahead += _files(name, root)
    return sorted(str(path.relative_to(root)) for path in found)


def _module_of(file: Path, what: str) -> ModuleType:
    """The module of a file. One that was edited since is another module."""
    content = hashlib.sha256(str(file).encode() + file.read_bytes()).hexdigest()[:8]
    name = f"_fairstep_{what}_{file.stem}_{content}"
    if name in sys.modules:
        return sys.modules[name]
    described = importlib.util.spec_from_file_location(name, file, loader=_FromSource(name, str(file)))
    assert described is not None
    assert described.loader is not None
    module = importlib.util.module_from_spec(described)
    sys.modules[name] = module
    try:
        described.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class _FromSource(importlib.machinery.SourceFileLoader):
    """Without cached bytecode, which goes by size and second of its source: an edit may change neither."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def _imported(path: Path, root: Path) -> Iterator[str]:
    """Modules, and names in modules, that a file imports. A file that is no Python imports nothing."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    package = path.relative_to(root).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}".strip(".") for alias in node.names)


def _files(name: str, root: Path) -> Iterator[Path]:
    """Files of ours that are loaded for a module's name: its packages and itself."""
    place = root
    for part in name.split("."):
        place = place / part
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file():
                yield file
