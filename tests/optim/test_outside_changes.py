"""State that others change between steps: it counts as it is then, as with torch's optimizers, or is refused."""

from __future__ import annotations

import copy
import pickle
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.optim.supply import KINDS_OF_STATE, build
from torch import Tensor, nn

from fairstep.optim import AdamW

NAMES = ("adamw", "lion", "muon", "soap", "kron", "adam-mini", "schedule-free-adamw", "adamw+ema")
Change = Callable[[Any], None]


def train(model: nn.Module, optimizer: Any, feed: Any, first: int, last: int) -> None:
    for step in range(first, last + 1):
        feed(model.parameters(), step)
        optimizer.step()


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def clear(optimizer: Any) -> None:
    optimizer.state.clear()


def replace_by_defaultdict(optimizer: Any) -> None:
    optimizer.state = defaultdict(dict)


def replace_by_dict(optimizer: Any) -> None:
    optimizer.state = {}


def delete_each(optimizer: Any) -> None:
    for p in list(optimizer.state):
        del optimizer.state[p]


def empty_each(optimizer: Any) -> None:
    for entry in optimizer.state.values():
        entry.clear()


@pytest.mark.parametrize("change", [clear, replace_by_defaultdict, replace_by_dict, delete_each, empty_each])
@pytest.mark.parametrize("name", NAMES)
def test_an_optimizer_without_its_state_begins_anew(name: str, change: Change, make_model: Any, feed: Any) -> None:
    model = make_model()
    optimizer = build(name, model)
    train(model, optimizer, feed, 1, 3)
    other = copy.deepcopy(model)
    change(optimizer)
    assert optimizer.state_dict()["state"] == {}
    fresh = build(name, other)
    train(model, optimizer, feed, 4, 6)
    train(other, fresh, feed, 4, 6)
    assert same(model, other)
    ours, theirs = optimizer.state_dict()["state"], fresh.state_dict()["state"]
    assert ours.keys() == theirs.keys() == dict(model.named_parameters()).keys()
    assert all(torch.equal(ours[n]["m"], theirs[n]["m"]) for n in ours if "m" in ours[n])


def offload(optimizer: Any) -> None:
    for entry in optimizer.state.values():
        for key, value in entry.items():
            if isinstance(value, Tensor):
                entry[key] = value.clone()


def offload_memory(optimizer: Any) -> None:
    for entry in optimizer.state.values():
        for value in entry.values():
            if isinstance(value, Tensor):
                value.data = value.data.clone()


def new_entries(optimizer: Any) -> None:
    optimizer.state = defaultdict(dict, {p: dict(entry) for p, entry in optimizer.state.items()})


def new_groups(optimizer: Any) -> None:
    optimizer.param_groups = [dict(group) for group in optimizer.param_groups]


def new_memory_of_parameters(optimizer: Any) -> None:
    for _, p in optimizer.named_parameters():
        p.data = p.data.clone()


def load_again(optimizer: Any) -> None:
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


GOING_ON = [offload, offload_memory, new_entries, new_groups, new_memory_of_parameters, load_again]


@pytest.mark.parametrize("name", [*KINDS_OF_STATE, "adamw+ema"])
def test_state_that_is_moved_and_comes_back_goes_on(name: str, make_model: Any, feed: Any) -> None:
    """One change after the other: after a step the optimizer has its state in its own memory again."""
    model, other = make_model(), make_model()
    one, two = build(name, model), build(name, other)
    train(model, one, feed, 1, 2)
    train(other, two, feed, 1, 2)
    for number, change in enumerate(GOING_ON):
        change(two)
        step = 3 + 2 * number
        train(model, one, feed, step, step + 1)
        train(other, two, feed, step, step + 1)
        assert same(model, other), change.__name__
    resumed, third = build(name, other), make_model()
    resumed.load_state_dict(two.state_dict())
    third.load_state_dict(other.state_dict())
    train(model, one, feed, 15, 16)
    train(other, two, feed, 15, 16)
    assert same(model, other)


