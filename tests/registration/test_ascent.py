"""The ascent: known shifts and poses are found, SciPy's BFGS agrees, groups are kept, NaN is never taken."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import torch
from scipy.ndimage import map_coordinates

from medmi.registration.ascent import LEAST_OVERLAP, TRIALS, Climbers, ascend
from medmi.registration.drawing import Drawn, draw
from medmi.registration.families import scaled_basis
from medmi.registration.levels import lift, pyramid
from medmi.registration.objective import Objective, Scores, make_objective
from medmi.registration.quasi_newton_cpu import update
from medmi.registration.terms import TERMS
from medmi.spatial import linear_matrix
from tests.oracles.smooth_pairs import smooth_problem


def shift_basis() -> np.ndarray:
    basis = np.zeros((3, 4, 4))
    basis[range(3), range(3), 3] = 1
    return basis


class Hill:
    """A quadratic of the pose's position, and what a test wants to be wrong with it."""

    def __init__(self, hessian: np.ndarray, top: np.ndarray) -> None:
        self.hessian, self.top, self.seen = hessian, top, 0

    def __call__(self, poses: np.ndarray) -> Scores:
        self.seen += 1
        away = poses[:, :3, 3] - self.top
        similarity = -0.5 * np.einsum("bi,ij,bj->b", away, self.hessian, away)
        gradient = np.zeros((len(poses), 4, 4))
        gradient[:, :3, 3] = -away @ self.hessian
        return self.spoilt(poses, Scores(similarity, np.ones(len(poses)), similarity, similarity, gradient))

    def spoilt(self, poses: np.ndarray, scores: Scores) -> Scores:
        return scores


class Cliff(Hill):
    """NaN in similarity and gradient beyond x = 1."""

    def spoilt(self, poses: np.ndarray, scores: Scores) -> Scores:
        beyond = poses[:, 0, 3] > 1
        return Scores(
            np.where(beyond, np.nan, scores.similarity),
            scores.overlap,
            np.where(beyond, np.nan, scores.merit),
            np.where(beyond, np.nan, scores.value),
            np.where(beyond[:, None, None], np.nan, scores.gradient),
        )


class Shrinking(Hill):
    """Overlap falls with x and reaches its least at x = 1."""

    def spoilt(self, poses: np.ndarray, scores: Scores) -> Scores:
        return Scores(scores.similarity, 1 - 0.9 * poses[:, 0, 3], scores.merit, scores.value, scores.gradient)


def starts(count: int = 4) -> np.ndarray:
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, 3] = np.random.default_rng(0).uniform(-3, 0.5, (count, 3))
    return poses


HESSIAN = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.3], [0.0, 0.3, 0.6]])
TOP = np.array([4.0, -2.0, 3.0])


def test_a_quadratic_is_climbed_to_its_top_by_all():
    climbers, rested = ascend(Hill(HESSIAN, TOP), starts(), shift_basis(), 60, 1.0)
    assert rested
    np.testing.assert_allclose(climbers.poses[:, :3, 3], np.tile(TOP, (4, 1)), atol=0.02)
    np.testing.assert_allclose(climbers.inverse_hessians[0], np.linalg.inv(HESSIAN), atol=0.3)


def test_no_step_is_longer_than_twice_the_first_and_none_goes_down():
    visited, scores = [], []

    class Recorded(Hill):
        def spoilt(self, poses, scores_):
            visited.append(poses[:, :3, 3].copy())
            return scores_

    ascend(Recorded(HESSIAN, TOP), starts(), shift_basis(), 40, 0.5, lambda s: scores.append(s.similarity.copy()))
    lengths = np.linalg.norm(np.diff([v for v in visited if len(v) == 4], axis=0), axis=-1)
    assert lengths[0].max() <= 0.5 + 1e-9 and lengths.max() <= 2 * 0.5 + 1e-9
    assert (np.diff(scores, axis=0) >= 0).all()


