"""The suite of faults: each file tries one class of them many times and counts what came of it.

``tally(name, tried, right, silent)`` adds to the table that ends the output. *right*: the undisturbed result, or a
sentence. *silent*: another result without a word; a test fails if there is any. FAULTS_SEED repeats a draw.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import pytest
from tests.training import cache, corpus, tiny

__all__ = ["cache", "corpus", "draw", "tally", "tiny"]

TABLE = pytest.StashKey[dict[str, list[int]]]()
SEED = int(os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(10**6))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "faults" in item.path.parts:
            item.add_marker(pytest.mark.faults)


@pytest.fixture
def draw() -> random.Random:
    return random.Random(SEED)


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Callable[[str, int, int, int], None]:
    """Count, and fail if anything was silent or neither."""
    table = request.config.stash.setdefault(TABLE, {})

    def add(name: str, tried: int, right: int, silent: int) -> None:
        row = table.setdefault(name, [0, 0, 0])
        for place, number in enumerate((tried, right, silent)):
            row[place] += number
        assert (right, silent) == (tried, 0), f"{name}: {tried} tried, {right} right, {silent} silent (seed {SEED})"

    return add


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    table = config.stash.get(TABLE, {})
    if table:
        terminalreporter.section(f"faults, FAULTS_SEED={SEED}")
        terminalreporter.write_line(f"{'class':44}{'tried':>8}{'right':>8}{'silent':>8}")
        for name, numbers in table.items():
            terminalreporter.write_line(f"{name:44}" + "".join(f"{number:8}" for number in numbers))
