"""The schedule: which spacings the solver visits, with how many points, poses and steps at each."""

from __future__ import annotations

from dataclasses import dataclass

from medmi.registration.problem import Problem


@dataclass(frozen=True)
class Stage:
    """One pyramid level of the solver.

    Attributes:
        spacing: mm between voxels after shrinking.
        points: fixed points that are drawn.
        poses: how many of the best poses are refined together.
        steps: most evaluations of the objective for each of them.
        first_step: length of the first step, as a share of ``spacing``.
        bins: of the joint histogram along each axis.
    """

    spacing: float
    points: int
    poses: int
    steps: int
    first_step: float
    bins: int


@dataclass(frozen=True)
class Plan:
    """Sizes that a schedule is made from; a preset is a plan.

    Attributes:
        coarse: the field of view holds this many steps of the coarsest level, the finest four times as many.
        search_points: points that score the candidate poses.
        rotations: of the search, over the whole rotation group.
        points, poses, steps, bins: by level, coarse to fine.
    """

    coarse: float = 24.0
    search_points: int = 800
    rotations: int = 384
    points: tuple[int, ...] = (2000, 4000, 16000)
    poses: tuple[int, ...] = (12, 4, 1)
    steps: tuple[int, ...] = (30, 20, 30)
    bins: tuple[int, ...] = (16, 24, 32)


def schedule(problem: Problem, plan: Plan) -> list[Stage]:
    """The stages of a plan for this problem: spacings halve from level to level, from a share of the smaller field of view."""
    extents = []
    for side in (problem.fixed, problem.moving):
        sizes = side.grid.spacing * (side.grid.spacing.new_tensor(side.grid.shape) - 1)
        extents.append(float(sizes.log().mean().exp()))
    coarse = min(extents) / plan.coarse
    rows = zip(plan.points, plan.poses, plan.steps, plan.bins)
    return [Stage(coarse / 2**k, n, poses, steps, 1.0, bins) for k, (n, poses, steps, bins) in enumerate(rows)]
