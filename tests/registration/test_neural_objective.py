"""The bound of a trained critic by the pose: value beside SciPy's, gradient by differences, whitened directions, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from medmi.information.pairs import derangements
from medmi.registration.families import lift_point, scaled_basis
from medmi.registration.joint_ascent import new_joint_ascent
from medmi.registration.levels import lift, pyramid
from medmi.registration.neural_objective import EVALUATION_MARGINALS, CriticObjective, Pool, make_pool, whitened_basis
from medmi.spatial import linear_matrix, matrix_exp
from tests.contracts.transforms import parameters
from tests.oracles.smooth_pairs import smooth_problem

CASES = [(3, 1, "affine"), (3, 3, "affine"), (2, 1, "affine"), (2, 3, "homography")]


def trained(d: int, channels: int, inputs: tuple[str, ...] = ("intensity",)) -> tuple[CriticObjective, np.ndarray]:
    """A critic after 40 steps on a smooth pair whose truth is the identity, looked at where all points are inside; the centre."""
    problem = smooth_problem(torch.eye(d + 1, dtype=torch.float64), channels, True)
    (fixed,), (moving,) = (pyramid(side, [0.1]) for side in (problem.fixed, problem.moving))
    centre = np.array([0.7, -0.4, 0.3]) * (np.arange(3) < d)
    pool = make_pool((fixed, moving), centre, inputs, 3000, np.random.default_rng(0))
    near = np.linalg.norm(pool.points, axis=0) < 6.5
    pool = Pool(pool.points[:, near], pool.fixed[torch.from_numpy(near)], pool.moving, pool.to_index)
    ascent = new_joint_ascent([pool], pose_of(d, centre, size=0), scaled_basis("translation", problem), (16,), 0)
    values = [ascent.step([0], 400, 1e-2, 0.0).value for _ in range(40)]
    assert np.mean(values[-10:]) > np.mean(values[:10]) + 0.05
    return CriticObjective(ascent.critic.requires_grad_(False), pool, 0), centre


def pose_of(d: int, centre: np.ndarray, family: str = "affine", size: float = 0.15) -> np.ndarray:
    shift = np.eye(4)
    shift[:3, 3] = centre
    return lift(linear_matrix(size * parameters(family, d), family, d)) @ shift


@pytest.mark.parametrize("inputs", [("intensity",), ("smoothed", "gradient")])
@pytest.mark.parametrize(("d", "channels", "family"), CASES)
def test_gradient_is_that_of_central_differences(d, channels, family, inputs):
    objective, centre = trained(d, channels, inputs)
    pose = pose_of(d, centre, family)
    scores = objective(pose[None])
    assert scores.overlap[0] == 1
    keep = [0, 1, 3] if d == 2 else [0, 1, 2, 3]
    rows = keep if family == "homography" else keep[:-1]
    expected, ours = [], []
    for r in rows:
        for s in keep:
            step = np.zeros((4, 4))
            step[r, s] = 1e-3 / (1 if s == 3 else 6) / (20 if r == 3 else 1)
            ends = objective(np.stack([pose + step, pose - step]), gradient=False).similarity
            expected.append((ends[0] - ends[1]) / 2)
            ours.append((scores.gradient[0] * step).sum())
    np.testing.assert_allclose(ours, expected, rtol=0, atol=0.02 * np.abs(expected).max())


def test_similarity_is_donsker_and_varadhans_value_as_scipy_computes_it():
    objective, centre = trained(3, 1)
    pose = pose_of(3, centre)
    pairs = objective.pool.look_up(pose, objective.pool.spread(8000))
    pairing = derangements(len(pairs.kept), EVALUATION_MARGINALS, torch.Generator().manual_seed(0))
    joint = objective.critic(pairs.fixed, pairs.moving).numpy()
    marginal = np.stack([objective.critic(pairs.fixed, pairs.moving[row]).numpy() for row in pairing])
    expected = joint.mean(dtype=np.float64) - logsumexp(marginal.astype(np.float64)) + np.log(marginal.size)
    assert objective(pose[None]).similarity[0] == pytest.approx(expected, abs=1e-5)
    assert objective(pose[None], gradient=False).similarity[0] == objective(pose[None]).similarity[0]


def test_points_that_leave_the_moving_image_lower_the_overlap_and_at_last_the_value():
    objective, centre = trained(2, 1)
    near, far = pose_of(2, centre, size=0), pose_of(2, centre, size=0)
    near[0, 3] += 9
    far[0, 3] += 500
    scores = objective(np.stack([pose_of(2, centre, size=0), near, far]))
    assert 1 == scores.overlap[0] > scores.overlap[1] > scores.overlap[2] == 0
    assert scores.similarity[2] == -np.inf and (scores.gradient[2] == 0).all()


def test_a_critic_that_is_not_a_number_gives_none():
    objective, centre = trained(2, 1)
    with torch.no_grad():
        next(objective.critic.parameters()).fill_(torch.nan)
    assert np.isnan(objective(pose_of(2, centre)[None]).similarity[0])


@pytest.mark.parametrize(("family", "d"), [("rigid", 2), ("homography", 2), ("rigid", 3), ("affine", 3)])
def test_whitened_directions_change_values_alike_and_stay_in_the_family(family, d):
    problem = smooth_problem(torch.eye(d + 1, dtype=torch.float64), shape=8)
    levels = [pyramid(side, [0.1])[0] for side in (problem.fixed, problem.moving)]
    centre, basis = lift_point(problem), scaled_basis(family, problem)
    pool = make_pool(tuple(levels), centre, ("intensity",), 4000, np.random.default_rng(0))
    pose = np.eye(4)
    pose[:3, 3] = centre
    white = whitened_basis(pool, pose, basis)
    flat = basis.reshape(len(basis), -1)
    mixture = np.linalg.lstsq(flat.T, white.reshape(len(white), -1).T, rcond=None)[0]
    np.testing.assert_allclose(flat.T @ mixture, white.reshape(len(white), -1).T, atol=1e-12)
    everyone = np.arange(pool.points.shape[1])

    def values(generator: np.ndarray) -> np.ndarray:
        moved = pose @ matrix_exp(torch.from_numpy(generator)).numpy()
        pairs = pool.look_up(moved, everyone)
        return _spread(pairs, len(everyone))

    change = np.stack([(values(1e-2 * g) - values(-1e-2 * g))[:, 0] / 2e-2 for g in white])
    change = change[:, np.isfinite(change).all(0)]
    metric = change @ change.T / change.shape[1]
    scale = np.trace(metric) / len(metric)
    np.testing.assert_allclose(metric / scale, np.eye(len(metric)), atol=0.15)


def _spread(pairs, count: int) -> np.ndarray:
    """Moving values ``(count, F)``, NaN at the points that were not kept."""
    out = np.full((count, pairs.moving.shape[1]), np.nan, np.float32)
    out[pairs.kept] = pairs.moving.numpy()
    return out


def test_directions_stay_as_they_are_where_nothing_overlaps():
    objective, centre = trained(2, 1)
    far = pose_of(2, centre, size=0)
    far[0, 3] += 500
    basis = np.random.default_rng(0).normal(size=(3, 4, 4))
    assert whitened_basis(objective.pool, far, basis) is basis
