"""Refinement by stochastic approximation: other points at every step, steps that shrink, and the mean of the tops that they foresaw.

The value of one set of points is rough at the scale of a voxel: its highest bump depends on the points, on the seed and on the last
digit of a header. Here each step looks at other points, at two poses placed oppositely around the current one, and moves by the
mean of both gradients through the inverse Hessian: it climbs the value smoothed over that neighbourhood, and its noise
averages out (Robbins & Monro 1951; Polyak & Juditsky 1992, SIAM J. Control Optim. 30, Eq. 4).

Where a whole step through the inverse Hessian leads to, wherever it starts, its points say that the top is. The mean of such tops is the
end; their spread tells how far off that may be by chance, and so when enough steps are taken, and where no number of them that is worth its
time would be enough. There a response surface finds the top (:mod:`medmi.registration.response_surface`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from medmi.native import loops
from medmi.registration.ascent import Climbable
from medmi.registration.curvature import TINY, Curvature
from medmi.registration.motion import moved_along, tangent
from medmi.registration.objective import Scores
from medmi.registration.response_surface import SETS, Ellipsoid, PoolAt, climb_surface, pairs_for

Array = np.ndarray
OnStep = Callable[[Scores], None] | None
# Gain of step k: (1 + k / SETTLING) ** -DECAY. A power from 1/2 to 1 is what averaging asks for.
SETTLING, DECAY = 2.0, 0.5
# Sets of points that the steps take in turn, and that a response surface shares its places out to. The first round of them only leads away
# from the start; the tops of all others are averaged, of whole rounds, so that each set counts alike.
POOL = SETS
# Pairs of evaluations that measure the curvature before the first step, beside one for each parameter.
CURVATURE_PAIRS = 3
# How many times as wide as the steps look around a pose is the ellipsoid of a response surface.
WIDER = 2.0
# Of the radius, the least that errors are told in: to look for parts of finer voxels would take many steps for what no one sees.
FINEST = 0.7
# A quadratic of more parameters takes several times as long as steps do.
FEW_PARAMETERS = 7


@dataclass(frozen=True)
class Ends:
    """What ends the steps.

    Attributes:
        error: of the mean by chance, under which it rests, in ``Lengths.unit``.
        rough: spread of the tops over which a response surface is fitted (a share of the radius); before the trial is over, twice as much.
        trial: steps after which the spread is known well enough, in whole rounds of the sets.
    """

    error: float
    rough: float
    trial: int


# Heads spread by up to 0.21 but for T1 and PET, limbs by 0.23 and more; where shape changes too, T1 of limbs by up to 1.01 or from 1.11 on.
FEW, MANY = Ends(0.055, 0.215, 3 * POOL), Ends(0.07, 1.06, 6 * POOL)


@dataclass(frozen=True)
class Lengths:
    """What counts as far, mm.

    Attributes:
        radius: around the pose that the value is smoothed over; no step is longer.
        voxel: of the fixed image.
    """

    radius: float
    voxel: float

    @property
    def unit(self) -> float:
        """What errors are told in: a voxel, or ``FINEST`` of the radius where that is longer."""
        return max(self.voxel, FINEST * self.radius)


@dataclass(frozen=True)
class Averaged:
    """Where the refinement ended.

    Attributes:
        pose: ``(4, 4)``.
        inverse_hessian: ``(t, t)`` of minus the smoothed value there, in mm squared per unit of it.
        rested: whether it had come to rest.
        scores: of the pose alone, by points around it.
    """

    pose: Array
    inverse_hessian: Array
    rested: bool
    scores: Scores


def refine(
    pool_at: PoolAt,
    pose: Array,
    basis: Array,
    steps: int,
    lengths: Lengths,
    rng: np.random.Generator,
    on_step: OnStep = None,
) -> Averaged:
    """Climb from ``pose (4, 4)`` along ``basis (t, 4, 4)``.

    Args:
        pool_at: of a pose, ``POOL`` objectives that each look at points of their own around it; the steps take them in turn.
        pose: where to start.
        basis: scaled generators: a unit moves the far corner by 1 mm.
        steps: most pairs of evaluations, after those that measure the curvature first and before those of a response surface.
        lengths: what counts as far.
        rng: of the places around the pose.
        on_step: called with the scores of each pair, and the last of each round of a response surface.
    """
    pool, size = pool_at(pose), len(basis)
    ends = FEW if size <= FEW_PARAMETERS else MANY
    around = within(pairs_for(size), size, 1.0, rng)
    walk = _Walk(pool, pose, basis, steps, lengths, rng)
    if walk.climb(steps, ends, on_step):
        ellipsoid = Ellipsoid.of(np.linalg.inv(walk.curvature.inverse), WIDER * lengths.radius)
        top, rested = climb_surface(pool_at, walk.end(), basis, around, ellipsoid, on_step)
        if top is not None:
            return Averaged(top, walk.curvature.inverse, rested, pool_at(top)[0](top[None]))
        walk.climb(steps, dataclasses.replace(ends, rough=np.inf), on_step)
    end = walk.end()
    return Averaged(end, walk.curvature.inverse, walk.error < ends.error, pool[0](end[None]))


class _Walk:
    """The steps so far: where each began, the slope that it found, the curvature that all tell of together.

    Attributes:
        done: how many.
        curvature: of the smoothed value.
        error: standard deviation of the mean of the tops, in ``Lengths.unit``; infinite before two are known.
    """

    def __init__(
        self,
        pool: Sequence[Climbable],
        pose: Array,
        basis: Array,
        steps: int,
        lengths: Lengths,
        rng: np.random.Generator,
    ) -> None:
        self.pool, self.basis, self.done, self.error = pool, basis, 0, np.inf
        self.lengths, radius, size = lengths, lengths.radius, len(basis)
        slope, self.curvature = measured(pool[0], pose, basis, within(CURVATURE_PAIRS + size, size, radius, rng))
        self.origin = self._from(pose, _at_most(self.curvature.inverse @ slope, radius))
        self.offsets = within(steps, size, radius, rng)
        self.places, self.slopes = np.empty((steps, size)), np.empty((steps, size))
        self.at, self.poses = np.zeros(size), np.empty((2, 4, 4))

    def climb(self, steps: int, ends: Ends, on_step: OnStep) -> bool:
        """Take steps until these many are taken or the mean is known well enough; whether it is too rough for that."""
        rough = False
        while self.done < steps and self.error >= ends.error and not rough:
            scores = self.step()
            if on_step is not None:
                on_step(scores)
            if self.done % POOL == 0 and self.done > POOL:
                spread = self.spread()
                self.error = spread * self.lengths.radius / (self.lengths.unit * np.sqrt(self.done - POOL))
                rough = self.done <= ends.trial and spread > ends.rough * (1 if self.done == ends.trial else 2)
        return rough

    def step(self) -> Scores:
        """Take one; the scores of its two poses."""
        now, inverse = self.done, self.curvature.inverse
        loops.place_pair(self.origin, self.at, self.offsets[now], self.basis, self.poses)
        scores = self.pool[now % len(self.pool)](self.poses)
        ahead, behind = _slopes(scores, self.poses, self.basis)
        self.places[now], self.slopes[now] = self.at, (ahead + behind) / 2
        gain = (1 + now / SETTLING) ** -DECAY
        loops.climb(scores.gradient, self.poses, self.basis, inverse, self.lengths.radius, gain, self.at)
        self.curvature.learn(self.offsets[now], ahead, behind)
        self.done += 1
        return scores

    def spread(self) -> float:
        """Standard deviation of the tops about their mean, as a share of the radius."""
        return float(np.sqrt(self._tops().var(0, ddof=1).sum())) / self.lengths.radius

    def end(self) -> Array:
        """The mean of the tops ``(4, 4)``, at most the radius from that of the places."""
        places, tops = self.places[self._counted()].mean(0), self._tops().mean(0)
        return self._from(self.origin, places + _at_most(tops - places, self.lengths.radius))

    def _tops(self) -> Array:
        counted = self._counted()
        return self.places[counted] + self.slopes[counted] @ self.curvature.inverse

    def _counted(self) -> slice:
        """All but the first round; of fewer than two rounds, the last step at least."""
        return slice(min(POOL, self.done - 1), self.done)

    def _from(self, pose: Array, step: Array) -> Array:
        return moved_along(pose[None], step[None], self.basis)[0]


def within(count: int, size: int, radius: float, rng: np.random.Generator) -> Array:
    """``(count, size)`` vectors all over the ball of that radius: directions orthogonal by turns, a length from each share of it."""
    blocks = np.linalg.qr(rng.standard_normal((-(-count // size), size, size)))[0]
    shares = (rng.permutation(count) + 0.5) / count
    return blocks.reshape(-1, size)[:count] * (radius * shares[:, None] ** (1 / size))


def measured(objective: Climbable, pose: Array, basis: Array, offsets: Array) -> tuple[Array, Curvature]:
    """Gradient ``(t,)`` and curvature of the value, from gradients at the pose plus and minus each offset."""
    around = np.concatenate([offsets, -offsets])
    poses = moved_along(np.tile(pose, (len(around), 1, 1)), around, basis)
    found = _slopes(objective(poses), poses, basis)
    ahead, behind = np.split(found, 2)
    return found.mean(0), Curvature.of(offsets, ahead, behind)


def _slopes(scores: Scores, poses: Array, basis: Array) -> Array:
    """Of each pose along the basis, ``(B, t)``; where one is not finite it says nothing."""
    return np.nan_to_num(tangent(scores.gradient, poses, basis), posinf=0.0, neginf=0.0)


def _at_most(step: Array, length: float) -> Array:
    return step * min(1.0, length / max(float(np.linalg.norm(step)), TINY))
