"""The page as a file: it says what the result says, stands alone, and nothing from a file becomes markup."""

from __future__ import annotations

import json
import os
import re
from email.message import Message
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fairstep.analysis import AnalysisError, contest_result, headline, verdict_rows
from fairstep.cli.shared.tournament import conclude
from fairstep.report import write_report
from fairstep.runs import Design, Look
from fairstep.runs.differences import siblings

if TYPE_CHECKING:
    from tests.conftest import FakeContest

HOSTILE = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Elements of the page in order: tag, attributes, text directly inside."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self.open: list[int] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}, []))
        if tag not in ("meta", "link", "input", "br"):
            self.open.append(len(self.elements) - 1)

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self.open[-1]][0] == tag, f"</{tag}> closes <{self.elements[self.open[-1]][0]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        for place in self.open:
            self.elements[place][2].append(data)

    def texts(self, tag: str) -> list[str]:
        return ["".join(words) for name, _, words in self.elements if name == tag]

    def by_id(self, identity: str) -> str:
        return next("".join(words) for _, attrs, words in self.elements if attrs.get("id") == identity)


def written(contest: FakeContest, path: Path) -> tuple[str, Page]:
    contest.store.write_ledger(contest.ledger)
    assert write_report(contest.store, contest.ledger, path) == path
    html = path.read_text(encoding="utf-8")
    return html, Page(html)


def test_page_and_result_are_the_same_numbers(demo_contest: FakeContest, tmp_path: Path) -> None:
    _, page = written(demo_contest, tmp_path / "new" / "report.html")
    result = contest_result(demo_contest.ledger, demo_contest.store.runs())
    assert json.loads(page.by_id("fairstep-result")) == result
    cells = page.texts("td") + page.texts("th")
    for row in verdict_rows(result):
        for key in ("name", "loss", "speedup", "step", "state", "tokens"):
            assert row[key] in cells
    assert page.texts("title") == [f"{headline(result)} · fairstep"]
    assert page.texts("h1")[0].replace("\u00a0", " ") + "; " + page.texts("p")[1] == headline(result)


def test_the_ledger_has_every_trial(demo_contest: FakeContest, tmp_path: Path) -> None:
    _, page = written(demo_contest, tmp_path / "report.html")
    codes = page.texts("code")
    for trial in demo_contest.ledger.trials:
        assert trial.run in codes
    assert demo_contest.ledger.command in codes


def test_the_page_needs_no_network(demo_contest: FakeContest, tmp_path: Path) -> None:
    html, page = written(demo_contest, tmp_path / "report.html")
    assert "default-src 'none'" in html
    for tag, attrs, _ in page.elements:
        assert tag not in ("img", "iframe", "object", "base")
        assert not attrs.get("src"), f"{tag} loads {attrs.get('src')}"
        loads = tag != "a" and not re.match(r"#|data:,$", attrs.get("href", "#"))
        assert not loads, f"{tag} loads {attrs.get('href')}"
    assert html.count("plotly.js v") == 1, "one copy of plotly.js"


