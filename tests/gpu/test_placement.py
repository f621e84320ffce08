"""Runs ``placement_cases.py`` in processes of their own: the device that it pretends stays known to torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("placement_cases.py")


@pytest.mark.slow
@pytest.mark.parametrize("group", ["test_an_optimizer", "not test_an_optimizer"])
def test_everything_keeps_to_the_device_of_the_parameters(group: str, tmp_path: Path) -> None:
    options = [
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "--tb=short",
        "--basetemp",
        str(tmp_path / "cases"),
        "-k",
        group,
    ]
    command = [sys.executable, "-m", "pytest", *options, str(CASES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CASES.parents[2])
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
