"""Ascent: several poses climb one objective together, each by its own quasi-Newton steps on the Lie group.

Every step is taken in the tangent space of the current pose (see :mod:`medmi.registration.motion`). Generators are scaled so that a unit
step moves the far corner of the fixed grid by 1 mm. Who rests is not evaluated again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from medmi.registration import quasi_newton_cpu
from medmi.registration.objective import Scores

Array = np.ndarray
LEAST_OVERLAP = 0.1
# Evaluations after which half of the poses and then only the leaders climb on, where that is asked.
TRIALS = (5, 10)


class Climbable(Protocol):
    """Scores poses ``(B, 4, 4)``; their gradients may be zero where none is asked."""

    def __call__(self, poses: Array, gradient: bool = True) -> Scores: ...


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
        leaders: how many, by merit, climb on after the second of ``TRIALS`` beside the first pose, of half of the poses that climb on after
            the first; None for all.

    Returns:
        The climbers at their best poses, and whether all came to rest.
    """
    climbers = _start(objective, np.ascontiguousarray(poses), basis, first_step)
    for evaluations in range(1, steps):
        if leaders is not None and evaluations in TRIALS:
            _give_up(climbers, leaders if evaluations == TRIALS[-1] else max(leaders, len(poses) // 2))
        awake = np.flatnonzero(~climbers.resting)
        if not len(awake):
            return climbers, True
        _step(objective, climbers, awake, basis, first_step)
        if on_step is not None:
            on_step(climbers.scores)
    return climbers, bool(climbers.resting.all())


def _give_up(climbers: Climbers, leaders: int) -> None:
    """All but the first pose and the leaders by merit rest."""
    given_up = climbers.scores.ranked[leaders:]
    climbers.resting[given_up[given_up > 0]] = True


def _start(objective: Climbable, poses: Array, basis: Array, first_step: float) -> Climbers:
    scores, (count, size) = objective(poses), (len(poses), len(basis))
    slopes, inverses = np.empty((count, size)), np.empty((count, size, size))
    quasi_newton_cpu.slopes(scores.gradient, poses, basis, slopes)
    quasi_newton_cpu.set_back(inverses, slopes, first_step)
    moved = np.full(count, first_step)
    return Climbers(poses.copy(), scores, inverses, np.ones(count), moved, np.zeros(count, bool))


def _step(objective: Climbable, climbers: Climbers, awake: Array, basis: Array, first_step: float) -> None:
    """One step of those that are awake, in place."""
    old, inverses, lengths = climbers.scores, climbers.inverse_hessians, climbers.lengths
    here, there, steps = np.empty((3, len(awake), len(basis)))
    tried = np.empty((len(awake), 4, 4))
    quasi_newton_cpu.propose(
        awake, climbers.poses, old.gradient, inverses, lengths, basis, first_step, here, steps, tried
    )
    new = objective(tried)
    quasi_newton_cpu.slopes(new.gradient, tried, basis, there)
    # NaN compares false: a pose without a finite score is never taken.
    better = (new.value > old.value[awake]) & (new.overlap >= LEAST_OVERLAP)
    quasi_newton_cpu.settle(
        awake, better, steps, here, there, first_step, inverses, lengths, climbers.moved, climbers.resting
    )
    taken = awake[better]
    climbers.poses[taken] = tried[better]
    for kept, found in zip(vars(old).values(), vars(new).values()):
        kept[taken] = found[better]
