"""Motion of poses: SciPy's exponential, finite differences, groups that are kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import expm

from medmi.registration.families import scaled_basis
from medmi.registration.levels import lift
from medmi.registration.motion import determinants, moved_along, tangent
from medmi.spatial import FAMILIES, linear_matrix
from tests.contracts.transforms import parameters
from tests.oracles.smooth_pairs import smooth_problem


@pytest.mark.parametrize("size", [0.0, 1e-9, 0.1, 3.0, 12.0])
def test_the_exponential_is_scipys(size):
    rng = np.random.default_rng(0)
    poses, basis = rng.normal(size=(5, 4, 4)), rng.normal(size=(6, 4, 4))
    steps = size * rng.normal(size=(5, 6)) / 6
    expected = np.stack([p @ expm(np.tensordot(s, basis, 1)) for p, s in zip(poses, steps)])
    np.testing.assert_allclose(
        moved_along(poses, steps, basis), expected, rtol=1e-11, atol=1e-11 * np.abs(expected).max()
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_step_that_is_not_finite_spoils_its_own_pose_alone(bad):
    poses, basis, steps = np.tile(np.eye(4), (2, 1, 1)), np.eye(4)[None], np.array([[bad], [0.0]])
    moved = moved_along(poses, steps, basis)
    assert not np.isfinite(moved[0]).all()
    np.testing.assert_array_equal(moved[1], np.eye(4))


def test_determinants_are_numpys():
    matrices = np.random.default_rng(1).normal(size=(40, 4, 4))
    matrices[:20, 3] = 0, 0, 0, 1
    matrices[:20, :3, 3] *= 300
    out = np.empty(40)
    determinants(matrices, out)
    np.testing.assert_allclose(out, np.linalg.det(matrices), rtol=1e-11)


@pytest.mark.parametrize(("family", "d"), [(f, d) for f in FAMILIES for d in FAMILIES[f].dims])
def test_tangent_is_the_derivative_along_the_moved_pose(family, d):
    rng = np.random.default_rng(0)
    basis = scaled_basis(family, smooth_problem(torch.eye(d + 1, dtype=torch.float64)))
    poses = np.stack([lift(linear_matrix(parameters(family, d, s), family, d)) for s in (0, 1)])
    weights = rng.normal(size=(2, 4, 4))
    ours = tangent(weights, poses, basis)
    for k in range(len(basis)):
        step = np.zeros((2, len(basis)))
        step[:, k] = 1e-5
        ends = [(weights * moved_along(poses, sign * step, basis)).sum((1, 2)) for sign in (1, -1)]
        np.testing.assert_allclose(ours[:, k], (ends[0] - ends[1]) / 2e-5, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("d", [2, 3])
def test_rigid_poses_stay_rigid_over_many_steps(d):
    basis = scaled_basis("rigid", smooth_problem(torch.eye(d + 1, dtype=torch.float64)))
    rng = np.random.default_rng(0)
    poses = np.tile(np.eye(4), (3, 1, 1))
    for _ in range(300):
        poses = moved_along(poses, rng.normal(size=(3, len(basis))), basis)
    turns = poses[:, :3, :3]
    np.testing.assert_allclose(turns.transpose(0, 2, 1) @ turns, np.tile(np.eye(3), (3, 1, 1)), atol=1e-12)
    np.testing.assert_array_equal(poses[:, 3], np.tile([0, 0, 0, 1.0], (3, 1)))
    assert d == 3 or not poses[:, 2, 3].any()
