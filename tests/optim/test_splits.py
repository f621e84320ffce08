"""Fused matrices: their parts are treated as matrices of their own, exactly as if they were separate parameters."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tests.optim.supply import build
from torch import Tensor, nn

from fairstep.optim import get, names

OF_MATRICES = [name for name in names() if not get(name).part("matrix").rule.elementwise]
PARTS, ROWS, COLUMNS = 3, 6, 8
QKV = {"*.qkv.weight": {"splits": PARTS}}


def gradients(step: int) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(PARTS, ROWS, COLUMNS, generator=generator, dtype=torch.float64)


def stepped(name: str, weights: dict[str, Tensor], gradient: Any, steps: int = 5, **hyper: Any) -> dict[str, Tensor]:
    params = {n: nn.Parameter(w.clone()) for n, w in weights.items()}
    optimizer = build(name, params.items(), roles=dict.fromkeys(params, "matrix"), **hyper)
    for step in range(1, steps + 1):
        for n, p in params.items():
            p.grad = gradient(n, step)
        optimizer.step()
    return {n: p.detach() for n, p in params.items()}


@pytest.mark.parametrize("name", [name for name in OF_MATRICES if not get(name).signals])
def test_a_fused_matrix_is_stepped_as_its_parts(name: str) -> None:
    start = gradients(0)
    fused = stepped(
        name, {"0.qkv.weight": start.flatten(0, 1)}, lambda _, step: gradients(step).flatten(0, 1), overrides=QKV
    )
    apart = stepped(name, {f"0.{n}.weight": start[n] for n in range(PARTS)}, lambda n, step: gradients(step)[int(n[2])])
    joined = torch.cat([*apart.values()])
    torch.testing.assert_close(fused["0.qkv.weight"], joined, rtol=1e-10, atol=1e-12)


def test_an_elementwise_rule_sees_no_parts() -> None:
    start = {"0.qkv.weight": gradients(0).flatten(0, 1)}
    gradient = lambda _, step: gradients(step).flatten(0, 1)  # noqa: E731
    plain, split = (stepped("adamw", start, gradient, **given) for given in ({}, {"overrides": QKV}))
    assert torch.equal(plain["0.qkv.weight"], split["0.qkv.weight"])


class Conv1D(nn.Module):
    """As Transformers' for GPT-2: its weight is input x output."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.nx, self.nf = inputs, outputs
        self.weight = nn.Parameter(torch.zeros(inputs, outputs, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


def test_a_matrix_stored_as_input_x_output_is_split_by_its_outputs() -> None:
    model = nn.ModuleDict({"c_attn": Conv1D(COLUMNS, PARTS * ROWS)})
    weight: Any = model["c_attn"].weight
    weight.data = gradients(0).flatten(0, 1).T.clone()
    optimizer = build("muon", model, roles={"c_attn.weight": "matrix"}, overrides={"c_attn.weight": {"splits": PARTS}})
    weight.grad = gradients(1).flatten(0, 1).T
    optimizer.step()
    start = {"0.qkv.weight": gradients(0).flatten(0, 1)}
    straight = stepped("muon", start, lambda _, step: gradients(step).flatten(0, 1), 1, overrides=QKV)
    torch.testing.assert_close(weight.detach().T, straight["0.qkv.weight"], rtol=1e-10, atol=1e-12)


def test_the_state_of_parts_is_saved_and_loaded() -> None:
    def made(w: Tensor) -> tuple[nn.Parameter, torch.optim.Optimizer]:
        p = nn.Parameter(w.clone())
        return p, build("soap", [("0.qkv.weight", p)], roles="matrix", overrides=QKV)

    p, optimizer = made(gradients(0).flatten(0, 1))
    for step in range(1, 6):
        p.grad = gradients(step).flatten(0, 1)
        optimizer.step()
    assert optimizer.state[p]["L"].shape == (PARTS, ROWS, ROWS)
    q, resumed = made(p.detach())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for one, o in ((p, optimizer), (q, resumed)):
        one.grad = gradients(9).flatten(0, 1)
        o.step()
    assert torch.equal(p, q)


@pytest.mark.parametrize(
    ("splits", "sentence"),
    [
        (5, r"parameter 0.qkv.weight has 18 rows, and cannot be 5 matrices of one size"),
        (0, r"splits must be an integer in \[1, inf\), not 0"),
        (1.5, r"splits must be an integer in \[1, inf\), not 1.5"),
    ],
)
def test_rows_that_are_no_parts_of_one_size_are_refused(splits: Any, sentence: str) -> None:
    p = nn.Parameter(torch.zeros(PARTS * ROWS, COLUMNS))
    with pytest.raises(ValueError, match=sentence):
        build("muon", [("0.qkv.weight", p)], roles="matrix", overrides={"*.qkv.weight": {"splits": splits}})
