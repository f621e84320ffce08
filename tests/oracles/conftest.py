"""Collects every measured difference and prints them as one table at the end of the run.

With FAIRSTEP_PARITY=FILE the rows are also written there as JSON; tools/parity_table.py puts them into
docs/results/parity.md.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from _pytest.terminal import TerminalReporter
from tests.oracles.problem import FloatsAsDoubles

from fairstep.optim import get, names

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
    rows = sorted(config.stash.get(ROWS, []))
    if not rows:
        return
    if file := os.environ.get("FAIRSTEP_PARITY"):
        Path(file).write_text(json.dumps(rows), encoding="utf-8")
    terminalreporter.section("ours against other implementations: largest difference, relative to the way gone")
    head = ("optimizer", "oracle", "arithmetic", "measured", "tolerance", "")
    lines = [
        head,
        *((*row[:3], f"{row[3]:.1e}", f"{row[4]:.0e}", "" if row[3] <= row[4] else "DISAGREES") for row in rows),
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    previous = ""
    for line in lines:
        shown = (line[0] if line[0] != previous else "", *line[1:])
        terminalreporter.write_line("  ".join(map(str.ljust, shown, widths)).rstrip())
        previous = line[0]
    compared = {get(row[0]).name for row in rows}
    agree = sum(row[3] <= row[4] for row in rows)
    terminalreporter.write_line(
        f"{agree} of {len(rows)} comparisons of {len(compared)} optimizers agree within their tolerance."
    )
    missing = [name for name in names() if name not in compared]
    if missing:
        terminalreporter.write_line(f"not compared in this run: {', '.join(missing)}")
