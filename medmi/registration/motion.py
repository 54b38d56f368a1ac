"""How poses move: steps in the tangent space of the current pose.

A pose moves as ``P <- P exp(sum_i s_i G_i)``, so that a rigid pose stays rigid and the derivative at s = 0 needs no derivative of the
exponential.
"""

from __future__ import annotations

import numpy as np

from medmi.spatial.compiled import compiled

Array = np.ndarray
# Norm under which the Taylor polynomial of this degree is exact to rounding: 0.5^15 / 15! is 2e-17.
REACH, DEGREE = 0.5, 14
# Two columns of a 4x4 matrix, the other two, and the sign of the product of their minors.
MINORS = ((0, 1, 2, 3, 1), (0, 2, 1, 3, -1), (0, 3, 1, 2, 1), (1, 2, 0, 3, 1), (1, 3, 0, 2, -1), (2, 3, 0, 1, 1))


def moved_along(poses: Array, steps: Array, basis: Array) -> Array:
    """``P exp(sum_i s_i G_i)`` of poses ``(B, 4, 4)`` for steps ``(B, t)`` along generators ``basis (t, 4, 4)``, float64."""
    out = np.empty((len(poses), 4, 4))
    _advance(poses, np.ascontiguousarray(steps), basis, out)
    return out


def tangent(gradient: Array, poses: Array, basis: Array) -> Array:
    """dS/ds ``(B, t)`` at s = 0 from dS/dpose ``(B, 4, 4)``."""
    with np.errstate(invalid="ignore"):  # of a gradient that is not finite
        return (poses.transpose(0, 2, 1) @ gradient).reshape(-1, 16) @ basis.reshape(-1, 16).T


@compiled
def _advance(poses: Array, steps: Array, basis: Array, out: Array) -> None:
    for b in range(len(poses)):
        advance(poses[b], steps[b], basis, out[b])


@compiled
def advance(pose: Array, step: Array, basis: Array, out: Array) -> None:
    """:func:`moved_along` for one pose, into ``out``."""
    one = np.eye(4)
    motion = np.zeros((4, 4))
    for t in range(len(basis)):
        motion += step[t] * basis[t]
    size, halvings = np.abs(motion).sum(), 0
    # A motion that is not finite makes a pose that is not.
    while REACH < size < np.inf:
        size, halvings = size / 2, halvings + 1
    motion /= 2.0**halvings
    power = one.copy()
    for k in range(DEGREE, 0, -1):
        power = one + _product(motion, power) / k
    for _ in range(halvings):
        power = _product(power, power)
    out[:] = _product(pose, power)


@compiled
def _product(a: Array, b: Array) -> Array:
    out = np.zeros((4, 4))
    for i in range(4):
        for j in range(4):
            for k in range(4):
                out[i, j] += a[i, k] * b[k, j]
    return out


@compiled
def determinants(matrices: Array, out: Array) -> None:
    """Determinants ``(B,)`` of ``matrices (B, 4, 4)``, from the minors of their upper and lower halves (Laplace's expansion)."""
    for b in range(len(matrices)):
        a, total = matrices[b], 0.0
        for i, j, m, n, sign in MINORS:
            total += sign * (a[0, i] * a[1, j] - a[0, j] * a[1, i]) * (a[2, m] * a[3, n] - a[2, n] * a[3, m])
        out[b] = total
