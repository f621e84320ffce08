"""Where the time of a contest goes: its trainings' steps, their evaluations, and what is neither.

    python benchmarks/contest_time.py                            # the demo, in a folder of its own
    python benchmarks/contest_time.py adamw lion --model 27k     # any contest: the arguments of `fairstep compare`
    python benchmarks/contest_time.py --of runs/demo             # the trainings of a store that is there

Seconds of the wall clock, from the command's start to its page, beside the sum over trainings of what they say of
themselves. "Around the trainings" is what the workers' time holds beside them: their processes' start, choosing what
to run next, verdict and page, and workers that had nothing left to do. On a busy machine shares of a training hold
roughly, and seconds do not.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fairstep.model import PRESETS
from fairstep.runs import Run, Store, machine
from fairstep.study import layout


def parts(runs: list[Run]) -> dict[str, float]:
    """Seconds of all runs: in total, in steps (the median times their number), and in evaluations. The rest of a
    training loads, compiles and writes."""
    summaries = [run.summary for run in runs]
    total = steps = evaluations = 0.0
    for summary in summaries:
        if summary is not None:
            total += summary.train_seconds
            steps += summary.step_seconds * summary.steps
            evaluations += summary.evaluation_seconds
    return {"trainings": total, "steps": steps, "evaluations": evaluations, "rest": total - steps - evaluations}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", type=Path, help="a store whose trainings are to be read; nothing is run")
    options, contest = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        store, seconds = options.of or Path(folder), 0.0
        if not options.of:
            verb = ["compare", *contest] if contest else ["demo"]
            began = time.perf_counter()
            subprocess.run([sys.executable, "-m", "fairstep", *verb, "--store", folder], check=True)
            seconds = time.perf_counter() - began
        runs = [run for run in Store(store).runs() if run.summary]
        found = parts(runs)
        model = runs[0].own_spec.model if runs else PRESETS["106k"].model
    print(f"{machine().processor}, {machine().cores} cores; {len(runs)} trainings")
    for name, value in found.items():
        print(f"{name:24}{value:10.1f} s{value / max(found['trainings'], 1e-9):10.1%} of the trainings")
    if seconds:
        workers = layout(machine(), PRESETS[model.preset].parameters()).workers if model.preset in PRESETS else 1
        around = workers * seconds - found["trainings"]
        print(f"{'command to page':24}{seconds:10.1f} s of {workers} workers")
        print(f"{'around the trainings':24}{around:10.1f} s{around / (workers * seconds):10.1%} of the workers' time")


if __name__ == "__main__":
    main()
