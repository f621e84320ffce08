"""Compressed tables: gzip, bzip2, xz and zstd (extra data), known by the end of the name."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path

from fairstep.imported.source import InputError, need

PACKED = (".gz", ".bz2", ".xz", ".zst")


def inner_suffix(path: Path) -> str:
    """``.csv`` of results.csv and of results.csv.gz, in lower case."""
    *_, before, last = ("", "", *path.suffixes)
    return (before if last.lower() in PACKED else last).lower()


def unpacked(path: Path) -> Path | bytes:
    """The path itself, or the bytes that its compression holds. Raises InputError."""
    suffix = path.suffix.lower()
    if suffix not in PACKED:
        return path
    unpackers: dict[str, Callable[[bytes], bytes]] = {
        ".gz": gzip.decompress,
        ".bz2": bz2.decompress,
        ".xz": lzma.decompress,
    }
    data = path.read_bytes()
    try:
        return unpackers[suffix](data) if suffix in unpackers else _zstd(path, data)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise InputError(f"{path} cannot be unpacked: {error}; it is cut short, or not what {suffix} says") from None


def _zstd(path: Path, data: bytes) -> bytes:
    try:
        import zstandard
    except ImportError:
        raise need("zstandard", "data", path) from None
    try:
        with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
            return bytes(reader.read())
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None
