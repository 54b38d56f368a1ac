"""Compiled steps of climbers: where each tries next, and what it makes of what it finds there.

B climbers, of which A are awake, t generators. All arrays hold one row a climber, those of what was tried one row for each that is awake.
The inverse Hessian is BFGS's (Nocedal & Wright, Numerical Optimization, 2006, Eq. 6.17).
"""

from __future__ import annotations

import numpy as np

from medmi.registration.motion import advance
from medmi.spatial.compiled import compiled

Array = np.ndarray
# Cosine between a step and the change of slope along it from which their curvature is safely positive.
CURVATURE = 1e-8
SHRINK = 0.35
# Share of the first step under which a step is short.
SHORT = 0.01
TINY = 1e-30


@compiled
def slopes(gradients: Array, poses: Array, basis: Array, out: Array) -> None:
    """dS/ds ``(B, t)`` at s = 0 of ``P exp(sum_i s_i G_i)`` from dS/dpose ``(B, 4, 4)``."""
    for b in range(len(poses)):
        for t in range(len(basis)):
            total = 0.0
            for i in range(4):
                for j in range(4):
                    moved = 0.0
                    for k in range(4):
                        moved += poses[b, i, k] * basis[t, k, j]
                    total += gradients[b, i, j] * moved
            out[b, t] = total


@compiled
def propose(
    awake: Array, poses: Array, gradients: Array, inverses: Array, lengths: Array, basis: Array, first_step: float,
    here: Array, steps: Array, tried: Array,
) -> None:  # fmt: skip
    """Fill the slopes ``here (A, t)``, the steps ``(A, t)`` and the poses ``tried (A, 4, 4)``.

    A step is the share ``lengths (B,)`` of the quasi-Newton one, which is cut at twice ``first_step`` mm; where that would not rise, the
    inverse Hessian is set back to steepest ascent by ``first_step``.
    """
    slopes(gradients[awake], poses[awake], basis, here)
    for a in range(len(awake)):
        b = awake[a]
        inverse, step = inverses[b], steps[a]
        _multiply(inverse, here[a], step)
        if _dot(step, here[a]) <= 0:
            set_back(inverse, here[a], first_step)
            _multiply(inverse, here[a], step)
        step *= lengths[b] * min(1.0, 2 * first_step / max(np.sqrt(_dot(step, step)), TINY))
        advance(poses[b], step, basis, tried[a])


@compiled
def set_back(inverse: Array, slope: Array, first_step: float) -> None:
    """A multiple of the identity that makes the step ``first_step`` mm long."""
    scale = first_step / max(np.sqrt(_dot(slope, slope)), TINY)
    inverse[:] = 0.0
    for i in range(len(slope)):
        inverse[i, i] = scale


@compiled
def settle(
    awake: Array, better: Array, steps: Array, here: Array, there: Array, first_step: float, inverses: Array,
    lengths: Array, moved: Array, resting: Array,
) -> None:  # fmt: skip
    """Learn from the slopes ``there (A, t)``, and whether it was ``better (A,)`` there: inverse Hessian, next length, length moved, rest.

    Who took two short steps running rests: along a narrow ridge one means little.
    """
    for a in range(len(awake)):
        b = awake[a]
        update(inverses[b], steps[a], here[a] - there[a])
        lengths[b] = 1.0 if better[a] else lengths[b] * SHRINK
        length = np.sqrt(_dot(steps[a], steps[a]))
        resting[b] = moved[b] < SHORT * first_step and length < SHORT * first_step
        moved[b] = length


@compiled
def update(inverse: Array, step: Array, change: Array) -> None:
    """BFGS update with a step s and the change y of the descending gradient; skipped where ``s.y`` is not safely positive."""
    product, size = _dot(step, change), len(step)
    if not product > CURVATURE * np.sqrt(_dot(step, step)) * np.sqrt(_dot(change, change)):
        return
    bent = np.empty(size)
    _multiply(inverse, change, bent)
    along = (1 + _dot(change, bent) / product) / product
    for i in range(size):
        for j in range(size):
            inverse[i, j] += along * step[i] * step[j] - (bent[i] * step[j] + step[i] * bent[j]) / product


@compiled
def _multiply(matrix: Array, vector: Array, out: Array) -> None:
    for i in range(len(out)):
        out[i] = _dot(matrix[i], vector)


@compiled
def _dot(a: Array, b: Array) -> float:
    total = 0.0
    for k in range(len(a)):
        total += a[k] * b[k]
    return total