def test_changed_values_count_as_with_torch(make_model: Any, feed: Any) -> None:
    ours, theirs = make_model(), make_model()
    settings = {"lr": 0.01, "weight_decay": 0.0, "eps": 1e-8}
    one = build("adamw", ours, beta1=0.9, beta2=0.99, **settings)
    two = torch.optim.AdamW(theirs.parameters(), betas=(0.9, 0.99), **settings)  # type: ignore[arg-type]
    words = {"m": "exp_avg", "v": "exp_avg_sq"}

    def change(p: Any, q: Any, key: str, value: Callable[[Tensor], Tensor]) -> None:
        one.state[p][key] = value(one.state[p][key])
        two.state[q][words[key]] = value(two.state[q][words[key]])

    pairs = [*zip(ours.parameters(), theirs.parameters(), strict=True)]
    changes: list[Callable[[], Any]] = [
        lambda: [change(p, q, "m", torch.zeros_like) for p, q in pairs],
        lambda: [change(p, q, "v", lambda x: x * 4) for p, q in pairs[:3]],
        lambda: [s.pop(p) for s, p in ((one.state, pairs[0][0]), (two.state, pairs[0][1]))],
        lambda: [(one.state[p]["m"].mul_(3), two.state[q]["exp_avg"].mul_(3)) for p, q in pairs],
        lambda: [(one.state[p].update(step=1), two.state[q]["step"].fill_(1)) for p, q in pairs],
    ]
    for number, each in enumerate(changes):
        for model, optimizer in ((ours, one), (theirs, two)):
            train(model, optimizer, feed, 2 * number, 2 * number + 1)
        each()
    for model, optimizer in ((ours, one), (theirs, two)):
        train(model, optimizer, feed, 20, 22)
    for p, q in pairs:
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)


def test_a_replaced_parameter_is_stepped_and_begins_anew(make_model: Any, feed: Any) -> None:
    model = make_model()
    optimizer = build("adamw", model)
    train(model, optimizer, feed, 1, 2)
    old = model.head.weight
    before = old.detach().clone()
    model.head.weight = nn.Parameter(torch.ones_like(old))
    for group in optimizer.param_groups:
        group["params"] = [model.head.weight if p is old else p for p in group["params"]]
    train(model, optimizer, feed, 3, 4)
    assert torch.equal(old, before) and not torch.equal(model.head.weight, torch.ones_like(old))
    assert optimizer.state_dict()["state"]["head.weight"]["step"] == 2


def test_a_model_in_another_dtype(make_model: Any, feed: Any) -> None:
    model = make_model(torch.float32)
    optimizer = build("adamw", model)
    train(model, optimizer, feed, 1, 2)
    model.bfloat16()  # whose state is in float32 too
    train(model, optimizer, feed, 3, 4)
    assert optimizer.state_dict()["state"]["head.weight"]["step"] == 4
    model.double()
    with pytest.raises(ValueError, match=r"the m of .* is in torch.float32, where a parameter in torch.float64 has"):
        train(model, optimizer, feed, 5, 5)
    for entry in optimizer.state.values():
        entry.update({key: value.double() for key, value in entry.items() if isinstance(value, Tensor)})
    train(model, optimizer, feed, 5, 5)


def wrong_entry(**values: Any) -> Change:
    def change(optimizer: Any) -> None:
        entry = next(iter(optimizer.state.values()))
        entry.update({key: value(entry[key]) if callable(value) else value for key, value in values.items()})

    return change


def rename(entry: dict[str, Any], old: str, new: str) -> None:
    entry[new] = entry.pop(old)


REFUSED: dict[str, tuple[Change, str]] = {
    "dtype": (wrong_entry(m=lambda x: x.half()), r"the m of gain is in torch.float16, where a parameter"),
    "shape": (wrong_entry(m=lambda x: x[None]), r"the state of gain has the shapes .*, and not"),
    "device": (wrong_entry(m=lambda x: x.to("meta")), r"the m of gain is on meta, and the parameter on cpu"),
    "further": (wrong_entry(mine=1.0), r"the state of gain has the shapes .*mine"),
    "missing": (lambda o: next(iter(o.state.values())).pop("m"), r"the state of gain has the shapes"),
    "renamed": (
        lambda o: rename(next(iter(o.state.values())), "m", "mine"),
        r"the state of gain has the shapes .*mine",
    ),
    "number": (wrong_entry(m=1.0), r"'m': 'number'"),
    "step": (lambda o: next(iter(o.state.values())).pop("step"), r"the state of gain does not say how many steps"),
    "no dict": (lambda o: o.state.update({next(iter(o.state)): [1]}), r"the state of gain does not say how many steps"),
    "key": (lambda o: o.state.update(mine=torch.ones(2)), r"optimizer.state has an entry for 'mine'"),
    "group": (lambda o: o.param_groups[0]["params"].pop(), r"a param group was changed from outside: it has"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_state_with_which_no_step_is_possible_is_refused(case: str, make_model: Any, feed: Any) -> None:
    change, message = REFUSED[case]
    model = make_model()
    optimizer = AdamW(model)
    train(model, optimizer, feed, 1, 2)
    change(optimizer)
    first = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(ValueError, match=message):
        optimizer.state_dict()
    with pytest.raises(ValueError, match=message):
        train(model, optimizer, feed, 3, 3)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), first, strict=True)), "nothing is changed"


