"""The suite of faults: each file tries one class of them many times and counts what came of it.

``tally(name, tried, right, silent)`` adds to the table that ends the output. *right*: the undisturbed result, or a
sentence. *silent*: another result without a word; a test fails if there is any. FAULTS_SEED repeats a draw.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable
from typing import Any

import pytest
from tests.training import cache, corpus, tiny

__all__ = ["cache", "corpus", "draw", "tally", "tiny"]

TALLY = "tally"
SEED = int(os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(10**6))
os.environ["FAULTS_SEED"] = str(SEED)  # for the processes that pytest starts


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "faults" in item.path.parts:
            item.add_marker(pytest.mark.faults)


@pytest.fixture
def draw() -> random.Random:
    return random.Random(SEED)


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Callable[[str, int, int, int], None]:
    """Count, and fail if anything was silent or neither."""

    def add(name: str, tried: int, right: int, silent: int) -> None:
        record_property(TALLY, [name, tried, right, silent])
        assert (right, silent) == (tried, 0), f"{name}: {tried} tried, {right} right, {silent} silent (seed {SEED})"

    return add


def pytest_terminal_summary(terminalreporter: Any) -> None:
    table: dict[str, list[int]] = {}
    for report in itertools.chain.from_iterable(terminalreporter.stats.values()):
        for key, value in report.user_properties if getattr(report, "when", "") == "call" else ():
            if key == TALLY:
                name, *numbers = value
                table[name] = [a + b for a, b in zip(table.get(name, (0, 0, 0)), numbers, strict=True)]
    if table:
        terminalreporter.section(f"faults, FAULTS_SEED={SEED}")
        terminalreporter.write_line(f"{'class':44}{'tried':>8}{'right':>8}{'silent':>8}")
        for name, numbers in sorted(table.items()):
            terminalreporter.write_line(f"{name:44}" + "".join(f"{number:8}" for number in numbers))
