"""Refinement by a response surface: a quadratic fitted to values all around a pose, whose top is the next pose.

Where an image ends in the middle of a limb the value is nearly flat along some motion, and rough: single gradients say more about the
points that they look at than about where the top lies. Differences of values across a wide ball say less about roughness. What is fitted
is Box and Wilson's second-order model (1951, J. R. Stat. Soc. B 13, section 3); the same offsets from the pose, and the same points at
each, in every round make a map of poses to poses, and all that start near its fixed point end there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from medmi.registration.ascent import Climbable
from medmi.registration.motion import moved_along
from medmi.registration.objective import Scores

Array = np.ndarray
# A quadratic of more parameters takes more values than all else does.
MOST_PARAMETERS = 7
# Pairs of values for each coefficient of the quadratic.
PAIRS_EACH = 4.5
# Rounds at most. A pose rests when all steps to come would add up to less than this share of the radius: each is taken to be shorter than
# the one before by the factor last seen, or by the first of these where that is more; after one round, by the second, for another takes
# longer than all steps before it.
ROUNDS, REST, SHRINKING, FIRST_SHRINKING = 8, 0.03, 1 / 3, 0.2
# Curvatures under this share of the largest are taken as noise.
LEAST_CURVATURE = 0.04
TINY = 1e-30


def pairs_for(size: int) -> int:
    """How many offsets the quadratic of so many parameters is fitted to."""
    return round(PAIRS_EACH * (1 + size + size * (size + 1) // 2))


def climb_surface(
    pool: Sequence[Climbable],
    pose: Array,
    basis: Array,
    offsets: Array,
    radius: float,
    on_round: Callable[[Scores], None] | None = None,
) -> tuple[Array, bool]:
    """Move ``pose (4, 4)`` along ``basis (t, 4, 4)`` to the top of the surface around it.

    Args:
        pool: objectives that each look at points of their own; each takes a part of the offsets.
        pose: where to start.
        basis: scaled generators: a unit moves the far corner by 1 mm.
        offsets: ``(M, t)`` in the unit ball, around which the value is looked at, both ways.
        radius: mm of the ball; no step is longer.
        on_round: called with the last scores of each round.

    Returns:
        The pose, and whether it came to rest; where a value is not finite, the pose of that round.
    """
    surface = _Surface(offsets, len(pool))
    parts = np.array_split(offsets * radius, len(pool))
    length = None
    for _ in range(ROUNDS):
        scores = [objective(_around(pose, part, basis), gradient=False) for objective, part in zip(pool, parts)]
        if on_round is not None:
            on_round(scores[-1])
        sides = [each.value.reshape(2, -1) for each in scores]
        ahead, behind = np.concatenate(sides, axis=1)
        if not np.isfinite(ahead + behind).all():
            return pose, False
        step = surface.step(ahead, behind)
        pose = moved_along(pose[None], radius * step[None], basis)[0]
        before, length = length, float(np.linalg.norm(step))
        shrinking = FIRST_SHRINKING if before is None else max(length / max(before, TINY), SHRINKING)
        if shrinking < 1 and length * shrinking / (1 - shrinking) < REST:
            return pose, True
    return pose, False


def _around(pose: Array, offsets: Array, basis: Array) -> Array:
    """The poses at plus and at minus each offset, ``(2 M, 4, 4)``."""
    both = np.concatenate([offsets, -offsets])
    return moved_along(np.tile(pose, (len(both), 1, 1)), both, basis)


class _Surface:
    """The least-squares fits of slope and curvature to values at plus and minus the same offsets, one level for each set of points."""

    def __init__(self, offsets: Array, sets: int) -> None:
        self.size = offsets.shape[1]
        self.rows, self.columns = np.triu_indices(self.size)
        halves = np.where(self.rows == self.columns, 0.5, 1.0)
        squares = halves * offsets[:, self.rows] * offsets[:, self.columns]
        owners = np.repeat(np.arange(sets), [len(part) for part in np.array_split(offsets, sets)])
        self.to_slope = np.linalg.pinv(2 * offsets)
        self.to_bend = np.linalg.pinv(np.column_stack([squares, owners[:, None] == np.arange(sets)]))

    def step(self, ahead: Array, behind: Array) -> Array:
        """From the middle to the top, ``(t,)`` as a share of the radius, at most 1 long."""
        halves = self.to_bend @ (ahead + behind) / 2
        bend = np.empty((self.size, self.size))
        bend[self.rows, self.columns] = bend[self.columns, self.rows] = -halves[: len(self.rows)]
        curvatures, ways = np.linalg.eigh(bend)
        least = max(float(np.abs(curvatures).max()) * LEAST_CURVATURE, TINY)
        step = ways @ (ways.T @ (self.to_slope @ (ahead - behind)) / np.maximum(curvatures, least))
        return step / max(1.0, float(np.linalg.norm(step)))
