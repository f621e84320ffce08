"""The chunked cross-entropy against the plain one: the same numbers in less memory."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

from fairstep.model import ModelConfig, build, loss
from fairstep.model.loss import head_loss


@pytest.mark.parametrize(("z_loss", "cap", "bias"), [(0.0, 0.0, False), (1e-2, 0.0, False), (1e-2, 1.5, True)])
@pytest.mark.parametrize("at_once", [1, 350, 50 * 23])
def test_same_loss_and_gradients_in_float64(
    z_loss: float, cap: float, bias: bool, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 50, bias=bias, dtype=torch.float64)
    x = torch.randn(4, 6, 8, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 50, (4, 6))
    targets[1, 2:] = -100
    logits = F.linear(x, head.weight, head.bias).flatten(0, 1)
    if cap:
        logits = cap * torch.sin(torch.arctan(logits / cap))  # tan a = z / c, so sin a = z / sqrt(z^2 + c^2)
    expected = F.cross_entropy(logits, targets.flatten())
    squares = torch.logsumexp(logits, -1).square()[targets.flatten() != -100].mean()
    expected = expected + z_loss * squares
    gradients = torch.autograd.grad(3 * expected, (x, *head.parameters()))
    monkeypatch.setattr(loss, "LOGITS_AT_ONCE", at_once)
    ours, z = head_loss(x, head, targets, z_loss, cap)
    assert ours.item() == pytest.approx(expected.item(), rel=1e-14)
    assert z.item() == pytest.approx(squares.item(), rel=1e-14)
    for a, b in zip(torch.autograd.grad(3 * ours, (x, *head.parameters())), gradients, strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("bf16", [False, True])
def test_a_model_gives_the_same_loss_and_gradients_either_way(bf16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    config = ModelConfig(
        layers=1, width=16, heads=2, mlp_width=32, vocabulary=100, context=12, tied_head=True, z_loss=1e-3
    )
    model = build(config)
    tokens = torch.randint(0, 100, (4, 13))
    found = []
    for at_once in (2**26, 1000):
        monkeypatch.setattr(loss, "LOGITS_AT_ONCE", at_once)
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            value = model(tokens[:, :-1], tokens[:, 1:])
        value.backward()
        found.append((value.item(), [p.grad for p in model.parameters()]))
    (plain, gradients), (chunked, ours) = found
    assert chunked == pytest.approx(plain, rel=1e-3 if bf16 else 1e-6)
    for a, b in zip(ours, gradients, strict=True):
        assert a is not None and b is not None
        assert a.dtype == torch.float32
        assert (a - b).norm() <= (0.03 if bf16 else 1e-5) * b.norm()


def test_without_gradients_it_is_the_loss_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "LOGITS_AT_ONCE", 100)
    head, x, targets = torch.nn.Linear(4, 30, bias=False), torch.randn(2, 5, 4), torch.randint(0, 30, (2, 5))
    with torch.no_grad():
        value = head_loss(x, head, targets)[0]
    assert not value.requires_grad
    assert value.item() == pytest.approx(F.cross_entropy(head(x).flatten(0, 1), targets.flatten()).item(), rel=1e-6)


def test_a_second_derivative_is_refused_and_not_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "LOGITS_AT_ONCE", 100)
    head, x = torch.nn.Linear(4, 30, bias=False), torch.randn(2, 5, 4)
    value = head_loss(x, head, torch.zeros(2, 5, dtype=torch.long))[0]
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(value, head.weight, create_graph=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile's own
def test_compiled_it_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "LOGITS_AT_ONCE", 100)
    head, x, targets = torch.nn.Linear(4, 30, bias=False), torch.randn(2, 5, 4), torch.randint(0, 30, (2, 5))
    found = []
    for function in (head_loss, torch.compile(head_loss, fullgraph=True, backend="aot_eager")):
        head.zero_grad()
        value = function(x, head, targets, 1e-2)[0]
        value.backward()
        found.append((value.item(), head.weight.grad))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-7)


PEAK = """
import sys, torch
from fairstep.model import loss
from fairstep.train.measure import peak_memory, reset_peak_memory
torch.set_num_threads(1)
head = torch.nn.Linear(16, 50_000, bias=False)
x, y = torch.randn(1, 2048, 16, requires_grad=True), torch.randint(0, 50_000, (1, 2048))
loss.LOGITS_AT_ONCE = 100_000
loss.head_loss(x[:, :4], head, y[:, :4])[0].backward()  # libraries are loaded, the gradients are there
loss.LOGITS_AT_ONCE = int(sys.argv[1])
before = reset_peak_memory(torch.device("cpu"))
loss.head_loss(x, head, y)[0].backward()
print((peak_memory(torch.device("cpu")) - before) // 2**20)
"""


@pytest.mark.slow
def test_peak_memory_is_bounded_by_the_chunk() -> None:
    """2048 x 50,000 float32 logits are 391 MiB; chunks of 2^20 are 4 MiB. The head's gradient is 3 MiB."""

    def mebibytes(at_once: int) -> int:
        run = subprocess.run([sys.executable, "-c", PEAK, str(at_once)], capture_output=True, text=True, check=True)
        return int(run.stdout)

    assert mebibytes(2**40) > 700  # logits and their gradient
    assert mebibytes(2**20) < 100
