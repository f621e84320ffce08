"""An optimizer of your own: check it, train with it, look at the result.

    python examples/own_optimizer.py --store runs/own

Then let it compete: fairstep compare adamw own_optimizer:NormalisedMomentum --space lr=log:1e-3:3e-2 (in this folder).
"""

import argparse
import os
import sys
from pathlib import Path

import torch

from fairstep.cli import main as fairstep
from fairstep.runs import Store


class NormalisedMomentum(torch.optim.Optimizer):
    """Momentum, scaled so that every tensor's step has a root mean square of lr."""

    def __init__(self, params, lr=0.004, momentum=0.95, weight_decay=0.1):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["m"] = torch.zeros_like(p)
                m = state["m"].lerp_(p.grad, 1 - group["momentum"])
                rms = m.square().mean().sqrt().clamp(min=1e-12)
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(m / rms, alpha=-group["lr"])


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", type=Path, default=Path("runs/own"))
    parser.add_argument("--tokens", default="100k")
    options = parser.parse_args()
    store = options.store.resolve()
    os.chdir(Path(__file__).parent)  # an optimizer is found in the current folder, or as an installed package
    name = "own_optimizer:NormalisedMomentum"
    if code := fairstep(["doctor", name]):
        return code
    if code := fairstep(
        ["train", name, "--model", "27k", "--no-compile", "--tokens", options.tokens, "--store", str(store)]
    ):
        return code
    for row in Store(store).table().select("optimizer", "lr", "final_loss", "state_bytes").to_dicts():
        print(row)
    return 0


if __name__ == "__main__":
    sys.exit(main())
