"""Fused matrices: their parts are treated as matrices of their own, exactly as if they were separate parameters."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import pytest
import torch
from tests.optim.supply import build
from torch import Tensor, nn

from fairstep.optim import get, names
from fairstep.optim.sharding.partition import divide
from fairstep.optim.sharding.step_cost import StepCost
from fairstep.optim.spec.overrides import flat

OF_MATRICES = [name for name in names() if not get(name).part("matrix").rule.elementwise]
PARTS, ROWS, COLUMNS = 3, 6, 8
QKV = {"*.qkv.weight": {"splits": PARTS}}


def gradients(step: int) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(PARTS, ROWS, COLUMNS, generator=generator, dtype=torch.float64)


def stepped(
    name: str, weights: dict[str, Tensor], gradient: Any, steps: int = 5, role: str = "matrix", **hyper: Any
) -> dict[str, Tensor]:
    params = {n: nn.Parameter(w.clone()) for n, w in weights.items()}
    optimizer = build(name, params.items(), roles=dict.fromkeys(params, role), **hyper)
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


ROWS_OF = {"q": 4, "k": 2, "v": 2}
"""Rows of query, key and value in grouped-query attention: two query heads for one of keys."""


def grown(part: str, step: int, *experts: int) -> Tensor:
    generator = torch.Generator().manual_seed(100 * step + ord(part))
    return torch.randn(*experts, ROWS_OF[part], COLUMNS, generator=generator, dtype=torch.float64)


def fused(step: int, *experts: int) -> Tensor:
    return torch.cat([grown(part, step, *experts) for part in ROWS_OF], dim=-2)


@pytest.mark.parametrize("experts", [(), (3,)], ids=["matrix", "experts"])
@pytest.mark.parametrize("name", [name for name in OF_MATRICES if not get(name).signals])
def test_parts_of_several_sizes_are_stepped_as_parameters_of_their_own(name: str, experts: tuple[int, ...]) -> None:
    role = "expert" if experts else "matrix"
    split = {"0.qkv": {"splits": (4, 2, 2)}}
    whole = stepped(name, {"0.qkv": fused(0, *experts)}, lambda _, t: fused(t, *experts), role=role, overrides=split)
    parts = {f"0.{part}": grown(part, 0, *experts) for part in ROWS_OF}
    apart = stepped(name, parts, lambda n, step: grown(n[2], step, *experts), role=role)
    torch.testing.assert_close(whole["0.qkv"], torch.cat([*apart.values()], dim=-2), rtol=1e-10, atol=1e-12)


def interleaved(step: int, *experts: int, groups: int = 2) -> Tensor:
    """The rows of all parts head by head: each group has a half of each part's."""
    parts = [grown(part, step, *experts).unflatten(-2, (groups, -1)) for part in ROWS_OF]
    return torch.cat(parts, dim=-2).flatten(-3, -2)


@pytest.mark.parametrize("experts", [(), (3,)], ids=["matrix", "experts"])
@pytest.mark.parametrize("name", [name for name in OF_MATRICES if not get(name).signals])
def test_interleaved_parts_are_stepped_as_parameters_of_their_own(name: str, experts: tuple[int, ...]) -> None:
    role = "expert" if experts else "matrix"
    split = {"0.qkv": {"splits": "2*2:1:1"}}
    start = {"0.qkv": interleaved(0, *experts)}
    whole = stepped(name, start, lambda _, t: interleaved(t, *experts), role=role, overrides=split)
    parts = {f"0.{part}": grown(part, 0, *experts) for part in ROWS_OF}
    apart = stepped(name, parts, lambda n, step: grown(n[2], step, *experts), role=role)
    expected = torch.cat([one.unflatten(-2, (2, -1)) for one in apart.values()], dim=-2).flatten(-3, -2)
    torch.testing.assert_close(whole["0.qkv"], expected, rtol=1e-10, atol=1e-12)


class Experts(nn.Module):
    def __init__(self, stack: Tensor, turned: bool) -> None:
        super().__init__()
        self.is_transposed = turned
        self.gate_up = nn.Parameter(stack.mT.contiguous() if turned else stack.clone())


