"""Probes of a registration: another search and other starts, each asked where it would end.

All probe by mutual information, whatever was maximised: its unit, nat a point, means the same for every pair of modalities.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from medmi.registration.ascent import ascend
from medmi.registration.drawing import draw, surplus_of_points
from medmi.registration.evidence import Evidence, distances
from medmi.registration.initialise import Search, candidates, distinct, marks
from medmi.registration.levels import Array, Volume
from medmi.registration.motion import moved_along
from medmi.registration.objective import Objective, make_objective
from medmi.registration.stiffness import Sampling, stiffened

# Of the search: candidate rotations, then points, poses refined together and evaluations of each, on the coarsest and a middle level.
ROTATIONS, SEARCH_POINTS = 1024, 1000
COARSE_POSES, COARSE_POINTS, COARSE_STEPS, COARSE_BINS = 32, 2000, 25, 16
RIVALS, RIVAL_POINTS, RIVAL_STEPS = 6, 10_000, 25
# Of the other starts: how many, how many limits away, points and evaluations.
STARTS, AWAY, START_POINTS, START_STEPS = 16, 2.0, 8000, 20


def level_of(evidence: Evidence, share: float) -> tuple[Volume, Volume]:
    """Fixed and moving volume at that share of the pyramid: 0 the coarsest level, 1 the finest."""
    return evidence.levels[round(share * (len(evidence.levels) - 1))]


def information(evidence: Evidence, share: float, points: int, bins: int, rng: np.random.Generator) -> Objective:
    """Mutual information on freshly drawn points of a level, more of them where the moving image is the smaller."""
    (fixed, moving), points = level_of(evidence, share), round(points * surplus_of_points(*evidence.levels[0]))
    return make_objective(evidence.term, draw(fixed, points, rng), moving, evidence.centre, bins, 1)


def searched(evidence: Evidence, rng: np.random.Generator) -> Array:
    """Optima ``(B, 4, 4)`` of a search of its own, best first, from other candidates and other points than the solver's.

    Over the whole rotation group, on the coarsest level, then on a middle one; the judged pose is not among its candidates.
    Two of them may have climbed to the same place.
    """
    dims, volumes = evidence.spatial_dims, level_of(evidence, 0.0)
    turn = _random_turn(evidence, rng)
    rotations = ROTATIONS if len(evidence.basis) > dims else 0
    search = Search(rotations, evidence.scales, dims)
    poses = candidates(volumes, evidence.pose @ _random_turn(evidence, rng), evidence.centre, search) @ turn
    scored = information(evidence, 0.0, SEARCH_POINTS, COARSE_BINS, rng)
    merits = _finite(scored(poses, gradient=False).merit)
    poses = poses[distinct(poses, merits, marks(scored.points), COARSE_POSES, 2 * spacing_of(volumes[0]))]
    coarse = information(evidence, 0.0, COARSE_POINTS, COARSE_BINS, rng)
    climbed, _ = ascend(_stiff(evidence, coarse), poses, evidence.basis, COARSE_STEPS, spacing_of(volumes[0]))
    spacing = spacing_of(level_of(evidence, 0.5)[0])
    middle = information(evidence, 0.5, RIVAL_POINTS, COARSE_BINS, rng)
    merits = _finite(middle(climbed.poses, gradient=False).merit)
    kept = distinct(climbed.poses, merits, marks(middle.points), RIVALS, max(spacing, evidence.limit_mm))
    refined, _ = ascend(_stiff(evidence, middle), climbed.poses[kept], evidence.basis, RIVAL_STEPS, spacing)
    return refined.poses[np.argsort(-_finite(refined.scores.merit), kind="stable")]


def restarted(evidence: Evidence, rng: np.random.Generator) -> Array:
    """Where poses end ``(STARTS, 4, 4)`` that start ``AWAY`` limits from the judged one, in random directions."""
    steps = rng.normal(size=(STARTS, len(evidence.basis)))
    here = np.tile(evidence.pose, (STARTS, 1, 1))
    far = distances(moved_along(here, steps, evidence.basis), evidence.pose, evidence.foreground)
    steps *= (AWAY * evidence.limit_mm / np.maximum(far, 1e-9))[:, None]
    objective = information(evidence, 0.5, START_POINTS, COARSE_BINS, rng)
    starts = moved_along(here, steps, evidence.basis)
    spacing = spacing_of(level_of(evidence, 0.5)[0])
    climbers, _ = ascend(_stiff(evidence, objective), starts, evidence.basis, START_STEPS, spacing)
    return climbers.poses


def spacing_of(volume: Volume) -> float:
    """Geometric mean of the volume's spacing along the axes it has, mm."""
    sizes = np.linalg.norm(volume.to_world[:3, :3], axis=0)
    return float(np.exp(np.log(sizes[np.array(volume.voxels.shape[1:]) > 1]).mean()))


def _stiff(evidence: Evidence, objective: Objective) -> Sampling:
    """As the solver climbs it."""
    return stiffened(objective, evidence.term.stiffness, evidence.spatial_dims)


def _random_turn(evidence: Evidence, rng: np.random.Generator) -> Array:
    """A random rotation ``(4, 4)`` about the centre; none for a family that cannot turn."""
    out, dims = np.eye(4), evidence.spatial_dims
    if len(evidence.basis) == dims:
        return out
    quaternion = rng.normal(size=4) if dims == 3 else np.array([0, 0, *rng.normal(size=2)])
    out[:3, :3] = Rotation.from_quat(quaternion / np.linalg.norm(quaternion)).as_matrix()
    return out


def _finite(merits: Array) -> Array:
    return np.nan_to_num(merits, nan=-np.inf)
