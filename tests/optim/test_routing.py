"""Roles: what is inferred, what is overridden, what is refused."""

from __future__ import annotations

import copy
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.utils.parametrizations import orthogonal, spectral_norm, weight_norm

from fairstep.optim import Muon, build, infer_roles


def llama_names(dim: int = 8, mlp: int = 16, vocabulary: int = 16, tied: bool = False) -> nn.Module:
    """A model whose MLP is as wide as its vocabulary: head and up-projections have one shape."""
    block = nn.ModuleDict({"gate": nn.Linear(dim, mlp, bias=False), "down": nn.Linear(mlp, dim, bias=False)})
    model = nn.ModuleDict(
        OrderedDict(
            embed_tokens=nn.Embedding(vocabulary, dim),
            layers=nn.ModuleList([nn.ModuleDict({"mlp": block, "norm": nn.LayerNorm(dim, bias=False)})]),
            lm_head=nn.Linear(dim, vocabulary, bias=False),
        )
    )
    if tied:
        model["lm_head"].weight = model["embed_tokens"].weight
    return model


def test_llama() -> None:
    assert infer_roles(llama_names()) == {
        "embed_tokens.weight": "embedding",
        "layers.0.mlp.gate.weight": "matrix",
        "layers.0.mlp.down.weight": "matrix",
        "layers.0.norm.weight": "vector",
        "lm_head.weight": "head",
    }


def test_names_alone_give_the_same_roles() -> None:
    model = llama_names()
    assert infer_roles(model.named_parameters()) == infer_roles(model)


def test_what_looks_like_a_head_inside_a_block_is_a_matrix() -> None:
    tied = infer_roles(llama_names(tied=True))
    assert tied["layers.0.mlp.gate.weight"] == "matrix", "it alone has the embedding's shape"
    attention = nn.ModuleDict({"attention": nn.ModuleDict({"output": nn.Linear(8, 8, bias=False)})})
    model = nn.ModuleDict({"embedding": nn.Embedding(16, 8), "blocks": nn.ModuleList([attention])})
    assert infer_roles(model)["blocks.0.attention.output.weight"] == "matrix"


def test_a_tied_weight_is_an_embedding_whichever_layer_comes_first() -> None:
    assert infer_roles(llama_names(tied=True))["embed_tokens.weight"] == "embedding"
    model = nn.ModuleDict(OrderedDict(head=nn.Linear(8, 16, bias=False), tokens=nn.Embedding(16, 8)))
    model["tokens"].weight = model["head"].weight
    assert infer_roles(model) == {"head.weight": "embedding"}


def test_a_head_without_a_telling_name_is_found_by_its_shape() -> None:
    model = nn.ModuleDict(OrderedDict(tokens=nn.Embedding(16, 8), hidden=nn.Linear(8, 8), classifier=nn.Linear(8, 16)))
    roles = infer_roles(model)
    assert roles["classifier.weight"] == "head" and roles["hidden.weight"] == "matrix"
    model["another"] = nn.Linear(8, 16)
    assert infer_roles(model)["classifier.weight"] == "matrix", "of two that could be, none is taken"
    model["lm_head"] = nn.Linear(8, 16)
    assert [n for n, role in infer_roles(model).items() if role == "head"] == ["lm_head.weight"]


