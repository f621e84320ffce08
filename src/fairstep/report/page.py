"""Self-contained HTML pages, which open from disk, years later, without a network.

The content policy of a page forbids every connection. The page carries plotly.js once, and its numbers as JSON in the
element ``fairstep-result``. static/page.html is the frame; sections fill it.
"""

from __future__ import annotations

import contextlib
import functools
import subprocess
import time
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from fairstep import __version__
from fairstep.analysis import Trials
from fairstep.report.loaded import LoadedContest
from fairstep.report.markup import script_json, static, text
from fairstep.report.section import Page, template
from fairstep.report.stores import contest_page
from fairstep.runs import Ledger, Store, write_atomic
from fairstep.runs.differences import siblings

LEFTOVER_SECONDS = 600.0
"""Age at which a half-written page is nobody's any more."""


def write_report(store: Store, ledger: Ledger, path: Path, trials: Trials | None = None) -> Path:
    """Write the page of a contest and return its path. ``trials``: the ledger's, if they have been read already.

    Raises fairstep.analysis.AnalysisError when the runs cannot be compared, OSError when the file cannot be written.
    """
    return write_page(contest_page(load(store, ledger, trials)), path)


def load(store: Store, ledger: Ledger, trials: Trials | None = None) -> LoadedContest:
    """A contest of a store. Its notes say if it is not the first of its contestants there; a ledger that cannot be read
    is none. Raises fairstep.analysis.AnalysisError when the runs cannot be compared."""
    loaded = LoadedContest.of(ledger, trials or Trials.read(ledger, store.runs()), str(store.path))
    loaded.result["notes"].extend(filter(None, [siblings(ledger, store.readable_ledgers())]))
    return loaded


def write_page(page: Page, path: Path) -> Path:
    """Write a page atomically. Raises OSError."""
    for leftover in path.parent.glob(f".{path.name}.*"):  # of a process that was killed while it wrote
        with contextlib.suppress(OSError):
            if time.time() - leftover.stat().st_mtime > LEFTOVER_SECONDS:
                leftover.unlink()
    write_atomic(path, html(page))
    return path


def html(page: Page) -> str:
    from plotly.offline import get_plotlyjs

    return template(
        "page.html",
        title=text(page.title or page.first),
        style=static("style.css"),
        bar=text(page.bar),
        first=text(page.first).replace(" (", "\u00a0("),
        rest=text(page.rest),
        lede=text(page.lede),
        contents="".join(f'<li><a href="#{text(one.key)}">{text(one.title)}</a></li>' for one in page.sections),
        sections="".join(section.html() for section in page.sections),
        maker=maker(),
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        result=script_json(page.result),
        figures=script_json(page.figures),
        plotly=get_plotlyjs(),
        script=static("page.js"),
    )


def maker() -> str:
    """This package and its state, as a link to its home if its metadata name one, else with where its documents are."""
    words, urls = f"fairstep {__version__}", []
    with contextlib.suppress(PackageNotFoundError):
        urls = metadata("fairstep").get_all("Project-URL") or []
    homes = [url.strip() for kind, _, url in (line.partition(",") for line in urls) if kind.lower() == "homepage"]
    state = f" ({commit})" if (commit := checkout()) else ""
    if homes:
        return f'<a href="{text(homes[0])}">{text(words)}</a>{text(state)}'
    documents = (
        "<code>make docs</code> in its checkout writes its documentation, <code>fairstep --help</code> lists its verbs"
    )
    return f"{text(words)}{text(state)}, a Python package ({documents}),"


@functools.cache
def checkout() -> str:
    """The commit of the checkout that this code is of, and whether files differ from it; empty if it is installed."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists() or not (root / "src" / "fairstep").is_dir():
        return ""
    asked = ("rev-parse", "--short=12", "HEAD"), ("status", "--porcelain", "--", "src")
    try:
        commit, changes = (
            subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=True)
            for words in asked
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"commit {commit.stdout.strip()}" + (", with changes" if changes.stdout.strip() else "")
