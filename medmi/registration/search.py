"""The search: hundreds of poses scored on the coarsest level, and the few that are worth climbing from.

Where the best of them tells hardly more than chance, the images share little: the search is repeated with more poses and many more
points, and the levels after it keep to that plan.
"""

from __future__ import annotations

import numpy as np

from medmi.registration.families import SCALES
from medmi.registration.initialise import Search, candidates, distinct, marks
from medmi.registration.levels import Array
from medmi.registration.run import Run
from medmi.registration.terms import TERMS

# Times what chance tells: where the best pose tells less, the coarsest level could not tell it from others either.
LEAST_TOLD = 2.0


def started(run: Run, given: Array) -> tuple[Run, Array]:
    """The poses to climb from: the given one or a search's; and the run, a thorough one where the search found next to nothing."""
    if run.request.start != "auto":
        return run, given[None]
    poses, told = _search(run, given)
    if told >= LEAST_TOLD * chance(run.stages[0].bins):
        return run, poses
    return started_thoroughly(run, given)


def started_thoroughly(run: Run, given: Array) -> tuple[Run, Array]:
    """The thorough run, and the poses that its search found."""
    run = run.thoroughly()
    return run, _search(run, given)[0]


def chance(bins: int) -> float:
    """Nat that two unrelated images seem to tell of each other, by a joint histogram, over all points together.

    Twice as much has the chi-squared distribution of (bins - 1)^2 degrees of freedom (Wilks 1938, Ann. Math. Stat. 9, p. 62).

    >>> chance(16)
    112.5
    """
    return (bins - 1) ** 2 / 2


def _search(run: Run, given: Array) -> tuple[Array, float]:
    """The given pose, then the best over the whole rotation group, told apart; and how many nat the best tells of the points of the
    coarsest level, by mutual information."""
    request, stage, plan = run.request, run.stages[0], run.request.plan
    turns = plan.rotations if request.family != "translation" else 0
    poses = candidates(
        run.levels[0], given, run.centre, Search(turns, SCALES[request.family], run.problem.spatial_dims)
    )
    drawn = [run.drawn(0, run.enough(count)) for count in (plan.search_points // 4, plan.search_points)]
    few, many = (run.objective_of(run.coarse_term, 0, points) for points in drawn)
    # The given pose is the first; a quarter of the points tells which poses are worth all of them.
    worth = max(stage.poses, min(len(poses) // 4, plan.rotations // 2))
    order = np.argsort(-few(poses, gradient=False).merit, kind="stable")[:worth]
    poses = np.concatenate([poses[:1], poses[order[order != 0]]])
    merits = many(poses, gradient=False).merit
    kept = distinct(poses, merits, marks(many.points), stage.poses, 2 * stage.spacing)
    told = run.objective_of(TERMS["mi"], 0, drawn[1])(poses[kept[:1]], gradient=False).merit
    return poses[[0, *(k for k in kept if k)]], float(told[0]) * run.enough(stage.points)
