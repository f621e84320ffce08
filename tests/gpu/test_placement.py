"""Runs ``placement_cases.py`` in processes of their own: the device that it pretends stays known to torch."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.forked_ranks import run_ranks

CASES = Path(__file__).with_name("placement_cases.py")


@pytest.mark.slow
@pytest.mark.parametrize("group", ["test_an_optimizer", "not test_an_optimizer"])
def test_everything_keeps_to_the_device_of_the_parameters(group: str, tmp_path: Path) -> None:
    options = ["-p", "no:cacheprovider", "-p", "no:xdist", "--tb=short", "--basetemp", str(tmp_path / "cases")]
    status, said = run_ranks(
        Path(pytest.__file__).with_name("__main__.py"),
        [*options, "-k", group, str(CASES)],
        size=1,
        output=tmp_path / "said",
        seconds=600,
    )
    assert status == 0, said[-7000:]
    assert " passed" in said
