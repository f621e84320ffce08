"""The model against what the papers say and against torch's own attention."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from fairstep.model import PRESETS, Llama, ModelConfig
from fairstep.model.attention import explicit_attention
from fairstep.model.layers import rope_tables, rotate

TINY = ModelConfig(layers=2, width=16, heads=2, mlp_width=48, vocabulary=64, context=12)


def test_explicit_attention_is_torchs_causal_attention() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 3, 10, 8, dtype=torch.float64)
    mask = torch.full((10, 10), float("-inf"), dtype=torch.float64).triu(1)
    scores = torch.softmax(q @ k.transpose(-1, -2) * 8**-0.5 + mask, -1) @ v
    assert torch.allclose(scores, F.scaled_dot_product_attention(q, k, v, is_causal=True), atol=1e-12)
    ours = explicit_attention(q.float(), k.float(), v.float(), mask.float())
    assert torch.allclose(ours.double(), scores, atol=1e-5)


def test_model_gives_the_same_loss_with_either_attention() -> None:
    torch.manual_seed(0)
    model = Llama(TINY)
    tokens = torch.randint(0, 64, (3, 13))
    written_out = model(tokens[:, :-1], tokens[:, 1:])
    model.mask = None
    assert model(tokens[:, :-1], tokens[:, 1:]).item() == pytest.approx(written_out.item(), abs=1e-6)


def test_rope_depends_on_the_distance_only() -> None:
    """The score of a rotated query and key is that of any other pair at the same distance (arXiv 2104.09864)."""
    cos, sin = rope_tables(TINY)
    q, k = torch.randn(2, 1, 1, 1, 8)
    rotated_q, rotated_k = (rotate(x.expand(1, 1, 12, 8), cos, sin)[0, 0] for x in (q, k))
    scores = rotated_q @ rotated_k.T
    for distance in range(-11, 12):
        diagonal = scores.diagonal(distance)
        assert torch.allclose(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-5)
    assert torch.allclose(rotated_q[0], q.flatten())


def test_no_position_sees_the_future() -> None:
    torch.manual_seed(0)
    model = Llama(TINY)
    tokens = torch.randint(0, 64, (1, 12))
    before = model.logits(tokens)
    tokens[0, 7] = (tokens[0, 7] + 1) % 64
    after = model.logits(tokens)
    assert torch.equal(before[0, :7], after[0, :7])
    assert not torch.equal(before[0, 7], after[0, 7])


def test_initialisation_has_the_published_spread() -> None:
    torch.manual_seed(0)
    model = Llama(PRESETS["852k"].model)
    block = model.blocks[0]
    assert block.attention.q.weight.std().item() == pytest.approx(0.02, rel=0.03)
    assert block.mlp.down.weight.std().item() == pytest.approx(0.02 / math.sqrt(8), rel=0.03)
    assert block.attention.o.weight.std().item() == pytest.approx(0.02 / math.sqrt(8), rel=0.03)
    assert torch.equal(block.mlp_norm.weight, torch.ones(128))


def test_first_loss_is_that_of_a_uniform_guess() -> None:
    torch.manual_seed(0)
    model = Llama(PRESETS["106k"].model)
    tokens = torch.randint(0, 512, (4, 129))
    assert model(tokens[:, :-1], tokens[:, 1:]).item() == pytest.approx(math.log(512), abs=0.02)


def test_ignored_targets_do_not_count() -> None:
    torch.manual_seed(0)
    model = Llama(TINY)
    tokens = torch.randint(0, 64, (2, 13))
    x, y = tokens[:, :-1], tokens[:, 1:].clone()
    alone = model(x[:1], y[:1])
    y[1] = -100
    assert model(x, y).item() == pytest.approx(alone.item(), abs=1e-6)
