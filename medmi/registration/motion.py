"""How poses move: steps in the tangent space of the current pose.

A pose moves as ``P <- P exp(sum_i s_i G_i)``, so that a rigid pose stays rigid and the derivative at s = 0 needs no derivative of the
exponential.
"""

from __future__ import annotations

import numpy as np

from medmi.native import loops

Array = np.ndarray


def moved_along(poses: Array, steps: Array, basis: Array) -> Array:
    """``P exp(sum_i s_i G_i)`` of poses ``(B, 4, 4)`` for steps ``(B, t)`` along generators ``basis (t, 4, 4)``, float64."""
    out = np.empty((len(poses), 4, 4))
    loops.advance(poses, np.ascontiguousarray(steps), basis, out)
    return out


def tangent(gradient: Array, poses: Array, basis: Array) -> Array:
    """dS/ds ``(B, t)`` at s = 0 from dS/dpose ``(B, 4, 4)``."""
    with np.errstate(invalid="ignore"):  # of a gradient that is not finite
        return (poses.transpose(0, 2, 1) @ gradient).reshape(-1, 16) @ basis.reshape(-1, 16).T


def determinants(matrices: Array, out: Array) -> None:
    """Determinants ``(B,)`` of ``matrices (B, 4, 4)``, from the minors of their upper and lower halves (Laplace's expansion)."""
    loops.determinants(np.ascontiguousarray(matrices), out)
