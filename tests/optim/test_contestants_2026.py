"""AdaMuon, Dion2, Muown, MuonEq, Muon+, Muon^2, Shampoo, SOAP-Muon, MOSO, KL-Shampoo, KL-SOAP and REKLS against literal
twins, in float64.

A twin follows the paper's or the reference code's equations for one matrix, in the original space where the package
rotates, and row by row where the package selects or scales.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.optim import twins
from tests.optim.test_rules import SHAPES, difference, gradient
from torch import Tensor, nn

from fairstep import optim
from fairstep.optim.maths.newton_schulz import newton_schulz

LR, WD = 0.03, 0.2
State = dict[str, Any]


def measured(name: str, matrix: Callable[..., Tensor], ratio: float = 1.0, **hyper: Any) -> dict[str, float]:
    """``difference`` with ``matrix(w, g, s, lr)`` for matrices and AdamW for the rest."""

    def twin_of(n: str) -> Any:
        def rest(w: Tensor, g: Tensor, s: State, fraction: float) -> Tensor:
            return twins.adamw(w, g, s, LR * ratio * fraction, WD, 0.9, 0.95, 1e-8)

        def twin(w: Tensor, g: Tensor, s: State, fraction: float) -> Tensor:
            return matrix(w, g, s, LR * fraction)

        return twin if len(SHAPES[n]) == 2 else rest

    return difference(name, {}, twin_of, LR, weight_decay=WD, **hyper)


def momentum(g: Tensor, s: State, mu: float, nesterov: bool = True) -> Tensor:
    """Of the papers: a sum."""
    s["M"] = mu * s.get("M", torch.zeros_like(g)) + g
    return g + mu * s["M"] if nesterov else s["M"]


@pytest.mark.parametrize("nesterov", [True, False])
def test_adamuon(nesterov: bool) -> None:
    def twin(w: Tensor, g: Tensor, s: State, lr: float) -> Tensor:
        o = twins.orthogonalise(torch.sign(momentum(g, s, 0.9, nesterov)), 4)
        s["v"] = 0.9 * s.get("v", torch.zeros_like(w)) + 0.1 * o * o
        q = o / (s["v"].sqrt() + 1e-8)
        return (1 - lr * WD) * w - lr * 0.2 * math.sqrt(w.numel()) / (q.norm() + 1e-8) * q

    found = measured("adamuon", twin, momentum=0.9, nesterov=nesterov, ns_steps=4)
    assert max(found.values()) < 1e-11, found


@pytest.mark.parametrize("alpha", [0.25, 0.5, 1.0])
@pytest.mark.parametrize(("name", "scale"), [("dion2", "aspect"), ("dion2", "rms"), ("nordion2", "aspect")])
def test_dion2(name: str, scale: str, alpha: float) -> None:
    def twin(w: Tensor, g: Tensor, s: State, lr: float) -> Tensor:
        rows, columns = w.shape
        s["M"] = s.get("M", torch.zeros_like(w)) + g
        by_rows = rows <= columns or name == "nordion2"
        m = s["M"] if by_rows else s["M"].T
        count = max(1, math.ceil(alpha * len(m)))
        chosen = sorted(range(len(m)), key=lambda r: -m[r].abs().sum().item())[:count]
        part = torch.stack([m[r] for r in chosen])
        u = twins.orthogonalise(part, 4) if by_rows else twins.orthogonalise(part.T, 4).T
        if name == "nordion2":
            v, size = s.setdefault("v", torch.zeros(rows, dtype=w.dtype)), u.norm()
            for k, r in enumerate(chosen):
                v[r] = 0.7 * v[r] + 0.3 * (u[k] * u[k]).mean()
            u = torch.stack([u[k] / (v[r].sqrt() + 1e-8) for k, r in enumerate(chosen)])
            u = u * size / u.norm()
        step = torch.zeros_like(m)
        for k, r in enumerate(chosen):
            step[r] = u[k]
            m[r] *= 0.9  # a view of s["M"]
        c = math.sqrt(rows / columns) if scale == "aspect" else 0.2 * math.sqrt(max(rows, columns))
        return (1 - lr * WD) * w - lr * c * (step if by_rows else step.T)

    hyper = {"alpha": alpha, "momentum": 0.9, "ns_steps": 4, "ns_coefficients": "quintic", "scale": scale}
    found = measured(name, twin, 0.2, **hyper, **({"beta2": 0.7} if name == "nordion2" else {}))
    assert max(found.values()) < 1e-10, found


def test_dion2_of_all_slices_is_muon_without_nesterov() -> None:
    """Published by its authors as the free check: alpha 1, and Muon's momentum as an average has the same direction."""
    hyper = {"ns_steps": 5, "ns_eps": 0.0, "ns_coefficients": "quintic", "momentum": 0.9, "weight_decay": 0.1}
    weights = []
    for name, further in (("dion2", {"alpha": 1.0}), ("muon", {"nesterov": False, "scale": "aspect"})):
        p = nn.Parameter(torch.eye(6, 9, dtype=torch.float64))
        optimizer = optim.build(name, [("w", p)], lr=0.02, undecayed=(), roles="matrix", **hyper, **further)
        for step in range(1, 11):
            p.grad = gradient(p.detach(), "wide", step)
            optimizer.step()
        weights.append(p.detach())
    assert (weights[0] - weights[1]).abs().max() < 1e-12


