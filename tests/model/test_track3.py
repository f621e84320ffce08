"""The model of modded-nanogpt's optimization track against its published facts, and against its equations once more.

Facts: KellerJordan/modded-nanogpt, records/track_3_optimization (MIT), state of 2026-08-01, the log of result 36.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fairstep.model import LanguageModel, ModelConfig, build, preset
from fairstep.model.hf import hf_config
from fairstep.model.shapes import counts

CUT = preset("track3/124m").model.model_copy(
    update={"layers": 2, "width": 128, "heads": 2, "mlp_width": 512, "vocabulary": 304, "context": 32}
)
"""Two layers of width 128."""

FIRST_LOSS = 10.82584
"""Nats per token at step 0 in every log of the track."""


def model_of(config: ModelConfig) -> LanguageModel:
    torch.manual_seed(0)
    return build(config)


def tokens(count: int = 3, length: int = 33, vocabulary: int = 304) -> Tensor:
    return torch.randint(0, vocabulary, (count, length), generator=torch.Generator().manual_seed(1))


def test_parameters_are_those_counted_by_hand() -> None:
    """Per block 4 D^2 + 2 x 4 D^2 weights, 4 D + 4 D + D biases and 2 D gains; without: embedding, head with biases,
    two gains."""
    for config in (preset("track3/124m").model, CUT):
        layers, width, vocabulary = config.layers, config.width, config.vocabulary
        by_hand = layers * (12 * width**2 + 11 * width) + 2 * vocabulary * width + vocabulary + 2 * width
        assert counts(config).total == by_hand
        assert counts(config).matrix == layers * 12 * width**2
    assert counts(preset("track3/124m").model).total == 162_354_816
    assert sum(p.numel() for p in model_of(CUT).parameters()) == counts(CUT).total == 474_416


def test_the_first_loss_is_the_published_one() -> None:
    """The head is zero, so every token is as probable as any other."""
    assert round(math.log(preset("track3/124m").model.vocabulary), 5) == FIRST_LOSS
    x = tokens()
    for bf16 in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            assert model_of(CUT)(x[:, :-1], x[:, 1:]).item() == pytest.approx(math.log(304), rel=1e-6)


def test_first_weights() -> None:
    model = model_of(CUT)
    for name, p in model.named_parameters():
        if name.endswith(("head.weight", "attention.o.weight", "down.weight", "bias")):
            assert not p.any(), name
        elif p.ndim == 1:
            assert torch.equal(p, torch.ones_like(p)), name
        else:
            deviation = 1.0 if name == "embedding.weight" else math.sqrt(0.33 / p.shape[1])
            assert p.float().std().item() == pytest.approx(deviation, rel=0.02), name
        assert p.dtype == (torch.bfloat16 if name == "embedding.weight" else torch.float32), name


def literally(config: ModelConfig, w: dict[str, Tensor], ids: Tensor) -> Tensor:
    """The logits by the facts alone, a sequence and a head at a time; a rotation turns the halves of a head."""
    size, heads = config.width // config.heads, config.heads
    halves = torch.arange(size).view(-1, 2).T.flatten()  # neighbours as halves

    def norm(x: Tensor) -> Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + config.norm_eps).sqrt()

    def turned(x: Tensor) -> Tensor:
        rows = []
        for position, row in enumerate(x[:, halves]):
            first, second = row[: size // 2].clone(), row[size // 2 :].clone()
            for pair in range(size // 4):
                angle = position * (1 / 1024) ** (pair / (size // 4 - 1))
                a, b = first[pair].item(), second[pair].item()
                first[pair] = a * math.cos(angle) - b * math.sin(angle)
                second[pair] = b * math.cos(angle) + a * math.sin(angle)
            rows.append(torch.cat([first, second]))
        return torch.stack(rows)

    scores = []
    for sequence in ids:
        x = norm(w["embedding.weight"][sequence]) * w["embedding_norm.weight"]
        for n in range(config.layers):
            own = {name.removeprefix(f"blocks.{n}."): p for name, p in w.items() if name.startswith(f"blocks.{n}.")}
            y = norm(x) * own["attention_norm.weight"]
            q, k, v = (y @ own[f"attention.{f}.weight"].T + own[f"attention.{f}.bias"] for f in "qkv")
            mixed = []
            for head in range(heads):
                part = slice(head * size, (head + 1) * size)
                weight = turned(norm(q[:, part])) @ turned(norm(k[:, part])).T * 0.12
                weight = weight.masked_fill(torch.ones_like(weight).triu(1).bool(), -math.inf)
                mixed.append(weight.softmax(-1) @ v[:, part])
            x = x + torch.cat(mixed, -1) @ own["attention.o.weight"].T + own["attention.o.bias"]
            y = norm(x) * own["mlp_norm.weight"]
            y = (y @ own["mlp.up.weight"].T + own["mlp.up.bias"]).clamp(min=0) ** 2
            x = x + y @ own["mlp.down.weight"].T + own["mlp.down.bias"]
        z = norm(x) * w["norm.weight"] @ w["head.weight"].T + w["head.bias"]
        scores.append(15 * z / (z**2 + 225).sqrt())
    return torch.stack(scores)


def test_logits_are_those_of_the_equations() -> None:
    config = CUT.model_copy(update={"width": 32, "mlp_width": 128, "context": 8})
    model = model_of(config).double()
    with torch.no_grad():
        for p in model.parameters():  # no gain is 1, no bias and no output 0
            p.copy_(torch.randn(p.shape, dtype=torch.float64) * (0.3 if p.ndim > 1 else 1))
    ids = tokens(2, 8)
    expected = literally(config, dict(model.named_parameters()), ids)
    assert expected.abs().max() > 5, "the cap is felt"
    # The angles are float32 in the model, as in the track.
    assert torch.allclose(model.logits(ids), expected, rtol=1e-5, atol=1e-5)


def test_the_residual_stream_has_the_dtype_of_the_products() -> None:
    model, x = model_of(CUT), tokens()
    assert model.hidden(x[:, :-1])[0].dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.hidden(x[:, :-1])[0].dtype == torch.bfloat16
        assert model.logits(x[:, :-1]).dtype == torch.float32


def test_an_export_is_refused() -> None:
    with pytest.raises(ValueError, match="Transformers has no model like track3"):
        hf_config(CUT)
