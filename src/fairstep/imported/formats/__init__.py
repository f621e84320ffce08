"""One file a format. A format is a module here with three names, and no other file knows it:

* ``KIND``: what it is called, in words;
* ``claims(path) -> bool``: whether a file, or a folder as a whole, is of this format, by its name and its first bytes;
* ``read(path) -> list[Source]``: raises InputError.

The modules are asked in the order of their names.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from types import ModuleType


@functools.cache
def formats() -> dict[str, ModuleType]:
    """Name -> module, of all formats."""
    return {
        found.name: importlib.import_module(f"{__name__}.{found.name}")
        for found in sorted(pkgutil.iter_modules(__path__), key=lambda found: found.name)
    }
