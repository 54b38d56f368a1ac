"""Compiled loops against SciPy's interpolation, dense histograms and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from medmi.registration import kernels_cpu
from tests.oracles.dense_histogram import joint_counts

SHAPE = (7, 9, 8)
NO_MASK = np.zeros((0, 0, 0), np.uint8)
BINS = 11


def volume_of(shape: tuple[int, ...] = SHAPE, channels: int = 2) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(channels, *shape)).astype(np.float32)


def matrices(count: int = 3, projective: float = 0.0) -> np.ndarray:
    """Small motions of the index space, some of them with a perspective row."""
    rng = np.random.default_rng(1)
    out = np.tile(np.eye(4), (count, 1, 1))
    out[:, :3, :3] = Rotation.from_rotvec(rng.uniform(-0.3, 0.3, (count, 3))).as_matrix()
    out[:, :3, 3] = rng.uniform(-1, 1, (count, 3))
    out[:, 3, :3] = projective * rng.uniform(-1, 1, (count, 3))
    return out


def points_of(count: int = 200, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """``(3, N)``."""
    points = np.random.default_rng(2).uniform(-0.5, 1, (count, 3)) * np.array(shape)
    return np.ascontiguousarray(points.T, np.float32)


def sampled(volume, poses, points, mask=NO_MASK, gradients=True):
    batch, channels, count = len(poses), len(volume), points.shape[1]
    values = np.full((batch, channels, count), 7, np.float32)
    slopes = np.full((batch, channels, 3, count) if gradients else (0, 0, 0, 0), 7, np.float32)
    inside = np.full((batch, count), 7, np.uint8)
    kernels_cpu.sample(volume, mask, poses, points, values, slopes, inside)
    return values, slopes, inside


def mapped(pose: np.ndarray, points: np.ndarray) -> np.ndarray:
    homogeneous = np.concatenate([points.T, np.ones((points.shape[1], 1))], 1).astype(np.float64) @ pose.T
    return homogeneous[:, :3] / homogeneous[:, 3:]


def within(index: np.ndarray, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return ((index >= 0) & (index <= np.array(shape) - 1)).all(1)


@pytest.mark.parametrize("projective", [0.0, 0.02])
@pytest.mark.parametrize("shape", [SHAPE, (7, 9, 1)])
def test_values_are_scipys(shape, projective):
    volume, poses, points = volume_of(shape), matrices(projective=projective), points_of()
    if shape[2] == 1:
        poses[:, 2], poses[:, :, 2], points[2] = np.eye(4)[2], np.eye(4)[2], 0
    values, _, inside = sampled(volume, poses, points)
    for b, pose in enumerate(poses):
        index = mapped(pose, points)
        np.testing.assert_array_equal(inside[b], within(index, shape))
        for c, channel in enumerate(volume):
            expected = map_coordinates(channel.astype(np.float64), index.T, order=1, mode="nearest") * inside[b]
            np.testing.assert_allclose(values[b, c], expected, rtol=0, atol=2e-5)
    assert 0.1 < inside.mean() < 0.9


def test_gradients_are_finite_differences_along_the_index_axes():
    volume = volume_of()
    rng = np.random.default_rng(3)
    cells = np.stack([rng.integers(0, n - 1, 60) for n in SHAPE], 1)
    points = np.ascontiguousarray((cells + rng.uniform(0.1, 0.9, cells.shape)).T, np.float32)
    _, slopes, inside = sampled(volume, np.eye(4)[None], points)
    assert inside.all()
    for axis in range(3):
        step = 0.05 * np.eye(3)[axis]
        for c, channel in enumerate(volume.astype(np.float64)):
            ends = [map_coordinates(channel, points + sign * step[:, None], order=1) for sign in (1, -1)]
            np.testing.assert_allclose(slopes[0, c, axis], (ends[0] - ends[1]) / 0.1, rtol=0, atol=1e-5)


def test_the_lattice_is_closed_and_all_beyond_it_is_zero():
    volume, top = volume_of(), np.array(SHAPE, np.float32) - 1
    points = np.array(
        [[0, 0, 0], top, [-1e-3, 1, 1], [1, top[1] + 1e-3, 1], [1, 1, np.nan], [np.inf, 1, 1]], np.float32
    ).T.copy()
    values, slopes, inside = sampled(volume, np.eye(4)[None], points)
    assert inside[0].tolist() == [1, 1, 0, 0, 0, 0]
    np.testing.assert_array_equal(values[0, :, 0], volume[:, 0, 0, 0])
    np.testing.assert_allclose(values[0, :, 1], volume[:, -1, -1, -1], rtol=0, atol=1e-6)
    assert not values[..., 2:].any() and not slopes[..., 2:].any()


def test_a_slice_has_no_gradient_across_it():
    _, slopes, inside = sampled(volume_of((7, 9, 1)), np.eye(4)[None], np.array([[2.5], [3.5], [0]], np.float32))
    assert inside.all() and (slopes[:, :, 2] == 0).all() and slopes[:, :, :2].any()


def test_mask_counts_where_its_nearest_voxel_does():
    volume, mask = volume_of(), np.zeros(SHAPE, np.uint8)
    mask[3, 4, 5] = 1
    points = np.array([[3, 4, 5], [3.4, 3.6, 5.4], [3.6, 4, 5], [2.4, 4, 5]], np.float32).T.copy()
    values, slopes, inside = sampled(volume, np.eye(4)[None], points, mask)
    assert inside[0].tolist() == [1, 1, 0, 0]
    free, free_slopes, _ = sampled(volume, np.eye(4)[None], points)
    np.testing.assert_array_equal(values[..., :2], free[..., :2])
    np.testing.assert_array_equal(slopes[..., :2], free_slopes[..., :2])
    assert not values[..., 2:].any() and not slopes[..., 2:].any()


def test_empty_gradients_are_passed_over():
    volume, poses, points = volume_of(), matrices(), points_of()
    values, slopes, _ = sampled(volume, poses, points, gradients=False)
    assert slopes.size == 0
    np.testing.assert_array_equal(values, sampled(volume, poses, points)[0])


@pytest.mark.parametrize("projective", [0.0, 0.02])
def test_project_is_the_derivative_by_the_matrix_entries(projective):
    ramp = np.array([0.7, -1.3, 0.4])
    index = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij"), -1)
    volume = np.stack([index @ ramp, index @ ramp[::-1]]).astype(np.float32)
    poses, points = matrices(projective=projective), points_of()
    _, slopes, inside = sampled(volume, poses, points)
    weights = np.random.default_rng(4).normal(size=(3, 2, points.shape[1])).astype(np.float32)
    out = np.full((3, 4, 4), 7.0)
    kernels_cpu.project(weights, slopes, poses, points, out)

    def score(b: int, pose: np.ndarray) -> float:
        at = mapped(pose, points)
        return float((inside[b] * weights[b] * np.stack([at @ ramp, at @ ramp[::-1]])).sum())

    for b, pose in enumerate(poses):
        for r in range(4):
            for s in range(4):
                step = np.zeros((4, 4))
                step[r, s] = 1e-4 if r < 3 else 1e-5
                expected = (score(b, pose + step) - score(b, pose - step)) / (2 * step[r, s])
                assert out[b, r, s] == pytest.approx(expected, rel=1e-3, abs=5e-3)


def histogram_input(count: int = 400):
    rng = np.random.default_rng(5)
    values = rng.normal(40, 25, (2, 3, count)).astype(np.float32)
    positions = rng.uniform(0, BINS - 1, (3, count)).astype(np.float32)
    positions[:, :3] = np.array([0, BINS - 1, 4])
    inside = (rng.random((2, count)) > 0.2).astype(np.uint8)
    low, scale = np.array([0, 5, -10], np.float32), ((BINS - 1) / np.array([80, 60, 99])).astype(np.float32)
    return values, inside, positions, low, scale


def test_histogram_is_the_dense_one():
    values, inside, positions, low, scale = histogram_input()
    tables = np.full((2, 3, BINS, BINS), 7.0)
    kernels_cpu.histogram(values, inside, positions, low, scale, tables)
    moving = (values.astype(np.float64) - low[:, None]) * scale[:, None]
    assert (moving < 0).any() and (moving > BINS - 1).any()
    for b in range(2):
        for c in range(3):
            expected = joint_counts(positions[c], moving[b, c], inside[b] > 0, BINS)
            np.testing.assert_allclose(tables[b, c], expected, rtol=0, atol=2e-4)
    np.testing.assert_allclose(tables.sum((-1, -2)), np.repeat(inside.sum(1)[:, None], 3, 1), rtol=1e-6)


def test_histogram_derivative_is_that_of_the_dense_one():
    values, inside, positions, low, scale = histogram_input(60)
    weights = np.random.default_rng(6).normal(size=(2, 3, BINS, BINS))
    derivatives = np.full(values.shape, 7, np.float32)
    slopes = np.diff(weights, axis=-1).astype(np.float32)
    kernels_cpu.histogram_derivative(values, inside, positions, low, scale, slopes, derivatives)

    def score(b: int, c: int, n: int, value: float) -> float:
        position = np.array([(value - float(low[c])) * float(scale[c])])
        table = joint_counts(positions[c, n : n + 1], position, inside[b, n : n + 1] > 0, BINS)
        return float((weights[b, c] * table).sum())

    moving = (values - low[:, None]) * scale[:, None]
    for b, c, n in np.ndindex(*values.shape):
        if abs(moving[b, c, n] - round(float(moving[b, c, n]))) < 1e-3:
            continue
        at, step = float(values[b, c, n]), 1e-3
        expected = (score(b, c, n, at + step) - score(b, c, n, at - step)) / (2 * step)
        assert derivatives[b, c, n] == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_each_pose_gives_the_same_bits_alone_and_in_a_batch():
    volume, poses, points = volume_of(), matrices(5, 0.02), points_of()
    values, slopes, inside = sampled(volume, poses, points)
    for b in range(5):
        alone = sampled(volume, poses[b : b + 1], points)
        for one, many in zip(alone, (values, slopes, inside)):
            np.testing.assert_array_equal(one[0], many[b])


def test_the_count_of_those_inside_is_numpys():
    inside = (np.random.default_rng(0).random((5, 700)) > 0.3).astype(np.uint8)
    np.testing.assert_array_equal(kernels_cpu.counted(inside), inside.sum(1))
