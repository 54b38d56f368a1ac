"""Agreement of edges against its formula on analytic gradients; what it must not see, and what it must."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from medmi.registration.drawing import draw
from medmi.registration.edges import edge_agreement
from medmi.registration.evidence import images_of
from medmi.registration.levels import Volume, pyramid
from medmi.registration.objective import Objective, make_objective
from medmi.registration.terms import TERMS
from tests.oracles.smooth_pairs import blobs, remapped, smooth_problem

STEP = 1e-4


def scene(d: int, channels: int = 1) -> tuple[Volume, Objective, np.ndarray]:
    """Fixed volume, objective and centre of a smooth pair of two contrasts on unlike oblique grids."""
    problem = smooth_problem(torch.eye(d + 1, dtype=torch.float64), channels, other_modality=True, shape=16)
    fixed, moving = pyramid(problem.fixed, [0.1])[0], pyramid(problem.moving, [0.1])[0]
    centre = np.append(problem.fixed.grid.centre.numpy(), [0.0] * (3 - d))
    drawn = draw(fixed, 3000, np.random.default_rng(0))
    return fixed, make_objective(TERMS["mi"], drawn, moving, centre, 16, 1), centre


def placed(centre: np.ndarray, *shift: float) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, 3] = centre
    pose[: len(shift), 3] += shift
    return pose


def slopes_of(values, points: np.ndarray, d: int) -> np.ndarray:
    """Central differences in the plane or in space, ``(N, d)``, of the sum over channels."""
    steps = STEP * np.eye(d)
    return np.stack([(values(points + s) - values(points - s)).sum(-1) / (2 * STEP) for s in steps], -1)


def normalised(slopes: np.ndarray, within: np.ndarray | bool = True) -> np.ndarray:
    length = np.linalg.norm(slopes, axis=-1, keepdims=True)
    return slopes / np.hypot(length, length.mean(where=np.reshape(within, (-1, 1))))


def inside(objective: Objective, pose: np.ndarray) -> np.ndarray:
    index = images_of((objective.to_index @ pose)[None], objective.points.T.astype(np.float64))[0]
    return ((index >= 0) & (index <= np.array(objective.moving.voxels.shape[1:]) - 1)).all(1)


def expected(objective: Objective, centre: np.ndarray, pose: np.ndarray, d: int, channels: int) -> float:
    """The formula by finite differences of the images' own formulas, the moving one's through the pose."""
    points = (objective.points.T + centre)[:, :d].astype(np.float64)
    values, within = blobs(d, channels), inside(objective, pose)

    def through(x: np.ndarray) -> np.ndarray:
        lifted = np.concatenate([x - centre[:d], np.zeros((len(x), 3 - d))], 1)
        return remapped(values)(images_of(pose[None], lifted)[0][:, :d])

    assert within.mean() > 0.3
    ahead, slopes = slopes_of(values, points, d), slopes_of(through, points, d)
    return float(np.mean((normalised(ahead) * normalised(slopes, within)).sum(-1) ** 2 * within))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("d", [2, 3])
def test_it_is_the_mean_squared_cosine_of_normalised_gradients(d, channels):
    fixed, objective, centre = scene(d, channels)
    pose = placed(centre, 1.0, -1.5)
    agreed = edge_agreement(fixed, objective, pose[None], centre)[0]
    assert agreed == pytest.approx(expected(objective, centre, pose, d, channels), rel=0.04)


def test_a_projective_pose_carries_gradients_by_its_derivative_at_each_point():
    fixed, objective, centre = scene(2)
    pose = placed(centre, 0.5, 0.5)
    pose[3, :2] = 0.02, -0.015
    agreed = edge_agreement(fixed, objective, pose[None], centre)[0]
    assert agreed == pytest.approx(expected(objective, centre, pose, 2, 1), rel=0.06)


@pytest.mark.parametrize("d", [2, 3])
def test_a_pose_that_shrinks_the_fixed_image_adds_as_much_less(d):
    fixed, objective, centre = scene(d)
    pose = placed(centre) @ np.diag([0.9] * d + [1.0] * (4 - d))
    agreed = edge_agreement(fixed, objective, pose[None], centre)[0]
    assert agreed == pytest.approx(0.9**d * expected(objective, centre, pose, d, 1), rel=0.04)


@pytest.mark.parametrize("d", [2, 3])
def test_it_is_highest_where_the_images_are_aligned(d):
    fixed, objective, centre = scene(d)
    shifts = [(0.0, 0.0), (3.0, 0.0), (-3.0, 0.0), (0.0, 3.0), (0.0, -3.0)]
    agreed = edge_agreement(fixed, objective, np.stack([placed(centre, *s) for s in shifts]), centre)
    assert 0 < agreed[1:].max() < agreed[0] < 1


@pytest.mark.parametrize(("gain", "offset"), [(-40.0, 7.0), (0.01, -3.0)])
def test_values_do_not_matter(gain, offset):
    fixed, objective, centre = scene(3)
    moving = objective.moving
    other = replace(objective, moving=replace(moving, voxels=moving.voxels * gain + offset))
    poses = np.stack([placed(centre), placed(centre, 2.0)])
    first, second = (edge_agreement(fixed, o, poses, centre) for o in (objective, other))
    np.testing.assert_allclose(first, second, rtol=1e-3)


def test_points_out_of_view_add_nothing():
    fixed, objective, centre = scene(3)
    assert edge_agreement(fixed, objective, placed(centre, 500.0)[None], centre).tolist() == [0]


def test_flat_images_have_no_edges_that_agree():
    fixed, objective, centre = scene(2)
    flat = replace(objective, moving=replace(objective.moving, voxels=np.ones_like(objective.moving.voxels)))
    assert edge_agreement(fixed, flat, placed(centre)[None], centre).tolist() == [0]
