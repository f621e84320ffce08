"""Overrides: what some parameters have otherwise, by role, aux or pattern; runs without any are as before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from fairstep import optim
from fairstep.optim import AdamW, Muon, get

TRACK = {
    "embedding": {"lr_ratio": 28},
    "head": {"lr_ratio": 0.16},
    "vector": {"lr_ratio": 0.6},
    "aux": {"betas": (0.8, 0.95), "eps": 1e-10, "weight_decay": 1e-3},
}
"""The tuned baseline of modded-nanogpt's optimization track: 0.7, 0.004 and 0.015 beside Muon's 0.025."""


def by_role(optimizer: Any, key: str) -> dict[str, Any]:
    """A setting of the param groups, by role."""
    groups = [(name, group[key]) for group in optimizer.param_groups for name in group["param_names"]]
    return {optimizer.roles[name]: value for name, value in groups}


def test_the_tuned_baseline_of_the_track(make_model: Callable[..., nn.Module]) -> None:
    optimizer = Muon(make_model(), lr=0.025, weight_decay=0.05, overrides=TRACK)
    rates = by_role(optimizer, "lr")
    assert {role: round(rate, 6) for role, rate in rates.items()} == {
        **dict.fromkeys(("matrix", "expert", "router"), 0.025), "embedding": 0.7, "head": 0.004, "vector": 0.015,
    }  # fmt: skip
    decay = by_role(optimizer, "weight_decay")
    assert decay == {role: 0.05 if role in ("matrix", "expert", "router") else 1e-3 for role in decay}
    aux = [group for group in optimizer.param_groups if group["rule"] == "adamw"]
    assert {(group["beta1"], group["beta2"], group["eps"]) for group in aux} == {(0.8, 0.95, 1e-10)}
    assert [row.split()[-2] for row in optimizer.routing_table().splitlines() if row.startswith("head")] == ["0.16"]


@pytest.mark.parametrize("name", ["adamw", "lion", "soap", "muon", "adamw+ema-nesterov", "adamw+hyperball"])
def test_an_overridden_role_takes_the_step_of_an_optimizer_of_its_own(
    name: str, make_model: Callable[..., nn.Module], feed: Any
) -> None:
    """To the bit: the head as if everything had what it has otherwise, and all others as without the override."""
    spec = get(name)
    own = {"lr_ratio": 4.0, "weight_decay": 0.3} | ({"beta1": 0.7} if "beta1" in spec.own_names("head") else {})
    model, plain, head = make_model(), make_model(), make_model()
    settings = {spec.known("head", key) or key: value for key, value in own.items()}
    settings["lr"] = 0.01 * 4.0
    settings.pop("lr_ratio", None)
    if ratio := spec.ratio_name("head"):
        settings[ratio] = 1.0
    optimizers = (
        optim.build(name, model, lr=0.01, overrides={"head": own}),
        optim.build(name, plain, lr=0.01),
        optim.build(name, head, **settings),
    )
    parameters = [dict(one.named_parameters()) for one in (model, plain, head)]
    for step in range(1, 4):
        feed(model.parameters(), step)
        for key, p in parameters[0].items():
            assert p.grad is not None
            for other in parameters[1:]:
                other[key].grad = p.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for key, p in parameters[0].items():
        assert torch.equal(p, parameters[2 if key == "head.weight" else 1][key]), key


def test_the_narrowest_target_counts(make_model: Callable[..., nn.Module]) -> None:
    targets = {
        "*.q.*": {"lr_ratio": 3}, "blocks.0.q.weight": {"lr_ratio": 4}, "aux": {"eps": 1e-6}, "head": {"eps": 1e-7},
    }  # fmt: skip
    optimizer = Muon(make_model(), lr=0.01, overrides=targets)
    rates = {name: group["lr"] for group in optimizer.param_groups for name in group["param_names"]}
    assert (rates["blocks.0.q.weight"], rates["blocks.1.q.weight"], rates["blocks.1.up.weight"]) == (0.04, 0.03, 0.01)
    assert by_role(optimizer, "rule")["embedding"] == "adamw"
    eps = {group["role"]: group["eps"] for group in optimizer.param_groups if group["rule"] == "adamw"}
    assert eps == {"embedding": 1e-6, "vector": 1e-6, "head": 1e-7}


def test_what_says_nothing_is_left_out_and_has_one_name() -> None:
    """The hash of a run's hyperparameters is its name."""
    muon, scion = get("muon"), get("scion")
    assert muon.validate({"aux.lr_ratio": 0.2, "head.lr_ratio": 0.2, "matrix.momentum": 0.95}) == muon.validate({})
    assert muon.validate({"aux.lr_ratio": 0.4, "aux.beta1": 0.8}) == muon.validate(
        {"adam_lr_ratio": 0.4, "adam_beta1": 0.8}
    )
    assert muon.validate({"adam_lr_ratio": 0.4, "head.lr_ratio": 0.2})["head.lr_ratio"] == 0.2
    assert scion.canonical("aux.lr_ratio") == "outer_lr_ratio", "W's scion_to_signum_lr"
    assert muon.canonical("aux.lr_ratio") == "adam_lr_ratio", "S's lr_adamw"
    assert get("mars").canonical("aux.lr_ratio") == get("mars").canonical("vector.lr_ratio") == "vector_lr_ratio"
    assert scion.canonical("head.radius") == "head_radius"
    assert muon.canonical("head.beta1") == "head.beta1" and muon.canonical("aux.weight_decay") == "aux.weight_decay"


