"""What every model must do, whatever its parts: causality, independence of the batch, gradients, initialisation."""

from __future__ import annotations

import math

import pytest
import torch

from fairstep.model import LanguageModel, ModelConfig, MoEConfig, build

TINY = ModelConfig(layers=2, width=32, heads=4, mlp_width=48, vocabulary=64, context=12)
CONFIGS = {
    "llama": TINY,
    "tied": TINY.model_copy(update={"tied_head": True}),
    "gqa": TINY.model_copy(update={"kv_heads": 2}),
    "qk_norm": TINY.model_copy(update={"qk_norm": True}),
    "z_loss": TINY.model_copy(update={"z_loss": 1e-4}),
    "fan_in": TINY.model_copy(update={"initialisation": "fan_in"}),
    "scales": TINY.model_copy(update={"attention_scale": 0.2, "residual_scale": 0.5, "output_scale": 0.5}),
    "moe": TINY.model_copy(update={"moe": MoEConfig(experts=4)}),
    "moe_capacity": TINY.model_copy(update={"moe": MoEConfig(experts=4, capacity_factor=1.0)}),
    "moe_shared": TINY.model_copy(update={"moe": MoEConfig(experts=4, shared_experts=2, balance_scale="switch")}),
    "expert_choice": TINY.model_copy(update={"moe": MoEConfig(experts=4, routing="expert_choice")}),
    "gpt2": TINY.model_copy(update={"architecture": "gpt2", "tied_head": True}),
    "bert": TINY.model_copy(update={"architecture": "bert", "tied_head": True, "initialisation": "flat"}),
    "track3": TINY.model_copy(update={"architecture": "track3"}),
}
LOOKS_AHEAD = {"bert", "expert_choice"}


def model_of(name: str) -> LanguageModel:
    torch.manual_seed(0)
    return build(CONFIGS[name])


