"""Refinement by a response surface: a quadratic fitted to values all around a pose, whose top is the next pose.

Where an image ends in the middle of a limb the value is nearly flat along some motion, and rough: single gradients say more about the
points that they look at than about where the top lies. Differences of values across a wide ball say less about roughness. What is fitted
is Box and Wilson's second-order model (1951, J. R. Stat. Soc. B 13, section 3).

The offsets from the pose are the same in every round, and the points are drawn anew around it, so that a round is a map of poses to poses
that knows nothing of the ones before: all that start near its fixed point end there. Along a flat motion it goes there slowly or swings
about it. So each step also goes by how the step before changed what is left, as Anderson's extrapolation does with a memory of one
(1965, J. ACM 12, section 4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from medmi.registration.ascent import Climbable
from medmi.registration.motion import moved_along
from medmi.registration.objective import Scores

Array = np.ndarray
PoolAt = Callable[[Array], Sequence[Climbable]]
# Pairs of values for each coefficient of the quadratic.
PAIRS_EACH = 4.5
# Rounds at most. A pose rests when all steps to come would add up to less than this share of the radius: each is taken to be shorter than
# the one before by the factor last seen, or by this one where that is more.
ROUNDS, REST, SHRINKING = 12, 0.02, 1 / 2
# After the first round it rests under this share: another takes longer than all steps before it. Whose last step is longer than that
# share follows noise.
FIRST_REST, FAR = 0.12, 0.5
# Curvatures under this share of the largest are taken as noise.
LEAST_CURVATURE = 0.02
TINY = 1e-30


def pairs_for(size: int) -> int:
    """How many offsets the quadratic of so many parameters is fitted to."""
    return round(PAIRS_EACH * (1 + size + size * (size + 1) // 2))


def climb_surface(
    pool_at: PoolAt,
    pose: Array,
    basis: Array,
    offsets: Array,
    radius: float,
    on_round: Callable[[Scores], None] | None = None,
) -> tuple[Array | None, bool]:
    """Move ``pose (4, 4)`` along ``basis (t, 4, 4)`` to the top of the surface around it.

    Args:
        pool_at: of a pose, objectives that each look at points of their own around it; each takes a part of the offsets.
        pose: where to start.
        basis: scaled generators: a unit moves the far corner by 1 mm.
        offsets: ``(M, t)`` in the unit ball, around which the value is looked at, both ways.
        radius: mm of the ball; no step is longer.
        on_round: called with the last scores of each round.

    Returns:
        The pose, and whether it came to rest; where a value is not finite, the pose of that round. None where after all rounds it is
        still on its way.
    """
    surface, way = None, _Way()
    for _ in range(ROUNDS):
        pool = pool_at(pose)
        surface = surface or _Surface(offsets, len(pool))
        parts = np.array_split(offsets * radius, len(pool))
        scores = [objective(_around(pose, part, basis), gradient=False) for objective, part in zip(pool, parts)]
        if on_round is not None:
            on_round(scores[-1])
        sides = [each.value.reshape(2, -1) for each in scores]
        ahead, behind = np.concatenate(sides, axis=1)
        if not np.isfinite(ahead + behind).all():
            return pose, False
        step = way.step(surface.top(ahead, behind))
        pose = moved_along(pose[None], radius * step[None], basis)[0]
        if way.rests:
            return pose, True
    return None if way.lengths[-1] > FAR else pose, False


@dataclass
class _Way:
    """The rounds so far, in shares of the radius.

    Attributes:
        left: what the last surface had as the way to its top, ``(t,)``; None before the first, or where that is out of its ball.
        taken: the step that was taken then.
        lengths: of every round, the longer of the two.
    """

    left: Array | None = None
    taken: Array | None = None
    lengths: list[float] = field(default_factory=list)

    def step(self, top: Array) -> Array:
        """The step to take, at most 1 long, where a surface has its top at ``top (t,)``."""
        far, step = float(np.linalg.norm(top)) > 1, _within_ball(top)
        if self.left is not None and self.taken is not None and not far:
            change = top - self.left
            share = float(change @ top) / max(float(change @ change), TINY)
            step = _within_ball(top - share * (self.taken + change))
        self.left, self.taken = None if far else top, step
        self.lengths.append(max(float(np.linalg.norm(step)), min(1.0, float(np.linalg.norm(top)))))
        return step

    @property
    def rests(self) -> bool:
        """Whether no more rounds are worth their time."""
        if len(self.lengths) == 1:
            return self.lengths[0] < FIRST_REST
        before, last = self.lengths[-2:]
        shrinking = max(last / max(before, TINY), SHRINKING)
        return shrinking < 1 and last * shrinking / (1 - shrinking) < REST


def _within_ball(step: Array) -> Array:
    return step / max(1.0, float(np.linalg.norm(step)))


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

    def top(self, ahead: Array, behind: Array) -> Array:
        """Where the top is, ``(t,)`` from the middle as a share of the radius."""
        halves = self.to_bend @ (ahead + behind) / 2
        bend = np.empty((self.size, self.size))
        bend[self.rows, self.columns] = bend[self.columns, self.rows] = -halves[: len(self.rows)]
        curvatures, ways = np.linalg.eigh(bend)
        least = max(float(np.abs(curvatures).max()) * LEAST_CURVATURE, TINY)
        return ways @ (ways.T @ (self.to_slope @ (ahead - behind)) / np.maximum(curvatures, least))
