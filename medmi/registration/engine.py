"""The solver's loop: search, then climb level by level, keeping the best poses; not converging is data in the solution.

Where two poses far from each other end up nearly equal, the search was too coarse for them: all is done again from a thorough one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from torch import nn

from medmi.registration.ascent import LEAST_OVERLAP, ascend
from medmi.registration.averaging import POOL, Lengths, refine
from medmi.registration.dense import make_dense_objective
from medmi.registration.drawing import chances, draw_sets, everywhere, in_view, surplus_of_spans
from medmi.registration.evidence import Evidence
from medmi.registration.families import FREED, SCALES, term_for
from medmi.registration.initialise import STARTS, anchored, distinct, marks
from medmi.registration.levels import Array, Volume, lift, lower, pyramid
from medmi.registration.neural import NeuralTerm, Way, climb_with_critic
from medmi.registration.objective import Objective, Scores
from medmi.registration.objective_torch import TorchObjective
from medmi.registration.problem import Problem
from medmi.registration.request import Request, Solution
from medmi.registration.run import Run
from medmi.registration.schedule import Stage, schedule
from medmi.registration.search import started, started_thoroughly
from medmi.registration.stiffness import Sampling, Stiff, stiffened
from medmi.registration.terms import TERMS, Term
from medmi.spatial.linear import LinearTransform

# Points at edges capture best; where an optimum lies exactly the whole image tells better.
REFINED_FOREGROUND = 0.1
# Evaluations of each pose of the coarsest level once its size is let go.
FREED_STEPS = 12
# Spacings of the last level around what the moving image sees, from where its points are drawn: as far as a pose may still walk and look,
# or it would depend on the start which points come into view.
MARGIN = 8
# So far from where they were drawn, in such spacings, the same points serve: drawing them takes as long as a round of a response surface
# does.
LEEWAY = 1
# At the last level a pose so many spacings of the first one away from the best rivals it with such a share of its merit. Right poses are
# hardly ever rivalled so.
APART, RIVAL = 2, 0.9


@dataclass(frozen=True)
class Summit:
    """Where a level ended.

    Attributes:
        poses: ``(B, 4, 4)``.
        scores: theirs by the objective.
        objective: of that level.
        rested: whether they had come to rest.
        torn: whether the best has a rival that a thorough search might settle; such poses are not refined.
    """

    poses: Array
    scores: Scores
    objective: Sampling
    rested: bool
    torn: bool = False


def solve(problem: Problem, request: Request) -> Solution:
    """Find the transform of ``request.family`` that maximises the term."""
    stages = schedule(problem, request.plan)
    spacings = [stage.spacing for stage in stages]
    fixed, moving = (pyramid(side, spacings, request.threads) for side in (problem.fixed, problem.moving))
    levels = list(zip(fixed, moving))
    run = Run(problem, request, stages, levels, np.random.default_rng(request.seed))
    given = _given(request, levels[0], run.centre)
    run, poses = started(run, given)
    summit, lost = _climbed_all(run, poses, given)
    if summit.torn:
        run, poses = started_thoroughly(run, given)
        summit, lost = _climbed_all(run, poses, given)
    run.tell(len(stages))
    return _solution(run, summit, given, lost)


def _climbed_all(run: Run, poses: Array, given: Array) -> tuple[Summit, float]:
    """Where all levels end, and the share of points lost over a background rim that the last one went by."""
    summit = _climbed(run, 0, poses, run.coarse_term)
    lost = _lost(summit)
    summit = _freed(run, summit, term_for(run.term, run.request.family, lost).stiffness)
    for level in range(1, len(run.stages)):
        run.tell(level)
        if isinstance(run.request.term, NeuralTerm):
            return _climbed_with_critic(run, run.request.term, summit.poses, given), lost
        if level > 1 and not isinstance(run.request.term, nn.Module):
            # The coarsest level's best pose can be one that the next leaves; the next can lose more as it changes sizes.
            lost = min(lost, _lost(summit))
        summit = _finer(run, level, summit.poses, term_for(run.term, run.request.family, lost))
    return summit, lost


def _lost(summit: Summit) -> float:
    """The share of a level's points that its best pose loses over a background rim."""
    objective = summit.objective.objective if isinstance(summit.objective, Stiff) else summit.objective
    return cast(Objective | TorchObjective, objective).lost(summit.poses[summit.scores.best])


