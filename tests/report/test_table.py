"""One table in four forms, none of which a name from a file can break."""

from __future__ import annotations

import csv
import io

from fairstep.report.table import Column, Table

HOSTILE = "<script>alert(1)</script>"
COLUMNS = (
    Column("name", "name"),
    Column("loss", "loss", number=True, show=lambda value: f"{value:.2f}"),
    Column("words", "words", long=True),
)
ROWS = [
    {"name": HOSTILE, "loss": 2.123456, "words": 'a|b & "c" 50% of $x_1$'},
    {"name": "=1+1", "loss": None, "words": None},
]
TABLE = Table("t", "A caption", COLUMNS, ROWS, ("name",))


def test_html_escapes_and_sorts_by_the_value() -> None:
    html = TABLE.html()
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;</th>" in html
    assert 'data-value="2.123456">2.12</td>' in html
    assert 'data-value="">–</td>' in html, "what is not known sorts last"
    assert html.count("<option") == 3, "all, and the two names"


def test_csv_has_the_values_and_no_formulas() -> None:
    header, first, second = csv.reader(io.StringIO(TABLE.csv()))
    assert header == ["name", "loss", "words"]
    assert first == [HOSTILE, "2.123456", ROWS[0]["words"]]
    assert second == ["'=1+1", "", ""]


def test_markdown_keeps_its_columns() -> None:
    lines = TABLE.markdown().splitlines()
    assert lines[0] == "| name | loss | words |"
    assert lines[2].replace(r"\|", "").count("|") == 4
    assert "<script>" not in lines[2]


def test_latex_escapes_what_is_special() -> None:
    latex = TABLE.latex()
    assert r"\textless{}script\textgreater{}" in latex
    assert r"a|b \& " in latex
    assert r"50\% of \$x\_1\$" in latex
    assert r"\begin{tabular}{lrp{7cm}}" in latex
