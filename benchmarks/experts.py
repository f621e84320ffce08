"""Experts as one grouped product against a Python loop over experts, forward and backward, one thread, in one run.

python benchmarks/experts.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from fairstep.model.moe import Experts, top_k

SIZES = ((4, 64, 192, 2048), (8, 256, 768, 1024), (64, 64, 64, 2048))
ROUNDS = 10


def loop(experts: Experts, rows: Tensor, ends: Tensor) -> Tensor:
    """The same by one expert after another."""
    out, start = [], 0
    for e, end in enumerate(ends.tolist()):
        x = rows[start:end]
        out.append((F.silu(x @ experts.gate[e].T) * (x @ experts.up[e].T)) @ experts.down[e].T)
        start = end
    return torch.cat(out)


def seconds(function: Callable[..., Tensor], *arguments: object) -> float:
    """Processor time of a forward and a backward pass."""
    began = time.process_time()
    function(*arguments).square().sum().backward()
    return time.process_time() - began


def main() -> None:
    torch.set_num_threads(1)
    for count, width, mlp_width, tokens in SIZES:
        torch.manual_seed(0)
        experts = Experts(count, width, mlp_width)
        for p in experts.parameters():
            torch.nn.init.normal_(p, std=0.02)
        ends = top_k(torch.randn(1, tokens, count), 2).ends
        rows = torch.randn(2 * tokens, width, requires_grad=True)
        sides = ((loop, experts, rows, ends), (experts, rows, ends))
        times = [[seconds(*side) for side in sides] for _ in range(ROUNDS + 2)][2:]
        slow, fast = (statistics.median(column) * 1e3 for column in zip(*times, strict=True))
        print(
            f"{count} experts, width {width}, MLP {mlp_width}, {tokens} tokens: loop {slow:.1f} ms, "
            f"grouped {fast:.1f} ms, {slow / fast:.2f}x"
        )


if __name__ == "__main__":
    main()