def test_a_state_loaded_in_the_middle_goes_back_to_it(make_model: Any, feed: Any) -> None:
    model = make_model()
    optimizer = build("soap", model)
    train(model, optimizer, feed, 1, 4)
    weights, saved = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    train(model, optimizer, feed, 5, 9)
    end = copy.deepcopy(model)
    model.load_state_dict(weights)
    optimizer.load_state_dict(saved)
    train(model, optimizer, feed, 5, 9)
    assert same(model, end)


@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_copies_have_the_state_as_it_is_then(way: str, make_model: Any, feed: Any) -> None:
    model = make_model()
    optimizer = build("adamw", model)
    train(model, optimizer, feed, 1, 3)
    for entry in list(optimizer.state.values())[::2]:
        entry["m"] = torch.zeros_like(entry["m"])
    for p in model.parameters():
        p.grad = None
    optimizer.__dict__["_optimizer_step_pre_hooks"].clear()
    pair = (model, optimizer)
    other, copied = copy.deepcopy(pair) if way == "deepcopy" else pickle.loads(pickle.dumps(pair))
    train(model, optimizer, feed, 4, 6)
    train(other, copied, feed, 4, 6)
    assert same(model, other)


def test_training_weights_that_are_gone_are_missed(make_model: Any, feed: Any) -> None:
    model = make_model()
    optimizer = build("schedule-free-adamw", model)
    train(model, optimizer, feed, 1, 2)
    optimizer.eval()
    optimizer.state.clear()
    with pytest.raises(ValueError, match=r"the training weights were kept in optimizer.state"):
        optimizer.train()


def test_shared_work_is_not_copied_and_its_parameters_stay(make_model: Any, feed: Any) -> None:
    from fairstep.optim.sharding.partition import divide

    model = make_model()
    optimizer = build("adamw", model)
    optimizer.share(divide(optimizer.step_costs(), 2)[0], lambda x: x)
    train(model, optimizer, feed, 1, 2)
    with pytest.raises(TypeError, match="cannot be copied; save its state_dict"):
        copy.deepcopy(optimizer)
    for p in model.parameters():
        p.data = p.data.clone()
    with pytest.raises(ValueError, match="has other memory than when the work was shared"):
        train(model, optimizer, feed, 3, 3)


@pytest.mark.parametrize("name", KINDS_OF_STATE)
def test_a_step_under_inference_mode_is_a_step(name: str, make_model: Any, feed: Any) -> None:
    """State that inference mode makes could not be changed outside of it, which torch says in its own words."""
    model, other = make_model(), make_model()
    one, two = build(name, model), build(name, other)
    train(other, two, feed, 1, 3)
    for step in (1, 2, 3):
        feed(model.parameters(), step)
        if step == 1:
            with torch.inference_mode():
                one.step()
        else:
            one.step()
    assert same(model, other)


def test_evaluation_weights_under_inference_mode(make_model: Any, feed: Any) -> None:
    model, other = make_model(), make_model()
    one, two = build("schedule-free-adamw", model), build("schedule-free-adamw", other)
    train(model, one, feed, 1, 2)
    train(other, two, feed, 1, 2)
    with torch.inference_mode():
        one.eval()
    one.eval()
    saved = copy.deepcopy(one.state_dict())
    one.train()
    with torch.inference_mode():
        one.load_state_dict(saved)
    one.train()
    train(model, one, feed, 3, 4)
    train(other, two, feed, 3, 4)
    assert same(model, other)


def test_what_a_rule_wrote_into_its_param_group_stays(make_model: Any, feed: Any) -> None:
    """Half as many rows in a block were another optimizer, without a word."""
    model = make_model()
    optimizer = build("adam-mini", model)
    before = [group["block_rows"] for group in optimizer.param_groups]
    optimizer.param_groups[0]["block_rows"] = before[0] + 1
    words = rf"block_rows is {before[0] + 1}, and the rule made it {before[0]} by the layers of its parameters"
    with pytest.raises(ValueError, match=words):
        train(model, optimizer, feed, 1, 1)
    optimizer.param_groups[0]["block_rows"] = before[0]
    train(model, optimizer, feed, 1, 2)
    del optimizer.param_groups[0]["block_rows"]
    with pytest.raises(ValueError, match="block_rows is None, and the rule made it"):
        train(model, optimizer, feed, 3, 3)
    optimizer.param_groups[0]["block_rows"] = before[0]
    again = build("adam-mini", make_model())
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert [group["block_rows"] for group in again.param_groups] == before