def test_mixture_of_experts() -> None:
    class MoE(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Linear(8, 3, bias=False)
            self.experts = nn.Parameter(torch.zeros(3, 12, 8))

    model = nn.ModuleDict({"moe": MoE(), "dense": nn.ModuleDict({"gate": nn.Linear(8, 12, bias=False)})})
    assert infer_roles(model) == {
        "moe.experts": "expert",
        "moe.gate.weight": "router",
        "dense.gate.weight": "matrix",
    }


def test_convolutions_are_matrices() -> None:
    model = nn.Sequential(nn.Conv1d(3, 4, 5), nn.Conv2d(4, 4, 3))
    assert [infer_roles(model)[f"{n}.weight"] for n in (0, 1)] == ["matrix", "matrix"]


def test_a_tensor_of_unknown_role_is_refused_with_the_fix() -> None:
    odd = [("mixer", nn.Parameter(torch.zeros(2, 3, 4)))]
    with pytest.raises(ValueError, match=r"parameter mixer of shape \(2, 3, 4\) has no evident role.*roles=\{'mixer'"):
        infer_roles(odd)
    assert infer_roles(odd, {"mixer": "expert"}) == {"mixer": "expert"}
    assert infer_roles(odd, {"mix*": "matrix"}) == {"mixer": "matrix"}


def test_overrides() -> None:
    model = llama_names()
    by_pattern = infer_roles(model, {"layers.*": "vector", "layers.0.mlp.down.weight": "matrix"})
    assert by_pattern["layers.0.mlp.gate.weight"] == "vector"
    assert by_pattern["layers.0.mlp.down.weight"] == "matrix", "the exact name wins over a pattern"
    by_function = infer_roles(model, lambda name, p: "head" if p.shape == (16, 8) else None)
    assert by_function["embed_tokens.weight"] == "head" and by_function["layers.0.norm.weight"] == "vector"


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"lm_haed.weight": "head"}, r"no parameter is named 'lm_haed.weight' \(did you mean lm_head.weight"),
        ({"lm_head.weight": "output"}, r"lm_head.weight: unknown role 'output'; roles are matrix, embedding"),
    ],
)
def test_wrong_overrides(roles: dict[str, str], message: str) -> None:
    for use in (infer_roles, Muon):
        with pytest.raises(ValueError, match=message):
            use(llama_names(), roles=roles)


def test_compiled_models_keep_their_names() -> None:
    items = [(f"_orig_mod.{name}", p) for name, p in llama_names().named_parameters()]
    assert infer_roles(items) == infer_roles(llama_names())


