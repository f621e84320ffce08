"""How long the longest step of SOAP and Kron is, with refreshes together (the papers') and spread over steps.

python benchmarks/spread_refreshes.py [--matrices 20] [--size 128] [--steps 60]

Processor time of the optimizer's step alone, on one thread. Kron is measured where its factors are updated every tenth
step, as late in a run.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import nn

from fairstep.optim import build


def step_milliseconds(name: str, refresh: str, matrices: int, size: int, steps: int) -> list[float]:
    parameters = [nn.Parameter(torch.randn(size, size)) for _ in range(matrices)]
    settings = {"flat_start": 0, "update_probability": 0.1} if name == "kron" else {}
    optimizer = build(name, parameters, refresh=refresh, **settings)
    times = []
    for step in range(steps + 12):
        for p in parameters:
            p.grad = torch.randn_like(p)
        if step == 1 and name == "kron":
            for stack in optimizer._stacks:
                stack.step = 2990
        began = time.process_time()
        optimizer.step()
        times.append(1000 * (time.process_time() - began))
    return times[12:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in (("--matrices", 20), ("--size", 128), ("--steps", 60)):
        parser.add_argument(option, type=int, default=default)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("optimizer  refresh   median ms  longest ms  mean ms")
    for name in ("soap", "kron"):
        for refresh in ("together", "spread"):
            times = step_milliseconds(name, refresh, arguments.matrices, arguments.size, arguments.steps)
            numbers = statistics.median(times), max(times), statistics.fmean(times)
            print(f"{name:9}  {refresh:8}  {numbers[0]:9.1f}  {numbers[1]:10.1f}  {numbers[2]:7.1f}")


if __name__ == "__main__":
    main()
