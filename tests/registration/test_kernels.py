"""Compiled loops over points against SciPy's interpolation and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from medmi.registration import kernels_cpu

SHAPE = (7, 9, 8)
NO_MASK = np.zeros((0, 0, 0))


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
    """Values and gradients of the channels, then of the weight."""
    channels, batch, count = len(volume), len(poses), points.shape[1]
    values = np.full((channels + 1, batch, count), 7, np.float32)
    slopes = np.full((channels + 1, batch, 3, count) if gradients else (0, 0, 0, 0), 7, np.float32)
    kernels_cpu.sample(kernels_cpu.paired(volume), mask, poses, points, values, slopes)
    return values[:-1], slopes[:-1], values[-1], slopes[-1:]


def mapped(pose: np.ndarray, points: np.ndarray) -> np.ndarray:
    homogeneous = np.concatenate([points.T, np.ones((points.shape[1], 1))], 1).astype(np.float64) @ pose.T
    return homogeneous[:, :3] / homogeneous[:, 3:]


def weight_at(index: np.ndarray, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Of points ``(N, 3)``: 1 inside, falling to 0 over a voxel along each axis."""
    beyond = np.maximum(np.maximum(-index, index - (np.array(shape) - 1)), 0)
    return np.maximum(1 - beyond, 0).prod(1)


@pytest.mark.parametrize("projective", [0.0, 0.02])
@pytest.mark.parametrize("shape", [SHAPE, (7, 9, 1)])
def test_values_are_scipys(shape, projective):
    volume, poses, points = volume_of(shape), matrices(projective=projective), points_of()
    if shape[2] == 1:
        poses[:, 2], poses[:, :, 2], points[2] = np.eye(4)[2], np.eye(4)[2], 0
    values, _, weights, _ = sampled(volume, poses, points)
    for b, pose in enumerate(poses):
        index = mapped(pose, points)
        np.testing.assert_allclose(weights[b], weight_at(index, shape), rtol=0, atol=1e-5)
        for c, channel in enumerate(volume):
            expected = map_coordinates(channel.astype(np.float64), index.T, order=1, mode="nearest")
            np.testing.assert_allclose(values[c, b], expected, rtol=0, atol=2e-5)
    assert 0.1 < (weights > 0).mean() < 0.9 and ((weights > 0) & (weights < 1)).any()


def test_gradients_are_finite_differences_along_the_index_axes():
    volume = volume_of()
    rng = np.random.default_rng(3)
    cells = np.stack([rng.integers(0, n - 1, 60) for n in SHAPE], 1)
    points = np.ascontiguousarray((cells + rng.uniform(0.1, 0.9, cells.shape)).T, np.float32)
    _, slopes, weights, rim = sampled(volume, np.eye(4)[None], points)
    assert (weights == 1).all() and not rim.any()
    for axis in range(3):
        step = 0.05 * np.eye(3)[axis]
        for c, channel in enumerate(volume.astype(np.float64)):
            ends = [map_coordinates(channel, points + sign * step[:, None], order=1) for sign in (1, -1)]
            np.testing.assert_allclose(slopes[c, 0, axis], (ends[0] - ends[1]) / 0.1, rtol=0, atol=1e-5)


def test_the_lattice_is_closed_and_points_far_off_weigh_nothing():
    volume, top = volume_of(), np.array(SHAPE, np.float32) - 1
    points = np.array(
        [[0, 0, 0], top, [-2, 1, 1], [1, top[1] + 1, 1], [1, 1, np.nan], [np.inf, 1, 1]], np.float32
    ).T.copy()
    values, _, weights, rim = sampled(volume, np.eye(4)[None], points)
    assert weights[0].tolist() == [1, 1, 0, 0, 0, 0] and not rim.any()
    np.testing.assert_array_equal(values[:, 0, 0], volume[:, 0, 0, 0])
    np.testing.assert_allclose(values[:, 0, 1], volume[:, -1, -1, -1], rtol=0, atol=1e-6)
    assert np.isfinite(values).all()


def blob_mask() -> np.ndarray:
    index = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij"), -1)
    return (np.linalg.norm(index - [2, 4, 3], axis=-1) < 3).astype(np.uint8)


def test_beyond_the_rim_gradients_are_finite_differences_too():
    volume = volume_of()
    rng = np.random.default_rng(8)
    points = np.floor(rng.uniform(-1, np.array(SHAPE), (300, 3))) + rng.uniform(0.1, 0.9, (300, 3))
    points = np.ascontiguousarray(points.T, np.float32)
    _, slopes, weights, rim = sampled(volume, np.eye(4)[None], points)
    assert (rim != 0).any(-1).all() and ((weights > 0) & (weights < 1)).any()
    for axis in range(3):
        step = np.float32(2**-6) * np.eye(3, dtype=np.float32)[:, axis : axis + 1]
        ends = [sampled(volume, np.eye(4)[None], points + sign * step) for sign in (1, -1)]
        np.testing.assert_allclose(slopes[:, 0, axis], (ends[0][0] - ends[1][0])[:, 0] * 32, rtol=0, atol=5e-4)
        np.testing.assert_allclose(rim[0, 0, axis], (ends[0][2] - ends[1][2])[0] * 32, rtol=0, atol=5e-4)


