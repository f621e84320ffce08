"""What users write into param groups and arguments: ratios of a learning rate of 0, keys of other optimizers, forms."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from fairstep.optim import AdamW, Muon, Prodigy, build


def matrix_and_head() -> nn.Module:
    model = nn.ModuleDict({"up": nn.Linear(4, 4, bias=False), "lm_head": nn.Linear(4, 8, bias=False)})
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    return model


def rates(optimizer: Any) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups]


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_learning_rate_of_0_keeps_its_ratios(optimizer: str) -> None:
    """lr=0 waits for a scheduler, whose one max_lr is the optimizer's: times the ratio for each group."""

    def built(lr: float) -> Any:
        if optimizer == "muon":
            return Muon(matrix_and_head(), lr=lr)
        return AdamW(matrix_and_head(), lr=lr, overrides={"lm_head.*": {"lr_ratio": 0.2}})

    waiting, expected = built(0), built(0.02)
    for mine in (waiting, expected):
        cycle = torch.optim.lr_scheduler.OneCycleLR(mine, max_lr=0.02, total_steps=10, cycle_momentum=False)
        for _ in range(3):
            mine.step()
            cycle.step()
    assert rates(expected)[0] == pytest.approx(5 * rates(expected)[1])
    assert rates(waiting) == pytest.approx(rates(expected))


@pytest.mark.parametrize("change", [lambda groups: groups.append(groups.pop(0)), lambda groups: groups.pop(0)])
def test_ratios_go_with_their_groups(change: Callable[[list[Any]], Any]) -> None:
    """Which a loop may put in another order, or delete: a part of the model that is trained no more."""
    optimizer = Muon(nn.ModuleDict({"norm": nn.LayerNorm(4), **matrix_and_head()}), lr=0.02)
    change(optimizer.param_groups)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.02, total_steps=10, cycle_momentum=False)
    for _ in range(3):
        optimizer.step()
        cycle.step()
    at = {group["rule"]: group["lr"] for group in optimizer.param_groups}
    assert at["adamw"] == pytest.approx(0.2 * at["muon"])


def test_a_shared_weight_in_two_groups_is_named_before_anything_is_added() -> None:
    model = matrix_and_head()
    optimizer = Muon(model)
    late = nn.ModuleDict({"norm": nn.LayerNorm(4), "out": model["up"]})
    count = len(optimizer.param_groups)
    with pytest.raises(ValueError, match=r"up.weight and late.out.weight are the same parameter; give a shared weight"):
        optimizer.add_param_group({"params": late.named_parameters("late")})
    assert len(optimizer.param_groups) == count


def test_one_rate_for_what_was_built_with_0_is_told() -> None:
    optimizer = Muon(matrix_and_head(), lr=0)
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    with pytest.warns(UserWarning, match=r"was built with 0 and the ratios 1 \(muon\), 0.2 \(adamw\)"):
        optimizer.step()
    alike = Muon(matrix_and_head(), lr=0, adam_lr_ratio=1.0)
    for group in alike.param_groups:
        group["lr"] = 0.01
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alike.step()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("splits", 3, "splits is not read in a param group; say it with the optimizer's overrides"),
        ("lr_ratio", 3.0, "lr_ratio is not read in a param group"),
        ("role", "head", "role is not read in a param group; say it with the optimizer's roles"),
        ("undecayed", (), "undecayed is not read in a param group; give it to the optimizer"),
        ("maximize", True, "adamw has no maximize, which this param group asks for"),
        ("amsgrad", True, "adamw has no amsgrad"),
        ("lr", torch.ones(2), "adamw: lr must be a number"),
    ],
)
def test_a_key_that_means_something_elsewhere_is_refused(key: str, value: Any, message: str) -> None:
    """Kept and not read, it would be another optimizer than was asked for."""
    with pytest.raises(ValueError, match=message):
        AdamW([{"params": matrix_and_head(), key: value}])