def test_evaluations_are_counted_and_limited():
    hill, calls = Hill(HESSIAN, TOP), []
    climbers, rested = ascend(hill, starts(), shift_basis(), 5, 0.01, calls.append)
    assert not rested and hill.seen == 5 and len(calls) == 4
    climbers, rested = ascend(hill, starts(), shift_basis(), 1, 0.01)
    assert not rested
    np.testing.assert_array_equal(climbers.poses, starts())


def test_a_pose_at_the_top_rests_and_the_start_is_left_alone():
    poses = starts()
    poses[:, :3, 3] = TOP
    before = poses.copy()
    climbers, rested = ascend(Hill(HESSIAN, TOP), poses, shift_basis(), 60, 1.0)
    assert rested and np.isfinite(climbers.inverse_hessians).all()
    np.testing.assert_array_equal(poses, before)
    np.testing.assert_allclose(climbers.poses, before, atol=1e-12)


@pytest.mark.parametrize("kind", [Cliff, Shrinking])
def test_neither_nan_nor_too_little_overlap_is_taken(kind):
    climbers, _ = ascend(kind(HESSIAN, TOP), starts(), shift_basis(), 60, 1.0)
    assert np.isfinite(climbers.poses).all() and np.isfinite(climbers.scores.similarity).all()
    assert (climbers.poses[:, 0, 3] <= 1 + 1e-9).all() and (climbers.scores.overlap >= LEAST_OVERLAP - 1e-9).all()
    before = Hill(HESSIAN, TOP)(starts()).similarity
    assert (climbers.scores.similarity > before).all()


def test_a_start_without_a_score_stays_where_it_is_beside_others_that_climb():
    poses = starts()
    poses[2, 0, 3] = 5
    climbers, _ = ascend(Cliff(HESSIAN, np.array([0.5, -2, 1])), poses, shift_basis(), 60, 1.0)
    np.testing.assert_array_equal(climbers.poses[2], poses[2])
    assert np.isnan(climbers.scores.similarity[2])
    np.testing.assert_allclose(climbers.poses[[0, 1, 3], :3, 3], np.tile([0.5, -2, 1], (3, 1)), atol=0.05)


def test_updates_are_scipys_bfgs():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(6, 6))
    matrix = matrix @ matrix.T + np.eye(6)
    theirs = scipy.optimize.BFGS(init_scale=1.0)
    theirs.initialize(6, "inv_hess")
    ours = np.eye(6)
    for _ in range(12):
        step = rng.normal(size=6)
        theirs.update(step, matrix @ step)
        update(ours, step, matrix @ step)
        np.testing.assert_allclose(ours, theirs.get_matrix(), rtol=0, atol=1e-8)
        np.testing.assert_allclose(ours @ matrix @ step, step, atol=1e-8)


def test_conjugate_steps_give_the_inverse_hessian():
    values, vectors = np.linalg.eigh(HESSIAN)
    inverse = np.eye(3)
    for vector in np.ascontiguousarray(vectors.T):
        update(inverse, vector, HESSIAN @ vector)
    np.testing.assert_allclose(inverse, np.linalg.inv(HESSIAN), atol=1e-12)
    assert (values > 0).all()


@pytest.mark.parametrize("change", [-1.0, 0.0, np.nan])
def test_updates_without_positive_curvature_are_skipped(change):
    inverse = 2 * np.eye(3)
    update(inverse, np.ones(3), np.full(3, change))
    np.testing.assert_array_equal(inverse, 2 * np.eye(3))
    update(inverse, np.ones(3), np.full(3, 4.0))
    np.testing.assert_allclose(inverse @ np.full(3, 4.0), np.ones(3))


