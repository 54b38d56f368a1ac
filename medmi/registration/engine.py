"""The solver's loop: search, then climb level by level, keeping the best poses; not converging is data in the solution."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from torch import nn

from medmi.registration.ascent import LEAST_OVERLAP, ascend
from medmi.registration.dense import DenseObjective, make_dense_objective
from medmi.registration.initialise import STARTS, Search, anchored, candidates, distinct
from medmi.registration.levels import Array, Volume, draw, lift, lower, pyramid
from medmi.registration.objective import Objective, Scores, make_objective
from medmi.registration.problem import Problem
from medmi.registration.schedule import Plan, Stage, schedule
from medmi.registration.terms import TERMS, Term
from medmi.spatial.generators import generators
from medmi.spatial.linear import LinearTransform

# The families that the levels of each family run through, coarse to fine: few parameters first, so that none takes up another's motion.
FAMILY_BY_LEVEL = {
    "translation": ("translation", "translation", "translation"),
    "rigid": ("rigid", "rigid", "rigid"),
    "similarity": ("similarity", "similarity", "similarity"),
    "affine": ("similarity", "affine", "affine"),
    "homography": ("similarity", "affine", "homography"),
}
# Sizes of the moving image against the fixed one that the search tries, for families that can change it.
SCALES = {
    "translation": (1.0,),
    "rigid": (1.0,),
    "similarity": (1.0, 0.85, 1.18),
    "affine": (1.0, 0.85, 1.18),
    "homography": (1.0, 0.85, 1.18),
}


@dataclass(frozen=True)
class Request:
    """What is asked of the solver.

    Attributes:
        family: of the transform.
        term: the similarity: a term on sampled points, or a loss on the whole grid. The search and the coarsest level of a loss run by
            mutual information, which any two modalities allow.
        start: ``auto`` for a search, a name of ``STARTS``, or a transform.
        plan: sizes.
        seed: of every random draw.
        threads: that share the poses of the search.
        on_progress: called with the share of the work done, 0 to 1.
    """

    family: str
    term: Term | nn.Module
    start: str | LinearTransform
    plan: Plan
    seed: int
    threads: int = 1
    on_progress: Callable[[float], None] | None = None


@dataclass
class Solution:
    """What came out: the transform, why the loop ended, and the similarity after each evaluation (one row an evaluation)."""

    transform: LinearTransform
    status: str
    similarity: float
    overlap: float
    history: list[dict[str, float]] = field(default_factory=list)


def solve(problem: Problem, request: Request) -> Solution:
    """Find the transform of ``request.family`` that maximises the term."""
    stages = schedule(problem, request.plan)
    spacings = [stage.spacing for stage in stages]
    levels = list(zip(pyramid(problem.fixed, spacings), pyramid(problem.moving, spacings)))
    centre = lift_point(problem)
    rng = np.random.default_rng(request.seed)
    given = _given(request, levels[0], centre)
    poses = _search(problem, request, stages[0], levels[0], given, rng) if request.start == "auto" else given[None]
    history: list[dict[str, float]] = []
    rested, scores, objective = False, None, None
    for k, (stage, volumes) in enumerate(zip(stages, levels)):
        objective = _objective(request, stage, volumes, centre, rng, coarse=k == 0)
        poses = poses[_best(objective, poses, stage)] if k else poses
        basis = scaled_basis(FAMILY_BY_LEVEL[request.family][k], problem)
        climbers, rested = ascend(
            objective, poses, basis, stage.steps, stage.first_step * stage.spacing, _recorder(history, k)
        )
        poses, scores = climbers.poses, climbers.scores
        if request.on_progress is not None:
            request.on_progress((k + 1) / len(stages))
    return _solution(problem, request, (poses, scores, given, objective), rested, history)


def lift_point(problem: Problem) -> Array:
    """Middle of the fixed grid as a 3D world point: the solver's centre."""
    return np.append(problem.fixed.grid.centre.numpy(), [0.0] * (3 - problem.spatial_dims))


