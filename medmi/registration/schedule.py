"""The schedule: which spacings the solver visits, with how many points, poses and steps at each."""

from __future__ import annotations

from dataclasses import dataclass, replace

from medmi.registration.problem import Problem


@dataclass(frozen=True)
class Stage:
    """One pyramid level of the solver.

    Attributes:
        spacing: mm between voxels after shrinking.
        points: fixed points that are drawn, more where the moving image is the smaller.
        poses: how many of the best poses are refined together.
        steps: most evaluations of the objective for each of them; at the last level most pairs of them for the one that is left, before a
            response surface.
        first_step: length of the first step, as a share of ``spacing``.
        bins: of the joint histogram along each axis.
    """

    spacing: float
    points: int
    poses: int
    steps: int
    first_step: float
    bins: int


# By dimension: how many steps of each level, coarse to fine, the smaller field of view holds. A plane has room for finer ones.
STEPS_ACROSS = {2: (18.0, 60.0, 240.0), 3: (18.0, 40.0, 96.0)}


@dataclass(frozen=True)
class Plan:
    """Sizes that a schedule is made from; a preset is a plan.

    Attributes:
        search_points: points that score the candidate poses.
        rotations: of the search, over the whole rotation group.
        points, poses, steps, bins: by level, coarse to fine; of the last level's poses one is refined.
        detail: factor on the steps across of the levels after the first.
        finest: no level is finer than so many voxels of the finer image; 0: levels go by the field of view alone. The last level
            looks as far around a pose as its spacing, which says little under a voxel.
        smoothing: standard deviation of a Gaussian over the moving image, in its voxels; 0 leaves it as it is. Interpolation
            between sharp voxels makes histograms rough at that scale.
    """

    search_points: int = 800
    rotations: int = 1024
    points: tuple[int, ...] = (2000, 4000, 24000)
    poses: tuple[int, ...] = (24, 8, 3)
    steps: tuple[int, ...] = (30, 20, 192)
    bins: tuple[int, ...] = (16, 24, 32)
    detail: float = 1.0
    finest: float = 0.0
    smoothing: float = 0.0

    def on_whole_grids(self) -> Plan:
        """The plan with fewer poses, steps and voxels, for terms that visit every voxel."""
        return replace(self, poses=(self.poses[0], 2, 1), steps=(self.steps[0], 15, 15), detail=0.6 * self.detail)

    def thorough(self) -> Plan:
        """The plan for images that tell little of each other: more candidates and poses, seen by many more points up to the last level.

        There chance tells as much as a right pose does, unless it is judged by many points, and what it rises over is steep and narrow.
        """
        (coarse, middle, last), (many, some, few) = self.points, self.poses
        return replace(
            self,
            search_points=8 * self.search_points,
            rotations=2 * self.rotations,
            points=(8 * coarse, 4 * middle, last),
            poses=(5 * many, 2 * some, few),
        )


def schedule(problem: Problem, plan: Plan) -> list[Stage]:
    """The stages of a plan for this problem: spacings are shares of the smaller field of view, down to the plan's finest."""
    extents = []
    for side in (problem.fixed, problem.moving):
        sizes = side.grid.spacing * (side.grid.spacing.new_tensor(side.grid.shape) - 1)
        extents.append(float(sizes.log().mean().exp()))
    first, *finer = STEPS_ACROSS[problem.spatial_dims]
    across = (first, *(plan.detail * steps for steps in finer))
    rows = zip(across, plan.points, plan.poses, plan.steps, plan.bins)
    least = plan.finest * min(problem.fixed.voxel, problem.moving.voxel)
    return [
        Stage(max(min(extents) / count, least), n, poses, steps, 1.0, bins) for count, n, poses, steps, bins in rows
    ]
