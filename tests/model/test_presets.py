"""Presets and shapes against the published counts and against the modules that are built from them."""

from __future__ import annotations

import json

import pytest
import torch

from fairstep.model import PRESETS, ModelConfig, MoEConfig, build, config_of, preset
from fairstep.model.shapes import counts, flops_per_token, parameter_table
from fairstep.optim import infer_roles
from fairstep.published import semenov, wen
from fairstep.runs import ModelSpec

SEMENOV = {  # arXiv 2509.01440; totals from its sizes (tied head, 50304 tokens), 124M's also in the code's README
    "semenov/124m": 123_587_328,
    "semenov/210m": 208_540_416,
    "semenov/583m": 583_232_640,
    "semenov/720m": 719_636_480,
    "semenov/moe": 520_022_784,
}
WEN = {  # arXiv 2509.02046, code: (matrix parameters, which name the sizes and set the Chinchilla length; all)
    "wen/130m": (134_217_728, 265_585_152),
    "wen/300m": (301_989_888, 499_041_024),
    "wen/520m": (536_870_912, 799_605_760),
    "wen/1.2b": (1_207_959_552, 1_602_061_824),
}
WALL_CLOCK = {  # arXiv 2509.01440, Table 2: width, heads, layers
    "30m": (384, 6, 8),
    "52m": (512, 8, 8),
    "80m": (768, 6, 6),
    "124m": (768, 12, 12),
    "150m": (768, 12, 16),
    "210m": (768, 12, 24),
    "360m": (1024, 16, 24),
    "720m": (2048, 16, 12),
    "1026m": (1792, 14, 24),
}


@pytest.mark.parametrize("name", SEMENOV)
def test_semenov_counts_to_the_unit(name: str) -> None:
    assert counts(preset(name).model).total == SEMENOV[name]


def test_semenov_moe_counts_its_active_parameters() -> None:
    assert counts(preset("semenov/moe").model).active == 180_284_160


@pytest.mark.parametrize("name", WEN)
def test_wen_counts_to_the_unit(name: str) -> None:
    found = counts(preset(name).model)
    assert (found.matrix, found.total) == WEN[name]
    assert preset(name).model.heads * 64 == preset(name).model.width


@pytest.mark.parametrize("name", WALL_CLOCK)
def test_wall_clock_sizes(name: str) -> None:
    model = preset(f"semenov/{name}").model
    assert (model.width, model.heads, model.layers) == WALL_CLOCK[name]
    assert counts(model).total == pytest.approx(float(name[:-1]) * 1e6, rel=0.12)  # 30M has 33.5 million


def test_other_architectures_count_to_the_unit() -> None:
    """124,439,808: GPT-2 as released. BERT base with its masked-token head has 109,514,298, of which 2 x 768 are
    segment embeddings and 768^2 + 3 x 768 + 30522 a head beyond the tied embedding, which ours has not."""
    assert counts(preset("gpt2/124m").model).total == 124_439_808
    assert counts(preset("bert/110m").model).total == 109_514_298 - 2 * 768 - (768**2 + 3 * 768 + 30_522)


@pytest.mark.parametrize("name", PRESETS)
def test_the_table_is_that_of_the_built_module(name: str) -> None:
    with torch.device("meta"):
        model = build(preset(name).fields())
    table = parameter_table(preset(name).model)
    assert [(p.name, p.shape) for p in table] == [(n, tuple(p.shape)) for n, p in model.named_parameters()]
    assert {p.name: p.role for p in table} == infer_roles(model)
    assert [p.size_bytes for p in table] == [p.nbytes for p in model.parameters()]
    assert counts(preset(name).model).total == sum(p.numel() for p in model.parameters())


VARIANT = ModelConfig(
    layers=2,
    width=32,
    heads=4,
    mlp_width=48,
    vocabulary=64,
    context=16,
    kv_heads=2,
    qk_norm=True,
    moe=MoEConfig(experts=4, shared_experts=2),
)


TRACK3 = ModelConfig(layers=2, width=32, heads=4, mlp_width=128, vocabulary=64, context=16, architecture="track3")


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("moe", [None, VARIANT.moe])
def test_the_table_knows_every_option(tied: bool, moe: MoEConfig | None) -> None:
    config = VARIANT.model_copy(update={"tied_head": tied, "moe": moe})
    model = build(config)
    assert [(p.name, p.shape) for p in parameter_table(config)] == [
        (n, tuple(p.shape)) for n, p in model.named_parameters()
    ]
    assert {p.name: p.role for p in parameter_table(config)} == infer_roles(model)


