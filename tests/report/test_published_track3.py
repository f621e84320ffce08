"""The page's section on the track: its words, figures and tables are of one set of verdicts."""

from __future__ import annotations

from fairstep.analysis.verdict.track import result_rows
from fairstep.report import published_track3


def test_the_section_says_what_its_table_has() -> None:
    section = published_track3.section()
    results, sigma = section.tables
    assert [row["verdict"] for row in results.rows] == [row["verdict"] for row in result_rows()]
    assert len(sigma.rows) == 47
    assert "Of 19 steps forward of the record, 8 are separable from the record before " in section.body
    assert "(results 9, 14, 20, 29, 30, 44, 45, 46) and 9 are not " in section.body
    assert "2 cannot be judged (3, 5)" in section.body
    assert "accepts 8 of the 19 (5, 9, 14, 20, 29, 30, 44, 45)." in section.body
    assert "pooled over 46 groups with 565 runs" in section.body
    assert "0.0025 (10 runs, F test: p = 1e-06" in section.body
    assert set(section.figures) == {"records", "sigmas"}


def test_every_record_after_the_first_is_drawn_once() -> None:
    figure = published_track3.section().figures["records"]
    drawn = {trace["meta"]: len(trace["x"]) for trace in figure["data"]}
    assert drawn == {"one run": 2, "faster": 8, "not separable": 9}
    assert len(figure["layout"]["yaxis"]["ticktext"]) == 19


def test_sigmas_are_sorted_and_every_group_has_a_name() -> None:
    rows = published_track3.sigma_rows()
    assert [row["group"] for row in rows[:2]] == ["tuned AdamW", "21 Shampoo"]
    assert all(row["low"] < row["sigma"] < row["high"] for row in rows)
    assert len({row["group"] for row in rows}) == 47
    assert max(len(row["group"]) for row in rows) < 30, "a tick of a figure on a phone"
