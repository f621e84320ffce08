"""How long a report takes: both papers' page with all claims, and a store of 5,000 runs that is made for it.

    python benchmarks/report_time.py [RUNS]

Every command is a fresh process, as a user starts it. The store is written through the runs API, without training.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.conftest import FakeContest

RUNS = 5000


def seconds(*command: str) -> tuple[float, float]:
    """Wall-clock and processor seconds."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "fairstep", *command], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began, spent


def words(*taken: tuple[float, float]) -> str:
    wall, spent = (sum(parts) for parts in zip(*taken, strict=True))
    return f"{wall:.1f} s ({spent:.1f} s of processor time)"


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
        taken = seconds("report", str(store), "--out", str(page))
        print(f"store of {count} runs: {words(taken)}, {page.stat().st_size / 1e6:.1f} MB")
        claims, published = seconds("claims"), seconds("report", "--published", "--out", folder)
        size = (Path(folder) / "index.html").stat().st_size / 1e6
        print(f"claims {words(claims)} + published {words(published)} = {words(claims, published)}, {size:.1f} MB")


if __name__ == "__main__":
    main()
