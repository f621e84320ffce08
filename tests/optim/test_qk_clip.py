"""QK-clip against a literal twin, what it refuses, and the logits that our models give it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tests.optim import twins
from torch import Tensor, nn

from fairstep import optim
from fairstep.model import build as build_model
from fairstep.runs import ModelSpec
from fairstep.train.signals import Signals

STEPS, LR, WD, TAU = 20, 0.03, 0.2, 3.0


def grouped(alpha: float = 0.5) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(ours, twin) of queries with four heads of which two share keys, biases, and a matrix that is neither."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"a.q.weight": (8, 6), "a.q.bias": (8,), "a.k.weight": (4, 6), "a.k.bias": (4,), "a.v.weight": (4, 6)}
    first = {n: torch.randn(s, generator=generator, dtype=torch.float64) for n, s in shapes.items()}
    params, theirs = {n: nn.Parameter(w.clone()) for n, w in first.items()}, dict(first)
    states: dict[str, dict[str, Any]] = {n: {} for n in shapes}
    hyper = {"qk_threshold": TAU, "qk_query_share": alpha, "momentum": 0.9, "ns_steps": 4}
    optimizer = optim.MuonClip(params.items(), lr=LR, weight_decay=WD, undecayed=(), **hyper)
    for _ in range(STEPS):
        grads = {n: torch.randn(s, generator=generator, dtype=torch.float64) for n, s in shapes.items()}
        largest = TAU * (0.5 + torch.rand(4, generator=generator, dtype=torch.float64))  # of each head of queries
        largest[0] = -5.0
        for n, p in params.items():
            p.grad = grads[n]
        due = optimizer.due()
        assert due == {"attention_logits": [n for n, _ in optimizer.named_parameters() if n != "a.v.weight"]}
        shared = torch.stack([largest[:2].max(), largest[2:].max()])
        optimizer.supply("attention_logits", dict.fromkeys(due["attention_logits"], shared))
        optimizer.step()
        for n, w in theirs.items():
            s, g = states[n], grads[n] + 0.0
            if w.ndim == 2:
                theirs[n] = twins.muon(w, g, s, LR, WD, 0.9, False, 4, "rms")
            else:
                theirs[n] = twins.adamw(w, g, s, LR, WD, 0.9, 0.95, 1e-8)
        for head in range(2):  # of keys: two rows of keys, four of queries
            top = max(largest[2 * head].item(), largest[2 * head + 1].item())
            gamma = min(1.0, TAU / top) if top > 0 else 1.0
            for end in ("weight", "bias"):
                theirs[f"a.q.{end}"][4 * head : 4 * head + 4] *= gamma**alpha
                theirs[f"a.k.{end}"][2 * head : 2 * head + 2] *= gamma ** (1 - alpha)
    return {n: p.detach() for n, p in params.items()}, theirs


@pytest.mark.parametrize("alpha", [0.5, 0.2])
def test_muonclip(alpha: float) -> None:
    ours, twin = grouped(alpha)
    for n, w in twin.items():
        assert (ours[n] - w).abs().max() < 1e-11 * w.abs().max(), n


class Attention(nn.Module):
    def __init__(self, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.q_proj, self.k_proj = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.q_norm = norm


def test_a_loop_of_ones_own() -> None:
    """The logits of the forward pass, given before the step; after it they are at the threshold."""
    torch.manual_seed(0)
    model = Attention()
    x = 5 * torch.randn(7, 4)
    optimizer = optim.build("muon+qk-clip", model, lr=1e-9, qk_threshold=1.0)

    def logits() -> Tensor:
        return (model.q_proj(x) @ model.k_proj(x).T) / 2

    scores = logits()
    assert scores.max() > 1.5
    scores.square().mean().backward()
    for signal, names in optimizer.due().items():
        optimizer.supply(signal, dict.fromkeys(names, scores.detach().amax().view(1)))
    optimizer.step()
    assert logits().max().item() == pytest.approx(1.0, rel=1e-5)
    del optimizer.param_groups[0]["clipped"]
    with pytest.raises(ValueError, match="clipped is None, and the rule made it '"):
        optimizer.due()


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"attention logits of a.q_proj.weight, because a q_norm behind it"):
        optim.build("muonclip", nn.ModuleDict({"a": Attention(nn.LayerNorm(4))}))
    with pytest.raises(ValueError, match=r"muonclip is about queries and keys, and no layer of this model has such"):
        optim.build("muonclip", nn.ModuleDict({"qkv": nn.Linear(4, 12)}))
    with pytest.raises(ValueError, match=r"hyperball and qk-clip both say the norms of queries and keys"):
        optim.get("muon+qk-clip+hyperball")
    model = nn.ModuleDict({"a": Attention()})
    optimizer = optim.build("muonclip", model)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    with pytest.raises(ValueError, match=r"muonclip needs the signal attention_logits of a.q_proj.weight in step 1"):
        optimizer.step()
    for bad in (torch.ones(3), torch.ones(4, 4), torch.ones(()), 3.0):
        with pytest.raises(ValueError, match=r"must be a vector with a number for each head, .* of its 4 rows; not"):
            optimizer.supply("attention_logits", {"a.q_proj.weight": bad})
    with pytest.raises(ValueError, match=r"attention_logits must be given by parameter name"):
        optimizer.supply("attention_logits", torch.ones(2))


CONFIG = {"layers": 2, "width": 16, "heads": 4, "mlp_width": 32, "vocabulary": 32, "context": 16}


@pytest.mark.parametrize("more", [{}, {"kv_heads": 2}, {"context": 2048}, {"attention_scale": 0.7}])
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "bert"])
def test_logits_of_our_models_are_the_largest_of_their_attention(architecture: str, more: dict[str, Any]) -> None:
    """Of each head of keys, over all pairs, micro-batches and sequences; evaluation does not count."""
    if architecture != "llama" and more.keys() & {"kv_heads", "attention_scale"}:
        return
    torch.manual_seed(0)
    model = build_model(ModelSpec(architecture=architecture, **{**CONFIG, **more}))
    model.watch_attention()
    recorded: list[Tensor] = []
    attention = model.blocks[0].attention
    attention.q.register_forward_hook(lambda *args: recorded.append(args[2]))
    attention.k.register_forward_hook(lambda *args: recorded.append(args[2]))
    tokens = torch.randint(0, 32, (2, 9))
    with torch.no_grad():
        model.eval()
        model(torch.randint(0, 32, (40, 16)), torch.randint(0, 32, (40, 16)))
        assert model.take_attention_logits()["blocks.0.attention.q.weight"].max() == -math.inf
        model.train()
        recorded.clear()
        for part in tokens.split(1):
            model(part, part)
    found = model.take_attention_logits()
    heads = more.get("kv_heads", 4)
    expected = torch.full((heads,), -math.inf)
    for q, k in zip(recorded[::2], recorded[1::2], strict=True):
        q, k = (x[0].unflatten(-1, (-1, 4)).transpose(0, 1) for x in (q, k))
        if architecture == "llama":
            q, k = turned(model, q), turned(model, k)
        scores = q @ k.repeat_interleave(4 // heads, 0).transpose(1, 2) * more.get("attention_scale", 0.5)
        if architecture != "bert":
            scores = scores.masked_fill(torch.ones(9, 9, dtype=torch.bool).triu(1), -math.inf)
        expected = torch.maximum(expected, scores.reshape(heads, -1).amax(1))
    for end in ("q.weight", "k.weight"):
        torch.testing.assert_close(found[f"blocks.0.attention.{end}"], expected, rtol=1e-5, atol=1e-6)
    assert ("blocks.0.attention.k.bias" in found) == (architecture != "llama")
    assert set(found) == set(optim.build("muonclip", model).due()["attention_logits"])


def turned(model: Any, x: Tensor) -> Tensor:
    from fairstep.model.layers import rotate

    return rotate(x[None], model.cos[:9], model.sin[:9])[0]


def test_a_trainer_bounds_the_logits_of_our_models() -> None:
    """With a learning rate of next to nothing, one step brings every head down to the threshold."""
    torch.manual_seed(0)
    model = build_model(ModelSpec(**CONFIG, init_std=0.4))
    optimizer = optim.build("muonclip", model, lr=1e-9, qk_threshold=0.5)
    signals = Signals(optimizer, model, model.logits, 2, (0,), model=model)
    tokens = torch.randint(0, 32, (2, 9))
    model(tokens, tokens).backward()
    assert max(x.max().item() for x in model.take_attention_logits().values()) > 1
    model(tokens, tokens)
    signals.supply(0, tokens, tokens)
    optimizer.step()
    model(tokens, tokens)
    first = model.take_attention_logits()["blocks.0.attention.q.weight"]
    assert first.max().item() == pytest.approx(0.5, rel=1e-5)  # later blocks see other activations


def test_models_without_logits_are_refused_in_a_sentence() -> None:
    normed = build_model(ModelSpec(**CONFIG, qk_norm=True))
    with pytest.raises(ValueError, match="q_norm behind it takes its scale"):
        optim.build("muonclip", normed)
    track3 = build_model(ModelSpec(architecture="track3", **CONFIG))
    optimizer = optim.build("muonclip", track3)
    with pytest.raises(ValueError, match="the model track3 normalises its queries and keys"):
        Signals(optimizer, track3, track3.logits, 2, (0,), model=track3)
    with pytest.raises(ValueError, match="muonclip needs the largest attention logits of every head, and this model"):
        Signals(optimizer, track3, track3.logits, 2, (0,), model=nn.Identity())
