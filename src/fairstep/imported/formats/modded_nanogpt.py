"""Logs of modded-nanogpt: lines ``step:S/T val_loss:L``. A log may hold several runs; each begins at its first step.

Such a log begins with the source of its program, so the lines are looked for and the rest is not read.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from fairstep.imported.source import Source, frame_of, table

KIND = "modded-nanogpt log"
LINE = re.compile(r"^\s*(?:s:\s*)?step:\s*(\d+)/(\d+)\s+val_loss:\s*(\S+)", re.MULTILINE)
LARGEST = 200_000_000


def claims(path: Path) -> bool:
    if not path.is_file() or path.suffix.lower() not in (".txt", ".log", ".out", "") or path.stat().st_size > LARGEST:
        return False
    return LINE.search(path.read_text(encoding="utf-8", errors="replace")) is not None


def read(path: Path) -> list[Source]:
    text = path.read_text(encoding="utf-8", errors="replace")
    rows: list[dict[str, Any]] = []
    number, before = 0, -1
    for step, planned, loss in LINE.findall(text):
        number += int(step) <= before
        before = int(step)
        rows.append({"run": number, "step": before, "planned_steps": int(planned), "val_loss": loss})
    names = {0: str(path)} | {one: f"{path}#{one}" for one in range(1, number + 1)}
    return [table(path, KIND, frame_of([row | {"run": names[row["run"]]} for row in rows]), log=True)]
