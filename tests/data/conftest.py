"""Small texts for the tests of the data room."""

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from fairstep.data.documents import find
from fairstep.data.formats import PLAIN, Form
from fairstep.data.survey import read_unit

SYLLABLES = "ba co di fu ga he il jo ka lu me no or pe qui ra se ti un va we xo yu za"


def written(seed: int, characters: int = 2_000) -> str:
    """A text of its own for each seed: words of a small language, in paragraphs."""
    draw = random.Random(seed)
    text = f"Text {seed}.\n"
    while len(text) < characters:
        line = ("".join(draw.choices(SYLLABLES.split(), k=draw.randint(1, 3))) for _ in range(12))
        text += " ".join(line) + (".\n\n" if draw.random() < 0.3 else "\n")
    return text


def documents_of(source: str | Sequence[str], form: Form = PLAIN) -> list[tuple[str, str]]:
    """All documents of a source as (name, text), as a worker reads them, blank ones left out."""
    files = [(name, str(path)) for name, path in find(source, form).files]
    return [(name, text) for name, text in read_unit({"files": files, "form": asdict(form)}) if text]


@pytest.fixture
def prose() -> Callable[[int], str]:
    return written


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of this test, by the environment as a trial process would find it."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("FAIRSTEP_CACHE", str(folder))
    return folder


@pytest.fixture
def texts(tmp_path: Path) -> Callable[..., str]:
    """Write `count` documents as files of a folder; the glob that matches them."""

    def write(count: int = 40, folder: str = "texts", characters: int = 2_000) -> str:
        (tmp_path / folder).mkdir()
        for seed in range(count):
            (tmp_path / folder / f"{seed:03}.txt").write_text(written(seed, characters), encoding="utf-8")
        return str(tmp_path / folder / "*.txt")

    return write
