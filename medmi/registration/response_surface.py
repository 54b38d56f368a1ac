"""Refinement by a response surface: a quadratic fitted to values all around a pose, whose top is the next pose.

Where an image ends in the middle of a limb the value is nearly flat along some motion, and rough: single gradients say more about the
points that they look at than about where the top lies. Differences of values across a wide ellipsoid say less about roughness, the
more so the wider it is; it is widest where the value is flattest. What is fitted is Box and Wilson's second-order model (1951,
J. R. Stat. Soc. B 13, section 3).

Every round asks for points around its pose and shapes its ellipsoid as the surface before bent, so that a round is a map of poses
to poses that knows next to nothing of the ones before: all that start near its fixed point end there. Along a flat motion it goes there
slowly or swings about it. So each step also goes by how the step before changed what is left, as Anderson's extrapolation does with a
memory of one (1965, J. ACM 12, section 4). Where surfaces on either side of a top each have it beyond the other, so that whole steps would
lead to and fro for ever, steps out of sight are halved.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from medmi.registration.ascent import Climbable
from medmi.registration.motion import moved_along
from medmi.registration.objective import Scores

Array = np.ndarray
PoolAt = Callable[[Array], Sequence[Climbable]]
# Pairs of values for each parameter, by so many sets of points; half of them in the first round, whose top is far.
PAIRS_EACH, SETS = 21, 8
# Rounds at most. A pose rests when all steps to come would add up to less than this share of the ellipsoid: each is taken to be shorter
# than the one before by the factor last seen, or by this one where that is more. Where the second surface leaves again over such a share of
# what the first left along that way, that is the factor: along a flat motion a pose creeps while all else has come to rest.
ROUNDS, REST, SHRINKING, CREEPING = 24, 0.025, 1 / 3, 0.8
# Whose last step is longer than this share follows noise.
FAR = 0.5
# Half-axes go by this power of the curvature along them, up to so many times the shortest.
FLATTER, WIDEST = -1 / 4, 2.0
# Curvatures under this share of the largest are taken as noise.
LEAST_CURVATURE = 0.02
TINY = 1e-30


def pairs_for(size: int) -> int:
    """How many offsets the quadratic of so many parameters is fitted to."""
    return PAIRS_EACH * size


@dataclass(frozen=True)
class Ellipsoid:
    """Where a surface is fitted: around a pose, wider along motions that bend the value less.

    Attributes:
        radius: mm of the shortest half-axis.
        out: from the unit ball to mm along each parameter, ``(t, t)``, symmetric.
        back: the inverse.
    """

    radius: float
    out: Array
    back: Array

    @classmethod
    def of(cls, bend: Array, radius: float) -> Ellipsoid:
        """Shaped by minus the Hessian ``bend (t, t)``; along motions that bend the value upwards it is widest."""
        curvatures, ways = np.linalg.eigh(bend)
        most = max(float(np.abs(curvatures).max()), TINY)
        axes = radius * np.maximum(curvatures / most, WIDEST ** (1 / FLATTER)) ** FLATTER
        return cls(radius, (ways * axes) @ ways.T, (ways / axes) @ ways.T)


def climb_surface(
    pool_at: PoolAt,
    pose: Array,
    basis: Array,
    offsets: Array,
    ellipsoid: Ellipsoid,
    on_round: Callable[[Scores], None] | None = None,
) -> tuple[Array | None, bool]:
    """Move ``pose (4, 4)`` along ``basis (t, 4, 4)`` to the top of the surface around it.

    Args:
        pool_at: of a pose, ``SETS`` objectives that each look at points of their own around it; each takes a part of the offsets.
        pose: where to start.
        basis: scaled generators: a unit moves the far corner by 1 mm.
        offsets: ``(M, t)`` in the unit ball, around which the value is looked at, both ways; the first half in the first round.
        ellipsoid: that ball is stretched to it in the first round; no step leaves it.
        on_round: called with the last scores of each round.

    Returns:
        The pose, and whether it came to rest; where a value is not finite, the pose of that round. None where after all rounds it is
        still on its way.
    """
    way = _Way()
    for fit in itertools.chain([_Fit(offsets[: len(offsets) // 2])], itertools.repeat(_Fit(offsets), ROUNDS - 1)):
        parts = np.array_split(fit.offsets @ ellipsoid.out, SETS)
        scores = [
            objective(_around(pose, part, basis), gradient=False) for objective, part in zip(pool_at(pose), parts)
        ]
        if on_round is not None:
            on_round(scores[-1])
        sides = [each.value.reshape(2, -1) for each in scores]
        ahead, behind = np.concatenate(sides, axis=1)
        if not np.isfinite(ahead + behind).all():
            return pose, False
        slope = fit.slope(ahead, behind) @ ellipsoid.back
        bend = ellipsoid.back @ fit.bend(ahead, behind) @ ellipsoid.back
        pose = moved_along(pose[None], way.step(_top(slope, bend), ellipsoid)[None], basis)[0]
        if way.rests:
            return pose, True
        ellipsoid = Ellipsoid.of(bend, ellipsoid.radius)
    return None if way.lengths[-1] > FAR else pose, False


@dataclass
class _Way:
    """The rounds so far.

    Attributes:
        left: what the last surface had as the way to its top, mm ``(t,)``; None before the first, or where that is out of its ellipsoid.
        taken: the step that was taken then.
        lengths: of every round, the longer of the two, as a share of the ellipsoid.
        again: the share of what the first surface left, along the way of the second, that this leaves again; 0 at any other one.
        reach: share of the ellipsoid that a step goes towards a top out of it: half as much wherever one turns back from the last.
    """

    left: Array | None = None
    taken: Array | None = None
    lengths: list[float] = field(default_factory=list)
    again: float = 0.0
    reach: float = 1.0

    def step(self, top: Array, ellipsoid: Ellipsoid) -> Array:
        """The step to take, mm ``(t,)`` within the ellipsoid, where a surface has its top at ``top``."""
        ahead = top @ ellipsoid.back
        far, step = float(np.linalg.norm(ahead)) > 1, _within_ball(ahead)
        self.again = 0.0
        if far:
            step *= self._reaching(ahead, ellipsoid)
        elif self.left is not None and self.taken is not None:
            before = self.left @ ellipsoid.back
            change = ahead - before
            if len(self.lengths) == 1:
                self.again = float(ahead @ ahead) / max(abs(float(before @ ahead)), TINY)
            share = float(change @ ahead) / max(float(change @ change), TINY)
            step = _within_ball(ahead - share * (self.taken @ ellipsoid.back + change))
        self.left, self.taken = None if far else top, step @ ellipsoid.out
        self.lengths.append(max(float(np.linalg.norm(step)), min(1.0, float(np.linalg.norm(ahead)))))
        return self.taken

    def _reaching(self, ahead: Array, ellipsoid: Ellipsoid) -> float:
        """The reach towards a top out of the ellipsoid, where the last one may have been so too."""
        if self.left is None and self.taken is not None and float(ahead @ (self.taken @ ellipsoid.back)) < 0:
            self.reach /= 2
        return self.reach

    @property
    def rests(self) -> bool:
        """Whether no more rounds are worth their time; the first never is the last, for no surface shaped its ellipsoid."""
        if len(self.lengths) < 2:
            return False
        before, last = self.lengths[-2:]
        creeping = self.again if self.again > CREEPING else 0.0
        shrinking = max(last / max(before, TINY), SHRINKING, creeping)
        return shrinking < 1 and last * shrinking / (1 - shrinking) < REST


def _within_ball(step: Array) -> Array:
    return step / max(1.0, float(np.linalg.norm(step)))


def _around(pose: Array, offsets: Array, basis: Array) -> Array:
    """The poses at plus and at minus each offset, ``(2 M, 4, 4)``."""
    both = np.concatenate([offsets, -offsets])
    return moved_along(np.tile(pose, (len(both), 1, 1)), both, basis)


def _top(slope: Array, bend: Array) -> Array:
    """Where a quadratic has its top, ``(t,)`` from its middle."""
    curvatures, ways = np.linalg.eigh(bend)
    least = max(float(np.abs(curvatures).max()) * LEAST_CURVATURE, TINY)
    return ways @ (ways.T @ slope / np.maximum(curvatures, least))


class _Fit:
    """Least-squares fits to values at plus and minus the same offsets, with one level for each set of points."""

    def __init__(self, offsets: Array) -> None:
        self.offsets, self.size = offsets, offsets.shape[1]
        self.rows, self.columns = np.triu_indices(self.size)
        halves = np.where(self.rows == self.columns, 0.5, 1.0)
        squares = halves * offsets[:, self.rows] * offsets[:, self.columns]
        owners = np.repeat(np.arange(SETS), [len(part) for part in np.array_split(offsets, SETS)])
        self.to_slope = np.linalg.pinv(2 * offsets)
        self.to_bend = np.linalg.pinv(np.column_stack([squares, owners[:, None] == np.arange(SETS)]))

    def slope(self, ahead: Array, behind: Array) -> Array:
        """The gradient, ``(t,)``."""
        return self.to_slope @ (ahead - behind)

    def bend(self, ahead: Array, behind: Array) -> Array:
        """Minus the Hessian, ``(t, t)``."""
        halves, bend = self.to_bend @ (ahead + behind) / 2, np.empty((self.size, self.size))
        bend[self.rows, self.columns] = bend[self.columns, self.rows] = -halves[: len(self.rows)]
        return bend
