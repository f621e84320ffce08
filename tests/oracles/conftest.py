"""Collects every measured difference and prints them as one table at the end of the run."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
from _pytest.terminal import TerminalReporter
from tests.oracles.problem import FloatsAsDoubles

Row = tuple[str, str, str, float, float]
ROWS = pytest.StashKey[list[Row]]()


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Callable[[Row], None]:
    """record((optimizer, oracle, dtype, measured, tolerance))"""
    return request.config.stash.setdefault(ROWS, []).append


@pytest.fixture
def no_narrowing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the others' Newton-Schulz and QR in the dtype of their input."""
    import pytorch_optimizer.optimizer.mars as other_mars
    import pytorch_optimizer.optimizer.muon.base as other_muon
    import pytorch_optimizer.optimizer.muon.normuon as other_normuon
    import pytorch_optimizer.optimizer.scion as other_scion
    import pytorch_optimizer.optimizer.soap as other_soap

    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda self, *_, **__: self.clone())
    in_float64 = functools.partial(other_muon.zero_power_via_newton_schulz_5, dtype=torch.float64)
    for module in (other_mars, other_muon, other_normuon, other_scion):
        monkeypatch.setattr(module, "zero_power_via_newton_schulz_5", in_float64)
    monkeypatch.setattr(other_soap, "torch", FloatsAsDoubles())


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(ROWS, [])
    if not rows:
        return
    terminalreporter.section("largest relative difference from other implementations")
    head = ("optimizer", "oracle", "arithmetic", "measured", "tolerance")
    lines = [head, *((*row[:3], f"{row[3]:.1e}", f"{row[4]:.0e}") for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        terminalreporter.write_line("  ".join(map(str.ljust, line, widths)).rstrip())
