"""Literal twins: every update rule written out for one parameter at a time, slowly, as its paper or reference has it.

They share no code with the package: what is tested against them is the rule, the engine and the stacking together.
A twin is called once per step with the parameter, its gradient, a dict that it owns, and its settings.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

State = dict[str, Any]


def adamw(w: Tensor, g: Tensor, s: State, lr: float, wd: float, b1: float, b2: float, eps: float) -> Tensor:
    s["t"] = t = s.get("t", 0) + 1
    s["m"] = b1 * s.get("m", torch.zeros_like(w)) + (1 - b1) * g
    s["v"] = b2 * s.get("v", torch.zeros_like(w)) + (1 - b2) * g * g
    m_hat = s["m"] / (1 - b1**t)
    v_hat = s["v"] / (1 - b2**t)
    return w - lr * (m_hat / (v_hat.sqrt() + eps) + wd * w)


def lion(w: Tensor, g: Tensor, s: State, lr: float, wd: float, b1: float, b2: float) -> Tensor:
    m = s.get("m", torch.zeros_like(w))
    s["m"] = b2 * m + (1 - b2) * g
    return w - lr * (torch.sign(b1 * m + (1 - b1) * g) + wd * w)


def orthogonalise(g: Tensor, steps: int, eps: float = 1e-7) -> Tensor:
    """The quintic Newton-Schulz iteration for one matrix, with its products written separately."""
    x = g.T if g.shape[0] > g.shape[1] else g
    x = x / (torch.sqrt((x * x).sum()) + eps)
    for _ in range(steps):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if g.shape[0] > g.shape[1] else x


def muon(
    w: Tensor, g: Tensor, s: State, lr: float, wd: float, mu: float, nesterov: bool, steps: int, scale: str
) -> Tensor:
    s["m"] = mu * s.get("m", torch.zeros_like(w)) + (1 - mu) * g
    u = mu * s["m"] + (1 - mu) * g if nesterov else s["m"]
    rows, columns = w.shape
    factor = {"shape": max(1, rows / columns) ** 0.5, "rms": 0.2 * max(rows, columns) ** 0.5}[scale]
    return (1 - lr * wd) * w - lr * factor * orthogonalise(u, steps)


def soap(
    w: Tensor,
    g: Tensor,
    s: State,
    lr: float,
    wd: float,
    b1: float,
    b2: float,
    bs: float,
    eps: float,
    frequency: int,
    sides: str,
) -> Tensor:
    """``sides``: which of "L" (rows) and "R" (columns) are rotated; "" is Adam as SOAP applies it to vectors.

    m stays in the original space, and every product is spelt out.
    """

    def rotate(x: Tensor) -> Tensor:
        x = s["QL"].T @ x if "L" in sides else x
        return x @ s["QR"] if "R" in sides else x

    def rotate_back(x: Tensor) -> Tensor:
        x = s["QL"] @ x if "L" in sides else x
        return x @ s["QR"].T if "R" in sides else x

    def gram(side: str) -> Tensor:
        return g @ g.T if side == "L" else g.T @ g

    if not s:
        s.update(tau=0, m=torch.zeros_like(w), v=torch.zeros_like(w))
        for side in sides:
            s[side] = (1 - bs) * gram(side)
            values, vectors = torch.linalg.eigh(s[side])
            s["Q" + side] = vectors[:, values.argsort(descending=True)]
        return w
    s["tau"] += 1
    s["m"] = b1 * s["m"] + (1 - b1) * g
    s["v"] = b2 * s["v"] + (1 - b2) * rotate(g) ** 2
    direction = rotate_back(rotate(s["m"]) / (s["v"].sqrt() + eps))
    direction = direction * (1 - b2 ** s["tau"]) ** 0.5 / (1 - b1 ** s["tau"])
    w = w - lr * direction
    w = w - lr * wd * w
    for side in sides:
        s[side] = bs * s[side] + (1 - bs) * gram(side)
    if s["tau"] % frequency == 0:
        for side in sides:
            q = s["Q" + side]
            order = torch.diag(q.T @ s[side] @ q).argsort(descending=True)
            s["v"] = s["v"][order] if side == "L" else s["v"][:, order]
            s["Q" + side], _ = torch.linalg.qr(s[side] @ q[:, order])
    return w


def nadamw(w: Tensor, g: Tensor, s: State, lr: float, wd: float, b1: float, b2: float, eps: float, form: str) -> Tensor:
    def mu(i: int) -> float:
        return b1 * (1 - 0.5 * 0.96 ** (i * 0.004))

    s["t"] = t = s.get("t", 0) + 1
    s["m"] = m = b1 * s.get("m", torch.zeros_like(w)) + (1 - b1) * g
    s["v"] = b2 * s.get("v", torch.zeros_like(w)) + (1 - b2) * g * g
    if form == "optax":
        ahead = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
    elif form == "algoperf":
        ahead = (b1 * m + (1 - b1) * g) / (1 - b1**t)
    else:
        product = math.prod(mu(i) for i in range(1, t + 1))
        ahead = mu(t + 1) * m / (1 - product * mu(t + 1)) + (1 - mu(t)) * g / (1 - product)
    return w - lr * (ahead / ((s["v"] / (1 - b2**t)).sqrt() + eps) + wd * w)


def adopt(w: Tensor, g: Tensor, s: State, lr: float, wd: float, b1: float, b2: float, eps: float) -> Tensor:
    if not s:
        s.update(calls=0, m=torch.zeros_like(w), v=g * g)
        return w
    s["calls"] += 1
    limit = s["calls"] ** 0.25
    clipped = torch.clip(g / torch.maximum(s["v"].sqrt(), torch.full_like(w, eps)), -limit, limit)
    s["m"] = b1 * s["m"] + (1 - b1) * clipped
    s["v"] = b2 * s["v"] + (1 - b2) * g * g
    return w - lr * wd * w - lr * s["m"]


def signum(w: Tensor, g: Tensor, s: State, lr: float, wd: float, mu: float, damp: float, nesterov: bool) -> Tensor:
    """As a heavy-ball sum."""
    s["b"] = mu * s.get("b", torch.zeros_like(w)) + (1 - damp) * g
    return w - lr * (torch.sign(g + mu * s["b"] if nesterov else s["b"]) + wd * w)


def ademamix(
    w: Tensor,
    g: Tensor,
    s: State,
    lr: float,
    wd: float,
    betas: tuple[float, float, float],
    alpha: float,
    steps: int,
    eps: float,
) -> Tensor:
    b1, b2, b3 = betas
    s["t"] = t = s.get("t", 0) + 1
    if t < steps:
        r = t / steps
        alpha = alpha * r
        b3 = math.exp(math.log(b1) * math.log(b3) / ((1 - r) * math.log(b3) + r * math.log(b1)))
    s["m1"] = b1 * s.get("m1", torch.zeros_like(w)) + (1 - b1) * g
    s["m2"] = b3 * s.get("m2", torch.zeros_like(w)) + (1 - b3) * g
    s["v"] = b2 * s.get("v", torch.zeros_like(w)) + (1 - b2) * g * g
    direction = (s["m1"] / (1 - b1**t) + alpha * s["m2"]) / ((s["v"] / (1 - b2**t)).sqrt() + eps)
    return w - lr * (direction + wd * w)


def keep_agreeing(u: Tensor, g: Tensor, scale: str) -> Tensor:
    kept = sum(int(a * b > 0) for a, b in zip(u.flatten().tolist(), g.flatten().tolist(), strict=True))
    factor = {"mean": 1 / max(kept / u.numel(), 1e-3), "count": u.numel() / (kept + 1)}[scale]
    return torch.where(u * g > 0, factor * u, torch.zeros_like(u))


def cautious_adamw(
    w: Tensor, g: Tensor, s: State, lr: float, wd: float, b1: float, b2: float, eps: float, scale: str
) -> Tensor:
    u = -adamw(torch.zeros_like(w), g, s, 1.0, 0.0, b1, b2, eps)
    return w - lr * (keep_agreeing(u, g, scale) + wd * w)


def cautious_lion(w: Tensor, g: Tensor, s: State, lr: float, wd: float, b1: float, b2: float, scale: str) -> Tensor:
    u = -lion(torch.zeros_like(w), g, s, 1.0, 0.0, b1, b2)
    return w - lr * (keep_agreeing(u, g, scale) + wd * w)


def mars_correction(g: Tensor, last: Tensor, gamma: float, b1: float) -> Tensor:
    return g + gamma * b1 / (1 - b1) * (g - last)


def mars(
    w: Tensor,
    g: Tensor,
    s: State,
    lr: float,
    wd: float,
    kind: str,
    gamma: float,
    b1: float,
    b2: float = 0.0,
    eps: float = 0.0,
    steps: int = 5,
    previous: Tensor | None = None,
    norm: float | None = None,
) -> Tensor:
    """``previous``: g' of the exact form. ``norm``: that of c over all tensors, where it is not of this one alone."""
    s["t"] = t = s.get("t", 0) + 1
    c = mars_correction(g, s.get("last", torch.zeros_like(g)) if previous is None else previous, gamma, b1)
    s["last"] = g.clone()
    norm = torch.sqrt((c * c).sum()).item() if norm is None else norm
    if norm > 1:
        c = c / norm
    s["clipped"] = s.get("clipped", 0) + int(norm > 1)
    s["m"] = b1 * s.get("m", torch.zeros_like(w)) + (1 - b1) * c
    if kind == "adamw":
        s["v"] = b2 * s.get("v", torch.zeros_like(w)) + (1 - b2) * c * c
        u = s["m"] / (1 - b1**t) / ((s["v"] / (1 - b2**t)).sqrt() + eps)
    elif kind == "lion":
        u = torch.sign(s["m"])
    else:
        rows, columns = w.shape
        u = max(1, rows / columns) ** 0.5 * orthogonalise(s["m"] / (1 - b1), steps, 1e-8)
    return w - lr * (u + wd * w)


