"""Verdicts in, pages and figures out: one self-contained HTML page for a contest, for stores, or for both papers.

Layout, wording of the page and figures belong here. No statistics (every number comes from fairstep.analysis, so that
page, terminal and JSON agree), no training, no terminal output, and nothing that needs a network to be read.
May import fairstep.runs, fairstep.analysis and fairstep.published; never torch.
"""

from fairstep.report.export import export
from fairstep.report.page import write_page, write_report
from fairstep.report.section import Page

__all__ = ["Page", "export", "write_page", "write_report"]
