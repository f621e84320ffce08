"""``fairstep report``: the page of contests that are in stores, or of the papers' published numbers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from fairstep.cli.shared import screen
from fairstep.cli.shared.options import check_written, parse
from fairstep.cli.shared.verdict import print_verdict
from fairstep.runs import Store

if TYPE_CHECKING:
    from fairstep.report.section import Page


@dataclass(frozen=True)
class ReportOptions:
    """Write one self-contained HTML page (verdicts, curves, sweeps, certificates, costs, claims, ledger) and print the
    verdicts.

    Several stores are merged (as if their folders had been copied together) and compared with one another.

    Example: fairstep report runs/demo --out demo.html
    Example: fairstep report runs/mine runs/theirs --out both.html
    Example: fairstep report --published --out site/ --export figures/
    """

    stores: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Folders that `fairstep compare`, `study` or `demo` wrote. Default: runs/demo."""
    published: bool = False
    """Instead, the published numbers and claims of both papers and of modded-nanogpt's optimization track."""
    contest: str = ""
    """Only the contest, or the contests of the study, of that name. Default: all."""
    out: Path | None = None
    """Where to write the page: a file, or a folder (index.html in it). Default: report.html in the first store."""
    export: Path | None = None
    """Folder for the tables as CSV, Markdown and LaTeX, and the figures as SVG and PNG (extra figures)."""
    json: bool = False
    """Print the verdicts as JSON: of one contest its result, of several a list of rows."""


def main(arguments: list[str]) -> int:
    options = parse(ReportOptions, "report", arguments)
    if options.published and (options.stores or options.contest):
        raise ValueError("--published takes no stores and no --contest; give one or the other")
    paths = options.stores or (Path("runs/demo"),)
    for path in paths:
        if path.is_file():
            raise ValueError(f"{path} is a file; report takes the folder that runs were kept in, such as runs/demo")
    if len({path.resolve() for path in paths}) < len(paths):
        raise ValueError("the same store is named twice")
    check_written("--out", options.out and page_path(options, paths[0]))
    check_written("--export", options.export, folder=True)
    stores = [Store(path) for path in paths]

    from fairstep.report import export, write_page
    from fairstep.report.published_page import published_page
    from fairstep.report.stores import page as page_of
    from fairstep.runs.merge import gather

    page = published_page() if options.published else page_of(gather(stores, options.contest), stores)
    if not options.json:
        show(page)  # first, for the page may have no room
    path = write_page(page, page_path(options, paths[0])).absolute()
    told = page.result | {"report": str(path)} if is_verdict(page.result) else page.result
    print(json.dumps(told) if options.json else f"\nreport: {path}")
    if options.export is not None:
        written = export(page, options.export)
        screen.say(f"{len(written)} files in {options.export}")
    return 0


def page_path(options: ReportOptions, store: Path) -> Path:
    """A name that ends in a slash, has no ending or is a folder gets an index.html."""
    out = options.out
    if out is None:
        return Path("site/index.html") if options.published else store / "report.html"
    return out if out.suffix.lower() in (".html", ".htm") else out / "index.html"


def is_verdict(result: Any) -> bool:
    """Whether it is the result of one contest."""
    return isinstance(result, dict) and "contestants" in result


def show(page: Page) -> None:
    """The verdict of a contest, or the headline and a line for each verdict."""
    if is_verdict(page.result):
        print_verdict(page.result)
        return
    screen.out(f"{page.first}. {page.rest}\n")
    if isinstance(page.result, list):
        columns = {"contest": "contest", "differences": "what differs", "name": "contestant"}
        columns |= {"verdict": "verdict", "speedup_words": "speedup in tokens"}
        if not any(row["differences"] for row in page.result):
            columns.pop("differences")
        rows = [[row[key] for key in columns] for row in page.result]
        header = list(columns.values())
        screen.print_table("", header, rows, left=len(header) - 2)
