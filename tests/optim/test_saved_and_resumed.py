"""A run that is saved and resumed goes on to the bit: unusual options and layouts, and torch's own tools for saving."""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from tests.optim.supply import KINDS_OF_STATE, build
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from fairstep import optim

COMBINED = {"block_size": 4, "normalize_gradients": True}, {"block_size": 5, "precondition_frequency": 3}


class OddModel(nn.Module):
    """Sides that blocks do not divide, a matrix that is stored by columns, and queries."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 20)
        self.up, self.down = nn.Linear(20, 36), nn.Linear(36, 20, bias=False)
        self.up.weight = nn.Parameter(self.up.weight.detach().t().contiguous().t())
        self.q = nn.Linear(20, 20, bias=False)
        self.norm, self.head = nn.LayerNorm(20), nn.Linear(20, 50, bias=False)


def odd_model() -> OddModel:
    torch.default_generator.manual_seed(0)
    return OddModel()


def train(model: nn.Module, optimizer: Any, first: int, last: int) -> None:
    for step in range(first, last + 1):
        generator = torch.Generator().manual_seed(step)
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=generator) + p.detach()
        optimizer.step()
    optimizer.zero_grad()


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def option_sets() -> Iterator[Any]:
    """Of every optimizer: its defaults, each switch and word changed, small blocks, and what they were seen to break
    together."""
    for name, spec in optim.specs().items():
        sets: list[dict[str, Any]] = [{}]
        for key, known in spec.hyperparameters.items():
            if isinstance(known.default, bool):
                sets.append({key: not known.default})
            elif isinstance(known.domain, tuple):
                sets += [{key: value} for value in known.domain if value != known.default]
            elif key == "block_size":
                sets += [{key: 5}, *(options for options in COMBINED if set(options) <= set(spec.hyperparameters))]
        for options in sets:
            yield pytest.param(name, options, id=" ".join([name, *(f"{k}={v}" for k, v in options.items())]))


@pytest.mark.parametrize(("name", "options"), [*option_sets()])
def test_every_option_resumes_to_the_bit(name: str, options: dict[str, Any]) -> None:
    """What is done every three steps is done in the third step or the fourth."""
    model = odd_model()
    optimizer = build(name, model, **options)
    train(model, optimizer, 1, 2)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved, other = torch.load(file), odd_model()
    resumed = build(name, other, **options)
    other.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["optimizer"])
    train(model, optimizer, 3, 4)
    train(other, resumed, 3, 4)
    assert same(model, other)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize(
    ("name", "options"),
    [*product(KINDS_OF_STATE, [{}, {"flatten_optimizer_state_dict": True}, {"full_state_dict": True}])],
    ids=str,
)
def test_torchs_distributed_state_dict_goes_by_name(name: str, options: dict[str, bool], tmp_path: Any) -> None:
    """As its documentation does it: the new optimizer's own state is the memory that is read into."""
    chosen = StateDictOptions(**options)  # type: ignore[arg-type]
    model = odd_model()
    optimizer = build(name, model, lr=0.02)
    train(model, optimizer, 1, 3)
    saved = {
        "model": get_model_state_dict(model),
        "optimizer": get_optimizer_state_dict(model, optimizer, options=chosen),
    }
    if "flatten_optimizer_state_dict" not in options:
        assert saved["optimizer"]["state"].keys() == dict(model.named_parameters()).keys()
    dcp.save(saved, checkpoint_id=tmp_path, no_dist=True)
    other = odd_model()
    resumed = build(name, other, lr=0.01)
    state = {
        "model": get_model_state_dict(other),
        "optimizer": get_optimizer_state_dict(other, resumed, options=chosen),
    }
    assert same(other, odd_model()), "asking for state is no step"
    dcp.load(state, checkpoint_id=tmp_path, no_dist=True)
    set_model_state_dict(other, state["model"])
    set_optimizer_state_dict(other, resumed, state["optimizer"], options=chosen)
    train(model, optimizer, 4, 6)
    train(other, resumed, 4, 6)
    assert same(model, other)
    assert resumed.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]


def test_torchs_distributed_state_dict_of_others_is_refused() -> None:
    model = odd_model()
    optimizer = optim.build("adamw", model)
    train(model, optimizer, 1, 2)
    saved = get_optimizer_state_dict(model, optimizer)
    with pytest.raises(ValueError, match="this is a state dict of adamw, which lion cannot load"):
        set_optimizer_state_dict(model, optim.build("lion", model), saved)
    muon = optim.build("muon", model)
    train(model, muon, 1, 2)
    with pytest.raises(ValueError, match=r"the state of up.weight has the shapes"):
        saved = get_optimizer_state_dict(model, muon)
        set_optimizer_state_dict(model, optim.build("muon", model, roles={"up.weight": "vector"}), saved)


def test_parameters_without_names_go_by_their_order() -> None:
    model, other = odd_model(), odd_model()
    optimizer, resumed = (optim.build("adamw", list(m.parameters())) for m in (model, other))
    train(model, optimizer, 1, 2)
    saved = copy.deepcopy(get_optimizer_state_dict(model, optimizer))
    assert saved["state"].keys() == dict(model.named_parameters()).keys()
    other.load_state_dict(model.state_dict())
    set_optimizer_state_dict(other, resumed, saved)
    train(model, optimizer, 3, 4)
    train(other, resumed, 3, 4)
    assert same(model, other)
