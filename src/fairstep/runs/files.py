"""Reading and writing small files: whole files or nothing, never half a file."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Literal

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No room: on the disk, within a quota, within the size that a file may have."""
CAREFULLY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def write_atomic(path: Path, text: str, durable: bool = True) -> None:
    """Write text so that a reader, or a kill at any moment, sees the old file or the new one.

    ``durable`` waits until the disk has it (milliseconds); a file that can be made again after a power cut need not.
    Raises OSError of the file itself (full disk, read-only folder); the old file is then still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            if durable:
                to_disk(file)
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # a read-only disk refuses this too, by the temporary name
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename:
            raise OSError(error.errno, error.strerror, str(path)) from None  # nobody knows the temporary name
        raise


def to_disk(file: IO[Any]) -> bool:
    """Wait until the disk has all of a file. Where the file system cannot do that (some FUSE and network mounts) the
    answer is False; other errors are raised."""
    file.flush()
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise
        return False
    return True


def sentence_of(error: OSError) -> str:
    """What the system refused, in words: a full disk by that name, else the file and the reason."""
    reason = error.strerror or str(error)
    if error.errno in FULL:
        which = "" if reason == os.strerror(errno.ENOSPC) else f" ({reason})"
        return f"the disk is full{which}; nothing that was finished is lost, make room and run the same command again"
    return f"{reason} ({error.filename})" if error.filename else reason


def open_own(path: Path, mode: Literal["a", "ab"] = "a") -> IO[Any]:
    """Open a file to append to. Raises ValueError for a link or a pipe: a run of somebody else's would otherwise
    have its files be any of ours."""
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | CAREFULLY | os.O_APPEND, 0o666)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):
            raise
    else:
        if stat.S_ISREG(os.fstat(number).st_mode):
            return os.fdopen(number, mode, encoding="utf-8" if mode == "a" else None)
        os.close(number)
    raise ValueError(f"{path} is a link or no file, and a run writes to files of its own: remove it")


def read_bytes(path: Path) -> bytes:
    """The content of a regular file: a pipe or a device would keep its reader waiting. Raises OSError."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "this is no regular file", str(path))
    return path.read_bytes()


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError, also for one that is nested too deeply to be ours."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None


def read_json(path: Path) -> dict[str, Any] | None:
    """The file's JSON object, or None when it is missing, was cut off or holds something else."""
    try:
        return json_object(read_bytes(path))
    except (FileNotFoundError, NotADirectoryError):
        return None


def json_object(text: bytes) -> dict[str, Any] | None:
    """The JSON object that a text is, or None when it was cut off or is something else."""
    try:
        value = parse_json(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def json_rows(text: bytes) -> list[dict[str, Any]]:
    """All whole rows of JSON lines; what follows a line that is no object, as of a kill, is left out."""
    rows: list[dict[str, Any]] = []
    for line in text.splitlines():
        try:
            row = parse_json(line)
        except ValueError:
            break
        if not isinstance(row, dict):
            break
        rows.append(row)
    return rows


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, with dots in the keys."""
    rows: dict[str, Any] = {}
    for key, item in value.items():
        rows |= flat(item, f"{prefix}{key}.") if isinstance(item, Mapping) else {f"{prefix}{key}": item}
    return rows


def digest_of(value: Mapping[str, Any], *parts: bytes) -> str:
    """The SHA-256 of a JSON object, in any order of its keys, and of further bytes. ``digest`` itself is left out."""
    text = json.dumps({key: one for key, one in value.items() if key != "digest"}, sort_keys=True)
    return hashlib.sha256(b"\0".join([text.encode(), *parts])).hexdigest()