def _freed(run: Run, summit: Summit, stiffness: float) -> Summit:
    """The first and the best third of the coarsest level's poses after some steps that change sizes too, in families that can.

    They go by what that level goes by, its rim included, at the price.
    """
    stage, family = run.stages[0], FREED.get(run.request.family)
    if family is None:
        return summit
    basis, first_step = run.basis_of(family), stage.first_step * stage.spacing / 2
    better = summit.scores.ranked[: max(1, len(summit.poses) // 3)]
    poses = summit.poses[[0, *(k for k in better if k)]]
    stiff = stiffened(summit.objective, stiffness, run.problem.spatial_dims)
    climbers, rested = ascend(stiff, poses, basis, FREED_STEPS, first_step, run.record(0))
    return replace(summit, poses=climbers.poses, scores=climbers.scores, rested=rested)


def _finer(run: Run, level: int, poses: Array, term: Term) -> Summit:
    """A level after the first: terms of sampled points are refined at the last one, all else climbs."""
    if isinstance(run.request.term, nn.Module):
        return _climbed(run, level, poses, run.request.term)
    finish = _refined if level == len(run.stages) - 1 else _climbed
    return finish(run, level, poses, term)


def _climbed(run: Run, level: int, poses: Array, term: Term | nn.Module) -> Summit:
    """The best of the poses, each climbing by quasi-Newton steps."""
    stage, volumes = run.stages[level], run.levels[level]
    objective: Sampling
    if isinstance(term, Term):
        # What the coarsest level drops is lost: it goes by as many points as it can.
        count = run.enough(stage.points, 0.5 if level else 1.0)
        objective = run.objective_of(term, level, run.drawn(level, count))
    else:
        objective = make_dense_objective(term, volumes, run.centre, run.problem.spatial_dims, run.request.device)
    return _ascended(run, level, stage, poses, objective)


def _ascended(run: Run, level: int, stage: Stage, poses: Array, objective: Sampling) -> Summit:
    poses = _best(objective, poses, stage) if level else poses
    first_step = stage.first_step * stage.spacing
    leaders = max(1, stage.poses // 3)
    climbers, rested = ascend(objective, poses, run.basis(level), stage.steps, first_step, run.record(level), leaders)
    return Summit(climbers.poses, climbers.scores, objective, rested)


def _refined(run: Run, level: int, poses: Array, term: Term) -> Summit:
    """The best of the poses, which climbs on one set of points and then by steps that each look at points of their own.

    What is drawn here is the same for every seed and, but for what comes into view, from every start.
    """
    stage, (fixed, moving) = run.stages[level], run.levels[level]
    cumulative = chances(fixed, REFINED_FOREGROUND)

    def sets(size: tuple[int, int], stream: int, spans: Array) -> list[Sampling]:
        found = draw_sets(fixed, cumulative, size, stream, spans, run.request.threads)
        return [run.objective_of(term, level, drawn) for drawn in found]

    (some,) = sets((1, run.enough(stage.points)), 2, everywhere(fixed))
    quick = replace(stage, steps=min(run.stages[level - 1].steps, stage.steps // 3))
    begun = _ascended(run, level, quick, poses, some)
    if _torn(run, begun):
        return replace(begun, torn=True)

    pools: list[tuple[Array, list[Sampling]]] = []

    def pool_at(pose: Array) -> list[Sampling]:
        if not pools or not _near(some, pools[-1][0], pose, LEEWAY * stage.spacing):
            spans = in_view(fixed, moving, pose, run.centre, MARGIN * stage.spacing)
            size = POOL, round(stage.points * surplus_of_spans(cumulative, spans))
            pools[:] = [(pose, sets(size, 1, spans))]
        return pools[-1][1]

    start, places = begun.poses[begun.scores.best], np.random.default_rng(0)
    lengths = Lengths(stage.spacing, run.problem.fixed.voxel)
    end = refine(pool_at, start, run.basis(level), stage.steps, lengths, places, run.record(level))
    run.record(level)(end.scores)
    return Summit(end.pose[None], end.scores, some, end.rested)


def _torn(run: Run, summit: Summit) -> bool:
    """Whether another pose rivals the best, of a search that was not thorough yet."""
    if run.thorough or run.request.start != "auto":
        return False
    merits, far = summit.scores.merit, APART * run.stages[0].spacing
    best, *others = distinct(summit.poses, merits, marks(summit.objective.points), 2, far)
    return any(merits[other] > RIVAL * merits[best] for other in others)


def _climbed_with_critic(run: Run, term: NeuralTerm, poses: Array, given: Array) -> Summit:
    """All finer levels of a neural term, from the best pose of the first."""
    last = len(run.levels) - 1
    record = run.record(last)
    coarse = run.objective_of(TERMS["mi"], 1, run.drawn(1, run.enough(run.stages[1].points)))

    def on_step(share: float, scores: Scores) -> None:
        record(scores)
        run.tell(1 + last * share)

    start = _best(coarse, poses, run.stages[1])[0]
    way = Way(run.levels, run.centre, run.basis_of(run.request.family), start, given)
    end = climb_with_critic(term, way, run.request.seed, on_step, run.request.device)
    return Summit(end.poses, end.scores, end.objective, end.rested)


def _given(request: Request, volumes: tuple[Volume, Volume], centre: Array) -> Array:
    if isinstance(request.start, LinearTransform):
        shift = np.eye(4)
        shift[:3, 3] = centre
        return lift(request.start.matrix) @ shift
    name = "identity" if request.start == "auto" else request.start
    return anchored(np.eye(3)[None], *STARTS[name](*volumes), centre)[0]


def _best(objective: Sampling, poses: Array, stage: Stage) -> Array:
    merits = np.nan_to_num(objective(poses, gradient=False).merit, nan=-np.inf)
    return poses[distinct(poses, merits, marks(objective.points), stage.poses, stage.spacing / 2)]


def _solution(run: Run, summit: Summit, given: Array, lost: float) -> Solution:
    scores, best = summit.scores, summit.scores.best
    similarity, overlap = float(scores.similarity[best]), float(scores.overlap[best])
    shift = np.eye(4)
    shift[:3, 3] = -run.centre
    matrix = lower(summit.poses[best] @ shift, run.problem.spatial_dims)
    start = None
    if not _near(summit.objective, summit.poses[best], given, run.stages[-1].spacing):
        start = summit.objective(np.stack([given, summit.poses[best]]), gradient=False)
    status = _failure(summit.scores, best, start) or ("converged" if summit.rested else "max_iterations")
    transform = LinearTransform(matrix / matrix[-1, -1], run.request.family)
    return Solution(transform, status, similarity, overlap, _evidence(run, summit.poses[best], lost), run.history)


def _evidence(run: Run, pose: Array, lost: float) -> Evidence | None:
    """None for losses on the whole grid: mutual information on points need not see what they see."""
    family = run.request.family
    if isinstance(run.request.term, nn.Module):
        return None
    return Evidence(
        levels=run.levels,
        centre=run.centre,
        pose=pose,
        basis=run.basis_of(family),
        term=term_for(TERMS["mi"], family, lost),
        scales=SCALES[family],
        spatial_dims=run.problem.spatial_dims,
        spacing=run.problem.fixed.voxel,
        seed=run.request.seed,
    )


def _near(objective: Sampling, pose: Array, other: Array, apart: float) -> bool:
    """Whether two poses agree within so many mm. Nearer than a voxel, which scores higher is chance."""
    return len(distinct(np.stack([pose, other]), np.zeros(2), marks(objective.points), 2, apart)) == 1


def _failure(scores: Scores, best: int, start: Scores | None) -> str | None:
    """Why the outcome cannot be right, or None; ``start``: of another pose to rise from, where there was one, and of the outcome."""
    overlap = float(scores.overlap[best])
    if not math.isfinite(float(scores.similarity[best])):
        return "failed: the similarity is not finite; look at the intensities of both images"
    if overlap < LEAST_OVERLAP:
        return f"failed: the images overlap by {overlap:.0%} only, under {LEAST_OVERLAP:.0%}; give an initial transform or a mask"
    if start is not None and start.overlap[0] >= LEAST_OVERLAP and float(start.value[1]) < float(start.value[0]):
        return "failed: the similarity never rose above that of the starting pose; try another similarity, a mask or an initial transform"
    return None