def scion(
    w: Tensor, g: Tensor, s: State, lr: float, wd: float, mu: float, radius: float, norm: str, steps: int
) -> Tensor:
    s["m"] = m = mu * s.get("m", torch.zeros_like(w)) + (1 - mu) * g
    if norm == "sign":
        step = torch.sign(m)
    elif norm == "sign-per-input":
        step = torch.sign(m) / w.shape[1]
    elif norm == "row":
        step = torch.stack([row / (torch.sqrt((row * row).mean()) + 1e-8) for row in m])
    elif norm == "rms":
        step = m / (torch.sqrt((m * m).mean()) + 1e-8)
    else:
        rows, columns = w.shape
        factor = {"ratio": rows / columns, "shape": max(1, rows / columns), "out": rows}[norm] ** 0.5
        step = factor * orthogonalise(m, steps)
    return (1 - lr * wd) * w - lr * radius * step


def kron(
    w: Tensor,
    g: Tensor,
    s: State,
    lr: float,
    wd: float,
    b1: float,
    rate: float,
    diagonal: tuple[bool, ...],
    flat_start: int,
    probability: float,
    delta: float,
    normalize: bool = False,
    clip: float = 1.1,
) -> Tensor:
    """One parameter as a matrix, every factor as a dense one. ``diagonal`` has one entry (rows) or two."""
    x = g.reshape(-1, 1) if g.ndim < 2 else g
    x = x / torch.sqrt((x * x).sum()) if normalize else x
    if not s:
        sizes = x.shape[: len(diagonal)]
        s.update(t=0, waited=0, m=torch.zeros_like(x), Q=[torch.eye(n, dtype=w.dtype) for n in sizes])
        s["Q"] += [torch.eye(1, dtype=w.dtype)] * (2 - len(sizes))
    s["m"] = b1 * s["m"] + (1 - b1) * x
    due_every = 1 / min(1.0, max(probability, math.exp(-0.001 * (s["t"] - flat_start))))
    s["t"] += 1
    s["waited"] += 1
    m = s["m"] / (1 - b1 ** s["t"])
    ql, qr = s["Q"]
    if s["waited"] >= due_every:
        s["waited"] = 0
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(s["t"]), dtype=w.dtype)
        m = m + delta * m.abs().mean() * noise
        a = ql @ m @ qr.T
        b = torch.linalg.inv(ql).T @ noise @ torch.linalg.inv(qr)
        for side, is_diagonal in enumerate(diagonal):
            first, second = (a @ a.T, b @ b.T) if side == 0 else (a.T @ a, b.T @ b)
            if is_diagonal:
                first, second = torch.diag(torch.diag(first)), torch.diag(torch.diag(second))
                bound = torch.diag(first + second).max()
            else:
                total = first + second
                largest = max(range(len(total)), key=lambda j: total[:, j].norm().item())
                direction = total @ total[:, largest]
                bound = (total @ direction).norm() / direction.norm()
            s["Q"][side] = s["Q"][side] - rate * torch.triu(first - second) @ s["Q"][side] / bound
        ql, qr = s["Q"]
    u = ql.T @ ql @ m @ qr.T @ qr
    rms = u.square().mean().sqrt()
    if rms > clip:
        u = u * clip / rms
    return w - lr * (u.reshape(w.shape) + wd * w)
