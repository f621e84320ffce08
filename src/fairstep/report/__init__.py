"""Verdicts in, pages and figures out: one self-contained HTML page for a contest, for stores, or for published
numbers.

Layout, wording of the page and figures belong here. Every number comes from fairstep.analysis, so page, terminal and
JSON agree. Nothing here trains or prints, and no page needs a network. May import fairstep.runs, fairstep.analysis and
fairstep.published; never torch.
"""

from fairstep.report.export import export
from fairstep.report.page import load, write_page, write_report
from fairstep.report.section import Page
from fairstep.report.stores import contest_page

__all__ = ["Page", "contest_page", "export", "load", "write_page", "write_report"]
