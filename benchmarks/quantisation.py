"""How much of optimizer state is lost in 8 bits: one round trip of 2^20 numbers, by map, block and distribution.

python benchmarks/quantisation.py
python benchmarks/quantisation.py --steps      (what a step costs, of a 512 x 2048 matrix on one thread)

m: a moment with a sign, of Gaussian numbers times exp(sigma x Gaussian). v: their squares. Error: norm of what is lost
over the norm. Zeroed: share of elements whose code says 0. sqrt(v): median of the relative error of the root of
elements that are not zeroed, which is what AdamW divides by.
"""

from __future__ import annotations

import sys
import time

import torch
from torch import nn

from fairstep.optim import build
from fairstep.optim.maths.quantisation import dequantise, quantise

SETTINGS = (("dynamic", 256), ("linear", 256), ("linear", 2048))


def main() -> None:
    print("| sigma | map, block | m: error, zeroed | v: zeroed, sqrt(v) |\n|---|---|---|---|")
    for sigma in (0.0, 1.0, 2.0):
        generator = torch.Generator().manual_seed(0)
        normal, scale = (torch.randn(1, 2**20, generator=generator) for _ in range(2))
        m = normal * (sigma * scale).exp()
        for kind, block in SETTINGS:
            back, v = trip(m, block, kind, True), m.square()
            error, zeroed = ((back - m).norm() / m.norm()).item(), ((back == 0) & (m != 0)).float().mean().item()
            back = trip(v, block, kind, False)
            kept = back > 0
            root = ((back[kept] / v[kept]).sqrt() - 1).abs().median().item()
            lost = 1 - kept.float().mean().item()
            print(f"| {sigma:g} | {kind}, {block} | {error:.1%}, {zeroed:.1%} | {lost:.1%}, {root:.1%} |")


def trip(x: torch.Tensor, block: int, kind: str, signed: bool) -> torch.Tensor:
    return dequantise(*quantise(x, block, kind, signed), x.shape[1], kind, signed)


def steps() -> None:
    """The thread's own time of the fastest of 20 steps in turns: the machine's load matters little."""
    torch.set_num_threads(1)
    fastest: dict[str, float] = {}
    made = {}
    for name in ("adamw", "adamw-8bit", "muon", "muon-8bit"):
        p = nn.Parameter(torch.randn(512, 2048, generator=torch.Generator().manual_seed(0)))
        p.grad = torch.randn(512, 2048, generator=torch.Generator().manual_seed(1))
        made[name] = build(name, [("w", p)], roles="matrix")
    for _ in range(20):
        for name, optimizer in made.items():
            began = time.thread_time()
            optimizer.step()
            fastest[name] = min(fastest.get(name, float("inf")), time.thread_time() - began)
    for plain in ("adamw", "muon"):
        own = fastest[f"{plain}-8bit"]
        print(
            f"{plain}: {1e3 * fastest[plain]:.1f} ms, in 8 bits {1e3 * own:.1f} ms ({own / fastest[plain]:.2f} times)"
        )


if __name__ == "__main__":
    steps() if "--steps" in sys.argv else main()
