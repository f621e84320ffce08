"""The page in a real Chromium, opened from disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import FakeContest

from fairstep.analysis import verdict_rows
from fairstep.report import write_page, write_report
from fairstep.report.published_page import published_page
from fairstep.report.stores import page as stores_page
from fairstep.runs.merge import gather

pytestmark = pytest.mark.browser

HOSTILE = "<script>alert(1)</script>"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed (pip install 'fairstep[browser]')"
    )
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def report(demo_contest: FakeContest, tmp_path: Path) -> Path:
    """The demo contest and a contestant whose name is a script."""
    demo_contest.contestant(HOSTILE, [2.70, 2.71, 2.69], lr=4e-3)
    return write_report(demo_contest.store, demo_contest.ledger, tmp_path / "report.html")


class Opened:
    """A page with everything that it asked for or complained about."""

    def __init__(self, browser: Any, report: Path, ready: str = "#figure-sweeps .main-svg", **context: Any) -> None:
        self.page = browser.new_context(**context).new_page()
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.dialogs: list[str] = []
        self.page.on("console", lambda message: self.errors.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))
        self.page.goto(report.as_uri())
        self.page.wait_for_selector(ready)

    def texts(self, selector: str) -> list[str]:
        found: list[str] = self.page.locator(selector).all_inner_texts()
        return [text.strip() for text in found]

    def shown_curves(self) -> int:
        return int(self.page.locator("#figure-curves .scatterlayer .trace .lines path").count())


@pytest.fixture
def opened(chromium: Any, report: Path) -> Iterator[Opened]:
    page = Opened(chromium, report, viewport={"width": 1200, "height": 900})
    yield page
    page.page.context.close()


def test_loads_without_errors_or_requests(opened: Opened, report: Path) -> None:
    opened.page.wait_for_timeout(300)
    assert opened.errors == []
    assert opened.requests == [report.as_uri()]
    assert opened.page.locator(".plot .main-svg").count() >= 4


def test_verdicts_on_the_page_are_those_of_the_json(opened: Opened) -> None:
    result = json.loads(opened.page.locator("#fairstep-result").text_content())
    rows = verdict_rows(result)
    assert opened.texts("#verdicts tbody th") == [row["name"] for row in rows]
    badges = [text.split(maxsplit=1)[1] for text in opened.texts("#verdicts .badge")]
    assert badges == [row["verdict"] for row in result["contestants"]]
    assert opened.texts("#verdicts tbody td:nth-child(3)") == [row["speedup"] for row in rows]
    assert opened.texts("#verdicts tbody td:nth-child(2)") == [row["loss"] for row in rows]


def test_a_script_as_a_name_stays_text(opened: Opened) -> None:
    opened.page.wait_for_timeout(200)
    assert opened.dialogs == []
    assert HOSTILE in opened.texts("#verdicts tbody th")
    assert HOSTILE in opened.texts("#figure-curves .legend button")
    assert any(HOSTILE in text for text in opened.page.locator("#figure-forest .ytick").all_text_contents())


def test_tables_sort_both_ways_with_missing_numbers_last(opened: Opened) -> None:
    head = opened.page.locator("#verdicts thead th").nth(1)
    head.locator("button").click()
    rising = opened.texts("#verdicts tbody td:nth-child(2)")
    assert rising[-1] == "–"
    assert rising[:-1] == sorted(rising[:-1])
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").focus()
    opened.page.keyboard.press("Enter")
    falling = opened.texts("#verdicts tbody td:nth-child(2)")
    assert falling[:-1] == rising[:-1][::-1]
    assert falling[-1] == "–"
    assert head.get_attribute("aria-sort") == "descending"


def test_numbers_sort_as_numbers(opened: Opened) -> None:
    opened.page.locator("#trials thead button", has_text="hyperparameters").click()
    rates = [float(text.removeprefix("lr ")) for text in opened.texts("#trials tbody td:nth-child(3)")]
    assert rates == sorted(rates)
    assert rates[0] < rates[-1]


def test_the_ledger_filters(opened: Opened) -> None:
    rows = opened.page.locator("#trials tbody tr:visible")
    everything = rows.count()
    opened.page.select_option("form[data-for=trials] [data-filter=contestant]", HOSTILE)
    assert rows.count() == 8
    opened.page.select_option("form[data-for=trials] [data-filter=status]", "diverged")
    assert rows.count() == 1
    assert opened.texts("form[data-for=trials] output") == [f"1 of {everything} trials"]
    opened.page.select_option("form[data-for=trials] [data-filter=contestant]", "")
    opened.page.select_option("form[data-for=trials] [data-filter=status]", "")
    opened.page.fill("form[data-for=trials] [data-filter=text]", "MUON")
    assert rows.count() == 8
    opened.page.fill("form[data-for=trials] [data-filter=text]", "no such text")
    assert rows.count() == 0


def test_the_legend_switches_curves(opened: Opened) -> None:
    before = opened.shown_curves()
    button = opened.page.locator("#figure-curves .legend button[data-name=muon]")
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert opened.shown_curves() == before - 4, "three seeds and their mean"
    button.focus()
    opened.page.keyboard.press("Space")
    assert opened.shown_curves() == before
    assert opened.errors == []


def test_themes(chromium: Any, report: Path) -> None:
    opened = Opened(chromium, report, color_scheme="dark")
    paint = "getComputedStyle(document.body).backgroundColor"
    ink = "getComputedStyle(document.querySelector('#figure-curves .xtitle')).fill"
    dark = (opened.page.evaluate(paint), opened.page.evaluate(ink))
    opened.page.locator("#theme").click()
    light = (opened.page.evaluate(paint), opened.page.evaluate(ink))
    assert dark[0] == "rgb(18, 20, 24)"
    assert light[0] == "rgb(252, 252, 251)"
    assert dark[1] != light[1], "figures follow the theme"
    opened.page.reload()
    opened.page.wait_for_selector("#figure-curves .xtitle")
    assert (opened.page.evaluate(paint), opened.page.evaluate(ink)) == light, "what was chosen is kept"
    opened.page.context.close()


@pytest.mark.parametrize("width", [360, 768])
def test_a_phone_scrolls_in_one_direction(chromium: Any, report: Path, width: int) -> None:
    opened = Opened(chromium, report, viewport={"width": width, "height": 740}, is_mobile=True, has_touch=True)
    opened.page.wait_for_timeout(300)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    verdict = opened.page.locator("#verdicts .badge").first.bounding_box()
    assert verdict["x"] + verdict["width"] <= width, "the verdict is seen without scrolling sideways"
    assert opened.errors == []
    opened.page.context.close()


def test_every_control_can_be_reached_by_keyboard(opened: Opened) -> None:
    reached = set()
    for _ in range(180):
        opened.page.keyboard.press("Tab")
        reached.add(
            opened.page.evaluate(
                "(e => e.closest('figure')?.id || e.closest('table')?.id || e.closest('form')?.className || e.id"
                " || e.className)(document.activeElement)"
            )
        )
    assert {"theme", "verdicts", "figure-tokens", "figure-curves", "figure-sweeps", "filters", "trials"} <= reached


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(published_page(), tmp_path_factory.mktemp("site") / "index.html")


@pytest.fixture
def papers(chromium: Any, published: Path) -> Iterator[Opened]:
    page = Opened(chromium, published, viewport={"width": 1200, "height": 900})
    yield page
    page.page.context.close()


def test_the_papers_page_loads_without_errors_or_requests(papers: Opened, published: Path) -> None:
    papers.page.wait_for_timeout(300)
    assert papers.errors == []
    assert papers.requests == [published.as_uri()]
    assert papers.page.locator(".plot .main-svg").count() >= 6


def test_the_papers_verdicts_are_those_of_the_json(papers: Opened) -> None:
    result = json.loads(papers.page.locator("#fairstep-result").text_content())
    assert papers.texts("#claims tbody th") == [row["id"] for row in result["claims"]]
    assert papers.texts("#claims tbody td:nth-child(2)") == [row["verdict"] for row in result["claims"]]


def test_the_papers_tables_sort_and_filter(papers: Opened) -> None:
    form = "form[data-for=speedups]"
    papers.page.select_option(f"{form} [data-filter=optimizer]", "muon")
    papers.page.select_option(f"{form} [data-filter=variant]", "figure_2025_05")
    papers.page.select_option(f"{form} [data-filter=modelsize]", "130m")
    assert papers.texts(f"{form} output") == ["5 of 850 rows"]
    papers.page.locator("#speedups thead button", has_text="speedup").click()
    shown = [float(text) for text in papers.texts("#speedups tbody tr:visible td:nth-child(5)")]
    assert shown == sorted(shown)
    assert shown[-1] == 1.419


def test_a_choice_shows_one_group_and_keeps_what_is_switched_off(papers: Opened) -> None:
    traces = "#figure-ratio .scatterlayer .trace"
    everything = papers.page.locator(traces).count()
    papers.page.locator("#figure-ratio .legend button[data-name=muon]").click()
    assert papers.page.locator(traces).count() == everything - 1
    papers.page.select_option("#figure-ratio select", "size 1.2b")
    assert papers.page.locator(traces).count() == 2, "nadamw and soap; muon is still off"
    papers.page.locator("#figure-ratio .legend button[data-name=muon]").click()
    assert papers.page.locator(traces).count() == 3


def test_the_papers_on_a_phone_in_the_dark(chromium: Any, published: Path) -> None:
    opened = Opened(
        chromium,
        published,
        viewport={"width": 360, "height": 740},
        is_mobile=True,
        has_touch=True,
        color_scheme="dark",
    )
    opened.page.wait_for_timeout(300)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 360
    assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 20, 24)"
    assert opened.errors == []
    opened.page.context.close()


def test_contests_of_several_stores_unfold(chromium: Any, demo_contest: FakeContest, tmp_path: Path) -> None:
    other = FakeContest(tmp_path / "other", tokens=2_048_000)
    other.contestant("adamw", [2.80, 2.81, 2.79])
    other.contestant(HOSTILE, [2.70, 2.71, 2.69])
    for contest in (demo_contest, other):
        contest.store.write_ledger(contest.ledger.model_copy(update={"name": f"n{contest.tokens}"}))
    stores = [demo_contest.store, other.store]
    path = write_page(stores_page(gather(stores), stores), tmp_path / "both.html")
    opened = Opened(chromium, path, ready="#overview", viewport={"width": 1200, "height": 900})
    assert opened.page.locator("#figure-c2-forest .main-svg").count() == 0, "drawn when it is unfolded"
    opened.page.locator("details.contest summary").nth(1).click()
    opened.page.wait_for_selector("#figure-c2-forest .main-svg")
    assert HOSTILE in opened.texts("#c2-verdicts tbody th")
    opened.page.select_option("form[data-for=overview] [data-filter=verdict]", "faster")
    place = opened.texts("#overview thead th").index("verdict") + 1
    assert set(opened.texts(f"#overview tbody tr:visible :nth-child({place})")) == {"faster"}
    assert (opened.errors, opened.dialogs) == ([], [])
    opened.page.context.close()
