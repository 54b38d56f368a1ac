"""Refinement by stochastic approximation: other points at every step, steps that shrink, and the mean of where they led.

The value of one set of points is rough at the scale of a voxel: its highest bump depends on the points, on the seed and on the last
digit of a header. Here each step looks at other points, at two poses placed oppositely around the current one, and moves by the
mean of both gradients through the inverse Hessian: it climbs the value smoothed over that neighbourhood, and its noise
averages out (Robbins & Monro 1951; Polyak & Juditsky 1992, SIAM J. Control Optim. 30, Eq. 4).

Where the mean is still restless after some steps, a response surface finds the top (:mod:`medmi.registration.response_surface`), from where
the first steps led: those after them went farther astray.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from medmi.native import loops
from medmi.registration.ascent import Climbable
from medmi.registration.motion import moved_along, tangent
from medmi.registration.objective import Scores
from medmi.registration.response_surface import SETS, Ellipsoid, PoolAt, climb_surface, pairs_for

Array = np.ndarray
# Gain of step k: (1 + k / SETTLING) ** -DECAY. A power from 1/2 to 1 is what averaging asks for.
SETTLING, DECAY = 2.0, 0.5
# Steps before this share of all are left out of the mean: they remember the start.
BURN_IN = 1 / 3
# Curvatures under this share of the largest are taken as noise.
LEAST_CURVATURE = 0.05
# Where the value is flat altogether.
TINY = 1e-30
# Sets of points that the steps take in turn, and that a response surface shares its places out to.
POOL = SETS
# Pairs of evaluations that measure the curvature, beside one for each parameter.
CURVATURE_PAIRS = 3
# The drift is how far the means of the second and the last third of the steps are apart, as a share of the radius. Under the first share no
# more steps are taken, nor after some looks running under the second: that is the noise of a mean at rest, and more steps hardly lower it.
# But they are where a look saw more than the third, unless it is noise of many parameters. What ends under the third had come to rest.
# Looked at every so many steps, from three times as many on; so many looks are taken at least, or one by chance would tell.
STILL, QUIET, REST, LOOK, LEAST_LOOKS = 0.03, 0.075, 0.1, 4, 3
# Once so many steps are done and any look but the first saw no rest, no more are taken, and a response surface over an ellipsoid that many
# times as wide tells where the top is. A quadratic of more than so many parameters takes several times as long as all steps do: there all
# are taken, and the looks must have seen such a drift on average.
TRIAL, WIDER = 20, 2.0
FEW_PARAMETERS, ASTRAY = 7, 0.4


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
    radius: float,
    rng: np.random.Generator,
    on_step: Callable[[Scores], None] | None = None,
) -> Averaged:
    """Climb from ``pose (4, 4)`` along ``basis (t, 4, 4)``.

    Args:
        pool_at: of a pose, ``POOL`` objectives that each look at points of their own around it; the steps take them in turn.
        pose: where to start.
        basis: scaled generators: a unit moves the far corner by 1 mm.
        steps: most pairs of evaluations, after those that measure the curvature and before those of a response surface.
        radius: mm around the pose that the value is smoothed over; no step is longer.
        rng: of the places around the pose.
        on_step: called with the scores of each pair, and the last of each round of a response surface.
    """
    pool, size = pool_at(pose), len(basis)
    few = size <= FEW_PARAMETERS
    slope, inverse = curvature(pool[0], pose, basis, within(CURVATURE_PAIRS + size, size, radius, rng))
    origin = moved_along(pose[None], _at_most(inverse @ slope, radius)[None], basis)[0]
    offsets, visited, done, drifts = within(steps, size, radius, rng), np.empty((steps, size)), 0, [np.inf]
    at, poses = np.zeros(size), np.empty((2, 4, 4))
    while done < steps and not _still(drifts, few) and not (few and _restless(drifts)):
        loops.place_pair(origin, at, offsets[done], basis, poses)
        scores = pool[done % len(pool)](poses)
        loops.climb(scores.gradient, poses, basis, inverse, radius, (1 + done / SETTLING) ** -DECAY, at)
        visited[done], done = at, done + 1
        if done % LOOK == 0 and done >= 3 * LOOK:
            drifts.append(_drift(visited[:done]) / radius)
        if on_step is not None:
            on_step(scores)

    def led(count: int) -> Array:
        """Where so many of the steps led on average, ``(4, 4)``."""
        mean = visited[int(count * BURN_IN) : count].mean(0)
        return moved_along(origin[None], mean[None], basis)[0]

    end, rested = led(done), drifts[-1] < REST
    if _restless(drifts) if few else _astray(drifts):
        around = within(pairs_for(size), size, 1.0, rng)
        ellipsoid = Ellipsoid.of(np.linalg.inv(inverse), WIDER * radius)
        top, found = climb_surface(pool_at, led(min(done, TRIAL)), basis, around, ellipsoid, on_step)
        if top is not None:
            end, rested, pool = top, found, pool_at(top)
    return Averaged(end, inverse, rested, pool[0](end[None]))


def _still(drifts: list[float], few: bool) -> bool:
    """Whether the last look saw no drift, or the last few saw but noise, and none saw no rest; the list begins with no look."""
    still, quiet = drifts[-1] < STILL, max(drifts[-LEAST_LOOKS:]) < QUIET
    return len(drifts) > LEAST_LOOKS and (still or quiet) and ((quiet and not few) or max(drifts[1:]) < REST)


def _restless(drifts: list[float]) -> bool:
    """Whether, the trial over, any look but the first saw no rest."""
    return len(drifts) > TRIAL // LOOK - 2 and max(drifts[2:]) >= REST


def _astray(drifts: list[float]) -> bool:
    return len(drifts) > 1 and float(np.mean(drifts[1:])) >= ASTRAY


def _drift(visited: Array) -> float:
    third, rest = divmod(len(visited), 3)
    middle, last = visited[third + rest : -third].mean(0), visited[-third:].mean(0)
    return float(np.linalg.norm(last - middle))


def within(count: int, size: int, radius: float, rng: np.random.Generator) -> Array:
    """``(count, size)`` vectors spread evenly over the ball of that radius."""
    directions = rng.standard_normal((count, size))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return directions * (radius * rng.random((count, 1)) ** (1 / size))


def curvature(objective: Climbable, pose: Array, basis: Array, offsets: Array) -> tuple[Array, Array]:
    """Gradient ``(t,)`` and inverse Hessian ``(t, t)`` of minus the value, from gradients at the pose plus and minus each offset.

    The Hessian solves ``g(+d) - g(-d) = 2 H d`` in the least-squares sense.
    """
    around = np.concatenate([offsets, -offsets])
    poses = moved_along(np.tile(pose, (len(around), 1, 1)), around, basis)
    found = np.nan_to_num(tangent(objective(poses).gradient, poses, basis), posinf=0.0, neginf=0.0)
    ahead, behind = np.split(found, 2)
    hessian = np.linalg.lstsq(2 * offsets, behind - ahead, rcond=None)[0]
    values, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
    values = np.maximum(values, max(np.abs(values).max() * LEAST_CURVATURE, TINY))
    return found.mean(0), (vectors / values) @ vectors.T


def _at_most(step: Array, length: float) -> Array:
    return step * min(1.0, length / max(float(np.linalg.norm(step)), TINY))
