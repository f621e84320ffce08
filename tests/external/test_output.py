"""What trainers print, read as people write it: losses by a pattern, and lines of progress."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.external.conftest import Trial

from fairstep.external.output import Output
from fairstep.runs import LossSource

PATTERN = {"trainer": {"loss": LossSource(pattern="val_loss: ?([0-9.]+)")}}


@pytest.mark.parametrize(
    ("printed", "loss"),
    [
        ("val_loss:4.0\\rval_loss:3.5\\r", 3.5),
        ("val_loss:\\x1b[31m3.5\\x1b[0m\\n", 3.5),
        ("val_loss:35.0e-01 x\\n", 3.5),
        ("val_loss:3.5\\r\\n", 3.5),
        ("val_loss:3.6\\nval_loss:nan\\n", "diverged"),
        ("val_loss:3.6\\nval_loss: Infinity\\n", "diverged"),
        ("val_loss:3.6\\nINFO info\\n", 3.6),
        ("val_loss:3.5 val_loss:3.5\\n", 3.5),
        ("val_loss: 3,21\\n", "it printed '3,21', with a comma in it; print it with a point"),
        ("val_loss: 3.5\\nval_loss: 1,234\\n", "it printed '1,234', with a comma in it"),
        ("val_loss: 1,234.5\\nval_loss: 3,21e-1\\n", "it printed '3,21', with a comma in it"),
        ("val_loss: 1,234.5\\n", 1234.5),
        ("val_loss: 3.5,12\\n", 3.5),
        ("val_loss: 3.5, 12\\n", 3.5),
        ("val_loss:3.6 (best val_loss:3.5)\\n", "has several losses in one line (3.6, 3.5); a trial has one"),
    ],
)
def test_a_loss_is_read_as_it_is_printed(printed: str, loss: float | str, carry: Trial) -> None:
    """By the pattern that people write: bars of progress, colours, exponents, and a divergence after a loss."""
    summary = carry(f"import sys; sys.stdout.write('{printed}')", **PATTERN).unchecked_summary
    assert summary is not None
    if isinstance(loss, float):
        assert (summary.status, summary.final_loss) == ("done", loss)
    else:
        assert loss in f"{summary.status} {summary.message}"


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("step 100/1000 loss 3.21", (100, 3.21)),
        ("step:5 val_loss:10.8258 train_time:227ms", (5, 10.8258)),
        ('{"step": 7, "loss": 3e-1}', (7, 0.3)),
        ("Step 9 | lr 0.1 | train loss: nan", (9, "nan")),
        ("step 1,234/10,000 loss 3.21", (1234, 3.21)),
        ("step 1,234,567, loss 3.21", (1234567, 3.21)),
        ("step 100, loss 3,21", None),
        ("step 100,3 loss 3.21", (100, 3.21)),
        ("iter 3: loss 2.0", None),
        ("steps 3 lossless", None),
    ],
)
def test_lines_of_progress(line: str, seen: Any, tmp_path: Path) -> None:
    output = Output(tmp_path / "log")
    output.feed(line[:5].encode())
    output.feed(line[5:].encode())
    output.close()
    found = output.latest and (output.latest[0], "nan" if output.latest[1] != output.latest[1] else output.latest[1])
    assert found == seen


@pytest.mark.parametrize(
    ("pattern", "line", "seen", "comma"),
    [
        ("loss ([0-9.,]+)", "loss 3,21", [], "3,21"),
        ("loss ([0-9]+)", "loss 3,21", [], "3,21"),
        ("([0-9]+)$", "loss 3,21", [], "3,21"),
        ("([0-9.]+)$", "100,3.21", [(None, 3.21)], ""),
        ("step=[0-9]+, loss=([0-9.]+)", "step=5, loss=3,21", [], "3,21"),
        ("loss=([0-9.]+),", "loss=3,21, lr=0,1", [], "3,21"),
        ("^[0-9]+,([0-9.]+)", "100,3,5", [(None, 3.0)], ""),
        ("^(?P<step>[0-9]+),(?P<loss>[0-9.]+)", "100,321.5", [(100, 321.5)], ""),
        ("step (?P<step>[0-9]+).* loss (?P<loss>[0-9.]+)", "step 12,000 loss 3.21", [(12000, 3.21)], ""),
    ],
)
def test_a_comma_parts_columns_where_the_pattern_names_it(
    pattern: str, line: str, seen: list[tuple[int | None, float]], comma: str, tmp_path: Path
) -> None:
    output = Output(tmp_path / "log", loss=pattern)
    output.feed(line.encode())
    output.close()
    assert (output.losses, output.comma) == (seen, comma)
