"""The papers' page: what it shows is what the verbs print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.report.test_page import Page

from fairstep.analysis import published_speedups
from fairstep.analysis.claims import claim_rows
from fairstep.analysis.verdict.track import result_rows
from fairstep.report import write_page
from fairstep.report.published_page import published_page


@pytest.mark.slow
def test_the_page_has_the_numbers_of_the_verbs(tmp_path: Path) -> None:
    page = published_page()
    write_page(page, tmp_path / "index.html")
    html = (tmp_path / "index.html").read_text(encoding="utf-8")
    parsed = Page(html)
    result = json.loads(parsed.by_id("fairstep-result"))
    assert result["claims"] == claim_rows()
    assert result["speedups"] == published_speedups()
    assert result["track3"] == result_rows()
    tables = {table.name: table for table in page.tables}
    assert (len(tables["cells"].rows), len(tables["records"].rows), len(tables["claims"].rows)) == (150, 468, 69)
    assert html.count("plotly.js v") == 1
    assert len(html.encode()) < 8e6
    ids = [attrs["id"] for _, attrs, _ in parsed.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    ratio = json.loads(parsed.by_id("fairstep-figures"))["ratio"]
    muon = next(trace for trace in ratio["data"] if trace["meta"] == "muon" and trace["legendgroup"] == "size 130m")
    assert muon["x"] == [1, 2, 4, 8, 16]
    assert muon["y"][0] == pytest.approx(1.4193, abs=2e-4), "as printed"
    for command in ("fairstep published speedups --json", "fairstep claims", "fairstep report --published"):
        assert command in html