@pytest.mark.parametrize("turned", [False, True], ids=["out x in", "in x out"])
@pytest.mark.parametrize(("splits", "edges"), [(2, (0, 4, 8)), ("2:1:1", (0, 4, 6, 8)), ("1:2:1", (0, 2, 6, 8))])
def test_fused_matrices_of_experts_are_split_by_their_outputs(splits: Any, edges: Any, turned: bool) -> None:
    model = nn.ModuleDict({"mlp": Experts(fused(0, 3), turned)})
    p: Any = model["mlp"].gate_up
    optimizer = build("muon", model, roles={"mlp.gate_up": "expert"}, overrides={"mlp.gate_up": {"splits": splits}})
    for step in range(1, 4):
        p.grad = fused(step, 3).mT if turned else fused(step, 3)
        optimizer.step()
    places = {str(first): slice(first, last) for first, last in pairwise(edges)}
    parts = {n: fused(0, 3)[:, place] for n, place in places.items()}
    apart = stepped("muon", parts, lambda n, step: fused(step, 3)[:, places[n]], 3, role="expert")
    joined = torch.cat([*apart.values()], dim=1)
    torch.testing.assert_close(p.detach().mT if turned else p.detach(), joined, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("splits", ["4:2:2", "2*2:1:1"])
@pytest.mark.parametrize("name", ["soap", "muon+ema", "muonh"])
def test_parts_of_several_sizes_are_evaluated_saved_and_resumed(name: str, splits: str) -> None:
    def made(w: Tensor) -> tuple[nn.Parameter, nn.Parameter, Any]:
        p, q = nn.Parameter(w.clone()), nn.Parameter(grown("q", 0))
        optimizer = build(name, [("0.qkv", p), ("0.q", q)], roles="matrix", overrides={"0.qkv": {"splits": splits}})
        return p, q, optimizer

    def step(p: nn.Parameter, q: nn.Parameter, optimizer: Any, t: int) -> None:
        p.grad, q.grad = fused(t), grown("q", t) if t % 2 else None  # its stack is another's now and then
        optimizer.step()

    one = made(fused(0))
    for t in range(1, 6):
        step(*one, t)
    assert {"step", "m/0", "m/1"} <= set(one[2].state[one[0]])
    before = one[0].detach().clone()
    one[2].eval()
    evaluated = one[0].detach().clone()
    assert torch.equal(evaluated, before) == ("ema" not in name)
    saved = copy.deepcopy(one[2].state_dict())
    other = made(evaluated)
    other[1].data.copy_(one[1])
    other[2].load_state_dict(saved)
    for _, _, optimizer in (one, other):
        optimizer.train()
    assert torch.equal(one[0], before)
    for t in range(6, 9):
        step(*one, t)
        step(*other, t)
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])


def test_state_of_other_parts_is_refused() -> None:
    def made(**given: Any) -> torch.optim.Optimizer:
        p = nn.Parameter(fused(0))
        optimizer: torch.optim.Optimizer = build("muon", [("0.qkv", p)], roles="matrix", **given)
        p.grad = fused(1)
        optimizer.step()
        return optimizer

    by = {
        splits: made(overrides={"0.qkv": {"splits": splits}}).state_dict() for splits in ("2:1:1", "1:1:2", 2, "2*3:1")
    }
    for splits in by:
        for other, state in by.items():
            if other != splits:
                with pytest.raises(ValueError, match=r"of another model: the state of 0.qkv has the shapes"):
                    made(overrides={"0.qkv": {"splits": splits}}).load_state_dict(state)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("4:2:2", "2:1:1"),
        ((64, 16, 16), "4:1:1"),
        ("7:7:7", 3),
        ("6", 6),
        ([5, 5], 2),
        (1, 1),
        ("8*4:2:2", "8*2:1:1"),
        ("8*3", "8*1:1:1"),
        ("08*7:7", "8*1:1"),
        ("1*4:2", "2:1"),
        ("8*1", 1),
    ],
)
def test_one_division_has_one_name(given: Any, kept: Any) -> None:
    assert get("muon").validate(flat({"*.qkv": {"splits": given}}))["*.qkv.splits"] == kept


