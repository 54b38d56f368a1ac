"""Ascent: several poses climb one objective together, each by its own quasi-Newton steps on the Lie group.

Poses move as ``P <- P exp(sum_i s_i G_i)``: every step is taken in the tangent space of the current pose, so that a rigid pose stays
rigid and no derivative of the exponential is needed. Generators are scaled so that a unit step moves the far corner of the fixed
grid by 1 mm. The inverse Hessian is BFGS's (Nocedal & Wright, Numerical Optimization, 2006, Eq. 6.17).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from medmi.registration.objective import Scores
from medmi.spatial.matrix_exp import matrix_exp

Array = np.ndarray
Climbable = Callable[[Array], Scores]
LEAST_OVERLAP = 0.1
SHRINK = 0.35
CURVATURE = 1e-8


@dataclass
class Climbers:
    """B poses on their way.

    Attributes:
        poses: ``(B, 4, 4)``.
        scores: at these poses.
        inverse_hessians: ``(B, t, t)`` of minus the similarity, in mm squared per unit of similarity.
        lengths: share of the quasi-Newton step that is tried next, ``(B,)``.
        moved: length of the last step in mm, ``(B,)``.
        evaluations: so far.
    """

    poses: Array
    scores: Scores
    inverse_hessians: Array
    lengths: Array
    moved: Array
    evaluations: int = 1


def ascend(
    objective: Climbable,
    poses: Array,
    basis: Array,
    steps: int,
    first_step: float,
    on_step: Callable[[Scores], None] | None = None,
) -> tuple[Climbers, bool]:
    """Climb from ``poses (B, 4, 4)`` along ``basis (t, 4, 4)``.

    Args:
        objective: what is maximised.
        poses: where to start.
        basis: scaled generators.
        steps: most evaluations.
        first_step: mm; no step is longer than twice this.
        on_step: called with the current scores after each evaluation.

    Returns:
        The climbers at their best poses, and whether all came to rest: two steps running under a hundredth of the first.
    """
    climbers = _start(objective, poses, basis, first_step)
    while climbers.evaluations < steps:
        before = climbers.moved
        _step(objective, climbers, basis, first_step)
        if on_step is not None:
            on_step(climbers.scores)
        # Along a narrow ridge one short step means little.
        if bool((np.maximum(before, climbers.moved) < 0.01 * first_step).all()):
            return climbers, True
    return climbers, False


def tangent(gradient: Array, poses: Array, basis: Array) -> Array:
    """dS/ds ``(B, t)`` at s = 0 from dS/dpose ``(B, 4, 4)``."""
    return np.einsum("bij,bik,tkj->bt", gradient, poses, basis, optimize=False)


def moved_along(poses: Array, steps: Array, basis: Array) -> Array:
    """``P exp(sum_i s_i G_i)`` for steps ``(B, t)``."""
    return poses @ matrix_exp(torch.from_numpy(np.einsum("bt,tij->bij", steps, basis))).numpy()


def _start(objective: Climbable, poses: Array, basis: Array, first_step: float) -> Climbers:
    scores = objective(poses)
    slope = np.linalg.norm(tangent(scores.gradient, poses, basis), axis=1)
    curvature = _identity(first_step / np.maximum(slope, 1e-30), len(basis))
    return Climbers(poses.copy(), scores, curvature, np.ones(len(poses)), np.full(len(poses), first_step))


def _identity(scale: Array, size: int) -> Array:
    return np.eye(size) * scale[:, None, None]


def _step(objective: Climbable, climbers: Climbers, basis: Array, first_step: float) -> None:
    here = tangent(climbers.scores.gradient, climbers.poses, basis)
    step = np.einsum("bij,bj->bi", climbers.inverse_hessians, here)
    downhill = (step * here).sum(1) <= 0
    if downhill.any():
        reset = _identity(first_step / np.maximum(np.linalg.norm(here, axis=1), 1e-30), len(basis))
        climbers.inverse_hessians[downhill] = reset[downhill]
        step = np.einsum("bij,bj->bi", climbers.inverse_hessians, here)
    length = np.linalg.norm(step, axis=1)
    step *= (climbers.lengths * np.minimum(1, 2 * first_step / np.maximum(length, 1e-30)))[:, None]
    poses = moved_along(climbers.poses, step, basis)
    scores = objective(poses)
    there = tangent(scores.gradient, poses, basis)
    climbers.inverse_hessians = _updated(climbers.inverse_hessians, step, here - there)
    # NaN compares false: a pose without a finite score is never taken.
    better = (scores.similarity > climbers.scores.similarity) & (scores.overlap >= LEAST_OVERLAP)
    climbers.moved = np.linalg.norm(step, axis=1)
    climbers.lengths = np.where(better, 1.0, climbers.lengths * SHRINK)
    climbers.poses = np.where(better[:, None, None], poses, climbers.poses)
    climbers.scores = _chosen(better, scores, climbers.scores)
    climbers.evaluations += 1


def _chosen(better: Array, new: Scores, old: Scores) -> Scores:
    def pick(a: Array, b: Array) -> Array:
        return np.where(better.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return Scores(
        pick(new.similarity, old.similarity),
        pick(new.overlap, old.overlap),
        pick(new.merit, old.merit),
        pick(new.gradient, old.gradient),
    )


def _updated(inverse: Array, step: Array, change: Array) -> Array:
    """BFGS update with steps s and changes y of the descending gradient; skipped where ``s.y`` is not safely positive."""
    product = (step * change).sum(1)
    safe = product > CURVATURE * np.linalg.norm(step, axis=1) * np.linalg.norm(change, axis=1)
    rho = np.where(safe, 1 / np.where(safe, product, 1), 0)[:, None, None]
    left = np.eye(step.shape[1]) - rho * step[:, :, None] * change[:, None, :]
    new = left @ inverse @ left.transpose(0, 2, 1) + rho * step[:, :, None] * step[:, None, :]
    return np.where(safe[:, None, None], new, inverse)
