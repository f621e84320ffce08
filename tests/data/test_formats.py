"""The same texts under every name, layout and compression that people have are the same corpus, or are refused."""

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import zstandard
from tests.data.conftest import documents_of

from fairstep.data import DataError, prepare
from fairstep.data import rows as rows_module
from fairstep.data.documents import find
from fairstep.data.formats import Form

Prose = Callable[[int], str]
COUNT = 200


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    """200 documents with quotes, commas, line ends and other languages in them."""
    return [
        {"id": n, "text": f'Document {n}, "quoted"; a tab\there\nand a line: 你好 é {"word " * (n % 7)}', "url": "x"}
        for n in range(COUNT)
    ]


def table(rows: list[dict[str, Any]], delimiter: str = ",") -> bytes:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def layouts(rows: list[dict[str, Any]]) -> dict[str, bytes]:
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    array = json.dumps(rows, ensure_ascii=False).encode()
    parquet = io.BytesIO()
    pl.DataFrame(rows).write_parquet(parquet)
    frames = zstandard.ZstdCompressor()
    middle = lines.index(b"\n", len(lines) // 2) + 1
    return {
        "good.jsonl": lines,
        "part.json": lines,
        "part.ndjson": lines,
        "part.jsonlines": lines,
        "part.JSONL": lines,
        "bom.json": b"\xef\xbb\xbf" + lines,
        "no-end.jsonl": lines.rstrip(),
        "crlf.jsonl": lines.replace(b"\n", b"\r\n"),
        "c4-train.00000-of-01024.json.gz": gzip.compress(lines),
        "members.jsonl.gz": gzip.compress(lines[:middle]) + gzip.compress(lines[middle:]),
        "part.jsonl.bz2": bz2.compress(lines),
        "part.jsonl.xz": lzma.compress(lines),
        "part.json.zst": frames.compress(lines),
        "frames.jsonl.zst": frames.compress(lines[:middle]) + frames.compress(lines[middle:]),
        "packed.json": gzip.compress(lines),
        "array.json": array,
        "array.jsonl": array,
        "array.json.gz": gzip.compress(array),
        "indented.json": json.dumps(rows, indent=2).encode(),
        "objects.json": "".join(json.dumps(row, indent=1) for row in rows).encode(),
        "a.csv": table(rows),
        "semicolons.csv": table(rows, ";"),
        "a.tsv": table(rows, "\t"),
        "a.csv.gz": gzip.compress(table(rows)),
        "bom.csv": b"\xef\xbb\xbf" + table(rows),
        "a.parquet": parquet.getvalue(),
        "a.pq": parquet.getvalue(),
        "part-0": parquet.getvalue(),
    }


NAMES = list(layouts([{"id": 0, "text": "a\nb", "url": "x"}] * 2))


@pytest.mark.parametrize("name", NAMES)
def test_every_name_and_layout_is_the_same_corpus(
    name: str, rows: list[dict[str, Any]], tmp_path: Path, cache: Path
) -> None:
    expected = sorted(row["text"] for row in rows)
    path = tmp_path / name
    path.write_bytes(layouts(rows)[name])
    assert sorted(text for _, text in documents_of(str(path))) == expected
    corpus = prepare(str(path), tokenizer="bytes")
    assert corpus.documents == COUNT
    (tmp_path / "reference.jsonl").write_bytes(layouts(rows[::-1])["good.jsonl"])
    reference = prepare(str(tmp_path / "reference.jsonl"), tokenizer="bytes", cache=tmp_path / "other")
    assert reference.fingerprint == corpus.fingerprint
    np.testing.assert_array_equal(np.asarray(reference.train()), np.asarray(corpus.train()))


def test_large_arrays_are_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{n} " * 400 for n in range(300)]
    (tmp_path / "a.json").write_text(json.dumps([{"text": text} for text in texts]), encoding="utf-8")
    monkeypatch.setattr(rows_module, "HEAD", 1_000)
    assert [text for _, text in documents_of(str(tmp_path / "a.json"))] == texts


LINE = json.dumps({"text": "a document", "body": "b"}) + "\n"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", LINE * 3, r"a\.txt begins like JSON and is called a plain text: give it a name that ends in \.json"),
        ("part-00000", LINE * 3, "begins like JSON"),
        ("a.txt.gz", gzip.compress(LINE.encode() * 3), "begins like JSON"),
        ("a.txt", "[" + LINE + "," + LINE + "]", "begins like JSON"),
        ("a.txt", json.dumps({"text": "a"}, indent=2), "begins like JSON"),
        ("a.txt", json.dumps({"content": "a"}) + "\n", "begins like JSON"),
        ("a.txt", "id,text\n1,a\n2,b\n", r"begins like CSV .* --format csv. or --format text"),
        ("a.json", '{"a": {"text": "b"}}', r"a\.json:1 has no text.* it has no column of text"),
        ("a.json", "[" + LINE, r"ends in the middle of its array: fetch it again"),
        ("a.json", "[" + LINE + "] more", "has more behind the end of its array"),
        ("a.json", "[" + LINE + ', {"text": 3}]', r"a\.json:2 has no text.* and there is a number"),
        ("a.jsonl", LINE + '{"content": "c", "id": 3}\n', r"jsonl:2 has no text.* its columns of text are content"),
        ("a.jsonl", LINE + "[" * 100_000 + "\n", r"a\.jsonl:2 is not JSON \(it is nested too deeply\)"),
        ("a.json", '[{"a": ' + "[" * 100_000, r"a\.json:1 is not JSON \(it is nested too deeply\)"),
        ("a.csv", "id,body\n1,a\n", r"has no column 'text' in its first line; its columns of text are id, body"),
        ("a.csv", "id,text\n1,a,b\n", r"a\.csv:2 has 3 fields and the first line 2: put quotes around"),
        ("a.csv", 'id,text\n1,"a\n', r"a\.csv:\d is no row of a table \(unexpected end of data\)"),
        ("a.csv", "text,text\na,b\n", "has 2 columns called 'text'"),
        ("a.tar.gz", gzip.compress(b"a.txt".ljust(257, b"\0") + b"ustar\0" + bytes(300)), "is a tar archive"),
        ("a.zip", b"PK\x03\x04 and more", "is a zip archive: unpack it"),
        ("a.txt", b"\x04\x22\x4d\x18 and more", "is compressed with lz4: unpack it"),
        ("a.jsonl.bz2", b"no bzip2", "cannot read .*: Invalid data stream"),
        ("a.jsonl.xz", b"no xz at all", "cannot read .*Input format not supported"),
        ("a.jsonl.bz2", bz2.compress(LINE.encode() * 99)[:-9], "cannot read .*ended before the end-of-stream marker"),
        ("a.jsonl.zst", zstandard.compress(LINE.encode() * 99)[:-9], "cannot read .* ends in the middle"),
        ("a.npy", "text", "is not text by its name: of token files only"),
        ("a.arrow", "text", "save it as parquet"),
        ("a.txt", "caf\xe9".encode("latin-1"), r"is not text in UTF-8: .* --encoding latin-1"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isprintable() and len(value) < 60 else "data",
)  # fmt: skip
def test_what_cannot_be_read_as_it_is_named_is_questioned(
    tmp_path: Path, name: str, data: str | bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(data.encode() if isinstance(data, str) else data)
    with pytest.raises(DataError, match=message) as error:
        documents_of(str(tmp_path / name))
    assert "\n" not in str(error.value)


def test_a_format_can_be_insisted_on(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(LINE * 2, encoding="utf-8")
    texts = {
        name: [text for _, text in documents_of(str(tmp_path / "a.txt"), Form(format=name))]
        for name in ("json", "text")
    }
    assert texts == {"json": ["a document"] * 2, "text": [LINE * 2]}
    for form, message in ((Form(format="xml"), "format 'xml' is not known"), (Form(encoding="x"), "encoding 'x' is")):
        with pytest.raises(DataError, match=message):
            form.check()


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "cp1252"])
def test_other_encodings(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_bytes("café\n".encode(encoding))
    (tmp_path / "b.jsonl").write_bytes('{"text": "é"}\n'.encode(encoding))
    (tmp_path / "c.csv").write_bytes("text\né\n".encode(encoding))
    found = [text for _, text in documents_of(str(tmp_path / "*"), Form(encoding=encoding))]
    assert found == ["café\n", "é", "é"]


def test_a_line_that_takes_all_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "LONGEST_VALUE", 10_000)
    long = '{"text": "' + "a" * 300_000 + '"}'
    for name, data, message in (
        (
            "a.jsonl.zst",
            zstandard.compress((LINE + long).encode()),
            r"a\.jsonl\.zst:2 is longer than 10,000 characters",
        ),
        ("a.json", f"[{long}]".encode(), r"a\.json:1 begins a value of more than 10,000 characters"),
        ("a.csv", b'text\n"' + b"a\n" * 10_000 + b'"\n', r"a\.csv:\d+ is no row of a table \(field larger"),
        ("b.csv", b"text\n" + b"a" * 20_000, r"b\.csv:2 is longer than 10,000 characters"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=message):
            documents_of(str(tmp_path / name))


def test_texts_without_text_are_counted_alike(tmp_path: Path, cache: Path, prose: Prose) -> None:
    texts: list[str | None] = [prose(seed) for seed in range(30)]
    texts[3:3] = [None, "", " \n"]
    rows = [{"text": text, "id": n} for n, text in enumerate(texts)]
    pl.DataFrame(rows).write_parquet(tmp_path / "a.parquet")
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "c.json").write_text(json.dumps(rows), encoding="utf-8")
    (tmp_path / "d.csv").write_bytes(table(rows))
    (tmp_path / "e.txt").write_text("\n<|endoftext|>\n".join(text or "" for text in texts), encoding="utf-8")
    found = [
        prepare(str(path), tokenizer="bytes", cache=tmp_path / path.suffix) for path in sorted(tmp_path.glob("*.*"))
    ]
    assert [(corpus.documents, corpus.source["blank"]) for corpus in found] == [(30, 3)] * 5
    assert len({corpus.fingerprint for corpus in found[:4]}) == 1
    (tmp_path / "none.jsonl").write_text('{"text": null}\n' * 5, encoding="utf-8")
    with pytest.raises(DataError, match=r"nothing to read in none\.jsonl: it is empty or white space \(5 texts\)"):
        prepare(str(tmp_path / "none.jsonl"))


def test_line_ends(tmp_path: Path) -> None:
    """Those of a plain text become \\n; a value keeps its own."""
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo\r\n")
    (tmp_path / "b.csv").write_bytes(b'text\r\n"one\r\ntwo"\r\n')
    (tmp_path / "c.jsonl").write_bytes(b'{"text": "one\\r\\ntwo"}\r\n')
    assert [text for _, text in documents_of(str(tmp_path / "*"))] == ["one\ntwo\n", "one\r\ntwo", "one\r\ntwo"]


def test_a_folder_with_brackets(tmp_path: Path) -> None:
    (tmp_path / "run[1]").mkdir()
    (tmp_path / "run[1]" / "a.txt").write_text("text", encoding="utf-8")
    with pytest.raises(DataError, match=r"in a pattern \[ and \] stand for one of the characters") as error:
        find(str(tmp_path / "run[1]" / "*.txt"))
    assert str(tmp_path / "run[[]1]" / "*.txt") in str(error.value)
    assert len(find(str(tmp_path / "run[[]1]" / "*.txt")).files) == 1