def test_table() -> None:
    table = Muon(llama_names(), lr=0.02).routing_table().splitlines()
    assert table[0].split("  ")[0] == "parameter" and len(table) == 6
    assert [row.split() for row in table if "down" in row] == [
        ["layers.0.mlp.down.weight", "8", "x", "16", "matrix", "muon", "0.02", "1", "0.1"]
    ]
    assert [row.split()[-5:] for row in table if "lm_head" in row] == [["head", "adamw", "0.004", "0.2", "0.1"]]
    assert [row.split()[-5:] for row in table if "embed" in row] == [["embedding", "adamw", "0.004", "0.2", "0"]]


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ([], ValueError, "the parameter list is empty"),
        (nn.Module(), ValueError, "the parameter list is empty"),
        (torch.zeros(2), TypeError, "not one tensor"),
        ({torch.zeros(2)}, TypeError, "params must have an order"),
        ([("a", torch.zeros(0, 3))], ValueError, r"parameter a has no elements \(0 x 3\); leave it out"),
        ([("a", 3.0)], TypeError, "parameter a must be a tensor, not float"),
        ([("a", torch.zeros(2), 3)], TypeError, "parameter 0 must be a tensor, not tuple"),
        ([(3, torch.zeros(2))], TypeError, "parameter 0 must have a text as its name, not 3"),
        ([nn.Linear(2, 2)], TypeError, "parameter 0 must be a tensor, not Linear; give {'params': module} for a param"),
        ({"a": torch.zeros(2)}, TypeError, r"not a dict; give its .items\(\), or a list of param groups"),
        (None, TypeError, "params must be a module or an iterable of parameters, not None"),
        ([{"params": [torch.zeros(2)]}, torch.zeros(2)], TypeError, "param groups or parameters, not both"),
        ([{"lr": 0.1}], ValueError, "a param group must have params, and one has only lr"),
        (nn.LazyLinear(2), ValueError, "parameter weight has no shape yet; run its lazy module once before"),
        ([("a", torch.zeros(2, dtype=torch.complex64))], ValueError, "parameter a is complex"),
        ([("a", torch.zeros(2)), ("a", torch.ones(2))], ValueError, "the name a is given 2 times"),
        ([("a", shared := torch.zeros(2)), ("b", shared)], ValueError, "a and b are the same parameter"),
    ],
)
def test_bad_parameters(params: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Muon(params)


def whole() -> nn.ModuleDict:
    layers = {"embed_tokens": nn.Embedding(50, 16), "up": nn.Linear(16, 32), "lm_head": nn.Linear(16, 50)}
    return nn.ModuleDict(layers)


UNTOLD = {
    "parameters": lambda m: m.parameters(),
    "groups as in modded-nanogpt": lambda m: [{"params": m[n].parameters(), "lr": 0.01} for n in m],
    "a tensor": lambda m: [{"params": m["up"].weight}],
    "a layer by itself": lambda m: [{"params": m["lm_head"]}],
}


@pytest.mark.parametrize("params", UNTOLD.values(), ids=UNTOLD.keys())
@pytest.mark.parametrize("name", ["muon", "scion", "muonh", "muon+cautious"])
def test_a_rule_that_depends_on_the_role_must_be_told_it(name: str, params: Any) -> None:
    with pytest.raises(ValueError, match=rf"{re.escape(name)} has another rule for embedding and head.*roles=\"matrix"):
        build(name, params(whole()))
    assert set(build(name, params(whole()), roles="matrix").roles.values()) <= {"matrix", "vector"}
    build("adamw", params(whole()))


def test_the_right_ways_that_the_refusal_shows() -> None:
    expected = {"embed_tokens.weight": "embedding", "up.weight": "matrix", "lm_head.weight": "head"}
    expected |= {"up.bias": "vector", "lm_head.bias": "vector"}
    model = whole()
    by_group = [{"params": model[name].named_parameters(name)} for name in model]
    for params in (model, model.named_parameters(), by_group):
        assert Muon(params).roles == expected


def test_groups_of_modules_keep_their_layers() -> None:
    model = whole()
    groups = [{"params": model["embed_tokens"], "lr": 0.1}, {"params": nn.ModuleDict({"body": model["up"]})}]
    optimizer = Muon([*groups, {"params": nn.Embedding(4, 2)}], lr=0.02)
    assert optimizer.roles == {
        "weight": "embedding",
        "body.weight": "matrix",
        "body.bias": "vector",
        "group3.weight": "embedding",
    }
    with pytest.raises(ValueError, match="unknown role 'matrx'; roles are matrix"):
        Muon([nn.Parameter(torch.zeros(2, 2))], roles="matrx")


class Holder(nn.Module):
    """One parameter of its own."""

    def __init__(self, name: str, *shape: int, mark: bool = False) -> None:
        super().__init__()
        self.register_parameter(name, nn.Parameter(torch.zeros(shape)))
        if mark:
            getattr(self, name)._no_weight_decay = True


@pytest.mark.parametrize(
    ("model", "name", "role"),
    [
        (Holder("gate_up_proj_bias", 4, 12), "gate_up_proj_bias", "vector"),
        (Holder("A_log", 16, 4), "A_log", "vector"),
        (Holder("dynamics", 16, 4, mark=True), "dynamics", "vector"),
        (Holder("cls_token", 1, 1, 8), "cls_token", "vector"),
        (Holder("pos_emb", 16, 8), "pos_emb", "embedding"),
        (Holder("position_embeddings", 1, 16, 8), "position_embeddings", "embedding"),
        (nn.Conv1d(8, 8, 4, groups=8), "weight", "vector"),
        (nn.Conv1d(8, 8, 4, groups=2), "weight", "matrix"),
        (nn.Conv1d(1, 8, 4), "weight", "matrix"),
        (nn.ConvTranspose2d(4, 8, 3), "weight", "matrix"),
        (nn.ConvTranspose2d(4, 8, 3, groups=2), "weight", "vector"),
        (nn.ModuleDict({"router": nn.ModuleDict({"layer": nn.Linear(8, 4)})}), "router.layer.weight", "router"),
        (nn.Bilinear(4, 5, 6), "weight", "matrix"),
        (weight_norm(nn.Linear(8, 4)), "parametrizations.weight.original0", "vector"),
        (weight_norm(nn.Linear(8, 4)), "parametrizations.weight.original1", "matrix"),
        (weight_norm(nn.Conv1d(8, 4, 3)), "parametrizations.weight.original1", "matrix"),
        (weight_norm(nn.Conv1d(8, 4, 3), dim=2), "parametrizations.weight.original0", "vector"),
        (nn.ModuleDict({"shared_expert_gate": nn.Linear(8, 1)}), "shared_expert_gate.weight", "router"),
        (nn.ModuleDict({"body": nn.Linear(8, 8), "score": nn.Linear(8, 3)}), "score.weight", "head"),
        (nn.ModuleDict({"out": nn.Linear(8, 8), "body": nn.Linear(8, 3)}), "out.weight", "matrix"),
        (nn.ModuleDict({"fc": nn.Linear(8, 8), "lm_head": nn.Linear(8, 3)}), "fc.weight", "matrix"),
        (nn.ModuleDict({"tokens": nn.Embedding(70, 8), "scores": nn.Linear(8, 72)}), "scores.weight", "head"),
        (nn.ModuleDict({"tokens": nn.Embedding(50, 8), "up": nn.Linear(8, 64)}), "up.weight", "matrix"),
        (nn.ModuleDict({"h": nn.ModuleList([nn.ModuleDict({"out": nn.Linear(8, 8)})])}), "h.0.out.weight", "matrix"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_roles_of_unusual_parameters(model: nn.Module, name: str, role: str) -> None:
    assert infer_roles(model)[name] == role
    Muon(model)


def tokens_and_head() -> nn.ModuleDict:
    """Of different shapes, so that the head is known by its name alone."""
    return nn.ModuleDict({"embed": nn.Embedding(40, 8), "up": nn.Linear(8, 8), "lm_head": nn.Linear(8, 30)})


class Around(nn.Module):
    """What PEFT puts in the place of a layer that is trained whole: the layer and a copy of it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.original_module = layer.requires_grad_(False)
        self.modules_to_save = nn.ModuleDict({"default": copy.deepcopy(layer).requires_grad_()})


class Based(nn.Module):
    """A layer under LoRA."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = layer


@pytest.mark.parametrize(
    "around",
    [
        spectral_norm,
        weight_norm,
        orthogonal,
        checkpoint_wrapper,
        Around,
        Based,
    ],
    ids=lambda around: around.__name__,
)
def test_what_stands_around_a_layer_leaves_its_role(around: Callable[[nn.Module], nn.Module]) -> None:
    model = tokens_and_head()
    for name in ("embed", "up", "lm_head"):
        model[name] = around(model[name])
    rights = {"embed": "embedding", "up": "matrix", "lm_head": "head"}
    tensors = dict(model.named_parameters())
    for name, role in infer_roles(model).items():
        tall = tensors[name].numel() == max(tensors[name].shape)  # biases and lengths
        assert role == ("vector" if tall else rights[name.split(".")[0]]), name
    Muon(model)


@pytest.mark.parametrize("name", ["base_layer", "original_module", "modules_to_save", "weight_v", "a.parametrizations"])
def test_a_parameter_may_have_any_name(name: str) -> None:
    assert infer_roles([(name, nn.Parameter(torch.zeros(4, 4)))]) == {name: "matrix"}


def test_an_embedding_of_another_class_is_one_by_its_name() -> None:
    model = tokens_and_head()
    model["embed"], model["embed_tokens"] = nn.Linear(3, 8), Holder("weight", 40, 8)
    roles = infer_roles(model)
    assert roles["embed_tokens.weight"] == "embedding"
    assert roles["embed.weight"] == "matrix", "a linear layer is none, whatever its name"


@pytest.mark.parametrize(
    ("name", "head", "last"),
    [
        ("classifier", nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)), "2"),
        ("mlp_head", nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 3)), "1"),
        ("classifier", nn.ModuleDict({"dense": nn.Linear(8, 8), "out_proj": nn.Linear(8, 3)}), "out_proj"),
        ("classification_head", nn.ModuleDict({"dense": nn.Linear(8, 8), "out_proj": nn.Linear(8, 3)}), "out_proj"),
        ("head", nn.ModuleDict({"norm": nn.LayerNorm(8), "fc": nn.Linear(8, 3)}), "fc"),
    ],
)
def test_the_last_layer_of_a_head_of_several_is_the_head(name: str, head: nn.Module, last: str) -> None:
    roles = infer_roles(nn.ModuleDict({"embed": nn.Embedding(40, 8), "up": nn.Linear(8, 8), name: head}))
    weights = {n for n, p in head.named_parameters(name) if p.ndim == 2}
    assert {n for n, role in roles.items() if role == "head"} == {f"{name}.{last}.weight"}
    assert all(roles[n] == "matrix" for n in weights - {f"{name}.{last}.weight"})


