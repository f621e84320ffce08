"""How long `fairstep.judge` takes for tables of 100,000 rows, in processor time, and the most memory of its process.

python benchmarks/judge_time.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

MEASURED = """
import sys, time
import fairstep
fairstep.judge
began = time.process_time()
judged = fairstep.judge(sys.argv[1], "adamw")
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(time.process_time() - began, judged["muon"].pairs, judged["muon"].tuning_trials, int(peak.split()[1]) / 1000)
"""


def table(kind: str) -> pl.DataFrame:
    """Of kind "evaluations": 4 contestants x 250 seeds x 100 evaluations; of kind "runs": 20 contestants x 10 learning
    rates x 500 seeds, one row each."""
    rows = np.arange(100_000)
    if kind == "evaluations":
        names, number = ["adamw", "muon", "soap", "lion"], rows // 25_000
        seed, lr, step = rows // 100 % 250, 0.001 + 0 * rows, rows % 100 + 1
    else:
        names, number = ["adamw", "muon", *(f"rule {place}" for place in range(18))], rows % 20
        seed, lr, step = rows // 200, 0.001 * (1 + rows // 20 % 10), 1000 + 0 * rows
    loss = 3 + np.random.default_rng(0).normal(0, 0.01, len(rows))
    columns = {"optimizer": np.array(names)[number], "seed": seed, "lr": lr, "step": step, "val_loss": loss}
    return pl.DataFrame(columns)


def judged(path: Path) -> tuple[float, int, int, float]:
    """(seconds of processor time, pairs, trials of the search, most megabytes) of one process that judges a file."""
    command = [sys.executable, "-c", MEASURED, str(path)]
    words = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    return float(words[0]), int(words[1]), int(words[2]), float(words[3])


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("evaluations", "runs"):
            path = Path(folder) / f"{kind}.csv"
            table(kind).write_csv(path)
            seconds, pairs, trials, megabytes = judged(path)
            print(f"{kind}: {seconds:.2f} s of processor time, {megabytes:.0f} MB; {pairs} pairs, {trials} trials")


if __name__ == "__main__":
    main()
