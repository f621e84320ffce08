"""The bytes of a file, whatever it is compressed with.

gzip, bzip2, xz and zstd are known by the end of the name, and by the first bytes under any other name. Archives of
several files and other compressions are refused: their bytes would be taken for text. A file that ends in the middle of
its compressed data is refused too, in every format alike.
"""

import bz2
import gzip
import io
import lzma
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any

from fairstep.data.errors import DataError, needs_extra

ENDINGS = {
    **dict.fromkeys((".gz", ".gzip"), "gzip"),
    **dict.fromkeys((".bz2", ".bz", ".bzip2"), "bzip2"),
    **dict.fromkeys((".xz", ".lzma"), "xz"),
    **dict.fromkeys((".zst", ".zstd"), "zstd"),
}
_MAGIC = {
    "gzip": rb"\x1f\x8b\x08",
    "bzip2": rb"BZh[1-9]1AY&SY",
    "xz": rb"\xfd7zXZ\0",
    "zstd": rb"(\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18)",
}
_REFUSED = {
    "a zip archive": rb"PK(\x03\x04|\x05\x06)",
    "a 7z archive": rb"7z\xbc\xaf\x27\x1c",
    "a rar archive": rb"Rar!\x1a\x07",
    "compressed with lz4": rb"\x04\x22\x4d\x18",
    "compressed with snappy": rb"\xff\x06\x00\x00sNaPpY",
    "compressed with compress": rb"\x1f\x9d",
    "a tar archive": rb"(?s).{257}ustar",
}
HEAD = 1 << 16  # bytes that can be looked at before they are read
_CHUNK = 2_048  # compressed bytes of zstd unpacked at once: its ratio is below 33,000, so this is 64 MB at most


@contextmanager
def unpacked(path: Path) -> Iterator[Any]:
    """The bytes of a file without its compression, with ``peek``. Raises DataError, OSError, EOFError."""
    with path.open("rb", buffering=HEAD) as raw:
        kind = _compression(path, raw)
        if kind == "zstd":
            with needs_extra("data", f"reading {path.name}"):
                import zstandard
            broken: type[Exception] = zstandard.ZstdError
        else:
            broken = lzma.LZMAError
        try:
            with _OPENERS[kind](raw) as file:
                if kind:
                    _refuse_archive(path, file.peek(512)[:512])
                yield file
        except broken as error:
            raise DataError(f"cannot read {path}: {error}") from None


def _compression(path: Path, raw: IO[bytes]) -> str:
    """gzip, bzip2, xz, zstd, or nothing."""
    head = raw.read(512)
    raw.seek(0)
    _refuse_archive(path, head)
    if known := ENDINGS.get(path.suffix.lower()):
        return known
    return next((name for name, magic in _MAGIC.items() if re.match(magic, head)), "")


def _refuse_archive(path: Path, head: bytes) -> None:
    for what, magic in _REFUSED.items():
        if re.match(magic, head):
            raise DataError(f"{path} is {what}: unpack it and name the files in it")


class _Zstd(io.RawIOBase):
    """Frames of zstd, one behind the other. The library's own reader takes a file that is cut short for whole."""

    def __init__(self, raw: IO[bytes]) -> None:
        import zstandard

        self._raw, self._unpacker = raw, zstandard.ZstdDecompressor(max_window_size=2**31)
        self._frame: Any = None
        self._packed, self._ready = b"", memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            packed = self._packed or self._raw.read(_CHUNK)
            if not packed:
                if self._frame is not None:
                    raise EOFError("the file ends in the middle of its compressed data")
                return 0
            self._frame = self._frame or self._unpacker.decompressobj()
            self._ready = memoryview(self._frame.decompress(packed))
            self._packed = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = None
        size = min(len(buffer), len(self._ready))
        buffer[:size], self._ready = self._ready[:size], self._ready[size:]
        return size


_OPENERS: dict[str, Callable[[Any], Any]] = {
    "": nullcontext,
    "gzip": lambda raw: gzip.GzipFile(fileobj=raw),
    "bzip2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
    "zstd": lambda raw: io.BufferedReader(_Zstd(raw), HEAD),
}
