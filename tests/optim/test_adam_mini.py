"""Adam-mini against a literal twin with explicit blocks, and how it finds them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.optim.test_rules import gradient, start
from tests.optim.twins import State
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from fairstep.model import Llama, ModelConfig
from fairstep.optim import AdamMini, build

NAMES = {"square": "0.q_proj.weight", "square2": "0.v_proj.weight", "wide": "0.wk.weight", "tall": "0.up.weight"}
NAMES |= {"tall2": "embed_tokens.weight", "vector": "norm.weight", "scalar": "0.up.bias"}


def twin(w: Tensor, g: Tensor, s: State, lr: float, wd: float, b1: float, b2: float, eps: float, block: Any) -> Tensor:
    """``block(index)``: the block of an element, given by its indices."""
    s["t"] = t = s.get("t", 0) + 1
    s["m"] = b1 * s.get("m", torch.zeros_like(w)) + (1 - b1) * g
    if "members" not in s:
        s["members"] = {}
        for index in [tuple(position.tolist()) for position in torch.ones_like(w).nonzero()]:
            s["members"].setdefault(block(index), []).append(index)
    members = s["members"]
    v = s.setdefault("v", dict.fromkeys(members, 0.0))
    u = torch.empty_like(w)
    for name, indices in members.items():
        v[name] = b2 * v[name] + (1 - b2) * sum(g[index].item() ** 2 for index in indices) / len(indices)
        for index in indices:
            u[index] = s["m"][index] / (1 - b1**t) / ((v[name] / (1 - b2**t)) ** 0.5 + eps)
    return w - lr * (u + wd * w)


@pytest.mark.parametrize(("vectors", "norm"), [("tensor", lambda index: 0), ("element", lambda index: index)])
def test_against_its_twin(vectors: str, norm: Any) -> None:
    """Heads of 2 rows for query and key, rows for the rest; norms as asked, biases by element."""
    weights = start()
    blocks = {n: lambda index: index[0] for n in weights}
    blocks |= {n: lambda index: index[0] // 2 for n in ("square", "wide")}
    blocks |= {"vector": norm, "scalar": lambda index: index}
    ours = {n: nn.Parameter(w.clone()) for n, w in weights.items()}
    settings = {"beta1": 0.8, "beta2": 0.9, "eps": 1e-3, "weight_decay": 0.2, "vector_blocks": vectors}
    named = [(NAMES[n], p) for n, p in ours.items()]
    optimizer = build("mini", named, lr=0.03, undecayed=(), head_size=2, **settings)
    states: dict[str, State] = {n: {} for n in weights}
    for step in range(1, 22):
        for n, p in ours.items():
            p.grad = gradient(p.detach(), n, step)
        optimizer.step()
        for n, w in weights.items():
            g = gradient(w, n, step)
            weights[n] = twin(w, g, states[n], 0.03, 0.2, 0.8, 0.9, 1e-3, blocks[n])
    for n, p in ours.items():
        assert ((p - weights[n]).abs().max() / (weights[n] - start()[n]).abs().max()).item() < 1e-12, n


def block_rows(optimizer: AdamMini) -> dict[str, int]:
    return {name: group["block_rows"] for group in optimizer.param_groups for name in group["param_names"]}


def test_blocks_of_a_model() -> None:
    config = {"layers": 1, "width": 16, "mlp_width": 32, "vocabulary": 32, "context": 8}
    found = block_rows(AdamMini(Llama(ModelConfig(heads=4, kv_heads=2, **config))))
    assert found["blocks.0.attention.q.weight"] == found["blocks.0.attention.k.weight"] == 4
    assert found["blocks.0.attention.v.weight"] == found["embedding.weight"] == found["head.weight"] == 1
    assert found["norm.weight"] == 0


@pytest.mark.parametrize(("attribute", "value"), [("head_dim", 3), ("num_heads", 4), ("n_head", 4), ("other", 3)])
def test_the_size_of_a_head_is_found_beside_its_layer(attribute: str, value: int) -> None:
    attention = nn.ModuleDict({"query": nn.Linear(12, 12), "value": nn.Linear(12, 12)})
    setattr(attention, attribute, value)
    found = block_rows(AdamMini(nn.ModuleDict({"attention": attention})))
    assert found["attention.query.weight"] == (1 if attribute == "other" else 3)
    assert found["attention.query.bias"] == found["attention.value.weight"] == 1
    assert block_rows(AdamMini(attention, head_size=6))["query.weight"] == 6


@pytest.mark.parametrize("attribute", ["key_value_proj_dim", "attention_head_size", "d_head", "dim_head"])
def test_a_head_may_be_wider_than_inputs_over_heads(attribute: str) -> None:
    """T5's and others' heads have a size of their own, under other names."""
    attention = nn.ModuleDict({"q": nn.Linear(12, 24), "k": nn.Linear(12, 24)})
    attention.n_heads = 4
    setattr(attention, attribute, 6)
    assert block_rows(AdamMini(nn.ModuleDict({"attention": attention})))["attention.q.weight"] == 6


@pytest.mark.parametrize("around", [nn.utils.parametrizations.spectral_norm, checkpoint_wrapper])
def test_heads_are_found_through_what_stands_around_a_layer(around: Callable[[nn.Module], nn.Module]) -> None:
    attention = nn.ModuleDict({"q": around(nn.Linear(12, 12, bias=False)), "v": nn.Linear(12, 12, bias=False)})
    attention.head_dim = 3
    assert sorted(block_rows(AdamMini(nn.ModuleDict({"attention": attention}))).values()) == [1, 3]


def test_a_plain_list_has_rows_and_tensors() -> None:
    optimizer = AdamMini([nn.Parameter(torch.zeros(4, 3)), nn.Parameter(torch.zeros(5))])
    assert block_rows(optimizer) == {"0": 1, "1": 0}


def test_heads_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"adam-mini: q.weight has 12 rows, which heads of 5 do not divide"):
        AdamMini([("q.weight", nn.Parameter(torch.zeros(12, 3)))], head_size=5)
