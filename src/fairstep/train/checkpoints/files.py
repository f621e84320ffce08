"""The files of a checkpoint: torch.distributed.checkpoint's (DCP), with checksums, and whole or not there at all.

``step-00000120/`` has one file of DCP per rank, and its ``.metadata``, which says where every tensor lies. Beside them
``checkpoint.json`` has the SHA-256 of each file, the format, the facts of a run that are no tensors, and its own
digest. DCP writes into ``step-00000120.unfinished/``; the first rank renames the folder when all ranks have written.

Only tensors and plain values are ever unpickled. DCP's own reader would take anything.

Loading this module loads DCP, which takes a second: it is imported where a checkpoint is written or read.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex, TensorStorageMetadata
from torch.distributed.checkpoint.planner import LoadPlan, ReadItem, SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from fairstep.runs import to_disk

FORMAT = 3
"""Version of a checkpoint; a reader refuses a higher one instead of guessing. From 3 on the facts have a digest."""

FACTS = "checkpoint.json"
UNFINISHED = ".unfinished"


def write(place: Path, state: dict[str, Any], facts: Mapping[str, Any], group: dist.ProcessGroup | None) -> None:
    """Write the state of all ranks of a group, or of one process, and what the first of them knows.

    Raises OSError, on every rank alike, if one could not write its file; nothing is left of it then.
    """
    try:
        _together(
            "write",
            group,
            lambda: dcp.save(state, storage_writer=_Writer(place, facts), process_group=group, no_dist=group is None),
        )
    except Exception:
        if group is None or dist.get_rank(group) == 0:  # nobody is writing any more
            shutil.rmtree(place.with_suffix(UNFINISHED), ignore_errors=True)
        raise


def facts_of(place: Path) -> dict[str, Any]:
    """What a checkpoint says of itself. Raises ValueError with one sentence for what this version cannot read."""
    try:
        facts = json.loads((place / FACTS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{place.name} is not a checkpoint of fairstep: it has no {FACTS}") from None
    except (ValueError, RecursionError, OSError) as error:
        raise ValueError(f"{place.name} cannot be read ({FACTS}: {error})") from None
    if not isinstance(facts, dict) or type(facts.get("format")) is not int:
        raise ValueError(f"{place.name} is not a checkpoint of fairstep: its {FACTS} is something else")
    if facts["format"] > FORMAT:
        raise ValueError(f"{place.name} has format {facts['format']}; this version reads up to {FORMAT}")
    if (facts["format"] > 2 or "digest" in facts) and facts.pop("digest", "") != _digest_of(facts):
        raise ValueError(f"{place.name} is damaged (digest of {FACTS})")
    if type(facts.get("step")) is not int or place.name != f"step-{facts['step']:08d}":
        raise ValueError(f"{place.name} is damaged ({FACTS} is of step {facts.get('step')!r:.20})")
    sums = facts.get("checksums")
    if not isinstance(sums, dict) or ".metadata" not in sums or not all(isinstance(v, str) for v in sums.values()):
        raise ValueError(f"{place.name} is damaged ({FACTS} has no checksums)")
    return facts


def check(place: Path, facts: Mapping[str, Any], rank: int = 0, size: int = 1) -> None:
    """Compare a rank's share of the files with their checksums. Raises ValueError if one is missing or damaged."""
    for name in sorted(facts["checksums"])[rank::size]:
        path = place / name
        if path.is_symlink() or path.name != name or (path.exists() and not path.is_file()):
            raise ValueError(f"{place.name} is damaged ({name!r:.60} is no file of it)")
        try:
            found = _digest(path)
        except FileNotFoundError:
            raise ValueError(f"{place.name} is incomplete: {name} is missing") from None
        if found != facts["checksums"][name]:
            raise ValueError(f"{place.name} is damaged (checksum of {name})")


def described(place: Path) -> dict[str, Any]:
    """The saved state without its content: tensors on the meta device, None for what is no tensor."""
    metadata = _Reader(place).read_metadata()
    state: dict[str, Any] = {}
    for key, path in metadata.planner_data.items():
        entry, inner = metadata.state_dict_metadata[key], state
        for step in path[:-1]:
            inner = inner.setdefault(step, {})
        inner[path[-1]] = None
        if isinstance(entry, TensorStorageMetadata):
            inner[path[-1]] = torch.empty(entry.size, dtype=entry.properties.dtype, device="meta")
    return state


def fill(place: Path, state: dict[str, Any], group: dist.ProcessGroup | None) -> None:
    """Read into the tensors of a nested state, and replace what is None. Each rank reads what overlaps with its own.

    Raises ValueError, on every rank alike, if the checkpoint has other keys or shapes.
    """
    _together(
        "read",
        group,
        lambda: dcp.load(
            state, storage_reader=_Reader(place), planner=_Planner(), process_group=group, no_dist=group is None
        ),
    )


