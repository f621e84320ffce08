"""Optimizers that print, read, raise, exit, crash, sleep, leak and fork, in one slot before AdamW."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tests.study.test_local import HERE, placed, wait_for
from tests.study.test_workers import ended, odd

from fairstep.runs import Store
from fairstep.study import Layout, LocalLauncher

OUTCOMES = {
    **dict.fromkeys(("Prints", "PrintsMuch", "Leaks", "Forks", "ForksAndStays", "PatchedLoss", "DefaultDtype"), "done"),
    **dict.fromkeys(("Reads", "Raises", "Exits", "ExitsAtOnce", "Crashes", "Sleeps"), "failed"),
}


def test_adamw_is_the_same_beside_each(tally: Any, tiny: Any, tmp_path: Path) -> None:
    store, right, silent = Store(tmp_path / "s").writable(), 0, 0
    spec = tiny("adamw", tokens=8 * 16 * 30)
    with LocalLauncher(HERE, Layout(1, 1)) as launcher:
        alone = placed(Store(tmp_path / "alone").writable(), spec)
        ended(launcher, alone)
    whole = (alone.directory / "metrics.jsonl").read_bytes()
    with LocalLauncher(HERE, Layout(1, 1)) as launcher:
        for name, outcome in OUTCOMES.items():
            run = placed(store, odd(tiny, name))
            launcher.start(run)
            if name == "Sleeps":  # from its 15th step on; cancelled as after a silence
                time.sleep(20)
                launcher.cancel(run.id)
            end = wait_for(launcher, "end", 120)
            after = placed(Store(tmp_path / name).writable(), spec)
            ended(launcher, after)
            same = (after.directory / "metrics.jsonl").read_bytes() == whole
            right, silent = right + (same and end["status"] == outcome), silent + (not same)
    tally("optimizers that misbehave", len(OUTCOMES), right, silent)