@pytest.mark.parametrize("nesterov", [True, False])
def test_muown(nesterov: bool) -> None:
    """V is kept here and not in the package."""

    def twin(w: Tensor, g: Tensor, s: State, lr: float) -> Tensor:
        if not s:
            s |= {"a": w.norm(dim=1, keepdim=True), "V": w.clone(), "t": 0, "am": 0.0, "av": 0.0}
        a, v = s["a"], s["V"] / s["V"].norm(dim=1, keepdim=True) * s.get("n", s["a"])
        n = v.norm(dim=1, keepdim=True)
        unit = v / n
        ga = (g * unit).sum(1, keepdim=True)
        gv = a / n * (g - unit * ga)
        s["V"] = v - lr * 0.2 * math.sqrt(max(w.shape)) * twins.orthogonalise(momentum(gv, s, 0.9, nesterov), 4)
        s["t"] += 1
        s["am"], s["av"] = 0.8 * s["am"] + 0.2 * ga, 0.7 * s["av"] + 0.3 * ga * ga
        adam = s["am"] / (1 - 0.8 ** s["t"]) / ((s["av"] / (1 - 0.7 ** s["t"])).sqrt() + 1e-8)
        s["n"] = s["V"].norm(dim=1, keepdim=True)
        new = (a - lr * adam) * s["V"] / s["n"] - lr * WD * w
        s["a"], s["V"] = new.norm(dim=1, keepdim=True), new
        return new

    hyper = {"momentum": 0.9, "nesterov": nesterov, "ns_steps": 4, "beta1": 0.8, "beta2": 0.7}
    found = measured("muown", twin, **hyper)
    assert max(found.values()) < 1e-10, found


@pytest.mark.parametrize("sides", ["row", "column", "row-column"])
def test_muon_eq(sides: str) -> None:
    def twin(w: Tensor, g: Tensor, s: State, lr: float) -> Tensor:
        x = momentum(g, s, 0.9)
        rows = torch.stack([1 / (r @ r + 1e-8).sqrt() for r in x])[:, None]
        columns = torch.stack([1 / (c @ c + 1e-8).sqrt() for c in x.T])[None]
        x = x * {"row": rows, "column": columns, "row-column": rows * columns}[sides]
        return (1 - lr * WD) * w - lr * 0.2 * math.sqrt(max(w.shape)) * twins.orthogonalise(x, 4, eps=0.0)

    found = measured("d-muon", twin, equalize=sides, momentum=0.9, ns_steps=4, ns_eps=0.0)
    assert max(found.values()) < 1e-11, found


@pytest.mark.parametrize("sides", ["row", "column", "row-column", "column-row"])
def test_muon_plus(sides: str) -> None:
    def twin(w: Tensor, g: Tensor, s: State, lr: float) -> Tensor:
        o = twins.orthogonalise(momentum(g, s, 0.9), 4, eps=0.0)
        for side in sides.split("-"):
            o = o / ((o * o).sum(1 if side == "row" else 0, keepdim=True) + 1e-7).sqrt()
        return (1 - lr * WD) * w - lr * math.sqrt(w.shape[0] / w.shape[1]) * o

    found = measured("muon", twin, 0.2, normalize=sides, scale="aspect", momentum=0.9, ns_steps=4, ns_eps=0.0)
    assert max(found.values()) < 1e-11, found