def test_the_cost_of_parts_is_that_of_matrices_of_their_own() -> None:
    def cost(role: str, shape: tuple[int, ...], **hyper: Any) -> StepCost:
        spec = get("soap")
        settings = spec.settings("matrix", spec.validate({}))
        return StepCost.of("x", spec.part("matrix").rule, role, shape, {**settings, **hyper})

    for lead in ((), (3,)):
        role = "expert" if lead else "matrix"
        whole = cost(role, (*lead, 24, 8), splits="4:1:1")
        parts = [cost(role, (*lead, rows, 8)) for rows in (16, 4, 4)]
        assert cost(role, (*lead, 24, 8), splits="2*4:1:1") == whole
        for count in ("cost", "state", "flops"):
            assert getattr(whole, count) == pytest.approx(sum(getattr(part, count) for part in parts))
        assert whole.kind == ("experts" if lead else "whole")


@pytest.mark.parametrize(
    ("splits", "sentence"),
    [
        (5, r"parameter 0.qkv.weight has 18 rows, and cannot be 5 equal parts; the rows must be a multiple of 5"),
        ("4:1:2", r"18 rows, and cannot be 4:1:2 parts in proportion; the rows must be a multiple of 7"),
        ("4*2:1", r"18 rows, and cannot be 4\*2:1 parts in proportion; the rows must be a multiple of 12"),
        (0, r"splits must be a number of equal parts from 1 on, parts in proportion such as '4:1:1', or .*, not 0"),
        (1.5, r"interleaved ones such as '8\*4:1:1', not 1.5"),
        ("4:0:1", r"such as '8\*4:1:1', not '4:0:1'"),
        ("4;1", r"such as '8\*4:1:1', not '4;1'"),
        ("*4:1", r"such as '8\*4:1:1', not '\*4:1'"),
        ("2*2*1", r"such as '8\*4:1:1', not '2\*2\*1'"),
        ((4, -1), r"such as '8\*4:1:1', not '4:-1'"),
        (True, r"such as '8\*4:1:1', not True"),
    ],
)
def test_rows_that_are_no_such_parts_are_refused(splits: Any, sentence: str) -> None:
    p = nn.Parameter(torch.zeros(PARTS * ROWS, COLUMNS))
    with pytest.raises(ValueError, match=sentence):
        build("muon", [("0.qkv.weight", p)], roles="matrix", overrides={"*.qkv.weight": {"splits": splits}})


@pytest.mark.parametrize("name", ["muon", "soap", "normuon"])
def test_ranks_that_share_the_work_step_the_parts_of_one_process(name: str) -> None:
    """A fused matrix has one owner, and experts are divided between them; the state goes to a process that has all."""
    splits = {"0.qkv": {"splits": "2:1:1"}, "0.up": {"splits": "2*2:1:1"}, "0.gate": {"splits": 2}}

    def made() -> Any:
        params = {n: nn.Parameter(fused(0, *lead)) for n, lead in (("0.qkv", ()), ("0.up", (3,)), ("0.gate", (3,)))}
        roles = {"0.qkv": "matrix", "0.up": "expert", "0.gate": "expert"}
        return params, build(name, params.items(), roles=roles, overrides=splits)

    def step(params: dict[str, nn.Parameter], optimizer: Any, t: int) -> None:
        for n, p in params.items():
            p.grad = fused(t) if n == "0.qkv" else fused(t, 3)
        optimizer.step()

    whole = made()
    ranks = [made() for _ in range(2)]
    ownership = divide(whole[1].step_costs(), 2)
    for owned, (_, optimizer) in zip(ownership, ranks, strict=True):
        optimizer.share(owned, lambda part, *_: part)
    for t in range(1, 4):
        step(*whole, t)
        for one in ranks:
            step(*one, t)
    assert any(not piece.whole for owned in ownership for piece in owned.values())
    for owned, (params, optimizer) in zip(ownership, ranks, strict=True):
        saved = optimizer.state_dict()["state"]
        for n, piece in owned.items():
            rows = slice(None) if piece.whole else slice(piece.start, piece.stop)
            torch.testing.assert_close(params[n].detach()[rows], whole[0][n].detach()[rows], rtol=1e-10, atol=1e-12)
            for key, value in whole[1].state[whole[0][n]].items():
                if isinstance(value, Tensor):
                    mine = getattr(saved[n][key], "local", saved[n][key])
                    torch.testing.assert_close(mine, value if piece.whole else value[rows], rtol=1e-10, atol=1e-12)
