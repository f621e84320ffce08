"""How files become documents, and what is said about files that cannot."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.conftest import documents_of

from fairstep.data import DataError
from fairstep.data.documents import find
from fairstep.data.formats import LONG_DOCUMENT, PIECE, cut, read


@given(st.text(alphabet="ab \n", max_size=300), st.integers(1, 20))
def test_pieces_make_up_the_text(text: str, size: int) -> None:
    pieces = list(cut(text, size))
    assert "".join(pieces) == text
    assert all(size <= len(piece) <= 2 * size for piece in pieces[:-1])


def test_pieces_end_at_blank_lines_else_lines_else_words() -> None:
    assert next(cut("one two\nthree\n\nfour five six seven", 10)) == "one two\nthree\n\n"
    assert next(cut("one two three\nfour five six seven", 10)) == "one two three\n"
    assert next(cut("one two three four five six seven", 10)) == "one two three "
    assert next(cut("x" * 30, 10)) == "x" * 10


def test_a_text_file_is_a_document(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("# Title\r\ncafé\r\n", encoding="utf-8", newline="")
    (tmp_path / "a.txt").write_text("\ufefffirst", encoding="utf-8")
    assert documents_of(str(tmp_path / "*")) == [("a.txt#0", "first"), ("b.md#0", "# Title\ncafé\n")]


def test_separator_lines_divide_a_text_file(tmp_path: Path) -> None:
    text = "one\n<|endoftext|>\n\n<|endoftext|>  \ntwo <|endoftext|> in a line\n<|endoftext|>"
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    assert [text for _, text in documents_of(str(tmp_path / "a.txt"))] == ["one\n", "two <|endoftext|> in a line\n"]


def test_json_lines(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps({"id": i, "text": f"text {i}"}) for i in range(3)) + "\n\n"
    (tmp_path / "a.jsonl").write_text(lines, encoding="utf-8")
    (tmp_path / "b.v1.JSONL.gz").write_bytes(gzip.compress(lines.encode()))
    assert [text for _, text in documents_of(str(tmp_path / "*"))] == ["text 0", "text 1", "text 2"] * 2


@pytest.mark.parametrize("paragraph", ["word " * 100 + "\n\n", "word " * 100 + "\n", "word " * 100], ids=len)
def test_a_long_file_is_cut(tmp_path: Path, paragraph: str) -> None:
    text = paragraph * 1_200
    (tmp_path / "a.txt").write_text(text + "\n<|endoftext|>\nshort", encoding="utf-8")
    *pieces, last = read(tmp_path / "a.txt")
    assert last == "short"
    assert "".join(pieces).rstrip("\n") == text.rstrip("\n")
    assert all(PIECE <= len(piece) <= 2 * PIECE for piece in pieces[:-1])
    assert len(text) > 2 * LONG_DOCUMENT


def test_a_long_json_document_is_cut(tmp_path: Path) -> None:
    text = "word " * 100_000
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": text}), encoding="utf-8")
    pieces = list(read(tmp_path / "a.jsonl"))
    assert "".join(pieces) == text
    assert len(pieces) > 30


def test_names_are_relative_and_order_is_fixed(tmp_path: Path) -> None:
    for name in ("z.txt", "sub/a.txt", "sub/deep/b.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name, encoding="utf-8")
    recursive = find(str(tmp_path / "**" / "*.txt"))
    assert [name for name, _ in recursive.files] == ["sub/a.txt", "sub/deep/b.txt", "z.txt"]
    twice = [str(tmp_path / "z.txt"), str(tmp_path / "sub" / ".." / "*.txt"), str(tmp_path / "sub" / "**" / "*.txt")]
    assert find(twice) == recursive
    assert find(str(tmp_path / "z.txt")).name == "z.txt"
    assert recursive.name == tmp_path.name


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a[1].txt").write_text("brackets", encoding="utf-8")
    assert documents_of("~/a[1].txt") == [("a[1].txt#0", "brackets")]
    assert documents_of("~/*.txt") == [("a[1].txt#0", "brackets")]


def test_the_standard_library_is_the_default() -> None:
    stdlib = find(None)
    assert stdlib == find("stdlib") == find(["stdlib"])
    names = [name for name, _ in stdlib.files]
    assert len(names) > 300
    assert {"json/decoder.py", "argparse.py"} <= set(names)
    assert not any("site-packages" in name or "/test/" in name for name in names)
    assert stdlib.python


BINARY = bytes(range(256))
BAD_FILES = {
    "binary.txt": (BINARY, "binary.txt is not text in UTF-8: name text files only"),
    "wide.txt": ("wide".encode("utf-16-le"), "wide.txt is not text .it has zero bytes.: name text files only"),
    "empty.txt": (b"", "empty.txt is empty: name a file with text in it"),
    "number.jsonl": (b'{"text": "a"}\n{"tokens": 3}\n', 'number.jsonl:2 has no text: .* a string in "text"'),
    "list.jsonl": (b"[1]\n", "list.jsonl:1 has no text"),
    "object.jsonl": (
        b'{"text": {"en": "a"}}',
        'object.jsonl:1 has no text: .*a string in "text", and there is an object',
    ),
    "broken.jsonl": (b'{"text": "a"}\n\n{"text": \n', "broken.jsonl:3 is not JSON"),
    "plain.txt.gz": (b"not zipped", "cannot read .*plain.txt.gz: Not a gzipped file"),
    "cut.txt.gz": (gzip.compress(b"text " * 999)[:-12], "cannot read .*cut.txt.gz: "),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_named(tmp_path: Path, name: str) -> None:
    data, message = BAD_FILES[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message) as error:
        documents_of(str(tmp_path / name))
    assert "\n" not in str(error.value)


def test_a_bad_name_is_explained(tmp_path: Path) -> None:
    for source, message in (
        (str(tmp_path / "no.txt"), "no.txt does not exist"),
        ("~nobody-of-that-name/a.txt", "a.txt does not exist"),
        (str(tmp_path / "*.txt"), "no file matches '.*txt'"),
        (str(tmp_path), r"is a folder: name the files in it, for example '.*/\*.txt'"),
        ("/dev/null", "/dev/null is neither a file nor a folder"),
        ("x" * 300, "cannot read x+: File name too long"),
        ([], "no data named"),
        (["stdlib", "a.txt"], "'stdlib' cannot be mixed with files"),
    ):
        with pytest.raises(DataError, match=message):
            find(source)


def test_an_unreadable_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret.txt").write_text("secret", encoding="utf-8")

    def refuse(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)  # a file's mode does not stop an administrator's tests
    with pytest.raises(DataError, match=r"cannot read .*secret\.txt: Permission denied"):
        documents_of(str(tmp_path / "secret.txt"))
