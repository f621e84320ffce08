"""The small corpus and the tiny runs of tests/training.py, for this room's tests."""

from __future__ import annotations

import pytest
from tests.training import cache, corpus, tiny

__all__ = ["cache", "corpus", "tiny"]


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sentences are not wrapped, whatever COLUMNS says outside."""
    monkeypatch.delenv("COLUMNS", raising=False)
