"""Words that nobody should type, stores that anybody has changed, and names that somebody has made up."""

from __future__ import annotations

import csv
import io
import random
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from tests.cli.test_wrong_inputs import READERS, answer, typed
from tests.conftest import FakeContest, fill_demo
from tests.faults.conftest import SEED
from tests.runs.mutations import mutate
from tests.runs.test_checks import sealed, silent

from fairstep.cli import compare, data, train
from fairstep.cli.shared import texts
from fairstep.cli.study import run as study_run
from fairstep.runs import Store

__all__ = ["sealed"]

NAMES = (
    "<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "</script><b>", "javascript:alert(1)", "%{y}<br>",
    "\x1b]0;owned\x07", "\x9b31m", "a\u202eb", "a\nb", "a\r=1+1", "=cmd|' /C calc'!A0", "+1", "-1+1", "@SUM(1)", "\t=1",
    "../../x", "..", "/etc/passwd", "\\input{x}", "$x^2_%&#~", "x" * 3000, "é" * 200,
)  # fmt: skip
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    return tmp_path


def plain(code: int, said: str) -> bool:
    return code in (0, 1, 2) and "Traceback" not in said and "this is a bug" not in said


def test_typed_words(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tally: Any
) -> None:
    def nothing(*arguments: object, **options: object) -> None:
        raise ValueError("this input would have trained")

    monkeypatch.setattr(texts, "prepare", nothing)
    monkeypatch.setattr(compare, "run_study", nothing)
    monkeypatch.setattr(train, "prepared", nothing)
    monkeypatch.setattr(study_run, "run_study", nothing)
    monkeypatch.setattr(data, "prepare", nothing)
    contest = FakeContest(elsewhere / "store")
    fill_demo(contest)
    contest.store.write_ledger(contest.ledger)
    (elsewhere / "t.txt").write_text("hello world\n" * 100)
    (elsewhere / "x.csv").write_text("optimizer,seed,loss\nadamw,1,3.0\nadamw,2,3.1\nmuon,1,2.9\nmuon,2,2.95\n")
    (elsewhere / "s.toml").write_text(
        'name = "s"\n[[cells]]\nmodel = "27k"\ntokens = "30k"\n[[contestants]]\noptimizer = ["adamw", "muon"]\n'
    )
    wrong = []
    for seed in range(500):
        arguments = typed(random.Random(f"{SEED} {seed}"))
        if not plain(*answer(arguments, capsys)):
            wrong.append(arguments)
    print(*wrong, sep="\n")
    tally("wrong words on the command line", 500, 500 - len(wrong), 0)


def test_changed_stores(elsewhere: Path, capsys: pytest.CaptureFixture[str], tally: Any) -> None:
    contest, wrong = FakeContest(elsewhere / "whole"), []
    fill_demo(contest)
    contest.store.write_ledger(contest.ledger)
    for seed in range(1000 * SEED, 1000 * SEED + 200):
        path, before, what = mutate(contest.store.path, seed)
        words = READERS[seed % len(READERS)]
        arguments = [word.format(store=contest.store.path, page=elsewhere / "page.html") for word in words]
        if not plain(*answer(arguments, capsys)):
            wrong.append(f"{what}: {arguments}")
        path.write_bytes(before)
    print(*wrong, sep="\n")
    tally("verbs on stores with a changed file", 200, 200 - len(wrong), 0)


def test_results_of_changed_stores(sealed: Store, tally: Any) -> None:
    changed = silent(sealed, range(1000 * SEED, 1000 * SEED + 1000))
    print(*changed, sep="\n")
    tally("a result of a store with a changed file", 1000, 1000 - len(changed), len(changed))


def test_hostile_names(elsewhere: Path, capsys: pytest.CaptureFixture[str], tally: Any) -> None:
    """In a model, a text, a contestant, a study and a command: on the page, on the terminal and in spreadsheets."""
    harmless = scripts(page_of("muon", elsewhere / "plain", capsys)[1])
    wrong = []
    for number, name in enumerate(NAMES):
        said, page, tables = page_of(name, elsewhere / str(number) / "within", capsys)
        formulas = [
            cell for row in tables for cell in row if cell[:1] in tuple("=@\t\r") or re.match(r"[+-].*[A-Z(+]", cell)
        ]
        outside = [path.name for path in (elsewhere / str(number)).iterdir() if path.name != "within"]
        good = not STEERING.search(said) and scripts(page) == harmless and not formulas and not outside
        if not good:
            wrong.append((name[:80], STEERING.findall(said), scripts(page), formulas[:3], outside))
    print(*wrong, sep="\n")
    tally("hostile names", len(NAMES), len(NAMES) - len(wrong), len(wrong))


class Elements(HTMLParser):
    """Counts elements of a page that could run or load something."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "img", "iframe", "object", "embed", "base"):
            self.found[tag] += 1
        for name, value in attrs:
            if name.startswith("on") or (name in ("href", "src", "action") and "script:" in (value or "")):
                self.found[name] += 1


def scripts(page: str) -> Counter[str]:
    return Elements(page).found


def page_of(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, str, list[list[str]]]:
    """What is said of a store in which everything has that name, its page, and the cells of its tables."""
    contest = FakeContest(folder / "store")
    contest.contestant("adamw", [2.8, 2.81, 2.79], grid=3)
    contest.contestant(name, [2.7, 2.71, 2.69], grid=3)
    contest.budgets({0.5: [3.0], 2.0: [2.6]})
    ledger = contest.ledger.model_copy(update={"study": name, "command": name})
    cell = ledger.cell.model_copy(update={"model": name, "data": name})
    contest.store.write_ledger(ledger.model_copy(update={"cell": cell}))
    store, said = str(contest.store.path), ""
    verbs = [
        ["study", "status", store],
        ["store", "check", store],
        ["store", "list", store],
        ["claims", "--store", store],
    ]
    for arguments in (
        *verbs,
        ["report", store, "--out", str(folder / "page.html"), "--export", str(folder / "tables")],
    ):
        code, words = answer(arguments, capsys)
        assert plain(code, words), (name[:80], arguments, words[-300:])
        said += words
    contents = {
        path: path.read_bytes().decode() for path in folder.rglob("*.*") if path.suffix in (".csv", ".tex", ".md")
    }
    said += "".join(contents.values()).replace("\n", "")
    tables = [row for path, text in contents.items() if path.suffix == ".csv" for row in csv.reader(io.StringIO(text))]
    assert tables
    return said, (folder / "page.html").read_text(encoding="utf-8"), tables