def test_flops_are_those_of_the_matrix_products() -> None:
    """torch counts the products of one forward pass; forward and backward are three times that."""
    from torch.utils.flop_counter import FlopCounterMode

    for name in ("106k", "moe/328k", "gpt2/98k", "track3"):
        config = preset(name).model if name != "track3" else TRACK3
        model, tokens = build(config), torch.zeros(2, config.context, dtype=torch.long)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.logits(tokens)
        counted = 3 * counter.get_total_flops() / tokens.numel()
        if config.moe is not None:  # the grouped products are opaque to the counter
            experts = 3 * config.width * config.mlp_width * config.moe.experts_per_token * config.layers
            counted += 6 * experts
        assert counted == flops_per_token(config), name


@pytest.mark.parametrize("name", [name for name in PRESETS if "/" not in name or name.startswith(("moe", "98k"))])
def test_the_ladder_is_named_by_matrix_parameters(name: str) -> None:
    size = name.split("/")[-1]
    number, unit = float(size[:-1]), {"k": 1e3, "M": 1e6}[size[-1]]
    assert preset(name).parameters_matrix == pytest.approx(number * unit, rel=0.02)


def test_another_tokenizer_keeps_the_rest() -> None:
    assert preset("semenov/124m").config(50_257).vocabulary == 50_304
    assert preset("semenov/124m").config(512).vocabulary == 512
    assert preset("bert/110m").config(512).vocabulary == 513
    assert preset("106k").parameters(1024) - preset("106k").parameters(512) == 512 * 64 * 2


def test_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown preset '107k' \(did you mean 106k"):
        preset("107k")


def test_a_preset_is_a_valid_spec_of_its_name() -> None:
    """Sizes for another vocabulary are copied without validation, so they are validated here."""
    for name in PRESETS:
        assert ModelSpec(**preset(name).fields()) == preset(name).model
        assert ModelSpec(**preset(name).fields(1000)) == preset(name).config(1000)
        assert preset(name).model.preset == name
    assert config_of(preset("106k").fields()) == preset("106k").model


def test_the_new_fields_leave_the_identity_of_earlier_models_alone() -> None:
    sizes = {"layers": 2, "width": 64, "heads": 1, "mlp_width": 192, "vocabulary": 512, "context": 128}
    spec = ModelSpec(**preset("106k").fields())
    assert spec.model_dump(mode="json", exclude={"preset"}, exclude_defaults=True) == sizes


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kv_heads": 3}, "kv_heads must divide the 2 heads, not 3"),
        (
            {"moe": {"experts": 2, "experts_per_token": 3}},
            r"experts_per_token must be at most 2 \(the experts\), not 3",
        ),
        (
            {"architecture": "gpt2", "residual_scale": 0.5},
            "residual_scale is an option of the llama architecture, not of gpt2",
        ),
        ({"architecture": "bert", "qk_norm": True}, "qk_norm is an option of the llama architecture, not of bert"),
        (
            {"architecture": "track3", "tied_head": True},
            "architecture track3 needs a head of its own, so tied_head must",
        ),
        ({"initialisation": "zero_outputs", "tied_head": True}, "initialisation zero_outputs needs a head of its own"),
        ({"architecture": "track3", "width": 12}, "heads of track3 must have a multiple of 4 elements .*, not 6"),
    ],
)
def test_impossible_models_are_refused(change: dict[str, object], words: str) -> None:
    sizes = {"layers": 1, "width": 16, "heads": 2, "mlp_width": 8, "vocabulary": 300, "context": 8}
    with pytest.raises(ValueError, match=words):
        ModelSpec(**(sizes | change))


def test_scales_are_written_where_they_are_set() -> None:
    """Files of runs from before them stay as they were."""
    model = preset("27k").model
    assert not [name for name in json.loads(model.model_dump_json()) if name.endswith("_scale")]
    scaled = model.model_copy(update={"residual_scale": 0.5})
    assert scaled.model_dump(exclude_defaults=True)["residual_scale"] == 0.5
    assert ModelSpec.model_validate_json(scaled.model_dump_json()) == scaled


def test_presets_agree_with_the_published_tables() -> None:
    for entry in semenov.configuration_list():
        name = {"moe-520m": "moe"}.get(entry["scale"], entry["scale"])
        found = preset(f"semenov/{name}")
        assert counts(found.model).total == entry["parameters"]
        assert found.batch_sequences == entry["batch_sequences"]
    for entry in wen.models().iter_rows(named=True):
        model = preset(f"wen/{entry['model_size']}").model
        assert (model.layers, model.width, model.mlp_width) == (entry["layers"], entry["hidden"], entry["mlp"])
        assert (model.heads, model.context, model.vocabulary) == (entry["heads"], entry["context"], entry["vocabulary"])
        assert (counts(model).matrix, counts(model).total) == (entry["parameters_matrix"], entry["parameters"])
