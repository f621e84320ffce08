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
