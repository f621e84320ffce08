"""Matrices whose rows several ranks share: the weights and the state of one process, at any division of the rows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tests import checkpoints
from torch import Tensor, nn

from fairstep import optim
from fairstep.optim.sharding.step_cost import Ownership, Piece

CASES: dict[str, dict[str, Any]] = {
    "soap": {"precondition_frequency": 3},
    "soap one side": {"max_precond_dim": 8, "precondition_frequency": 2},
    "soap no side": {"max_precond_dim": 0},
    "soap blocks": {"block_size": 4, "precondition_frequency": 3},  # of matrices, whose both sides are cut
    "soap columns": {"block_size": 4, "precondition_frequency": 3, "max_precond_dim": 8},
    "soap+cautious": {},
    "soap+ema": {},
    "kron": {},
    "kron rare": {"update_probability": 0.3, "flat_start": 0},
    "kron diagonal": {"memory_save_mode": "all_diag"},
    "kron one side": {"memory_save_mode": "smart_one_diag", "normalize_gradients": True, "beta1": 0.5},
    "kron columns": {"block_size": 4},
    "kron blocks": {"block_size": 4, "normalize_gradients": True},
    "mars-shampoo": {},
    "mars-shampoo express": {"ns_coefficients": "polar-express", "form": "exact"},
    "mars-shampoo cubic": {"ns_coefficients": "cubic", "clip": "global"},
    "scion": {},
    "scion by role": {"overrides": {"head": {"lr_ratio": 0.5}, "embedding": {"momentum": 0.8}}},
    "adam-mini": {},
    "adam-mini by role": {"overrides": {"head": {"lr_ratio": 0.5, "weight_decay": 0.3}, "embedding": {"beta2": 0.9}}},
}
ROWS = (0, 4, 28, 48)
"""Edges of three ranks' rows of the large matrices: uneven, and at multiples of the size of a block."""


class Ranks:
    """Threads that add tensors up and hand them on, as ranks do."""

    def __init__(self, count: int) -> None:
        self.parts: list[Tensor] = [torch.empty(0)] * count
        self.barrier = threading.Barrier(count, timeout=30)
        self.sums = 0

    def total(self, rank: int) -> Callable[..., Tensor]:
        def total(part: Tensor, largest: bool = False) -> Tensor:
            self.parts[rank] = part.clone()
            self.barrier.wait()
            assert len({p.shape for p in self.parts}) == 1
            parts = torch.stack(self.parts)
            self.barrier.wait()
            self.sums += rank == 0
            return part.copy_(parts.amax(0) if largest else parts.sum(0))

        return total


def model() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Embedding(48, 6), nn.Linear(6, 6, bias=False), nn.Linear(6, 48, bias=False)]
    return nn.Sequential(*layers).double()


def steps(optimizer: Any, count: int, first: int = 0) -> None:
    for step in range(first, first + count):
        for n, (_, p) in enumerate(optimizer.named_parameters()):
            draw = torch.Generator().manual_seed(1000 * step + n)
            p.grad = torch.randn(p.shape, generator=draw, dtype=p.dtype) * torch.linspace(0.5, 2, p.shape[1])
            p.grad += 0.1 * p.detach()
        for signal, names in optimizer.due().items():
            gradients = {name: p.grad * 0.9 for name, p in optimizer.named_parameters() if name in names}
            optimizer.supply(signal, gradients)
        optimizer.step()


def ownership(optimizer: Any) -> Ownership:
    """All that is divisible by rows in three parts; the rest is the second rank's."""
    owned: list[dict[str, Piece]] = [{}, {}, {}]
    for work in optimizer.step_costs():
        if work.kind == "rows" and work.rows == 48:
            for rank, (start, stop) in enumerate(pairwise(ROWS)):
                owned[rank][work.name] = Piece(start, stop, work.rows)
        else:
            owned[1][work.name] = Piece(0, work.rows, work.rows)
    return tuple(owned)


def build(case: str) -> Any:
    roles = dict.fromkeys(("0.weight", "1.weight", "2.weight"), "matrix") if case.endswith("blocks") else None
    return optim.build(case.split()[0], model(), undecayed=(), roles=roles, **CASES[case])


def on_ranks(case: str, count: int, first: int = 0, saved: Any = None) -> tuple[list[Any], dict[str, Tensor], int]:
    """(state dicts of the ranks, weights by name, sums) after the steps."""
    ranks = Ranks(3)
    built = [build(case) for _ in range(3)]
    failed: list[BaseException] = []

    def work(rank: int) -> None:
        try:
            optimizer = built[rank]
            optimizer.share(ownership(optimizer)[rank], ranks.total(rank))
            if saved:
                optimizer.load_state_dict(saved["state"])
                with torch.no_grad():
                    for name, p in optimizer.named_parameters():
                        p.copy_(saved["weights"][name])
            steps(optimizer, count, first)
        except BaseException as error:
            failed.append(error)
            ranks.barrier.abort()

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    weights = {}
    for name, p in built[1].named_parameters():
        parts = [b.ownership.tensors[name].detach().reshape(-1) for b in built if name in b.ownership.tensors]
        weights[name] = torch.cat(parts).view(p.shape)
    return [optimizer.state_dict() for optimizer in built], weights, ranks.sums


def assert_close(found: Any, expected: Any, where: str) -> None:
    if isinstance(expected, Tensor):
        scale = expected.abs().max().clamp(min=1e-30)
        assert ((found - expected).abs().max() / scale) <= 1e-10, where
    else:
        assert found == expected, where


@pytest.mark.parametrize("case", CASES)
def test_divided_rows_give_the_weights_of_whole_matrices(case: str, tmp_path: Path) -> None:
    alone = build(case)
    steps(alone, 20)
    parts, weights, sums = on_ranks(case, 20)
    works = alone.step_costs()
    divided = [w for w in works if w.kind == "rows" and w.rows == 48]
    assert len(divided) >= 2
    assert sums > 0 or not any(w.sums for w in divided)
    for name, p in alone.named_parameters():
        assert_close(weights[name], p.detach(), name)
    whole = build(case)
    checkpoints.write(tmp_path, parts)
    checkpoints.read(tmp_path, whole)
    expected = alone.state_dict()["state"]
    for name, entry in whole.state_dict()["state"].items():
        assert entry.keys() == expected[name].keys()
        for key, value in entry.items():
            assert_close(value, expected[name][key], f"{name} {key}")


@pytest.mark.parametrize("case", ["soap", "kron", "mars-shampoo", "soap+ema"])
def test_state_moves_between_one_process_and_divided_rows(case: str, tmp_path: Path) -> None:
    alone = build(case)
    steps(alone, 5)
    saved = {"state": alone.state_dict(), "weights": {n: p.detach().clone() for n, p in alone.named_parameters()}}
    parts, weights, _ = on_ranks(case, 5, 5, saved)
    again = build(case)
    checkpoints.write(tmp_path, parts)
    checkpoints.read(tmp_path, again)
    with torch.no_grad():
        for name, p in again.named_parameters():
            p.copy_(weights[name])
    steps(again, 5, 10)
    steps(alone, 10, 5)
    for (name, p), (_, q) in zip(alone.named_parameters(), again.named_parameters(), strict=True):
        assert_close(q.detach(), p.detach(), name)
