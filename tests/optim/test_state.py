"""State by parameter name: what is saved, what is refused, how large it is."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from fairstep.optim import SOAP, AdamW, Lion, Muon, state_bytes


def test_state_is_kept_by_name(make_model: Callable[..., nn.Module], feed: Any) -> None:
    model = make_model()
    optimizer = SOAP(model)
    feed(model.parameters(), 1)
    optimizer.step()
    state = optimizer.state_dict()["state"]
    assert set(state) == {name for name, _ in model.named_parameters()}
    assert {key: tuple(value.shape) for key, value in state["moe.experts"].items() if key != "step"} == {
        "m": (3, 8, 8),
        "v": (3, 8, 8),
        "L": (3, 8, 8),
        "Q_L": (3, 8, 8),
        "R": (3, 8, 8),
        "Q_R": (3, 8, 8),
    }
    assert state["blocks.0.up.weight"]["L"].shape == (12, 12) and state["blocks.0.up.weight"]["R"].shape == (8, 8)
    assert state["gain"]["m"].shape == () and "L" not in state["embedding.weight"]
    view = optimizer.state[model.blocks[0]["q"].weight]["m"]
    feed(model.parameters(), 2)
    optimizer.step()
    assert view.abs().max() > 0, "the state of a parameter is a view that the next step changes"


def test_a_pickle_is_as_large_as_the_state() -> None:
    model = nn.ModuleList(nn.Linear(32, 32, bias=False) for _ in range(20))
    optimizer = AdamW(model)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    parameters = 20 * 32 * 32 * 4
    assert len(pickle.dumps(optimizer)) < 1.2 * (state_bytes(optimizer) + parameters)


def test_states_of_others_are_refused(make_model: Callable[..., nn.Module], feed: Any) -> None:
    model = make_model()
    optimizer = AdamW(model)
    feed(model.parameters(), 1)
    optimizer.step()
    saved = optimizer.state_dict()
    with pytest.raises(ValueError, match="this is a state dict of adamw, which lion cannot load"):
        Lion(model).load_state_dict(saved)
    with pytest.raises(ValueError, match=r"not a state dict of fairstep's adamw: it has the keys state, param_groups"):
        optimizer.load_state_dict(torch.optim.AdamW(model.parameters()).state_dict())
    for wrong, message in (
        (None, "it is None"),
        ({}, "it is empty"),
        ({**saved, "param_groups": None}, "it is {"),
        ({**saved, "param_groups": [{"lr": 1.0}]}, "a param group in it has no params"),
    ):
        with pytest.raises(ValueError, match=f"not a state dict of fairstep's adamw: {message}"):
            optimizer.load_state_dict(wrong)
    with pytest.raises(ValueError, match=r"another model: it has a parameter .*, and this one has not"):
        AdamW([("moe.expert", model.moe.experts)], roles={"moe.expert": "expert"}).load_state_dict(saved)
    model.register_parameter("extra", nn.Parameter(torch.zeros(2)))
    with pytest.raises(ValueError, match="another model: it lacks the parameter extra"):
        AdamW(model).load_state_dict(saved)
    del model.extra
    with pytest.raises(ValueError, match="groups its parameters differently, from gain on"):
        AdamW(model, undecayed=()).load_state_dict(saved)
    model.norm.weight = nn.Parameter(torch.ones(9))
    before = AdamW(model)
    with pytest.raises(ValueError, match=r"the state of norm.weight has the shapes .*\(8,\).* and not .*\(9,\)"):
        before.load_state_dict(saved)
    assert not any(before.state.values()), "nothing is changed by a state that is refused"
    with pytest.raises(ValueError, match=r"the m of .* in torch.float64, where a parameter in torch.float32 has it in"):
        AdamW(make_model(torch.float32)).load_state_dict(saved)
    with pytest.raises(ValueError, match="format 99"):
        optimizer.load_state_dict({**saved, "format": 99})


def test_state_bytes_of_any_optimizer() -> None:
    w, b = nn.Parameter(torch.zeros(4, 4)), nn.Parameter(torch.zeros(8, dtype=torch.float64))
    for optimizer, expected in [
        (torch.optim.SGD([w, b], lr=0.1), 0),
        (torch.optim.SGD([w, b], lr=0.1, momentum=0.9), 16 * 4 + 8 * 8),
        (torch.optim.AdamW([w, b], foreach=False), 2 * (16 * 4 + 8 * 8) + 2 * 4),  # and two step counters
        (AdamW([w, b]), 2 * (16 * 4 + 8 * 8)),
        (Muon([w, b], roles="matrix"), 16 * 4 + 2 * 8 * 8),
    ]:
        w.grad, b.grad = torch.ones_like(w), torch.ones_like(b)
        assert state_bytes(optimizer) == 0
        optimizer.step()
        assert state_bytes(optimizer) == expected
    nested = torch.optim.SGD([w], lr=0.1)
    shared = torch.zeros(10)
    nested.state[w] = {"history": [shared, {"again": shared}], "own": w, "step": 3}
    assert state_bytes(nested) == 40