def test_a_slice_has_no_gradient_across_it():
    point = np.array([[2.5], [3.5], [0]], np.float32)
    _, slopes, weights, rim = sampled(volume_of((7, 9, 1)), np.eye(4)[None], point)
    assert weights.all() and (slopes[:, :, 2] == 0).all() and slopes[:, :, :2].any() and not rim.any()


def test_the_mask_counts_where_its_own_interpolation_reaches_a_half():
    volume, mask = volume_of(), blob_mask()
    points = points_of()
    values, _, weights, _ = sampled(volume, np.eye(4)[None], points, kernels_cpu.paired(mask))
    free, _, plain, _ = sampled(volume, np.eye(4)[None], points)
    np.testing.assert_array_equal(values, free)
    seen = map_coordinates(mask.astype(np.float64), points.astype(np.float64), order=1, mode="nearest")
    clear = np.abs(seen - 0.5) > 1e-4
    np.testing.assert_array_equal(weights[0, clear], (plain[0] * (seen >= 0.5))[clear])


def test_empty_gradients_are_passed_over():
    volume, poses, points = volume_of(), matrices(), points_of()
    values, slopes, weights, _ = sampled(volume, poses, points, gradients=False)
    assert slopes.size == 0
    expected = sampled(volume, poses, points)
    np.testing.assert_array_equal(values, expected[0])
    np.testing.assert_array_equal(weights, expected[2])


@pytest.mark.parametrize("projective", [0.0, 0.02])
def test_project_is_the_derivative_by_the_matrix_entries(projective):
    ramp = np.array([0.7, -1.3, 0.4])
    index = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij"), -1)
    volume = np.stack([index @ ramp, index @ ramp[::-1]]).astype(np.float32)
    rng, poses = np.random.default_rng(4), matrices(projective=projective)
    points = np.ascontiguousarray((rng.uniform(0.35, 0.65, (200, 3)) * np.array(SHAPE)).T, np.float32)
    _, slopes, weights, _ = sampled(volume, poses, points)
    assert (weights == 1).all()
    factors = rng.normal(size=(2, 3, points.shape[1])).astype(np.float32)
    out = np.full((3, 4, 4), 7.0)
    kernels_cpu.project(factors, slopes, poses, points, out)

    def score(b: int, pose: np.ndarray) -> float:
        at = mapped(pose, points)
        return float((factors[:, b] * np.stack([at @ ramp, at @ ramp[::-1]])).sum())

    for b, pose in enumerate(poses):
        for r in range(4):
            for s in range(4):
                step = np.zeros((4, 4))
                step[r, s] = 1e-4 if r < 3 else 1e-5
                expected = (score(b, pose + step) - score(b, pose - step)) / (2 * step[r, s])
                assert out[b, r, s] == pytest.approx(expected, rel=1e-3, abs=5e-3)


def test_each_pose_gives_the_same_bits_alone_and_in_a_batch():
    volume, poses, points = volume_of(), matrices(5, 0.02), points_of()
    together = sampled(volume, poses, points)
    for b in range(5):
        alone = sampled(volume, poses[b : b + 1], points)
        for one, many in zip((*alone[:2], alone[2][None], alone[3]), (*together[:2], together[2][None], together[3])):
            np.testing.assert_array_equal(one[:, 0], many[:, b])


def test_weight_is_lost_where_all_channels_are_under_the_rim():
    rng = np.random.default_rng(7)
    values, weights = rng.random((2, 3, 700), np.float32), np.clip(rng.random((3, 700), np.float32) * 2, 0, 1)
    rim = np.array([0.3, 0.6], np.float32)
    background = (values < rim[:, None, None]).all(0)
    settled, hard = weights.copy(), weights.copy()
    left, missing = kernels_cpu.settle_rim(values, settled, rim)
    np.testing.assert_allclose(missing, ((1 - weights) * background).sum(1), rtol=1e-5)
    np.testing.assert_allclose(left, settled.sum(1), rtol=1e-5)
    np.testing.assert_array_equal(settled, np.where(background | (weights == 1), weights, 0))
    assert not kernels_cpu.settle_rim(values, hard, np.full(2, -np.inf, np.float32))[1].any()
    np.testing.assert_array_equal(hard, weights == 1)