def test_contents_anchors_date_and_home(
    demo_contest: FakeContest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    html, page = written(demo_contest, tmp_path / "report.html")
    identities = [attrs["id"] for _, attrs, _ in page.elements if "id" in attrs]
    assert len(set(identities)) == len(identities)
    leads = [attrs["href"][1:] for tag, attrs, _ in page.elements if tag == "a" and attrs.get("href", "")[:1] == "#"]
    assert set(leads) <= set(identities)
    sections = [attrs["id"] for tag, attrs, _ in page.elements if tag == "section"]
    for section in sections:
        assert leads.count(section) == 2, "in the contents, and beside its heading"
    assert re.search(r"Made on \d{4}-\d\d-\d\d by fairstep \S+ (\(commit [0-9a-f]{12}(, with changes)?\))?", html)
    urls = Message()
    urls["Project-URL"] = "Homepage, https://example.org/fairstep"
    monkeypatch.setattr("fairstep.report.page.metadata", lambda name: urls)
    html, _ = written(demo_contest, tmp_path / "report.html")
    assert ' by <a href="https://example.org/fairstep">fairstep ' in html


def test_reproduce_is_in_words(demo_contest: FakeContest, tmp_path: Path) -> None:
    for number, run in enumerate(demo_contest.store.runs()):
        environment = {
            "fairstep": "0.1.0",
            "torch": "2.13.0",
            "python": "3.11.7",
            "processor": "A CPU",
            "device": "cpu",
            "threads": 2,
            "precision": "bf16",
            "compiled": True,
            "data_source": [],
            "processes": 1,
            "parallel": "",
            "memory_before_bytes": 376_819_712 + number,
            "starts": [{"step": 0, "at": f"2026-11-28T15:{number:02}:49+00:00", "notes": []}] * (1 + (number == 3)),
        }
        (run.directory / "env.json").write_text(json.dumps(environment))
    html, page = written(demo_contest, tmp_path / "report.html")
    words = dict(zip(page.texts("dt"), page.texts("dd"), strict=True))
    assert words["software"] == "fairstep 0.1.0, torch 2.13.0, Python 3.11.7"
    assert words["each run"] == "on cpu, 1 process with 2 threads, bf16, compiled"
    assert re.fullmatch(
        r"begun from 2026-11-28 15:00 to 2026-11-28 15:\d\d UTC; 1 run went on after an interruption", words["trained"]
    )
    assert not re.search(
        r"\[\]|&#x27;|\{&|memory before", html.partition('id="reproduce"')[2].partition("</section>")[0]
    )


def test_curves_do_not_mix_evaluation_sets(demo_contest: FakeContest, tmp_path: Path) -> None:
    _, page = written(demo_contest, tmp_path / "report.html")
    bold = [trace for trace in drawn(page)["curves"]["data"] if trace.get("line", {}).get("width", 0) > 2]
    assert len(bold) == 5
    for trace in bold:
        assert trace["y"] == sorted(trace["y"], reverse=True), "the larger set at the end is no point of the curve"


def test_names_from_files_stay_text(fake_contest: FakeContest, tmp_path: Path) -> None:
    fake_contest.contestant("adamw", [2.80, 2.81, 2.79])
    fake_contest.contestant(HOSTILE, [2.70, 2.71, None])
    fake_contest.add(HOSTILE, "tune", None, lr=9.0, status="failed", message='"><img src=x onerror=alert(2)>')
    fake_contest.contestant("$baseline {name} &amp; </script><!--", [2.70, 2.71, 2.69])
    fake_contest.budgets({0.5: [3.0], 2.0: [2.6]})
    html, page = written(fake_contest, tmp_path / "report.html")
    scripts = [(attrs, words) for tag, attrs, words in page.elements if tag == "script"]
    assert [attrs.get("id", "") for attrs, _ in scripts] == ["fairstep-result", "fairstep-figures", "", ""]
    assert "<script>alert" not in html
    assert "<img" not in html
    assert any(text == HOSTILE for text in page.texts("th"))
    assert any(text == "$baseline {name} &amp; </script><!--" for text in page.texts("th"))
    names = {row["name"] for row in json.loads(page.by_id("fairstep-result"))["contestants"]}
    assert HOSTILE in names


def test_commands_to_copy_are_quoted(fake_contest: FakeContest, tmp_path: Path) -> None:
    fake_contest.contestant("adamw", [2.80, 2.81], grid=3)
    ledger = fake_contest.ledger.model_copy(update={"name": "x; touch y"})
    write_report(fake_contest.store, ledger, tmp_path / "report.html")
    codes = Page((tmp_path / "report.html").read_text(encoding="utf-8")).texts("code")
    assert f"fairstep report {fake_contest.store.path} --contest 'x; touch y' --json" in codes


def test_a_contest_that_has_only_begun(fake_contest: FakeContest, tmp_path: Path) -> None:
    fake_contest.add("adamw", "tune", 2.8)
    fake_contest.add("adamw", "tune", None, lr=0.1, status="unfinished")
    fake_contest.add("muon", "tune", None, status="diverged")
    _, page = written(fake_contest, tmp_path / "report.html")
    assert "adamw is not finished" in page.texts("title")[0]
    assert len(drawn(page)["sweeps"]["data"]) == 2


def test_runs_that_are_gone_are_unfinished(demo_contest: FakeContest, tmp_path: Path) -> None:
    gone = demo_contest.store.run(next(t.run for t in demo_contest.trials if t.phase == "final"))
    for file in gone.directory.iterdir():
        file.unlink()
    gone.directory.rmdir()
    _, page = written(demo_contest, tmp_path / "report.html")
    result: dict[str, Any] = json.loads(page.by_id("fairstep-result"))
    assert next(row for row in result["contestants"] if row["name"] == "adamw")["verdict"] == "incomplete"


def test_what_cannot_be_compared_has_no_page(fake_contest: FakeContest, tmp_path: Path) -> None:
    fake_contest.contestant("muon", [2.70, 2.71])
    with pytest.raises(AnalysisError, match="baseline"):
        write_report(fake_contest.store, fake_contest.ledger, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_what_a_kill_left_beside_the_page_is_swept(demo_contest: FakeContest, tmp_path: Path) -> None:
    old, new = tmp_path / ".report.html.aaaa", tmp_path / ".report.html.bbbb"
    for path in (old, new):
        path.write_text("half a page")
    os.utime(old, (0, 0))
    written(demo_contest, tmp_path / "report.html")
    assert not old.exists()
    assert new.exists(), "another process may be writing it"


def test_the_verdict_is_printed_before_a_page_that_finds_no_room(
    demo_contest: FakeContest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "page.html").mkdir()
    with pytest.raises(OSError, match=r"the verdict stands, and its page cannot be written: Is a dir.*page\.html"):
        conclude(demo_contest.store, demo_contest.ledger, tmp_path / "page.html")
    assert "muon" in capsys.readouterr().out


def test_a_later_attempt_says_so(demo_contest: FakeContest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, first = demo_contest.store, demo_contest.ledger
    store.write_ledger(first)
    os.utime(store.ledgers_folder / f"{first.name}.json", (0, 0))
    second = first.model_copy(update={"name": "again"})
    store.write_ledger(second)
    (store.ledgers_folder / "damaged.json").write_text("{")
    words = f"again is the 2nd contest of these {len(first.contestants)}"
    for ledger, said in ((first, False), (second, True)):
        conclude(store, ledger, tmp_path / "page.html")
        assert (words in capsys.readouterr().out) == said
        assert (words in (tmp_path / "page.html").read_text(encoding="utf-8")) == said


def test_a_contest_that_went_on_later_is_no_later_attempt(demo_contest: FakeContest) -> None:
    """A ledger is written anew at every look: the first look counts, not the file's time."""
    look = Look(
        design="3..8", contestant="muon", pairs=3, t=9.0, limit=8.0, level=0.05, verdict="faster", time="2026-01-01"
    )
    later = look.model_copy(update={"time": "2026-01-02"})
    first = demo_contest.ledger.model_copy(update={"name": "first", "looks": (look, later)})
    second = demo_contest.ledger.model_copy(update={"name": "second", "looks": (later,)})
    assert siblings(first, [second, first]) == ""
    assert siblings(second, [second, first]).startswith("second is the 2nd contest")


def drawn(page: Page) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(page.by_id("fairstep-figures"))
    return value


def test_the_page_has_the_looks(demo_contest: FakeContest, tmp_path: Path) -> None:
    demo_contest.design = Design(first=3, most=8, family=5)
    look = Look(design="3..8", contestant="muon", pairs=3, t=9.125, limit=7.5, level=0.0125, verdict="faster")
    ledger = demo_contest.ledger.model_copy(update={"looks": (look,)})
    page = write_report(demo_contest.store, ledger, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Looks at the final runs" in page and "9.125" in page and "3..8" in page
