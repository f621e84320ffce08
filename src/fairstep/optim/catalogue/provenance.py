"""Which code a foreign optimizer is: the version of its distribution, or a hash of its source.

A run's numbers depend on the code, so the version is part of a run's identity: an edited file makes another run.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from importlib import metadata
from pathlib import Path


@functools.cache
def version_of(module: str) -> str:
    """'pytorch-optimizer 4.1.0' of an installed module; 'mypackage, source 0123456789ab' of anything else.

    The hash covers every Python file of the module's top-level package (the one file of a module without a package),
    because an optimizer may rest on its neighbours. The installed packages that it imports in turn are not covered.
    """
    top = module.partition(".")[0]
    file = getattr(sys.modules[module], "__file__", None) or ""
    if {"site-packages", "dist-packages"} & set(Path(file).parts):
        for name in metadata.packages_distributions().get(top, []):
            return f"{name} {metadata.version(name).partition('+')[0]}"
    # The folder is found from the file: `__path__` of a package without __init__.py is whatever sys.path holds by then.
    above = module.count(".") - (Path(file).name != "__init__.py")
    package = Path(file).parents[above] if above >= 0 else None
    files = sorted(package.rglob("*.py")) if package and package.name == top else [Path(file)] * bool(file)
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{top}, source {digest.hexdigest()[:12]}"
