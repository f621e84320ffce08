"""One optimizer step with learning rates by role and layer, beside the step without: same tensors, one run, in turns.

python benchmarks/optimizer_overrides.py                       (two minutes)
python benchmarks/optimizer_overrides.py --sets 20m --rounds 40

roles: the learning rates of embedding, head and vectors are others. layers: every layer has a learning rate of its own,
so that no two layers share a param group. On one thread the clock is the thread's own. The ratio
is the median of pairs, with its quartiles.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import torch

import optimizer_step
from fairstep import optim
from optimizer_sets import SETS, Shapes, parameters
from optimizer_step import Runner, pair

OPTIMIZERS = ("adamw", "lion", "muon", "soap")


def overrides_of(kind: str, shapes: Shapes) -> dict[str, dict[str, float]]:
    roles = {"embedding": {"lr_ratio": 0.7}, "head": {"lr_ratio": 0.4}, "vector": {"lr_ratio": 0.6}}
    layers = dict.fromkeys(name.split(".")[1] for name in shapes if name.startswith("blocks."))
    by_layer = {f"blocks.{layer}.*": {"lr_ratio": 0.99**place} for place, layer in enumerate(layers, 1)}
    return {"roles": roles, "layers": by_layer}[kind]


def measure(name: str, kind: str, shapes: Shapes, chosen: argparse.Namespace) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    sets = [parameters(shapes, chosen.device) for _ in range(2)]
    grads = [(1e-2 * torch.randn(w.shape, generator=generator)).to(chosen.device) for w in sets[0].all]
    small = sum(w.numel() for w in sets[0].all) < 2**20
    steps = 20 if small else 8 if name == "soap" else 4  # SOAP renews its bases every tenth step
    with_, without = (
        Runner([optim.build(name, p.named.items(), overrides=given)], p, grads, steps)
        for p, given in zip(sets, (overrides_of(kind, shapes), {}), strict=True)
    )
    mine, plain = pair(with_, without, chosen.seconds, chosen.rounds)
    ratios = sorted(a / b for a, b in zip(mine, plain, strict=True))
    quartiles = statistics.quantiles(ratios, n=4)
    return {"optimizer": name, "kind": kind, "ms": 1000 * min(plain), "ratio": statistics.median(ratios),
            "quartiles": [quartiles[0], quartiles[2]], "fastest_ratio": min(mine) / min(plain), "pairs": len(ratios),
            "groups": len(with_.optimizers[0].param_groups)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--optimizers", default=",".join(OPTIMIZERS))
    parser.add_argument("--sets", default="tiny,20m")
    parser.add_argument("--kinds", default="roles,layers")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.threads == 1 and chosen.device == "cpu":
        optimizer_step.CLOCK = time.thread_time
    for size in chosen.sets.split(","):
        for name in chosen.optimizers.split(","):
            for kind in chosen.kinds.split(","):
                print(json.dumps({"set": size, **measure(name, kind, SETS[size], chosen)}), flush=True)


if __name__ == "__main__":
    main()
