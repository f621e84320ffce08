"""Precision "auto": bf16 on an accelerator, and on a processor that was measured to be faster in it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fairstep.cost import precision
from fairstep.cost.precision import auto_precision
from fairstep.runs import Machine
from fairstep.runs.rates import gain_name, kept_bf16_gain, rate_name

MEASURED = precision._measured_gain
CLAIMS = Machine("some processor", 2, 10**9, True, 0)
NONE = Machine("some processor", 2, 10**9, False, 0)
GPU = Machine("some processor", 2, 10**9, False, 1)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty one, in which nothing was measured."""
    monkeypatch.setenv("FAIRSTEP_CACHE", str(tmp_path))
    monkeypatch.setattr(precision, "_measured_gain", MEASURED)  # for which other tests have a number
    MEASURED.cache_clear()
    yield tmp_path / "rates.json"
    MEASURED.cache_clear()


def measuring(monkeypatch: pytest.MonkeyPatch, printed: str) -> list[Any]:
    """The commands that are run from now on; each prints this."""
    commands: list[Any] = []

    def run(command: Any, **_: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 0, printed, "")

    monkeypatch.setattr(precision.subprocess, "run", run)
    return commands


@pytest.mark.parametrize(("printed", "expected"), [("0.2\n", "float32"), ("1.9\n", "bf16"), ("no number", "bf16")])
def test_a_processor_that_claims_bf16_is_measured_once(
    monkeypatch: pytest.MonkeyPatch, printed: str, expected: str
) -> None:
    commands = measuring(monkeypatch, printed)
    assert [auto_precision(CLAIMS) for _ in range(3)] == [expected] * 3
    assert len(commands) == 1


def test_nothing_is_measured_where_the_answer_is_known(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    commands = measuring(monkeypatch, "2.0")
    assert auto_precision(NONE) == "float32"
    assert auto_precision(GPU) == "bf16"
    # Rates of other hours, which a busy machine may have turned round, decide nothing.
    rates = {rate_name(CLAIMS.processor, 1, "bf16"): 3e10, rate_name(CLAIMS.processor, 1, "float32"): 1.5e10}
    cache.write_text(json.dumps({gain_name(CLAIMS.processor): 0.2} | rates))
    assert auto_precision(CLAIMS) == "float32"
    assert kept_bf16_gain(cache, CLAIMS) == 0.2
    assert not commands


@pytest.mark.parametrize("content", ["", "[1, 2]", '{"a": "b"}'])
def test_a_file_that_is_not_ours_counts_as_none(monkeypatch: pytest.MonkeyPatch, cache: Path, content: str) -> None:
    cache.write_text(content)
    commands = measuring(monkeypatch, "0.5")
    assert auto_precision(CLAIMS) == "float32"
    assert len(commands) == 1


@pytest.mark.slow
def test_the_real_measurement_is_kept_and_this_process_stays_without_torch(cache: Path) -> None:
    code = """if True:
        import sys
        from dataclasses import replace
        from fairstep.cost.precision import auto_precision
        from fairstep.runs import machine
        print(auto_precision(replace(machine(), cpu_bf16=True, gpus=0)), "torch" in sys.modules)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ((name, gain),) = json.loads(cache.read_text()).items()
    assert "bf16 over float32" in name
    assert done.stdout.split() == ["bf16" if gain > 1 else "float32", "False"]
