"""What a contest says of its progress: no promise, and the forecast of its searches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.study.test_runner import Pretender, carried

from fairstep.cli.shared import screen, watch
from fairstep.cli.shared.watch import Expected, watching
from fairstep.cost.devices import CPU_UTILISATION, Device
from fairstep.cost.run_cost import cost
from fairstep.runs import Store
from fairstep.study import State


def test_lines_tell_the_trials_expected_and_a_range_of_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    minutes = iter(range(0, 10_000))
    monkeypatch.setattr(watch.time, "monotonic", lambda: 61.0 * next(minutes))
    monkeypatch.setattr(screen.errors, "_force_terminal", False)
    states: list[State] = []
    carried(Store(tmp_path / "first").writable(), Pretender(), states.append)
    work = sum(spec.work for spec in states[-1].plan.specs.values())
    with watching(Expected(20, least=work, most=2 * work)) as show:
        carried(Store(tmp_path / "second").writable(), Pretender(), show)
    lines = [line for line in capsys.readouterr().err.splitlines() if " trials" in line]
    assert lines[0].startswith("61 s: 0 of about 20 trials")
    (whole,) = [line for line in lines if " 15 of about 20 trials" in line][-1:]
    ends = whole.partition("trials, about ")[2].split()
    assert ends[1] == "to" and ends[3:] == ["min", "left"]
    assert float(ends[2]) > float(ends[0]) >= 0


def test_a_forecast_in_the_units_of_the_progress(tmp_path: Path) -> None:
    from tests.study.test_contest import contest

    one = contest()
    device = Device("cpu", 1.0, 10**12, CPU_UTILISATION, "")
    costs: dict[tuple[str, str], Any] = {
        (cell, contestant.name): cost(
            contestant.spec(workload, contestant.problem(cell, workload, 0, 0).start, 0), device
        )
        for cell, workload in one.cells.items()
        for contestant in one.contestants
    }
    expected = Expected.of(one, costs)
    assert 12 <= expected.trials <= 40
    assert 0 < expected.least < expected.most
