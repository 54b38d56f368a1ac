"""Foreground and errors: Otsu against SimpleITK, derivatives against finite differences, propagation against Monte Carlo."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from medmi.registration.evidence import (
    Evidence,
    derivatives_of,
    distances,
    errors_of,
    foreground_points,
    images_of,
    share_in_view,
)
from medmi.registration.levels import Volume, lift
from medmi.registration.motion import moved_along
from medmi.registration.otsu import otsu_threshold
from medmi.registration.terms import TERMS
from medmi.spatial.generators import generators
from tests.oracles.grids import oblique_grid

RNG = np.random.default_rng(0)
NO_MASK = np.zeros((0, 0, 0), np.uint8)


def two_tissues(shape: tuple[int, ...]) -> np.ndarray:
    """Dark noise around a bright ellipsoid."""
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    inside = sum(axis**2 for axis in axes) < 0.4
    return (np.where(inside, 9.0, 2.0) + np.random.default_rng(1).normal(size=shape)).astype(np.float32)


def volume(voxels: np.ndarray, mask: np.ndarray = NO_MASK) -> Volume:
    grid = oblique_grid(voxels.shape[1:], 0)
    return Volume(voxels, mask, lift(grid.affine), np.zeros(len(voxels)), np.ones(len(voxels)))


def pose_and_basis(family: str, d: int) -> tuple[np.ndarray, np.ndarray]:
    basis = np.stack([lift(g) for g in generators(family, d)])
    basis[:, 2, 2] *= d == 3
    pose = moved_along(np.eye(4)[None], RNG.uniform(-0.05, 0.05, (1, len(basis))), basis)[0]
    pose[:d, 3] += [3.0, -2.0, 1.0][:d]
    return pose, basis


def some_points(d: int, count: int = 7) -> np.ndarray:
    points = np.zeros((count, 3))
    points[:, :d] = RNG.uniform(-15, 15, (count, d))
    return points


@pytest.mark.parametrize("shape", [(19, 23, 29), (61, 47)])
def test_the_threshold_is_that_of_simpleitk(shape):
    values = two_tissues(shape)
    theirs = sitk.OtsuThresholdImageFilter()
    theirs.Execute(sitk.GetImageFromArray(values))
    assert abs(otsu_threshold(values.ravel()) - theirs.GetThreshold()) <= np.ptp(values) / 128


def test_foreground_points_are_the_bright_voxels_of_the_mask():
    values = two_tissues((19, 23, 29))
    found = foreground_points(volume(values[None]), most=100_000)
    bright = np.argwhere(values > otsu_threshold(values.ravel()))
    affine = volume(values[None]).to_world
    np.testing.assert_allclose(found, bright @ affine[:3, :3].T + affine[:3, 3])
    half = np.zeros(values.shape, np.uint8)
    half[:, :12] = 1
    masked = foreground_points(volume(values[None], half), most=100_000)
    assert 0 < len(masked) < len(found)
    index = (masked - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    assert index[:, 1].max() < 11.5
    assert 50 < len(foreground_points(volume(values[None]), most=100)) <= 100


@pytest.mark.parametrize(("family", "d"), [("rigid", 3), ("affine", 3), ("rigid", 2), ("homography", 2)])
def test_derivatives_are_those_of_central_differences(family, d):
    pose, basis = pose_and_basis(family, d)
    points, step = some_points(d), 1e-5
    steps = np.eye(len(basis)) * step
    ahead, behind = (
        images_of(moved_along(np.tile(pose, (len(basis), 1, 1)), s, basis), points) for s in (steps, -steps)
    )
    expected = ((ahead - behind) / (2 * step)).transpose(1, 0, 2)
    np.testing.assert_allclose(derivatives_of(points, pose, basis), expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize(("family", "d"), [("rigid", 3), ("affine", 3), ("rigid", 2), ("homography", 2)])
def test_errors_are_those_of_a_monte_carlo_over_the_covariance(family, d):
    pose, basis = pose_and_basis(family, d)
    points = some_points(d)
    root = RNG.normal(size=(len(basis), len(basis))) * 1e-3
    draws = RNG.normal(size=(20_000, len(basis))) @ root.T
    if family == "homography":
        draws[:, -2:] *= 0.01
        root[-2:] *= 0.01
    poses = moved_along(np.tile(pose, (len(draws), 1, 1)), draws, basis)
    apart = images_of(poses, points) - images_of(pose[None], points)
    expected = np.sqrt(np.square(apart).sum(-1).mean(0))
    np.testing.assert_allclose(errors_of(points, pose, basis, root @ root.T), expected, rtol=0.03)


def test_distances_are_the_mean_over_the_points():
    pose, _ = pose_and_basis("rigid", 3)
    other = pose.copy()
    other[:3, 3] += [3.0, 0.0, 4.0]
    np.testing.assert_allclose(distances(np.stack([pose, other]), pose, some_points(3)), [0, 5], atol=1e-12)


@pytest.mark.parametrize(("spacing", "limit"), [(0.5, 2.0), (1.0, 2.0), (1.75, 3.5)])
def test_the_limit_is_two_mm_or_two_voxels(spacing, limit):
    evidence = Evidence([], np.zeros(3), np.eye(4), np.zeros((6, 4, 4)), TERMS["mi"], (1.0,), 3, spacing, 0)
    assert evidence.limit_mm == limit


def seen_by_counting(evidence: Evidence) -> float:
    """The share in view, by SimpleITK's point to index, of every point on its own."""
    fixed, moving = evidence.levels[-1]

    def inside(points: np.ndarray, other: Volume) -> float:
        image = sitk.Image(other.voxels.shape[1:], sitk.sitkUInt8)
        spacing = np.linalg.norm(other.to_world[:3, :3], axis=0)
        image.SetSpacing(spacing.tolist())
        image.SetDirection((other.to_world[:3, :3] / spacing).ravel().tolist())
        image.SetOrigin(other.to_world[:3, 3].tolist())
        found = [image.TransformPhysicalPointToIndex(p.tolist()) for p in points]
        size = image.GetSize()
        return float(np.mean([all(0 <= i < n for i, n in zip(index, size)) for index in found]))

    ahead = np.array([evidence.pose @ [*p, 1] for p in evidence.foreground])[:, :3]
    back = np.array([np.linalg.solve(evidence.pose, [*p, 1]) for p in foreground_points(moving)])[:, :3]
    return min(inside(ahead, moving), inside(back + evidence.centre, fixed))


@pytest.mark.parametrize(
    ("away", "low", "high"), [(0.0, 0.9, 1.0), (6.0, 0.1, 0.8), (9.0, 0.01, 0.5), (500.0, 0.0, 0.0)]
)
def test_the_share_in_view_is_that_of_counted_points(away, low, high):
    fixed, moving = (volume(two_tissues(shape)[None]) for shape in ((19, 23, 29), (27, 21, 17)))
    centre = fixed.to_world[:3] @ [9, 11, 14, 1]
    pose, basis = pose_and_basis("rigid", 3)
    pose[:3, 3] += moving.to_world[:3] @ [13, 10, 8, 1] + away
    evidence = Evidence([(fixed, moving)], centre, pose, basis, TERMS["mi"], (1.0,), 3, 2.0, 0)
    share = share_in_view(evidence)
    assert share == pytest.approx(seen_by_counting(evidence), abs=1e-12)
    assert low <= share <= high