def _together(verb: str, group: dist.ProcessGroup | None, work: Callable[[], object]) -> None:
    """Have all ranks write or read. Raises one of the errors that DCP has collected from the ranks."""
    warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # DCP's word on one process
    try:
        work()
    except CheckpointException as collected:
        rank, (error, _) = next(iter(collected.failures.items()))
        if group is not None and isinstance(error, OSError):
            said = f"process {rank} could not {verb} its part of the checkpoint: {error.strerror or error}"
            raise type(error)(error.errno, said) from None
        raise error from None


class _Writer(dcp.FileSystemWriter):
    """Has every rank find the checksum of what it wrote, and the first one tell them and name the checkpoint."""

    def __init__(self, place: Path, facts: Mapping[str, Any]) -> None:
        super().__init__(place.with_suffix(UNFINISHED), sync_files=_can_sync(place.parent))
        self.place, self.facts = place, facts

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        try:
            written = super().write_data(plan, planner).value()
        except RuntimeError as error:  # torch's own writer hides the system's error behind one of its own
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        names = sorted({result.storage_data.relative_path for result in written})
        sums = [WriteResult(MetadataIndex(name), 0, _digest(Path(self.path) / name)) for name in names]
        future: Future[list[WriteResult]] = Future()
        future.set_result([*written, *sums])
        return future

    def storage_meta(self) -> None:
        """Nothing: it would be the path on this machine of a folder that gets another name."""

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """On the first rank, when all have written."""
        sums = {r.index.fqn: r.storage_data for own in results for r in own if isinstance(r.storage_data, str)}
        super().finish(metadata, [[r for r in own if not isinstance(r.storage_data, str)] for own in results])
        folder = Path(self.path)
        sums[".metadata"] = _digest(folder / ".metadata")
        with (folder / FACTS).open("w", encoding="utf-8") as file:
            content = json.loads(json.dumps({"format": FORMAT, **self.facts, "checksums": sums}))
            json.dump(content | {"digest": _digest_of(content)}, file, indent=1)
            to_disk(file)
        if self.place.exists():  # one that could not be used
            shutil.rmtree(self.place)
        folder.rename(self.place)


class _Reader(dcp.FileSystemReader):
    """Takes DCP's metadata for what it is and nothing else."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        with (Path(self.path) / ".metadata").open("rb") as file:
            metadata: Metadata = _Plain(file).load()
        return metadata


class _Planner(dcp.DefaultLoadPlanner):
    """Takes no values but plain ones."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        try:
            torch.load(value, weights_only=True)
        except pickle.UnpicklingError:
            name = read_item.dest_index.fqn
            raise ValueError(f"the checkpoint has a {name} that is more than plain values, and is not read") from None
        value.seek(0)
        super().load_bytes(read_item, value)

    def create_local_plan(self) -> LoadPlan:
        """Raises ValueError instead of RuntimeError for a key that the checkpoint does not have."""
        assert self.metadata is not None
        for key in self.state_dict:
            if key not in self.metadata.state_dict_metadata:
                raise ValueError(f"the checkpoint is of another model or optimizer: it has no {key}")
        return super().create_local_plan()


class _Plain(pickle.Unpickler):
    """Of the classes that a pickle names, DCP's descriptions alone."""

    KNOWN = frozenset(
        {("torch", "Size"), ("torch.serialization", "_get_layout")}
        | {("torch.distributed.checkpoint.filesystem", "_StorageInfo")}
        | {
            ("torch.distributed.checkpoint.metadata", name)
            for name in (
                *("Metadata", "MetadataIndex", "BytesStorageMetadata"),
                *("TensorStorageMetadata", "TensorProperties", "ChunkStorageMetadata", "_MEM_FORMAT_ENCODING"),
            )
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("builtins", "getattr"):  # how Python 3.11.0 to 3.11.3 write a member of an enumeration
            return _member
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if not is_dtype and (module, name) not in self.KNOWN:
            raise ValueError(f"the checkpoint's metadata asks for {module}.{name}, which is not of it")
        return super().find_class(module, name)


def _member(kind: Any, name: str) -> Any:
    """The member of an enumeration. Raises ValueError for anything else that could be asked for."""
    if not (isinstance(kind, type) and issubclass(kind, Enum) and name in kind.__members__):
        raise ValueError(f"the checkpoint's metadata asks for {name} of {kind!r}, which is not of it")
    return kind[name]


def _digest_of(facts: Mapping[str, Any]) -> str:
    """SHA-256 of facts in one form, whatever the file's layout."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _can_sync(folder: Path) -> bool:
    """Whether the file system can be asked to have a file on the disk."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile("w", dir=folder) as file:
        return to_disk(file)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