def test_switches_of_torchs_that_change_no_step_are_kept() -> None:
    model = matrix_and_head()
    theirs = torch.optim.AdamW([{"params": [p], "lr": 0.5} for p in model.parameters()], foreach=True).param_groups
    ours = AdamW(theirs)
    assert rates(ours) == [0.5, 0.5] and ours.param_groups[0]["foreach"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            {"undecayed": "vector"},
            r"undecayed must be a tuple of roles, such as \('vector', 'embedding'\), not 'vector'",
        ),
        ({"undecayed": None}, "undecayed must be a tuple of roles"),
        ({"roles": 5}, "roles must be a role, a mapping of names to roles, or a function, not 5"),
        ({"overrides": [("head", {"lr_ratio": 2})]}, "overrides take"),
        ({"decay": ""}, "decay must be one of"),
        ({"lr": torch.ones(2)}, "muon: lr must be a number"),
    ],
)
def test_arguments_of_another_form(argument: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        Muon(matrix_and_head(), **argument)


DELETED = {"lr", "rule", "weight_decay", "decay", "peak_lr", "param_names"}
USES: dict[str, Callable[[Any], Any]] = {
    "step": lambda optimizer: optimizer.step(),
    "state_dict": lambda optimizer: optimizer.state_dict(),
    "load_state_dict": lambda optimizer: optimizer.load_state_dict(AdamW(matrix_and_head()).state_dict()),
    "eval": lambda optimizer: optimizer.eval(),
    "routing_table": lambda optimizer: optimizer.routing_table(),
    "step_costs": lambda optimizer: optimizer.step_costs(),
    "named_parameters": lambda optimizer: list(optimizer.named_parameters()),
    "deepcopy": lambda optimizer: copy.deepcopy(optimizer).step(),
    "add_param_group": lambda optimizer: optimizer.add_param_group({"params": [("new", nn.Parameter(torch.ones(2)))]}),
}


@pytest.mark.parametrize("key", sorted({*DELETED, "beta1", "eps"}))
@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("steps", [0, 1])
def test_a_key_that_was_deleted_is_named(key: str, use: Callable[[Any], Any], steps: int) -> None:
    optimizer = AdamW(matrix_and_head())
    for _ in range(steps):
        optimizer.step()
    del optimizer.param_groups[0][key]
    with pytest.raises(ValueError, match=rf"param group 0( \(adamw\))? was changed from outside: it has no {key};"):
        use(optimizer)


def test_shared_numbers_that_were_deleted_are_named() -> None:
    optimizer = Prodigy(matrix_and_head())
    del optimizer.param_groups[0]["shared"]
    with pytest.raises(ValueError, match="a param group was changed from outside: it has no shared"):
        optimizer.step()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("decay", "decopled", "decay must be one of decoupled, .*, not 'decopled'"),
        ("rule", "lion", "param group 0 has the rule 'lion'; adamw has adamw"),
        ("lr", None, "param group 0: lr must be a number, not None"),
        ("weight_decay", "0.1", "param group 0: weight_decay must be a number, not '0.1'"),
        ("lr", torch.ones(2), "param group 0: lr must be a number, not tensor"),
        ("beta1", torch.ones(2), r"param group 0: beta1 must be a number in \[0, 1\), not tensor"),
        ("eps", None, r"param group 0: eps must be a number in \[0, inf\), not None"),
        ("beta1", 7, r"param group 0: beta1 must be a number in \[0, 1\), not 7"),
        (
            "betas",
            (0.8, 0.9),
            "param group 0 was given betas after it was built, which nothing reads; set beta1, beta2",
        ),
        ("maximize", True, "adamw has no maximize, which this param group asks for"),
    ],
)
@pytest.mark.parametrize("steps", [0, 1])
def test_a_value_that_nothing_reads_is_refused(key: str, value: Any, message: str, steps: int) -> None:
    """A form of decay that there is not was no decay."""
    optimizer = AdamW(matrix_and_head())
    for _ in range(steps):
        optimizer.step()
    optimizer.param_groups[0][key] = value
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            optimizer.step()


def test_words_that_a_loop_sets_are_words_that_there_are() -> None:
    """A form that there is not was another form without a word."""
    optimizer = build("mars-adamw", matrix_and_head())
    optimizer.param_groups[0]["form"] = "exakt"
    with pytest.raises(ValueError, match=r"param group 0: form must be one of .*exact.* not 'exakt'"):
        optimizer.step()


def test_numbers_that_a_loop_sets_count_at_once() -> None:
    model, other = matrix_and_head().double(), matrix_and_head().double()
    other.load_state_dict(model.state_dict())
    settings: dict[str, Any] = {"lr": 0.01, "weight_decay": 0.1, "eps": 1e-8}
    ours = AdamW(model, beta1=0.9, beta2=0.99, **settings)
    theirs = torch.optim.AdamW(other.parameters(), betas=(0.9, 0.99), **settings)
    for beta in (0.5, 0.7, 0.0):
        for p in (*model.parameters(), *other.parameters()):
            p.grad = torch.full_like(p, beta + 1)
        ours.param_groups[0]["beta1"] = beta
        theirs.param_groups[0]["betas"] = (beta, 0.99)
        ours.step()
        theirs.step()
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)


def test_the_settings_of_a_saved_state_win_as_in_torch() -> None:
    """Among them the form of weight decay; a group that is added later has what the optimizer was built with."""
    model, other = matrix_and_head(), matrix_and_head()
    other.load_state_dict(model.state_dict())
    optimizer = AdamW(model, lr=0.01, beta1=0.8, weight_decay=0.5, decay="independent")
    resumed = AdamW(other, lr=0.02, beta1=0.9, weight_decay=0.1, decay="decoupled")
    optimizer.step()
    other.load_state_dict(model.state_dict())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert resumed.param_groups[0]["decay"] == "independent"
    for one in (optimizer, resumed):
        one.step()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True))
    resumed.add_param_group({"params": [("new", nn.Parameter(torch.ones(2, 2)))]})
    assert [group["decay"] for group in resumed.param_groups] == ["independent", "decoupled"]
    assert rates(resumed) == [0.01, 0.02]


def test_a_saved_value_that_nothing_reads_changes_nothing() -> None:
    optimizer = AdamW(matrix_and_head(), lr=0.01)
    saved = copy.deepcopy(optimizer.state_dict())
    saved["param_groups"][0] |= {"lr": 0.5, "decay": "decopled"}
    with pytest.raises(ValueError, match="param group 0: decay must be one of"):
        optimizer.load_state_dict(saved)
    assert rates(optimizer) == [0.01]
