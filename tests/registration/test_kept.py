"""Points that are kept at a pose, against the loops that look all of them up; the way back, against derivatives of all points."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from medmi.registration import kernels_cpu
from medmi.registration.histogram_cpu import GROUP, TURN, inform_points, inform_poses
from medmi.registration.kept_cpu import LookUp, keep, pull_back

SHAPE, COUNT = (17, 21, 13), 5000
NO_MASK, NO_RIM = np.zeros((0, 0, 0)), np.full(2, -np.inf, np.float32)
RIM = np.array([0.4, 0.9], np.float32)


def volume_of(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return kernels_cpu.paired(np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32))


def matrices(projective: float) -> np.ndarray:
    """Inside as a whole, small motions, far off."""
    rng = np.random.default_rng(1)
    out = np.tile(np.eye(4), (5, 1, 1))
    out[0, :3, :3] /= 3
    out[0, :3, 3] = 4
    out[1:4, :3, :3] = Rotation.from_rotvec(rng.uniform(-0.4, 0.4, (3, 3))).as_matrix()
    out[1:4, :3, 3] = rng.uniform(-3, 3, (3, 3))
    out[1:4, 3, :3] = projective * rng.uniform(-1, 1, (3, 3))
    out[4, :3, 3] = 100
    return out


def points_of() -> np.ndarray:
    points = np.random.default_rng(2).uniform(-0.2, 1.2, (COUNT, 3)) * np.array(SHAPE)
    # Blocks that lie inside as a whole, beside mixed ones.
    points[:600] = np.random.default_rng(3).uniform(0.35, 0.65, (600, 3)) * np.array(SHAPE)
    return np.ascontiguousarray(points.T, np.float32)


def dense(volume: np.ndarray, mask: np.ndarray, rim: np.ndarray, poses: np.ndarray, points: np.ndarray):
    """Values, weights, slopes, and the sums of :func:`medmi.registration.kernels_cpu.settle_rim`, of all points."""
    values = np.empty((3, len(poses), COUNT), np.float32)
    slopes = np.empty((3, len(poses), 3, COUNT), np.float32)
    kernels_cpu.sample(volume, mask, poses, points, values, slopes)
    sums = kernels_cpu.settle_rim(values[:2], values[2], rim)
    return values[:2], values[2], slopes, sums


def mask_of(masked: bool) -> np.ndarray:
    return kernels_cpu.paired(np.random.default_rng(4).random(SHAPE) > 0.3) if masked else NO_MASK


@pytest.mark.parametrize("projective", [0.0, 0.01])
@pytest.mark.parametrize(("rim", "masked"), [(NO_RIM, False), (RIM, False), (NO_RIM, True)])
def test_what_is_kept_is_what_all_points_find_where_weight_is_left(rim, masked, projective):
    volume, poses, points = volume_of(), matrices(projective), points_of()
    values, weights, slopes, sums = dense(volume, mask_of(masked), rim, poses, points)
    kept = keep(LookUp(volume, mask_of(masked), rim, poses, points), True)
    np.testing.assert_allclose(kept.sums, sums, rtol=1e-5)
    for b, (count, edges) in enumerate(kept.counts.T):
        places = kept.places[b, :count]
        np.testing.assert_array_equal(places, np.flatnonzero(weights[b]))
        # Loops that are compiled apart round their products and sums apart.
        np.testing.assert_allclose(kept.values[:, b, :count], values[:, b, places], rtol=0, atol=2e-6)
        np.testing.assert_allclose(kept.weights[b, :count], weights[b, places], rtol=0, atol=2e-6)
        np.testing.assert_allclose(kept.gradients[:, b, :, :count], slopes[:2, b][..., places], rtol=0, atol=2e-6)
        rims = places[kept.edges[b, :edges]]
        np.testing.assert_array_equal(rims, np.flatnonzero((weights[b] > 0) & (weights[b] < 1)))
        np.testing.assert_allclose(kept.edge_gradients[b, :, :edges], slopes[2, b][:, rims], rtol=0, atol=2e-6)
    assert kept.counts[0, 4] == 0 and (masked or kept.counts[0, 0] == COUNT)
    assert kept.counts[1].any() == (rim is RIM)


@pytest.mark.parametrize(("rim", "masked"), [(NO_RIM, False), (RIM, False), (NO_RIM, True)])
def test_where_no_gradients_are_asked_the_same_points_count(rim, masked):
    volume, poses, points = volume_of(), matrices(0.0), points_of()
    kept, plain = (keep(LookUp(volume, mask_of(masked), rim, poses, points), gradient) for gradient in (True, False))
    assert plain.gradients.size == plain.edge_gradients.size == 0 and not plain.counts[1].any()
    np.testing.assert_array_equal(kept.sums, plain.sums)
    for b, (count, more) in enumerate(zip(kept.counts[0], plain.counts[0])):
        counts = plain.weights[b, :more] > 0
        np.testing.assert_array_equal(kept.places[b, :count], plain.places[b, :more][counts])
        np.testing.assert_array_equal(kept.weights[b, :count], plain.weights[b, :more][counts])
        np.testing.assert_array_equal(kept.values[:, b, :count], plain.values[:, b, :more][:, counts])


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize(("rim", "masked"), [(NO_RIM, False), (RIM, False), (NO_RIM, True)])
def test_points_that_go_straight_to_the_histograms_tell_what_kept_ones_do(rim, masked, normalised, threads):
    poses = np.tile(matrices(0.01), (6, 1, 1))
    assert len(poses) > threads * GROUP and TURN < COUNT
    look_up = LookUp(volume_of(), mask_of(masked), rim, poses, points_of(), threads)
    positions = np.random.default_rng(6).random((2, COUNT), np.float32) * 11
    windows = positions, np.array([-2, -3], np.float32), np.array([2, 3], np.float32)
    kept = keep(look_up, True)
    expected, *_ = inform_points(kept, windows, 12, normalised, derivative=False)
    values, sums = inform_poses(look_up, windows, 12, normalised)
    np.testing.assert_array_equal(values, expected)
    np.testing.assert_array_equal(sums, kept.sums)
    assert len(np.unique(values)) == 5


@pytest.mark.parametrize("projective", [0.0, 0.01])
def test_the_way_back_is_that_of_all_points(projective):
    volume, poses, points = volume_of(), matrices(projective), points_of()
    kept = keep(LookUp(volume, NO_MASK, RIM, poses, points), True)
    rng = np.random.default_rng(5)
    by_value, by_weight = (rng.normal(size=(*size, COUNT)).astype(np.float32) for size in ((2, 5), (5,)))
    factors = rng.random((2, 5), np.float32)
    _, _, slopes, _ = dense(volume, NO_MASK, RIM, poses, points)
    everyone = np.zeros((3, 5, COUNT), np.float32)
    for b, (count, edges) in enumerate(kept.counts.T):
        places = kept.places[b, :count]
        everyone[:2, b, places] = by_value[:, b, :count] * factors[0, b]
        everyone[2, b, places[kept.edges[b, :edges]]] = by_weight[b, :edges] * factors[0, b] + factors[1, b]
    expected = np.empty((5, 4, 4))
    kernels_cpu.project(everyone, slopes, poses, points, expected)
    ours = pull_back(kept, by_value, by_weight, factors, poses, points)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert not ours[4].any() and ours[:4].any((1, 2)).all()


def test_each_pose_gives_the_same_bits_alone_and_in_a_batch():
    volume, poses, points = volume_of(), matrices(0.01), points_of()
    together = keep(LookUp(volume, NO_MASK, RIM, poses, points), True)
    for b in range(5):
        alone, count = keep(LookUp(volume, NO_MASK, RIM, poses[b : b + 1], points), True), together.counts[0, b]
        np.testing.assert_array_equal(alone.counts[:, 0], together.counts[:, b])
        np.testing.assert_array_equal(alone.values[:, 0, :count], together.values[:, b, :count])
        np.testing.assert_array_equal(alone.sums[:, 0], together.sums[:, b])