def power(a: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh(a)
    kept = values > len(a) * torch.finfo(a.dtype).eps * values.max()
    return vectors[:, kept] @ torch.diag(values[kept] ** exponent) @ vectors[:, kept].T


@pytest.mark.parametrize("frequency", [1, 3])
@pytest.mark.parametrize("sides", ["both", "rows", "columns"])
@pytest.mark.parametrize("root_eps", [0.0, 1e-4])
def test_shampoo(sides: str, frequency: int, root_eps: float) -> None:
    def twin(w: Tensor, g: Tensor, s: State, lr: float) -> Tensor:
        s["t"] = t = s.get("t", 0) + 1
        for name, value in (("L", g @ g.T), ("R", g.T @ g)):
            s[name] = 0.8 * s.get(name, torch.zeros_like(value)) + 0.2 * value
        s["m"] = 0.9 * s.get("m", torch.zeros_like(w)) + 0.1 * g
        s["v"] = 0.7 * s.get("v", torch.zeros_like(w)) + 0.3 * g * g
        h = s["m"] / (1 - 0.9**t)
        adam = h / ((s["v"] / (1 - 0.7**t)).sqrt() + 1e-10)
        if t % frequency == 0:
            exponent = -1 / 4 if sides == "both" else -1 / 2
            for name in "LR":
                a = s[name] / (1 - 0.8**t)
                s["P" + name] = power(a + root_eps * torch.eye(len(a), dtype=a.dtype), exponent)
        u = adam
        if t >= frequency:
            u = h if sides == "columns" else s["PL"] @ h
            u = u if sides == "rows" else u @ s["PR"]
            u = u * adam.norm() / u.norm()
        return (1 - lr * WD) * w - lr * u

    hyper = {"beta1": 0.9, "beta2": 0.7, "shampoo_beta": 0.8, "root_eps": root_eps, "sides": sides}
    found = measured("shampoo", twin, precondition_frequency=frequency, **hyper)
    assert max(found.values()) < 1e-6, found  # the pseudo-inverse keeps eigenvalues down to 1e-15 of the largest
    assert root_eps == 0 or max(found.values()) < 1e-9, found


def n4(x: Tensor) -> Tensor:
    return torch.linalg.svdvals(x).pow(4).sum() ** 0.25


def converge(y: Tensor, steps: int) -> Tensor:
    x = y / n4(y)
    x = x.T if y.shape[0] > y.shape[1] else x
    x = x / (1 + 1e-7 / n4(y))  # the eps of the norm
    for _ in range(steps):
        a = x @ x.T
        x = 2 * x - 1.5 * a @ x + 0.5 * a @ a @ x
    return x.T if y.shape[0] > y.shape[1] else x


def full_rank(n: str) -> bool:
    """Of L and R, whose null spaces have any basis."""
    return n not in ("wide", "tall", "tall2")


@pytest.mark.parametrize("frequency", [1, 3])
def test_soap_muon(frequency: int) -> None:
    def twin(w: Tensor, g: Tensor, s: State, lr: float) -> Tensor:
        s["t"] = t = s.get("t", 0) + 1
        s["m"] = 0.9 * s.get("m", torch.zeros_like(w)) + 0.1 * g
        y = x = 0.9 * s["m"] + 0.1 * g
        if t > 1:
            p = s["QL"].T @ x @ s["QR"]
            s["v"] = 0.8 * s.get("v", torch.zeros_like(w)) + 0.2 * p * p
            y = s["QL"] @ (p / torch.maximum(s["v"], torch.tensor(1e-16)).sqrt()) @ s["QR"].T
            y = y * n4(x) / n4(y)
        new = (1 - lr * WD) * w - lr * max(1, w.shape[0] / w.shape[1]) ** 0.5 * converge(y, 8)
        for name, value in (("L", g @ g.T), ("R", g.T @ g)):
            s[name] = 0.7 * s.get(name, torch.zeros_like(value)) + 0.3 * value
            if t == 1:
                s["Q" + name] = torch.linalg.eigh(s[name]).eigenvectors.flip(1)
            elif (t - 1) % frequency == 0:
                q = s["Q" + name]
                order = torch.diag(q.T @ s[name] @ q).argsort(descending=True)
                s["v"] = s["v"][order] if name == "L" else s["v"][:, order]
                s["Q" + name] = torch.linalg.qr(s[name] @ q[:, order]).Q
        return new

    hyper = {"momentum": 0.9, "beta2": 0.8, "shampoo_beta": 0.7, "precondition_frequency": frequency, "ns_steps": 8}
    found = measured("soap-muon", twin, 0.2, **hyper)
    assert max(value for n, value in found.items() if full_rank(n)) < 1e-6, found


@pytest.mark.parametrize("frequency", [1, 3])
@pytest.mark.parametrize("name", ["kl-shampoo", "kl-soap"])
def test_kl_shampoo(name: str, frequency: int) -> None:
    def twin(w: Tensor, g: Tensor, s: State, lr: float) -> Tensor:
        o, i = w.shape
        if not s:
            s |= {"t": 0, "L": 0.3 * g @ g.T / i, "R": 0.3 * g.T @ g / o, "m": torch.zeros_like(w), "v": 0.0}
            s |= {"Q" + k: torch.linalg.eigh(s[k]).eigenvectors.flip(1) for k in "LR"}
            s |= {"l": torch.full((o,), 0.1, dtype=w.dtype), "r": torch.full((i,), 0.1, dtype=w.dtype)}
            return w
        s["t"] += 1
        l_root, r_root = (1 / s[k].sqrt() for k in "lr")
        l_root, r_root = l_root.clamp(max=max(10, min(o, 4000))), r_root.clamp(max=max(10, min(i, 4000)))
        gt = s["QL"].T @ g @ s["QR"]
        s["m"] = 0.9 * s["m"] + 0.1 * g
        s["v"] = 0.8 * s["v"] + 0.2 * gt * gt
        size = s["v"].sqrt() if name == "kl-soap" else 1 / torch.outer(l_root, r_root)
        u = s["QL"] @ ((s["QL"].T @ s["m"] @ s["QR"]) / (size + 1e-8)) @ s["QR"].T
        whitened_r, whitened_l = g @ s["QR"] @ torch.diag(r_root), g.T @ s["QL"] @ torch.diag(l_root)
        s["L"] = 0.7 * s["L"] + 0.3 / i * whitened_r @ whitened_r.T
        s["R"] = 0.7 * s["R"] + 0.3 / o * whitened_l @ whitened_l.T
        new_l = 0.7 * s["l"] + 0.3 * (gt * gt * r_root[None] ** 2).mean(1)
        new_r = 0.7 * s["r"] + 0.3 * (gt * gt * l_root[:, None] ** 2).mean(0)
        s["l"], s["r"] = new_l, new_r
        if s["t"] % frequency == 0:
            s |= {"Q" + k: torch.linalg.qr(s[k] @ s["Q" + k]).Q for k in "LR"}
        return (1 - lr * WD) * (w - lr * u)

    hyper = {"beta1": 0.9, "beta2": 0.8, "shampoo_beta": 0.7, "precondition_frequency": frequency}
    found = measured(name, twin, **hyper)
    assert max(value for n, value in found.items() if full_rank(n)) < 1e-6, found


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("scale", ["shape", "rms"])
def test_muon2(scale: str, nesterov: bool) -> None:
    def twin(w: Tensor, g: Tensor, s: State, lr: float) -> Tensor:
        s["m"] = 0.9 * s.get("m", torch.zeros_like(w)) + 0.1 * g
        s["v"] = 0.8 * s.get("v", torch.zeros_like(w)) + 0.2 * g * g
        u = 0.9 * s["m"] + 0.1 * g if nesterov else s["m"]
        x = twins.orthogonalise(u / (s["v"].sqrt() + 1e-3), 4)
        c = max(1, w.shape[0] / w.shape[1]) ** 0.5 if scale == "shape" else 0.2 * math.sqrt(max(w.shape))
        return (1 - lr * WD) * w - lr * c * x

    hyper = {"momentum": 0.9, "nesterov": nesterov, "beta2": 0.8, "eps": 1e-3, "scale": scale}
    found = measured("muon2", twin, 0.2, ns_steps=4, ns_coefficients="quintic", **hyper)
    assert max(found.values()) < 1e-11, found


def test_rekls() -> None:
    """In the original space: matrices to a power instead of bases; with a large eps, which all factors start from."""

    def twin(w: Tensor, g: Tensor, s: State, lr: float) -> Tensor:
        o, i = w.shape
        if not s:
            s |= {"t": 0, "L": torch.zeros(o, o, dtype=w.dtype), "R": torch.zeros(i, i, dtype=w.dtype)}
            s |= {"QL": torch.eye(o, dtype=w.dtype), "QR": torch.eye(i, dtype=w.dtype), "m": 0 * w, "v": 0 * w}
            s |= {"l": torch.zeros(o, dtype=w.dtype), "r": torch.zeros(i, dtype=w.dtype)}
        s["t"] += 1
        weight = 0.3 / (1 - 0.7 ** s["t"])
        inverse = {k: s["Q" + k] @ torch.diag(1 / s[k.lower()].clamp(min=1e-2)) @ s["Q" + k].T for k in "LR"}
        s["L"] = (1 - weight) * s["L"] + weight * g @ inverse["R"] @ g.T / i
        s["R"] = (1 - weight) * s["R"] + weight * g.T @ inverse["L"] @ g / o
        for k in "LR":
            values, vectors = torch.linalg.eigh(s[k])
            s[k.lower()], s["Q" + k] = values.flip(0), vectors.flip(1)
        gt = s["QL"].T @ g @ s["QR"]
        s["m"], s["v"] = 0.9 * s["m"] + 0.1 * g, 0.8 * s["v"] + 0.2 * gt * gt
        mh = s["QL"].T @ s["m"] @ s["QR"] / (1 - 0.9 ** s["t"])
        u = s["QL"] @ (mh / ((s["v"] / (1 - 0.8 ** s["t"])).sqrt() + 1e-2)) @ s["QR"].T
        return (1 - lr * WD) * w - lr * u

    found = measured("rekls", twin, beta1=0.9, beta2=0.8, shampoo_beta=0.7, eps=1e-2)
    assert max(value for n, value in found.items() if full_rank(n)) < 1e-6, found


def test_moso() -> None:
    def twin(w: Tensor, g: Tensor, s: State, lr: float) -> Tensor:
        s["t"] = t = s.get("t", 0) + 1
        s["m"] = 0.9 * s.get("m", torch.zeros_like(w)) + 0.1 * g
        a = s["m"] if w.shape[0] <= w.shape[1] else s["m"].T  # the shorter side has the rows
        weight = 0.3 / (1 - 0.7**t)
        s["C"] = (1 - weight) * s.get("C", 0.0) + weight * a @ a.T
        v = s.get("v", torch.zeros_like(a))
        if t == 1:
            s["Q"] = torch.linalg.eigh(s["C"]).eigenvectors.flip(1)
        else:
            order = torch.diag(s["Q"].T @ s["C"] @ s["Q"]).argsort(descending=True)
            v, s["Q"] = v[order], torch.linalg.qr(s["C"] @ s["Q"][:, order]).Q
        p = s["Q"].T @ a
        s["v"] = 0.8 * v + 0.2 * p * p
        u = s["Q"] @ (p / (s["v"].sqrt() + 1e-8))
        return (1 - lr * WD) * w - lr * (u if w.shape[0] <= w.shape[1] else u.T)

    found = measured("moso", twin, momentum=0.9, beta2=0.8, shampoo_beta=0.7)
    assert max(found.values()) < 1e-6, found


def test_twelve_convergent_steps_are_nearer_to_orthogonal_than_five_quintic_ones() -> None:
    """Reference values for a Gaussian matrix of 64 x 192: singular values 1.0 to 1.0, and 0.68 to 1.13."""
    x = torch.randn(64, 192, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gentle = torch.linalg.svdvals(newton_schulz(x, 12, coefficients="simple-quintic"))
    quick = torch.linalg.svdvals(newton_schulz(x, 5))
    assert gentle.min() > 0.999 and gentle.max() < 1.0001
    assert quick.min() < 0.75 and quick.max() > 1.1