def batch(sequences: int = 3) -> torch.Tensor:
    return torch.randint(0, 64, (sequences, 13), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", CONFIGS)
def test_no_position_sees_the_future(name: str) -> None:
    model, tokens = model_of(name), batch(1)[:, :12]
    before = model.logits(tokens)
    tokens[0, 7] = (tokens[0, 7] + 1) % 64
    after = model.logits(tokens)
    assert not torch.equal(before[0, 7], after[0, 7])
    if name in LOOKS_AHEAD:
        assert not torch.allclose(before[0, :7], after[0, :7], atol=1e-7)
    else:
        assert torch.allclose(before[0, :7], after[0, :7], atol=1e-7)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_sequence_does_not_depend_on_the_others(name: str) -> None:
    model, tokens = model_of(name), batch()[:, :12]
    assert torch.allclose(model.logits(tokens)[1:2], model.logits(tokens[1:2]), atol=1e-6)


@pytest.mark.parametrize("name", sorted(set(CONFIGS) - {"bert"}))
def test_a_prefix_gives_the_same_scores(name: str) -> None:
    """Shorter sequences than the context are read too; what capacity allows depends on the length, so not there."""
    model, tokens = model_of(name), batch()[:, :12]
    short = model.logits(tokens[:, :5])
    assert short.shape == (3, 5, 64)
    if name not in LOOKS_AHEAD | {"moe_capacity"}:
        assert torch.allclose(short, model.logits(tokens)[:, :5], atol=1e-6)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    model, tokens = model_of(name), batch()
    model(tokens[:, :-1], tokens[:, 1:]).backward()
    for parameter_name, p in model.named_parameters():
        assert p.grad is not None, parameter_name
        assert torch.isfinite(p.grad).all(), parameter_name
        if not parameter_name.endswith("attention.k.bias"):  # adds the same to all scores of a query: no effect
            assert p.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize("name", CONFIGS)
def test_either_attention_gives_the_same_loss(name: str) -> None:
    model, tokens = model_of(name), batch()
    written_out = model(tokens[:, :-1], tokens[:, 1:])
    model.mask = None
    assert model(tokens[:, :-1], tokens[:, 1:]).item() == pytest.approx(written_out.item(), abs=1e-6)


@pytest.mark.parametrize("name", CONFIGS)
def test_training_adds_the_auxiliary_terms_and_evaluation_does_not(name: str) -> None:
    model, tokens = model_of(name), batch()
    training = model(tokens[:, :-1], tokens[:, 1:]).item()
    found = model.measurements()
    evaluation = model.eval()(tokens[:, :-1], tokens[:, 1:]).item()
    logits = model.logits(tokens[:, :-1]).flatten(0, 1)
    plain = torch.nn.functional.cross_entropy(logits, tokens[:, 1:].flatten()).item()
    assert evaluation == pytest.approx(plain, abs=1e-6)
    config, expected = CONFIGS[name], plain
    if config.z_loss:
        assert found["z_loss"] == pytest.approx(torch.logsumexp(logits, -1).square().mean().item(), rel=1e-5)
        expected += config.z_loss * found["z_loss"]
    if config.moe:
        expected += config.moe.balance_loss * found["balance_loss"] + config.moe.router_z_loss * found["router_z_loss"]
        for layer in found["expert_load"]:
            assert sum(layer) == pytest.approx(1.0, abs=1e-5)
    assert training == pytest.approx(expected, abs=1e-6)
    assert bool(found) == bool(config.z_loss or config.moe)
    model.reset_measurements()
    assert model.measurements() == {}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_first_loss_is_that_of_a_uniform_guess(name: str) -> None:
    if name == "fan_in":
        pytest.skip("W's head is larger, so its first logits are not small")
    model, tokens = model_of(name), batch(16)
    assert model.eval()(tokens[:, :-1], tokens[:, 1:]).item() == pytest.approx(math.log(64), abs=0.06)


def test_scales_are_factors_of_what_they_name() -> None:
    """Of scores, of what a block adds, of logits: folded into the weights, they give the same logits."""
    torch.manual_seed(0)
    scaled = build(TINY.model_copy(update={"attention_scale": 0.2, "residual_scale": 0.5, "output_scale": 0.25}))
    plain = build(TINY)
    weights = scaled.state_dict()
    for name in weights:
        if name.endswith("attention.q.weight"):
            weights[name] = weights[name] * (0.2 * TINY.head_width**0.5)
        elif name.endswith(("attention.o.weight", "down.weight")):
            weights[name] = weights[name] * 0.5
        elif name == "norm.weight":
            weights[name] = weights[name] * 0.25
    plain.load_state_dict(weights)
    tokens = batch()[:, :12]
    torch.testing.assert_close(scaled.logits(tokens), plain.logits(tokens), rtol=1e-5, atol=1e-6)


def test_initialisation_of_mup() -> None:
    """Head and residual outputs 0, embedding N(0, 0.1^2), hidden N(0, 1 / inputs) (arXiv 2512.05620)."""
    torch.manual_seed(0)
    config = TINY.model_copy(update={"width": 128, "mlp_width": 256, "vocabulary": 512, "initialisation": "mup"})
    weights = dict(build(config).named_parameters())
    assert weights["embedding.weight"].std().item() == pytest.approx(0.1, rel=0.02)
    for name in ("attention.q", "attention.v", "mlp.gate", "mlp.up"):
        assert weights[f"blocks.0.{name}.weight"].std().item() == pytest.approx(128**-0.5, rel=0.03)
    for name in ("head", "blocks.1.attention.o", "blocks.1.mlp.down"):
        assert not weights[f"{name}.weight"].any()


def test_initialisation_of_semenov_also_inside_experts() -> None:
    """N(0, 0.02^2), residual outputs N(0, (0.02 / sqrt(2 layers))^2), router plain (arXiv 2509.01440, section 2)."""
    torch.manual_seed(0)
    config = ModelConfig(
        layers=3,
        width=64,
        heads=4,
        mlp_width=192,
        vocabulary=256,
        context=16,
        moe=MoEConfig(experts=8, shared_experts=1),
    )
    for name, p in build(config).named_parameters():
        writes = name.endswith(("attention.o.weight", "experts.down", "shared.down.weight"))
        std = 0.02 / math.sqrt(6) if writes else 0.02
        if p.ndim > 1:
            assert p.std().item() == pytest.approx(std, rel=0.1), name
            assert p.mean().item() == pytest.approx(0, abs=4 * std / p.numel() ** 0.5), name
        else:
            assert torch.equal(p, torch.ones_like(p))


def test_initialisation_of_wen() -> None:
    """Truncated at 3 sigma, sigma = 1 / sqrt(inputs), the embedding's 1 / width; no depth scaling."""
    torch.manual_seed(0)
    config = ModelConfig(
        layers=2, width=64, heads=4, mlp_width=256, vocabulary=512, context=16, initialisation="fan_in"
    )
    shrink = 0.98658  # standard deviation of a standard normal cut at +-3: sqrt(1 - 6 phi(3) / (2 Phi(3) - 1))
    for name, p in build(config).named_parameters():
        if p.ndim > 1:
            sigma = 1 / 64 if name == "embedding.weight" else p.shape[1] ** -0.5
            assert p.std().item() == pytest.approx(shrink * sigma, rel=0.03), name
            assert p.abs().max().item() <= 3 * sigma, name
            assert p.abs().max().item() > 2.8 * sigma, name


def test_biases_begin_at_zero_and_gains_at_one() -> None:
    for name in ("gpt2", "bert", "track3"):
        for parameter_name, p in model_of(name).named_parameters():
            if p.ndim == 1:
                value = 0.0 if parameter_name.endswith("bias") else 1.0
                assert torch.equal(p, torch.full_like(p, value)), parameter_name


def test_grouped_queries_are_heads_that_share_keys() -> None:
    """GQA equals full attention whose key and value heads are repeated (arXiv 2305.13245)."""
    small = model_of("gqa")
    full = build(TINY)
    weights = dict(small.named_parameters())
    with torch.no_grad():
        for name, p in full.named_parameters():
            source = weights[name]
            if source.shape != p.shape:
                source = source.unflatten(0, (2, 8)).repeat_interleave(2, dim=0).flatten(0, 1)
            p.copy_(source)
    tokens = batch()[:, :12]
    assert torch.allclose(small.logits(tokens), full.logits(tokens), atol=1e-6)


def test_qk_norm_makes_scores_independent_of_the_size_of_q_and_k() -> None:
    model, tokens = model_of("qk_norm"), batch()[:, :12]
    before = model.logits(tokens)
    with torch.no_grad():
        for block in model.blocks:
            block.attention.q.weight *= 7
            block.attention.k.weight *= 7
    assert torch.allclose(model.logits(tokens), before, atol=2e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile's own
@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("moe", "inductor"),
        *((name, "aot_eager") for name in ("moe_capacity", "expert_choice", "gqa", "gpt2", "bert", "track3")),
    ],
)
def test_compiled_models_give_the_same_loss_and_gradients(name: str, backend: str) -> None:
    """Traced in one piece; the real backend, which takes long, for the one that is most unlike the others."""
    torch.manual_seed(0)
    model, tokens = build(CONFIGS[name].model_copy(update={"layers": 1})), batch()
    x, y = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    loss = model(x, y)
    loss.backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    load = model.measurements()
    model.zero_grad()
    model.reset_measurements()
    compiled = torch.compile(model, dynamic=False, fullgraph=True, backend=backend)(x, y)
    compiled.backward()
    assert compiled.item() == pytest.approx(loss.item(), abs=1e-6)
    for p, gradient in zip(model.parameters(), gradients, strict=True):
        assert p.grad is not None
        assert torch.allclose(p.grad, gradient, atol=1e-6)
    if load:
        assert model.measurements()["expert_load"][0] == pytest.approx(load["expert_load"][0])


def test_unknown_architectures_are_named() -> None:
    with pytest.raises(
        ValueError, match="architecture: input should be 'llama', 'gpt2', 'bert' or 'track3', not 'rwkv'"
    ):
        build(TINY.model_dump() | {"architecture": "rwkv"})