def test_the_head_of_a_discriminator() -> None:
    """ELECTRA's has a hidden layer, which is a matrix as any other hidden layer, and one of one output, which is the
    head."""
    head = nn.ModuleDict({"dense": nn.Linear(8, 8), "dense_prediction": nn.Linear(8, 1)})
    roles = infer_roles(nn.ModuleDict({"embed": nn.Embedding(40, 8), "discriminator_predictions": head}))
    assert roles["discriminator_predictions.dense.weight"] == "matrix"
    assert roles["discriminator_predictions.dense_prediction.weight"] == "head"
    gate = nn.ModuleDict(OrderedDict(smear_gate=nn.Linear(8, 1), lm_head=nn.Linear(8, 30)))
    assert infer_roles(gate)["smear_gate.weight"] == "matrix", "another layer follows it"


def flat_experts(**further: int) -> nn.Module:
    model = nn.ModuleDict({"experts": nn.ModuleDict({"mlp": Holder("w1", 12, 8)})})
    for name, value in further.items():
        setattr(model.get_submodule("experts.mlp"), name, value)
    return model


def test_experts_one_under_another_are_not_stepped_as_one_matrix() -> None:
    """As megablocks stores them: how many they are is known to the user."""
    name = "experts.mlp.w1"
    with pytest.raises(ValueError, match=rf"{name} of shape \(12, 8\) seems to hold the matrices of several experts.*"):
        Muon(flat_experts())
    with pytest.raises(ValueError, match=rf"overrides={{'{name}': {{'splits': number of experts}}}}"):
        build("soap", flat_experts().named_parameters())
    model = flat_experts()
    optimizer = Muon(model, overrides={name: {"splits": 3}})
    next(model.parameters()).grad = torch.ones(12, 8)
    optimizer.step()
    assert optimizer.state_dict()["state"][name]["m"].shape == (3, 4, 8)
    assert Muon(flat_experts(), roles={name: "matrix"}).roles == {name: "matrix"}
    build("adamw", flat_experts())
    Muon(nn.ModuleDict({"up": nn.Linear(4, 4), "experts": flat_experts().requires_grad_(False)}))
    with pytest.raises(ValueError, match=r"the role expert is for a stack of matrices with three dimensions"):
        Muon(flat_experts(), roles={name: "expert"})