def test_groups_are_as_before_without_overrides(make_model: Callable[..., nn.Module]) -> None:
    groups = AdamW(make_model(), weight_decay=0).param_groups
    assert len(groups) == 2 and not any("role" in group for group in groups)
    saved = AdamW(make_model(), overrides={"head": {"lr_ratio": 2}})
    saved.load_state_dict(AdamW(make_model(), overrides={"head": {"lr_ratio": 2}}).state_dict())


def stacks_of(optimizer: Any) -> int:
    return len(optimizer._stacks.live)


@pytest.mark.parametrize("name", ["adamw", "lion", "muon", "soap"])
def test_layers_with_rates_of_their_own_share_their_stacks(
    name: str, make_model: Callable[..., nn.Module], feed: Any
) -> None:
    overrides = {"blocks.0.*": {"lr_ratio": 2}, "blocks.1.*": {"lr_ratio": 3, "weight_decay": 0.5}}
    by_role = {"embedding": {"lr_ratio": 0.5}}
    models = make_model(), make_model(), make_model()
    optimizers = (
        optim.build(name, models[0], lr=0.01, overrides=overrides),
        optim.build(name, models[1], lr=0.01, overrides=overrides, stacked=False),
        optim.build(name, models[2], lr=0.01, overrides=by_role),
    )
    for step in range(1, 4):
        for model, optimizer in zip(models, optimizers, strict=True):
            feed(model.parameters(), step)
            optimizer.step()
    assert stacks_of(optimizers[0]) == stacks_of(optimizers[2]), "as many as without rates by layer"
    for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-12)


def test_a_group_that_is_changed_leaves_the_stack(make_model: Callable[..., nn.Module], feed: Any) -> None:
    """A schedule of momentum of one group counts from its next step on."""
    models = make_model(), make_model()
    optimizers = [
        Muon(model, lr=0.01, overrides={"blocks.0.*": {"lr_ratio": 2}}, stacked=stacked)
        for model, stacked in zip(models, (True, False), strict=True)
    ]
    for step in range(1, 5):
        for model, optimizer in zip(models, optimizers, strict=True):
            if step == 3:
                next(group for group in optimizer.param_groups if group["role"] == "matrix")["momentum"] = 0.5
            feed(model.parameters(), step)
            optimizer.step()
    for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "overrides", "sentence"),
    [
        (
            "muon",
            {"embeding": {"lr_ratio": 2}},
            r"embeding.lr_ratio is for an unknown role \(did you mean embedding\?\)",
        ),
        ("muon", {"head": {"lr_ratio": 0}}, r"muon: head.lr_ratio must be a number in \(0, inf\), not 0"),
        ("muon", {"head": {"lr_ratio": -1.0}}, r"in \(0, inf\), not -1.0"),
        ("muon", {"head": {"momentum": 0.9}}, "head.momentum names no hyperparameter of the rule for head"),
        ("muon", {"head": {"beta3": 0.9}}, r"did you mean beta2 or beta1\?"),
        ("muon", {"*.q.*": {"lr_ratio": 2}, "blocks.*": {"lr_ratio": 3}}, "'\\*.q.\\*' and 'blocks.\\*' both name"),
        ("muon", {"*norm*": {"momentum": 0.9}}, "gives norm.weight a momentum, which its rule has not"),
        ("muon", {"*.k.*": {"lr_ratio": 2}}, "no parameter is named '\\*.k.\\*'"),
        ("adamw", {"aux": {"lr_ratio": 2}}, "adamw has one rule for all parameters, and so no aux.lr_ratio"),
        ("prodigy", {"head": {"lr_ratio": 2}}, "prodigy estimates one learning rate for all parameters"),
        ("prodigy", {"head": {"beta2": 0.9}}, "head.beta2 names no hyperparameter"),
        ("adamw+hyperball", {"matrix": {"weight_decay": 0.1}}, "matrix.weight_decay names no hyperparameter"),
        ("adamw", {"head": 2}, "overrides take {TARGET: {NAME: VALUE}}, and 'head' has 2"),
        ("torch.optim:AdamW", {"head": {"lr_ratio": 0}}, r"head.lr_ratio must be a number in \(0, inf\), not 0"),
        ("torch.optim:AdamW", {"aux": {"lr_ratio": 2}}, "and so no aux.lr_ratio"),
    ],
)
def test_mistakes(name: str, overrides: Any, sentence: str, make_model: Callable[..., nn.Module]) -> None:
    with pytest.raises(ValueError, match=sentence):
        optim.build(name, make_model(), lr=0.1, overrides=overrides)


def test_a_role_that_the_model_lacks() -> None:
    model = nn.ModuleDict({"tokens": nn.Embedding(8, 4), "hidden": nn.Linear(4, 4)})
    with pytest.raises(ValueError, match="an override is for head, and the model has no such parameter; its roles are"):
        Muon(model, overrides={"head": {"lr_ratio": 2}})


def test_another_package_gets_param_groups(make_model: Callable[..., nn.Module]) -> None:
    overrides = {"head": {"lr_ratio": 2, "beta1": 0.8}, "embedding": {"weight_decay": 0.05}}
    optimizer = optim.build("torch.optim:AdamW", make_model(), lr=0.1, weight_decay=0.2, overrides=overrides)
    groups = [(len(g["params"]), g["lr"], g["weight_decay"], g["betas"]) for g in optimizer.param_groups]
    assert (1, 0.2, 0.2, (0.8, 0.999)) in groups, "the head"
    assert (1, 0.1, 0.05, (0.9, 0.999)) in groups, "the embedding"
    assert sum(count for count, *_ in groups) == len(list(make_model().parameters()))
