"""A contest as its sections need it: ledger, trials, result and look, each made once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fairstep.analysis import Trials, contest_result, headline
from fairstep.report.drawing import Look
from fairstep.runs import Ledger


@dataclass(frozen=True)
class LoadedContest:
    """``result`` is ``contest_result``'s; ``stores``: where it lies, as the user named them; ``prefix`` makes ids
    unique on a page of several contests."""

    ledger: Ledger
    trials: Trials
    result: dict[str, Any]
    look: Look
    stores: tuple[str, ...]
    prefix: str = ""

    @classmethod
    def of(cls, ledger: Ledger, trials: Trials, *stores: str, prefix: str = "") -> LoadedContest:
        """Raises fairstep.analysis.AnalysisError when the runs cannot be compared."""
        look = Look.of(ledger.contestants, ledger.baseline)
        return cls(ledger, trials, contest_result(trials), look, stores, prefix)

    def key(self, name: str) -> str:
        """The id of an element on the page."""
        return f"{self.prefix}{name}"

    @property
    def store(self) -> str:
        """The store that commands name."""
        return self.stores[0]

    @property
    def headline(self) -> str:
        return headline(self.result)
