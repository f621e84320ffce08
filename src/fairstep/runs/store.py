"""Store: a folder of runs and of the ledgers that name them. Merging two stores is copying their folders.

STORE/runs/<identity>/...     one run each
STORE/ledgers/<name>.json     which run was spent on which contestant, and why

A packed store (``pack.py``) is read as any other, and never written to.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fairstep.runs.files import read_bytes
from fairstep.runs.ledger import Ledger
from fairstep.runs.run import Run
from fairstep.runs.spec import RunSpec

if TYPE_CHECKING:
    import polars as pl

    from fairstep.runs.pack import Pack


class StoreError(ValueError):
    """The store cannot be used; the message says what, where, and what would be right."""


class Store:
    """Runs under one folder. Nothing is cached: every call reads the files, but a packed store's once."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()

    @cached_property
    def packed(self) -> Pack | None:
        """The content of a packed store; None of any other. Raises StoreError."""
        if not (self.path / "pack.json").is_file():
            return None
        from fairstep.runs.pack import read_pack  # loads polars

        try:
            return read_pack(self.path)
        except (ValueError, OSError) as error:
            raise StoreError(str(error)) from None

    def writable(self) -> Store:
        """Create the folders and prove that they can be written. Raises StoreError."""
        if (self.path / "pack.json").exists():
            raise StoreError(f"the store {self.path} is packed, and no runs are added to it; name another with --store")
        try:
            str(self.path.absolute()).encode()
        except UnicodeEncodeError:
            raise StoreError(
                f"the path of the store {str(self.path)!a} is no UTF-8; name another with --store"
            ) from None
        try:
            for folder in (self.runs_folder, self.ledgers_folder):
                folder.mkdir(parents=True, exist_ok=True)
            probe = self.runs_folder / f".probe-{secrets.token_hex(6)}"
            probe.write_text("")
            probe.unlink()
        except OSError as error:
            raise StoreError(
                f"the store {self.path} cannot be written ({error.strerror}); name a folder that can be with --store"
            ) from None
        return self

    @property
    def runs_folder(self) -> Path:
        return self.path / "runs"

    @property
    def ledgers_folder(self) -> Path:
        return self.path / "ledgers"

    def run(self, spec: RunSpec | str) -> Run:
        """The run of a spec, or of an identity, whether or not it exists yet."""
        identity = spec if isinstance(spec, str) else spec.identity
        return Run(self.runs_folder / identity, self.packed.runs.get(identity) if self.packed else None)

    def runs(self) -> list[Run]:
        """Every run directory, by identity."""
        if self.packed:
            return [self.run(identity) for identity in sorted(self.packed.runs)]
        if not self.runs_folder.is_dir():
            return []
        return [Run(path) for path in _visible(self.runs_folder.iterdir()) if (path / "spec.json").exists()]

    def find(self, name: str) -> Run:
        """The run in a directory of that name, or whose identity begins so. Raises StoreError unless it is one."""
        if (Path(name).expanduser() / "spec.json").exists():
            return Run(Path(name).expanduser())
        found = [run for run in self.runs() if run.id.startswith(name)]
        if len(found) == 1:
            return found[0]
        if found:
            raise StoreError(f"{len(found)} runs of {self.path} begin with {name!r}; give more digits")
        raise StoreError(
            f"{name!r} is neither a run directory nor the beginning of a run's identity in the store {self.path}"
        )

    def ledgers(self) -> list[Ledger]:
        """Every ledger, oldest first. Raises StoreError for one that cannot be read."""
        return [self.ledger_at(path) for path in self.ledger_paths()]

    def readable_ledgers(self) -> list[Ledger]:
        """The ledgers that can be read, oldest first."""
        ledgers = []
        for path in self.ledger_paths():
            with contextlib.suppress(StoreError):
                ledgers.append(self.ledger_at(path))
        return ledgers

    def ledger_paths(self) -> list[Path]:
        """Files of ledgers, oldest first."""
        if self.packed:
            return [self.ledgers_folder / f"{name}.json" for name in self.packed.ledgers]
        return sorted(
            _visible(self.ledgers_folder.glob("*.json")), key=lambda path: (path.lstat().st_mtime_ns, path.name)
        )

    def ledger(self, name: str) -> Ledger | None:
        path = self.ledgers_folder / f"{name}.json"
        known = name in self.packed.ledgers if self.packed else path.exists()
        return self.ledger_at(path) if known else None

    def write_ledger(self, ledger: Ledger) -> None:
        ledger.write(self.ledgers_folder / f"{ledger.name}.json")

    def ledger_bytes(self, path: Path) -> bytes:
        """The content of one of ``ledger_paths``. Raises OSError."""
        return self.packed.ledgers[path.stem] if self.packed else read_bytes(path)

    def ledger_at(self, path: Path) -> Ledger:
        """The ledger in one of ``ledger_paths``. Raises StoreError."""
        try:
            return Ledger.parse(self.ledger_bytes(path))
        except (ValueError, OSError) as error:
            newer = "newer fairstep" in str(error)
            remedy = (
                "upgrade fairstep, or name another folder with --store"
                if newer
                else "remove it, and the same command writes it again from the runs"
            )
            raise StoreError(f"the ledger {path} cannot be read: {error}; {remedy}") from None

    def table(self, runs: Iterable[Run] | None = None) -> pl.DataFrame:
        """One row per run (see ``RUN_COLUMNS`` in table.py); runs whose spec cannot be read are left out."""
        from fairstep.runs.table import run_table

        return run_table(self.runs() if runs is None else runs)


def _visible(paths: Iterable[Path]) -> list[Path]:
    """In order of their names, without the ones that other programs hide (._x.json of macOS, .nfs0001)."""
    return sorted(path for path in paths if not path.name.startswith("."))