def objective_for(name: str, truth: torch.Tensor) -> tuple[Objective, np.ndarray, np.ndarray]:
    """Fixed values that SciPy looks up in the moving image where the truth sends their points, the truth as a pose, a basis."""
    problem = smooth_problem(truth, shape=20)
    (fixed,), (moving,) = (pyramid(side, [0.1]) for side in (problem.fixed, problem.moving))
    points = draw(fixed, 12000, np.random.default_rng(0)).points
    points = points.T[np.linalg.norm(points, axis=0) < 14]
    to_index = np.linalg.inv(moving.to_world) @ lift(truth)
    at = points @ to_index[:3, :3].T + to_index[:3, 3]
    values = map_coordinates(moving.voxels[0].astype(np.float64), at.T, order=1)
    values = np.sin(2.2 * values) + 0.3 if name in ("mi", "nmi") else values
    row = values.astype(np.float32)[None]
    heights = (row - row.min()) / np.ptp(row)
    drawn = Drawn(np.ascontiguousarray(points.T, np.float32), heights, np.eye(4), lambda: row)
    return make_objective(TERMS[name], drawn, moving, np.zeros(3), 24, 1), lift(truth), scaled_basis("rigid", problem)


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("d", [2, 3])
def test_a_known_rigid_motion_is_found_on_a_smooth_pair(name, d):
    p = torch.tensor([1.6, -1.2, 0.08] if d == 2 else [1.6, -1.2, 1.0, 0.05, -0.06, 0.08])
    objective, truth, basis = objective_for(name, linear_matrix(p, "rigid", d))
    climbers, rested = ascend(objective, np.eye(4)[None], basis, 60, 1.0)
    error = objective.points.T @ (climbers.poses[0] - truth)[:3, :3].T + (climbers.poses[0] - truth)[:3, 3]
    assert rested and climbers.scores.overlap[0] == 1
    assert np.sqrt((error**2).sum(1).mean()) < 0.05
    turn = climbers.poses[0, :3, :3]
    np.testing.assert_allclose(turn.T @ turn, np.eye(3), atol=1e-12)


def test_climbers_hold_one_row_a_pose():
    climbers, _ = ascend(Hill(HESSIAN, TOP), starts(), shift_basis(), 3, 1.0)
    assert isinstance(climbers, Climbers)
    assert climbers.inverse_hessians.shape == (4, 3, 3) and climbers.lengths.shape == climbers.moved.shape == (4,)


def test_who_rests_is_not_evaluated_again():
    seen = []

    class Recorded(Hill):
        def spoilt(self, poses, scores):
            seen.append(len(poses))
            return scores

    poses = starts()
    poses[1, :3, 3] = TOP
    climbers, rested = ascend(Recorded(HESSIAN, TOP), poses, shift_basis(), 60, 1.0)
    assert rested and climbers.resting.all()
    assert seen[0] == 4 and min(seen) < 4 and (np.diff(seen) <= 0).all()


@pytest.mark.parametrize(
    ("leaders", "away", "on", "half"),
    [
        (2, [0, 300, 0, 200], [0, 2], []),
        (1, [400, 300, 0, 200], [0, 2], [3]),
        (1, [0, 300, 400, 200], [0], [3]),
        (3, [0, 300, 0, 200], [0, 2, 3], []),
    ],
)
def test_only_half_and_then_the_leaders_climb_on_beside_the_first_pose(leaders, away, on, half):
    far = starts()
    far[:, 0, 3] -= away
    hill = Hill(HESSIAN, TOP)
    climbers, _ = ascend(hill, far, shift_basis(), 60, 1.0, leaders=leaders)
    everyone, _ = ascend(hill, far, shift_basis(), 60, 1.0)
    np.testing.assert_allclose(climbers.poses[on], everyone.poses[on], rtol=0, atol=1e-12)
    given_up = [k for k in range(4) if k not in on]
    stopped = np.linalg.norm((climbers.poses - far)[given_up, :3, 3], axis=1)
    assert climbers.resting[given_up].all()
    longer = np.isin(given_up, half)
    assert (stopped[longer] > 2 * TRIALS[0]).all() and (stopped[longer] <= 2 * TRIALS[1]).all()
    assert (stopped[~longer] > 3).all() and (stopped[~longer] <= 2 * TRIALS[0]).all()