def test_several_heads() -> None:
    """A list with one for each codebook; the value head of reinforcement learning beside one of tokens."""
    body = {"embed": nn.Embedding(40, 8), "up": nn.Linear(8, 8)}
    many = infer_roles(nn.ModuleDict({**body, "lm_heads": nn.ModuleList(nn.Linear(8, 30) for _ in range(3))}))
    assert [n for n, role in many.items() if role == "head"] == [f"lm_heads.{n}.weight" for n in range(3)]
    two = infer_roles(nn.ModuleDict({**body, "v_head": nn.Linear(8, 1), "tokens": nn.Linear(8, 40)}))
    assert [n for n, role in two.items() if role == "head"] == ["v_head.weight", "tokens.weight"]


@pytest.mark.parametrize("name", ["wpe", "embed_in", "word_embeddings", "embed_positions", "shared", "tok_emb"])
def test_embeddings_by_their_names_alone(name: str) -> None:
    assert infer_roles([(f"model.{name}.weight", nn.Parameter(torch.zeros(8, 4)))]) == {
        f"model.{name}.weight": "embedding"
    }


def test_an_elementwise_rule_needs_no_role() -> None:
    odd = nn.Parameter(torch.zeros(2, 3, 4))
    assert build("adamw", [odd]).roles == {"0": "matrix"}
    for name in ("muon", "soap"):
        with pytest.raises(ValueError, match="has no evident role"):
            build(name, [("odd", odd)])


def test_what_is_frozen_is_not_in_the_way() -> None:
    """Quantised weights (QLoRA) are left out; a frozen table of unknown role never steps, whatever it counts as."""
    model = nn.Linear(4, 4)
    model.register_parameter("base", nn.Parameter(torch.zeros(4, 4, dtype=torch.uint8), requires_grad=False))
    model.register_parameter("table", nn.Parameter(torch.zeros(2, 3, 4), requires_grad=False))
    assert Muon(model).roles == {"weight": "matrix", "bias": "vector", "table": "vector"}
    with pytest.raises(ValueError, match="nothing is left to train"):
        Muon([model.base])