def scaled_basis(family: str, problem: Problem) -> Array:
    """Generators ``(t, 4, 4)`` about the centre, scaled so that a unit moves the farthest corner of the fixed grid by 1 mm."""
    basis = np.stack([lift(g) for g in generators(family, problem.spatial_dims)])
    basis[:, 2, 2] *= problem.spatial_dims == 3  # lifting puts a 1 on the third axis, which a generator must not have
    corners = np.zeros((2**problem.spatial_dims, 4))
    corners[:, 3] = 1
    corners[:, : problem.spatial_dims] = (problem.fixed.grid.corners - problem.fixed.grid.centre).numpy()
    speed = np.einsum("tij,nj->tni", basis, corners)
    # A perspective row moves a point by its own length times the row's product with it.
    velocity = speed[..., :3] - corners[None, :, :3] * speed[..., 3:]
    return basis / np.linalg.norm(velocity, axis=-1).max(1)[:, None, None]


def _given(request: Request, volumes: tuple[Volume, Volume], centre: Array) -> Array:
    if isinstance(request.start, LinearTransform):
        shift = np.eye(4)
        shift[:3, 3] = centre
        return lift(request.start.matrix) @ shift
    name = "identity" if request.start == "auto" else request.start
    return anchored(np.eye(3)[None], *STARTS[name](*volumes), centre)[0]


def _search(
    problem: Problem,
    request: Request,
    stage: Stage,
    volumes: tuple[Volume, Volume],
    given: Array,
    rng: np.random.Generator,
) -> Array:
    plan = request.plan
    objective = _objective(
        request, Stage(stage.spacing, plan.search_points, 0, 0, 0, stage.bins), volumes, lift_point(problem), rng
    )
    search = Search(
        plan.rotations if request.family != "translation" else 0, SCALES[request.family], problem.spatial_dims
    )
    poses = candidates(volumes, given, lift_point(problem), search)
    merits = objective(poses, gradient=False).merit
    kept = distinct(poses, merits, objective.points[:100], stage.poses, 2 * stage.spacing)
    return poses[kept if 0 in kept else [*kept, 0]]


def _objective(
    request: Request,
    stage: Stage,
    volumes: tuple[Volume, Volume],
    centre: Array,
    rng: np.random.Generator,
    coarse: bool = True,
) -> Objective | DenseObjective:
    if isinstance(request.term, Term) or coarse:
        term = request.term if isinstance(request.term, Term) else TERMS["mi"]
        return make_objective(term, draw(volumes[0], stage.points, rng), volumes, centre, stage.bins, request.threads)
    return make_dense_objective(request.term, volumes, centre, 2 if volumes[0].voxels.shape[-1] == 1 else 3)


def _best(objective: Objective | DenseObjective, poses: Array, stage: Stage) -> list[int]:
    merits = objective(poses, gradient=False).merit
    return distinct(poses, np.nan_to_num(merits, nan=-np.inf), objective.points[:100], stage.poses, stage.spacing / 2)


def _recorder(history: list[dict[str, float]], level: int) -> Callable[[Scores], None]:
    def record(scores: Scores) -> None:
        best = int(np.argmax(np.nan_to_num(scores.merit, nan=-np.inf)))
        history.append(
            {"level": level, "similarity": float(scores.similarity[best]), "overlap": float(scores.overlap[best])}
        )

    return record


def _solution(
    problem: Problem, request: Request, end: tuple, rested: bool, history: list[dict[str, float]]
) -> Solution:
    poses, scores, given, objective = end
    best = int(np.argmax(np.nan_to_num(scores.merit, nan=-np.inf)))
    similarity, overlap = float(scores.similarity[best]), float(scores.overlap[best])
    shift = np.eye(4)
    shift[:3, 3] = -lift_point(problem)
    matrix = lower(poses[best] @ shift, problem.spatial_dims)
    status = _failure(similarity, overlap, objective(given[None], gradient=False)) or (
        "converged" if rested else "max_iterations"
    )
    return Solution(LinearTransform(matrix / matrix[-1, -1], request.family), status, similarity, overlap, history)


def _failure(similarity: float, overlap: float, start: Scores) -> str | None:
    """Why the outcome cannot be right, or None."""
    if not math.isfinite(similarity):
        return "failed: the similarity is not finite; look at the intensities of both images"
    if overlap < LEAST_OVERLAP:
        return f"failed: the images overlap by {overlap:.0%} only, under {LEAST_OVERLAP:.0%}; give an initial transform or a mask"
    if start.overlap[0] >= LEAST_OVERLAP and similarity < float(start.similarity[0]):
        return "failed: the similarity never rose above that of the starting pose; try another similarity, a mask or an initial transform"
    return None
