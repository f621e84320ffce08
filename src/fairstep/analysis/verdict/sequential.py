"""Designs of seeds: how far a t statistic must go at each look, so that all looks together err with probability alpha.

A design ``first..most`` allows a look at every number of pairs n from ``first`` to ``most`` = N. Until n seeds it may
have spent

    f(n) = alpha (n / N)^1.5                                    (Lan and DeMets 1983; Kim and DeMets 1987)

of its error probability alpha, and the limit c_n of |t_n| is what spends exactly f(n) - f(n-1) at n. The limits are
paid for whether or not a look is taken, so looks may be chosen by what was seen. The intervals mean +- c_n s / sqrt(n)
cover jointly, over all looks, with probability 1 - alpha (Jennison and Turnbull 2000, chapter 9).

The limits are exact for normal differences of unknown variance. With S_n the sum of squares of n differences,
theta_n = arcsin(sum / sqrt(n S_n)) does not depend on S_n, and t_n = sqrt(n - 1) tan(theta_n). The next difference over
sqrt(S_n) is tan(phi), where sqrt(n) tan(phi) has Student's t with n degrees of freedom, so

    sqrt(n + 1) sin(theta_{n+1}) = sqrt(n) sin(theta_n) cos(phi) + sin(phi)

is a Markov chain in one number, whose distribution among the paths that have not stopped is carried from n to n + 1 by
one quadrature (Armitage, McPherson and Rowe 1969 did so for known variance).

Without a ``most`` the e-process of ``open_limit`` takes the place of the limits.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import scipy  # loads its parts when they are first used: half a second that a single look does not need

SPENDING_POWER = 1.5
"""Exponent of the spending function. 1 is near Pocock's limits, 3 near O'Brien and Fleming's."""

NODES = 160
"""Nodes of a quadrature over theta and of a distribution's table: limits are exact to about 2e-3 of their value."""

MANY = 40
"""Degrees of freedom above which a library's distribution function is faster than the recursion over cos^k."""

PRIOR = 4.0
"""Variance, in squared deviations, of the effects that the e-process of an open design expects."""


def spent(n: int, most: int, alpha: float) -> float:
    """Error probability that may be spent by n of ``most`` pairs."""
    return alpha * (n / most) ** SPENDING_POWER


@functools.cache
def limits(first: int, most: int, alpha: float = 0.05) -> dict[int, float]:
    """n -> the limit of |t_n| (two-sided, n - 1 degrees of freedom) for n = ``first``, ..., ``most``.

    Raises ValueError unless 2 <= first <= most and 0 < alpha < 1.
    """
    if not 2 <= first <= most:
        raise ValueError(f"a design of seeds needs 2 <= first <= most, not {first}..{most}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, not {alpha}")
    level = spent(first, most, alpha)
    limit = float(-scipy.special.stdtrit(first - 1, level / 2))
    bounds = {first: limit}
    # The angles of the paths that go on, by their distribution function on [-edge, edge].
    edge = math.atan(limit / math.sqrt(first - 1))
    angles = _nodes(edge)
    below = scipy.special.stdtr(first - 1, math.sqrt(first - 1) * np.tan(angles)) - level / 2
    for n in range(first, most):
        nodes, weights = _density(angles, below)
        more = spent(n + 1, most, alpha) - spent(n, most, alpha)
        edge = scipy.optimize.brentq(_excess, 1e-6, math.pi / 2 - 1e-9, (nodes, weights, n, more))
        bounds[n + 1] = math.sqrt(n) * math.tan(edge)
        angles = _nodes(edge)
        below = _below(angles, nodes, n) @ weights - more / 2
    return bounds


def _excess(edge: float, nodes: np.ndarray, weights: np.ndarray, n: int, more: float) -> float:
    """How much more than ``more`` is stopped at n + 1 by an edge, on both sides together."""
    return float(2 * weights @ (1 - _below(np.array([edge]), nodes, n)[0])) - more


def _nodes(edge: float) -> np.ndarray:
    """Chebyshev points from -edge to edge."""
    return edge * -np.cos(np.pi * np.arange(NODES) / (NODES - 1))


@functools.cache
def _legendre() -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(NODES)


def _density(angles: np.ndarray, below: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nodes of a quadrature over the angles, and the probability that each stands for."""
    points, weights = _legendre()
    edge = angles[-1]
    density = scipy.interpolate.CubicSpline(angles, below).derivative()
    return edge * points, edge * weights * np.maximum(density(edge * points), 0.0)


def _below(next_angles: np.ndarray, angles: np.ndarray, n: int) -> np.ndarray:
    """(k, m): the probability that theta_{n+1} is at most each of k angles, after theta_n was each of m angles.

    With R = sqrt(1 + n sin^2 theta) and psi = atan(sqrt(n) sin theta), the chain is R sin(phi + psi).
    """
    root = math.sqrt(n) * np.sin(angles)
    radius, turn = np.sqrt(1 + root**2), np.arctan(root)
    ratio = math.sqrt(n + 1) * np.sin(next_angles)[:, None] / radius
    start = np.arcsin(np.clip(ratio, -1, 1))

    # sin is above the ratio from start to pi - start, and below -pi - start.
    above = _share(np.pi - start - turn, n) - _share(start - turn, n) + _share(-np.pi - start - turn, n)
    return 1 - np.where(ratio >= 1, 0.0, np.where(ratio <= -1, 1.0, above))


def _share(phi: np.ndarray, n: int) -> np.ndarray:
    """P(angle <= phi) where sqrt(n) tan(angle) has Student's t with n degrees of freedom: of density cos^(n-1)."""
    phi = np.clip(phi, -np.pi / 2, np.pi / 2)
    if n > MANY:
        return np.asarray(scipy.special.stdtr(n, math.sqrt(n) * np.tan(phi)))
    sine, cosine = np.sin(phi), np.cos(phi)
    power = (n - 1) % 2
    integral, whole = (sine, 1.0) if power else (phi, np.pi / 2)  # of cos^power, from 0 to phi and to pi / 2
    while power < n - 1:
        power += 2
        integral = (cosine ** (power - 1) * sine + (power - 1) * integral) / power
        whole *= (power - 1) / power
    return 0.5 + 0.5 * integral / whole


def open_limit(n: int, alpha: float) -> float:
    """The |t| in n pairs that equal contestants pass with a probability of at most alpha, ever: looks may be taken at
    any n, without end. Infinite where no t is enough (n below 4 at 5 %).

    Evidence against equality is the Bayes factor of effects delta ~ N(0, ``PRIOR``) in deviations under the right-Haar
    prior of the deviation (Hendriksen, de Heide and Gruenwald 2021), an e-process. With v = n - 1 and s = 1 + n PRIOR
    it is s^(-1/2) ((1 + t^2 / v) / (1 + t^2 / (v s)))^(n/2), and is held against 1 / alpha.
    """
    v, shrink = n - 1, 1 + PRIOR * n
    ratio = (shrink**0.5 / alpha) ** (2 / n)
    return math.inf if ratio >= shrink else math.sqrt(v * (ratio - 1) / (1 - ratio / shrink))
