"""Optimizers in anyone's own loop: what torch's own optimizers do, ours do (see also the conformance list)."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.optim.supply import KINDS_OF_STATE
from torch import nn

from fairstep.optim import SOAP, AdamW, ScheduleFreeAdamW, build


def by_shape(name: str, tensor: torch.Tensor) -> str | None:
    return "head" if tensor.shape == (2, 2) else None


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda optimizer: pickle.loads(pickle.dumps(optimizer))])
@pytest.mark.parametrize("roles", [{"*": "head"}, by_shape])
def test_roles_hold_for_groups_that_are_added_to_a_copy(duplicate: Callable[[Any], Any], roles: Any) -> None:
    optimizer = duplicate(AdamW([("w", nn.Parameter(torch.ones(2, 2)))], roles=roles))
    optimizer.add_param_group({"params": [("later", nn.Parameter(torch.ones(2, 2)))]})
    assert optimizer.roles == {"w": "head", "later": "head"}


def test_roles_that_cannot_be_pickled_are_asked_for_again() -> None:
    optimizer = AdamW([("w", nn.Parameter(torch.ones(2, 2)))], roles=lambda name, tensor: "head")
    copied = pickle.loads(pickle.dumps(optimizer))
    assert copied.roles == {"w": "head"}
    with pytest.raises(
        ValueError, match=r"parameter later: the function given as roles did not survive pickling; give"
    ):
        copied.add_param_group({"params": [("later", nn.Parameter(torch.ones(2, 2)))]})


def test_torch_hooks_are_called() -> None:
    w = nn.Parameter(torch.ones(2, 2))
    optimizer, calls = SOAP([("w", w)]), []
    optimizer.register_state_dict_pre_hook(lambda o: calls.append("before saving"))
    optimizer.register_state_dict_post_hook(lambda o, saved: {**saved, "note": "mine"})
    optimizer.register_load_state_dict_pre_hook(lambda o, saved: {k: v for k, v in saved.items() if k != "note"})
    optimizer.register_load_state_dict_post_hook(lambda o: calls.append("after loading"))
    optimizer.register_step_post_hook(lambda o, args, kwargs: calls.append("after the step"))
    w.grad = torch.ones_like(w)
    optimizer.step()
    saved = optimizer.state_dict()
    assert saved["note"] == "mine"
    optimizer.load_state_dict(saved)
    assert calls == ["after the step", "before saving", "after loading"]


@pytest.mark.parametrize("name", ["schedule-free-adamw", "muonh+ema-nesterov+ema", "prodigy+tail"])
def test_a_loop_of_ones_own(name: str) -> None:
    """A scheduler, a gradient scaler, evaluation now and then, a copy in the middle: the copy goes on to the bit."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    x, y = torch.randn(32, 6), torch.randn(32, 3)
    optimizer = build(name, model)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 30)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)

    def step(model: nn.Module, optimizer: Any, scheduler: Any, scaler: Any) -> None:
        optimizer.zero_grad()
        scaler.scale(nn.functional.mse_loss(model(x), y)).backward()
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()

    def evaluate(model: nn.Module, optimizer: Any) -> float:
        optimizer.eval()
        loss = nn.functional.mse_loss(model(x), y).item()
        optimizer.train()
        return loss

    first = evaluate(model, optimizer)
    for _ in range(10):
        step(model, optimizer, scheduler, scaler)
    evaluate(model, optimizer)
    other = copy.deepcopy((model, optimizer, scheduler, scaler))
    for _ in range(10):
        step(model, optimizer, scheduler, scaler)
        step(*other)
    assert evaluate(model, optimizer) == evaluate(*other[:2])
    for _ in range(10):
        step(model, optimizer, scheduler, scaler)
    assert evaluate(model, optimizer) < first


def test_forgotten_train_is_said_and_nothing_is_changed() -> None:
    w = nn.Parameter(torch.ones(2, 2))
    optimizer = ScheduleFreeAdamW([("w", w)])
    for _ in range(2):
        w.grad = torch.ones_like(w)
        optimizer.step()
    optimizer.eval()
    before = w.detach().clone()
    with pytest.raises(ValueError, match=r"call optimizer.train\(\) before the next step"):
        optimizer.step()
    assert torch.equal(w, before)
    assert pickle.loads(pickle.dumps(optimizer))._evaluating, "a copy knows in which mode it is"


def shapes_of_state(optimizer: Any) -> dict[str, Any]:
    """Shape and type of each tensor of the state, by parameter and name."""
    return {
        f"{name}.{key}": (value.shape, value.dtype)
        for name, entry in optimizer.state_dict()["state"].items()
        for key, value in entry.items()
        if isinstance(value, torch.Tensor)
    }


@pytest.mark.parametrize("name", [*KINDS_OF_STATE, "sophia-g"])
def test_a_step_on_the_meta_device_makes_the_state_of_a_step(name: str) -> None:
    """As torch's optimizers do there, which is how people learn the memory of a state."""
    made = {}
    for device in ("cpu", "meta"):
        model = nn.Sequential(nn.Linear(16, 16, device=device), nn.LayerNorm(16, device=device))
        optimizer = build(name, model)
        for _ in range(2):
            for p in model.parameters():
                p.grad = torch.ones_like(p)
            for signal, names in optimizer.due().items():
                parameters = dict(optimizer.named_parameters())
                given = {one: torch.ones_like(parameters[one]) for one in names}
                optimizer.supply(signal, 3.0 if signal == "loss" else given)
            optimizer.step()
        made[device] = shapes_of_state(optimizer)
    assert made["meta"] == made["cpu"]
    assert made["meta"]
