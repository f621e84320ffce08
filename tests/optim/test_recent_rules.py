"""NorMuon, Prodigy, Schedule-Free AdamW and the Newton-Schulz variants against literal twins and their properties."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from tests.optim import twins
from tests.optim.test_rules import difference, gradient, rate, start
from torch import Tensor, nn

from fairstep.optim import build, get
from fairstep.optim.maths.newton_schulz import COEFFICIENTS, newton_schulz


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("scale", ["rms", "shape"])
def test_normuon(scale: str, nesterov: bool) -> None:
    def twin_of(n: str) -> Any:
        def twin(w: Tensor, g: Tensor, s: dict[str, Any], fraction: float) -> Tensor:
            if w.ndim < 2:
                return twins.adamw(w, g, s, 0.03 * fraction, 0.2, 0.9, 0.95, 1e-8)
            rows, columns = w.shape
            s["m"] = 0.9 * s.get("m", torch.zeros_like(w)) + 0.1 * g
            o = twins.orthogonalise(0.9 * s["m"] + 0.1 * g if nesterov else s["m"], 4)
            means = torch.stack([(row * row).sum() / columns for row in o])
            s["v"] = 0.7 * s.get("v", torch.zeros(rows, dtype=w.dtype)) + 0.3 * means
            scaled = torch.stack([row / v.sqrt() for row, v in zip(o, s["v"], strict=True)])
            size = 0.2 * math.sqrt(rows * columns) if scale == "rms" else o.norm() * max(1, rows / columns) ** 0.5
            return (1 - 0.03 * fraction * 0.2) * w - 0.03 * fraction * size * scaled / scaled.norm()

        return twin

    hyper = {"momentum": 0.9, "beta2": 0.7, "nesterov": nesterov, "ns_steps": 4, "scale": scale, "weight_decay": 0.2}
    measured = difference("normuon", {}, twin_of, 0.03, **hyper)
    assert max(measured.values()) < 1e-8, measured  # the eps of 1e-10 beside norms of about 0.1


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(("correction", "safeguard"), [(True, False), (False, False), (False, True)])
def test_prodigy_has_one_d(correction: bool, safeguard: bool, late: bool) -> None:
    """All parameters at once, with scalars in the clear; one parameter may miss the first steps."""
    lr, wd, b1, b2, eps, d0 = 2.0, 0.2, 0.8, 0.9, 1e-3, 1e-3
    hyper = {"weight_decay": wd, "beta1": b1, "beta2": b2, "eps": eps, "d0": d0, "d_coef": 0.7, "growth": 1.5}
    params = {n: nn.Parameter(w) for n, w in start().items()}
    optimizer = build(
        "prodigy",
        params.items(),
        lr=lr,
        undecayed=(),
        bias_correction=correction,
        safeguard_warmup=safeguard,
        **hyper,
    )
    twin, first, s, m, v = start(), {}, {}, {}, {}
    d, d_max, r = d0, d0, 0.0
    for step in range(1, 26):
        b = math.sqrt(1 - b2**step) / (1 - b1**step) if correction else 1.0
        length = d * lr * rate(step) * b
        r *= math.sqrt(b2)
        present = [n for n in twin if not (late and n == "wide" and step < 6)]
        for n in present:
            g, w = gradient(twin[n], n, step), twin[n]
            first.setdefault(n, w)
            r += d / d0 * length * (g * (first[n] - w)).sum().item()
            m[n] = b1 * m.get(n, 0) + (1 - b1) * d * g
            v[n] = b2 * v.get(n, 0) + (1 - b2) * d * d * g * g
            s[n] = math.sqrt(b2) * s.get(n, 0) + d / d0 * (d if safeguard else length) * g
        estimate = 0.7 * r / sum(values.abs().sum().item() for values in s.values())
        new = max(d, estimate) if d == d0 else d
        d_max = max(d_max, estimate)
        new = min(d_max, new * 1.5)
        for n in present:
            twin[n] = twin[n] - wd * length * twin[n] - length * m[n] / (v[n].sqrt() + new * eps)
        d = new
        for n, p in params.items():
            p.grad = gradient(p.detach(), n, step) if n in present else None
        for group in optimizer.param_groups:
            group["lr"] = lr * rate(step)
        optimizer.step()
        assert optimizer.param_groups[0]["shared"]["d"] == pytest.approx(d, rel=1e-11)
    assert d > 3 * d0, "it has grown"
    for n, w in start().items():
        assert (params[n] - twin[n]).abs().max() <= 1e-10 * (twin[n] - w).abs().max(), n


def test_prodigy_takes_no_part_of_a_step_without_a_learning_rate() -> None:
    """As the authors' code: neither state nor count of a warm-up's first step at 0, or of a group at 0."""

    def after(rates: list[float], frozen: list[float]) -> Any:
        params = {n: nn.Parameter(w) for n, w in start().items()}
        (name, first), *rest = params.items()
        groups = [{"params": [(name, first)]}, {"params": rest}]
        optimizer = build("prodigy", groups, d0=1e-3, weight_decay=0.2, undecayed=())
        for step, (lr, other) in enumerate(zip(rates, frozen, strict=True), 1):
            for n, p in params.items():
                p.grad = gradient(start()[n], n, max(step - rates.count(0.0), 1))
            for place, group in enumerate(optimizer.param_groups):
                group["lr"] = other if place == 0 else lr
            optimizer.step()
        return params, first, rest, optimizer.param_groups[0]["shared"]

    late, _, _, d = after([0.0, 0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0, 1.0])
    plain, _, _, expected = after([1.0, 1.0, 1.0], [1.0, 1.0, 1.0])
    assert d == expected and d["steps"] == 3
    assert all(torch.equal(late[n], plain[n]) for n in plain)

    _, still, moved, with_group = after([1.0] * 4, [0.0] * 4)
    alone = build("prodigy", [(n, nn.Parameter(start()[n])) for n, _ in moved], d0=1e-3, weight_decay=0.2, undecayed=())
    for step in range(1, 5):
        for n, p in alone.named_parameters():
            p.grad = gradient(start()[n], n, step)
        alone.step()
    assert torch.equal(still, next(iter(start().values())))
    assert with_group["d"] == pytest.approx(alone.param_groups[0]["shared"]["d"], rel=1e-12)


def test_a_group_that_comes_late_has_the_same_d() -> None:
    w, late = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(3, 3))
    optimizer = build("prodigy", [("w", w)], d0=1e-2)
    for _ in range(5):
        w.grad = w.detach() + 1
        optimizer.step()
    optimizer.add_param_group({"params": [("late", late)]})
    assert optimizer.param_groups[1]["shared"] == optimizer.param_groups[0]["shared"]
    late.grad = torch.ones_like(late)
    optimizer.step()
    assert optimizer.param_groups[1]["shared"] is optimizer.param_groups[0]["shared"]


def test_schedule_free_without_averaging_power_is_a_mean_of_z() -> None:
    """beta1 = 1: the gradient is taken at x itself, and with equal rates x is the plain mean of all z."""
    w = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = build("schedule-free-adamw", [("w", w)], lr=0.1, beta1=1.0, beta2=0.5, weight_decay=0.0)
    zs = []
    for step in range(6):
        w.grad = torch.full_like(w, 1.0 + step)
        optimizer.step()
        zs.append(optimizer.state[w]["z"].clone())
    torch.testing.assert_close(w.detach(), torch.stack(zs).mean(0), rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    ("coefficients", "steps", "error"),
    [("polar-express", 9, 1e-3), ("cubic", 30, 1e-12), ("simple-quintic", 20, 1e-12)],
)
def test_newton_schulz_that_converges(coefficients: str, steps: int, error: float) -> None:
    """Singular values from 1e-3 of the norm on come to 1; the quintic leaves them up to 0.3 away."""
    generator = torch.Generator().manual_seed(0)
    u, _ = torch.linalg.qr(torch.randn(12, 8, generator=generator, dtype=torch.float64))
    v, _ = torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64))
    g = u @ torch.diag(torch.logspace(0, -2.8, 8, dtype=torch.float64)) @ v.T
    assert (newton_schulz(g, steps, coefficients=coefficients) - u @ v.T).norm() < error
    assert (newton_schulz(g, steps) - u @ v.T).norm() > 0.2


def test_polar_express_brings_the_whole_interval_closer_step_by_step() -> None:
    """Its worst error on [1e-3, 1] falls with every step, and is below the quintic's after five."""
    x = torch.logspace(-3, math.log10(1.01), 20000, dtype=torch.float64) / 1.01
    errors = []
    for a, b, c in COEFFICIENTS["polar-express"][:7]:
        x = a * x + b * x**3 + c * x**5
        errors.append((1 - x).abs().max().item())
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.02
    five = torch.logspace(-3, 0, 20000, dtype=torch.float64)
    for _ in range(5):
        five = 3.4445 * five - 4.7750 * five**3 + 2.0315 * five**5
    assert errors[4] < (1 - five).abs().max().item()


def test_the_variants_are_options_of_every_rule_that_orthogonalises() -> None:
    for name in ("muon", "d-muon", "scion", "normuon", "mars-shampoo", "muonh"):
        finals = []
        for coefficients in COEFFICIENTS:
            w = nn.Parameter(torch.eye(4))
            w.grad = torch.arange(16.0).reshape(4, 4)
            build(name, [("w", w)], ns_coefficients=coefficients).step()
            finals.append(w.detach().clone())
        assert all(not torch.equal(a, b) for a, b in itertools.pairwise(finals))
        assert get(name).flops(8, 8, ns_coefficients="cubic") < get(name).flops(8, 8)
    with pytest.raises(ValueError, match=f"ns_coefficients must be one of {', '.join(COEFFICIENTS)}, not 'polar'"):
        build("muon", [("w", nn.Parameter(torch.eye(4)))], ns_coefficients="polar")
