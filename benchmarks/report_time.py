"""How long a report takes: both papers' page with all claims, and a store of 5,000 runs that is made for it.

    python benchmarks/report_time.py [RUNS]

Every command is a fresh process, as a user starts it. The store is written through the runs API, without training.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.conftest import FakeContest

RUNS = 5000


def seconds(*command: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "fairstep", *command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def large_store(folder: Path, runs: int) -> Path:
    """One contest of ten contestants: searches that take most of the runs, ten final seeds, budgets of the baseline."""
    contest = FakeContest(folder)
    rng = np.random.default_rng(0)
    names = ["adamw", *(f"contestant{place}" for place in range(1, 10))]
    grid = max((runs - 10 * len(names) - 6) // len(names), 5)
    for place, name in enumerate(names):
        finals: list[float | None] = [float(2.8 - 0.02 * place + 0.01 * value) for value in rng.normal(size=10)]
        for trial in range(grid):
            contest.add(name, "tune", 2.8 + float(rng.random()), lr=1e-4 * 1.01**trial)
        for seed, final in enumerate(finals, start=1):
            contest.add(name, "final", final, lr=1e-3, seed=seed)
    contest.budgets({0.5: [3.0, 3.01], 2.0: [2.7, 2.71], 4.0: [2.6, 2.61]})
    contest.store.write_ledger(contest.ledger)
    return folder


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    with tempfile.TemporaryDirectory() as folder:
        store = large_store(Path(folder) / "store", runs)
        count = len(list((store / "runs").iterdir()))
        page = Path(folder) / "report.html"
        print(f"store of {count} runs: {seconds('report', str(store), '--out', str(page)):.1f} s,", end=" ")
        print(f"{page.stat().st_size / 1e6:.1f} MB")
        claims, published = seconds("claims"), seconds("report", "--published", "--out", folder)
        size = (Path(folder) / "index.html").stat().st_size / 1e6
        print(f"claims {claims:.1f} s + published {published:.1f} s = {claims + published:.1f} s, {size:.1f} MB")


if __name__ == "__main__":
    main()
