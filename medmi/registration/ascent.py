"""Ascent: several poses climb one objective together, each by its own quasi-Newton steps on the Lie group.

Every step is taken in the tangent space of the current pose (see :mod:`medmi.registration.motion`). Generators are scaled so that a unit
step moves the far corner of the fixed grid by 1 mm. The inverse Hessian is BFGS's (Nocedal & Wright, Numerical Optimization, 2006, Eq.
6.17). Who rests is not evaluated again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from medmi.registration.motion import moved_along, tangent
from medmi.registration.objective import Scores

Array = np.ndarray
Climbable = Callable[[Array], Scores]
LEAST_OVERLAP = 0.1
SHRINK = 0.35
CURVATURE = 1e-8
# Evaluations after which only the leaders climb on, where that is asked.
TRIAL = 10


@dataclass
class Climbers:
    """B poses on their way.

    Attributes:
        poses: ``(B, 4, 4)``.
        scores: at these poses.
        inverse_hessians: ``(B, t, t)`` of minus the value, in mm squared per unit of it.
        lengths: share of the quasi-Newton step that is tried next, ``(B,)``.
        moved: length of the last step in mm, ``(B,)``.
        resting: ``(B,)``: after two short steps running, for along a narrow ridge one means little, or given up.
    """

    poses: Array
    scores: Scores
    inverse_hessians: Array
    lengths: Array
    moved: Array
    resting: Array

    def rows(self, index: Array) -> Climbers:
        """Some of them."""
        return _rowwise(lambda a: a[index], self)

    def written(self, index: Array, rows: Climbers) -> Climbers:
        """All of them with ``rows`` in place of some."""

        def write(old: Array, new: Array) -> Array:
            out = old.copy()
            out[index] = new
            return out

        return _rowwise(write, self, rows)


def _rowwise(change: Callable[..., Array], *climbers: Climbers) -> Climbers:
    """Climbers whose arrays are changed alike."""
    scores = [vars(c.scores).values() for c in climbers]
    rest = [[v for k, v in vars(c).items() if k not in ("poses", "scores")] for c in climbers]
    return Climbers(
        change(*[c.poses for c in climbers]),
        Scores(*[change(*columns) for columns in zip(*scores)]),
        *[change(*columns) for columns in zip(*rest)],
    )


def ascend(
    objective: Climbable,
    poses: Array,
    basis: Array,
    steps: int,
    first_step: float,
    on_step: Callable[[Scores], None] | None = None,
    leaders: int | None = None,
) -> tuple[Climbers, bool]:
    """Climb from ``poses (B, 4, 4)`` along ``basis (t, 4, 4)``.

    Args:
        objective: what is maximised.
        poses: where to start.
        basis: scaled generators.
        steps: most evaluations of each.
        first_step: mm; no step is longer than twice this.
        on_step: called with the current scores after each evaluation.
        leaders: how many, by merit, climb on after ``TRIAL`` evaluations; None for all.

    Returns:
        The climbers at their best poses, and whether all came to rest.
    """
    climbers = _start(objective, poses, basis, first_step)
    for evaluations in range(1, steps):
        if evaluations == TRIAL and leaders is not None:
            order = np.argsort(-np.nan_to_num(climbers.scores.merit, nan=-np.inf), kind="stable")
            climbers.resting[order[leaders:]] = True
        awake = np.flatnonzero(~climbers.resting)
        if not len(awake):
            return climbers, True
        climbers = climbers.written(awake, _stepped(objective, climbers.rows(awake), basis, first_step))
        if on_step is not None:
            on_step(climbers.scores)
    return climbers, bool(climbers.resting.all())


def _start(objective: Climbable, poses: Array, basis: Array, first_step: float) -> Climbers:
    scores, count = objective(poses), len(poses)
    slope = np.linalg.norm(tangent(scores.gradient, poses, basis), axis=1)
    curvature = _identity(first_step / np.maximum(slope, 1e-30), len(basis))
    moved = np.full(count, first_step)
    return Climbers(poses.copy(), scores, curvature, np.ones(count), moved, np.zeros(count, bool))


def _identity(scale: Array, size: int) -> Array:
    return np.eye(size) * scale[:, None, None]


def _stepped(objective: Climbable, climbers: Climbers, basis: Array, first_step: float) -> Climbers:
    here = tangent(climbers.scores.gradient, climbers.poses, basis)
    inverse = climbers.inverse_hessians
    step = np.einsum("bij,bj->bi", inverse, here)
    downhill = (step * here).sum(1) <= 0
    if downhill.any():
        reset = _identity(first_step / np.maximum(np.linalg.norm(here, axis=1), 1e-30), len(basis))
        inverse = np.where(downhill[:, None, None], reset, inverse)
        step = np.einsum("bij,bj->bi", inverse, here)
    length = np.linalg.norm(step, axis=1)
    step *= (climbers.lengths * np.minimum(1, 2 * first_step / np.maximum(length, 1e-30)))[:, None]
    poses = moved_along(climbers.poses, step, basis)
    scores = objective(poses)
    there = tangent(scores.gradient, poses, basis)
    # NaN compares false: a pose without a finite score is never taken.
    better = (scores.value > climbers.scores.value) & (scores.overlap >= LEAST_OVERLAP)
    moved = np.linalg.norm(step, axis=1)
    return Climbers(
        np.where(better[:, None, None], poses, climbers.poses),
        _chosen(better, scores, climbers.scores),
        _updated(inverse, step, here - there),
        np.where(better, 1.0, climbers.lengths * SHRINK),
        moved,
        np.maximum(climbers.moved, moved) < 0.01 * first_step,
    )


def _chosen(better: Array, new: Scores, old: Scores) -> Scores:
    def pick(a: Array, b: Array) -> Array:
        return np.where(better.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return Scores(
        pick(new.similarity, old.similarity),
        pick(new.overlap, old.overlap),
        pick(new.merit, old.merit),
        pick(new.value, old.value),
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
