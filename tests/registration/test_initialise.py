"""Starts: coverage of the rotation group, centres by closed form, anchoring, candidates, distinct poses."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import center_of_mass
from scipy.spatial.transform import Rotation

from medmi.registration.initialise import (
    STARTS,
    Search,
    anchored,
    candidates,
    centre_of_grid,
    centre_of_mass,
    distinct,
    local_rotations,
    rotations,
    shifted,
)
from medmi.registration.levels import Volume, lift
from medmi.registration.schedule import Plan
from tests.oracles.grids import SHAPES, oblique_grid

NO_MASK = np.zeros((0, 0, 0), np.uint8)


def volume_of(d: int, seed: int = 0, mask: np.ndarray = NO_MASK) -> Volume:
    shape = (*SHAPES[d], 1)[:3]
    voxels = np.random.default_rng(seed).uniform(2, 5, (1, *shape)).astype(np.float32)
    low, high = np.array([2.0], np.float32), np.array([5.0], np.float32)
    return Volume(voxels, mask, lift(oblique_grid(SHAPES[d], seed).affine), low, high)


def angles_between(ours: np.ndarray, others: Rotation) -> np.ndarray:
    """Degrees ``(others, ours)`` by the quaternions' product."""
    products = np.abs(others.as_quat() @ Rotation.from_matrix(ours).as_quat().T)
    return np.rad2deg(2 * np.arccos(np.minimum(products, 1)))


def test_every_rotation_is_near_one_of_the_default_count():
    drawn = Rotation.random(4000, rng=np.random.default_rng(0))
    gaps = angles_between(rotations(Plan().rotations, 3), drawn).min(1)
    assert gaps.max() < 25 and gaps.mean() < 14


def test_rotations_are_spread_better_than_random_ones():
    count = Plan().rotations
    drawn = Rotation.random(2000, rng=np.random.default_rng(0))
    even = angles_between(rotations(count, 3), drawn).min(1)
    random = angles_between(Rotation.random(count, rng=np.random.default_rng(1)).as_matrix(), drawn).min(1)
    assert even.max() < 0.8 * random.max() and even.mean() < random.mean()


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("count", [1, 5, 64])
def test_rotations_are_proper_distinct_and_begin_with_the_identity(d, count):
    turns = rotations(count, d)
    assert turns.shape == (count, 3, 3)
    np.testing.assert_allclose(turns[0], np.eye(3), atol=1e-12)
    np.testing.assert_allclose(turns @ turns.transpose(0, 2, 1), np.tile(np.eye(3), (count, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(turns), 1, atol=1e-12)
    apart = angles_between(turns, Rotation.from_matrix(turns)) + 360 * np.eye(count)
    assert apart.min() > 1


def test_turns_of_the_plane_are_equal_steps_about_the_third_axis():
    turns = rotations(12, 2)
    np.testing.assert_allclose(turns[:, 2], np.tile([0, 0, 1.0], (12, 1)), atol=1e-12)
    angles = np.rad2deg(np.arctan2(turns[:, 1, 0], turns[:, 0, 0])) % 360
    np.testing.assert_allclose(np.sort(angles), np.arange(12) * 30, atol=1e-9)


@pytest.mark.parametrize(("d", "count"), [(2, 5), (3, 13)])
def test_local_turns_go_both_ways_about_each_axis(d, count):
    turns = local_rotations((20, 40), d)
    vectors = np.rad2deg(Rotation.from_matrix(turns).as_rotvec())
    assert len(turns) == count
    expected = [np.zeros(3)] + [
        s * a * e for a in (20, 40) for e in (np.eye(3)[2:] if d == 2 else np.eye(3)) for s in (-1, 1)
    ]
    np.testing.assert_allclose(vectors, expected, atol=1e-9)


@pytest.mark.parametrize("d", [2, 3])
def test_centre_of_grid_is_the_middle_of_its_corners(d):
    expected = oblique_grid(SHAPES[d]).corners.mean(0).numpy()
    np.testing.assert_allclose(centre_of_grid(volume_of(d))[:d], expected, atol=1e-9)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("d", [2, 3])
def test_centre_of_mass_is_scipys_of_the_values_above_the_low_end(d, masked):
    mask = NO_MASK
    if masked:
        mask = (np.random.default_rng(1).random((*SHAPES[d], 1)[:3]) > 0.7).astype(np.uint8)
    volume = volume_of(d, mask=mask)
    weights = np.clip((volume.voxels[0].astype(np.float64) - 2) / 3, 0, 1) * (mask if masked else 1)
    index = np.append(center_of_mass(weights), 1)
    np.testing.assert_allclose(centre_of_mass(volume), (volume.to_world @ index)[:3], atol=1e-4)


def test_centre_of_mass_sums_channels_and_clips_their_ends():
    voxels = np.zeros((2, 9, 9, 9), np.float32)
    voxels[0, 1, 2, 3], voxels[1, 5, 6, 7], voxels[0, 0, 0, 0] = 1e6, 2, -1e6
    volume = Volume(voxels, NO_MASK, np.eye(4), np.zeros(2, np.float32), np.array([1, 2], np.float32))
    np.testing.assert_allclose(centre_of_mass(volume), [3, 4, 5], atol=1e-6)


def test_without_mass_the_centre_is_that_of_the_grid():
    volume = Volume(
        np.zeros((1, 5, 7, 9), np.float32), NO_MASK, np.eye(4), np.zeros(1, np.float32), np.ones(1, np.float32)
    )
    np.testing.assert_allclose(centre_of_mass(volume), [2, 3, 4])


def test_anchored_poses_carry_one_anchor_to_the_other():
    rng = np.random.default_rng(0)
    fixed_anchor, moving_anchor, centre = rng.normal(0, 20, (3, 3))
    turns = rotations(9, 3)
    poses = anchored(turns, fixed_anchor, moving_anchor, centre)
    carried = poses[:, :3, :3] @ (fixed_anchor - centre) + poses[:, :3, 3]
    np.testing.assert_allclose(carried, np.tile(moving_anchor, (9, 1)), atol=1e-12)
    np.testing.assert_array_equal(poses[:, :3, :3], turns)


def test_named_starts_are_what_they_say():
    fixed, moving = volume_of(3), volume_of(3, 1)
    pairs = {name: start(fixed, moving) for name, start in STARTS.items()}
    np.testing.assert_array_equal(pairs["identity"], np.zeros((2, 3)))
    np.testing.assert_array_equal(pairs["geometry"], [centre_of_grid(fixed), centre_of_grid(moving)])
    np.testing.assert_array_equal(pairs["moments"], [centre_of_mass(fixed), centre_of_mass(moving)])


@pytest.mark.parametrize("d", [2, 3])
def test_shifts_go_both_ways_along_each_axis(d):
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1, :3, 3] = 5
    moved = shifted(poses, 7, d)
    assert len(moved) == 2 * (1 + 2 * d)
    np.testing.assert_array_equal(moved[:2], poses)
    offsets = {tuple(p[:3, 3]) for p in moved[::2]}
    assert offsets == {(0, 0, 0), *[tuple(s * 7 * e) for e in np.eye(3)[:d] for s in (-1, 1)]}


@pytest.mark.parametrize("d", [2, 3])
def test_candidates_begin_with_the_given_pose_and_cover_rotations_and_scales(d):
    given = anchored(rotations(7, d)[3:4], np.zeros(3), np.array([4.0, 5.0, 0.0]), np.zeros(3))[0]
    search = Search(rotations=240, scales=(1.0, 0.6, 1.7), spatial_dims=d)
    poses = candidates((volume_of(d), volume_of(d, 1)), given, np.zeros(3), search)
    np.testing.assert_array_equal(poses[0], given)
    sizes = np.linalg.det(poses[:, :d, :d]) ** (1 / d)
    rng = np.random.default_rng(0)
    drawn = (
        Rotation.random(300, rng=rng)
        if d == 3
        else Rotation.from_rotvec(rng.uniform(0, 2 * np.pi, 300)[:, None] * [0, 0, 1])
    )
    for scale in search.scales:
        turns = poses[np.abs(sizes - scale) < 1e-9, :3, :3] / ([scale] * d + [1.0] * (3 - d))
        # Half as many at other scales: a quarter wider apart.
        assert angles_between(turns, drawn).min(1).max() < ((40 if scale == 1 else 50) if d == 3 else 9)
    assert {round(float(size), 6) for size in sizes} == set(search.scales)
    assert d == 3 or np.allclose(poses[:, 2], [0, 0, 1, 0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("d", [2, 3])
def test_candidates_carry_centres_onto_centres(d):
    fixed, moving = volume_of(d), volume_of(d, 1)
    centre = np.array([1.0, 2.0, 0.0])
    poses = candidates((fixed, moving), np.eye(4), centre, Search(24, (1.0,), d))
    for name in ("geometry", "moments"):
        start, end = STARTS[name](fixed, moving)
        missed = np.linalg.norm(poses[:, :3, :3] @ (start - centre) + poses[:, :3, 3] - end, axis=1)
        assert (missed < 1e-9).sum() >= 24


def test_without_rotations_the_given_one_and_the_identity_alone_are_tried():
    given = anchored(rotations(7, 3)[3:4], np.zeros(3), np.array([4.0, 5.0, 6.0]), np.zeros(3))[0]
    poses = candidates((volume_of(3), volume_of(3, 1)), given, np.zeros(3), Search(0, (1.0,), 3))
    np.testing.assert_array_equal(poses[0], given)
    kinds = {tuple(np.round(turn.ravel(), 9)) for turn in poses[:, :3, :3]}
    assert kinds == {tuple(np.round(m.ravel(), 9)) for m in (given[:3, :3], np.eye(3))}
    assert len(poses) > 15


def slid(offsets: list[float]) -> np.ndarray:
    poses = np.tile(np.eye(4), (len(offsets), 1, 1))
    poses[:, 0, 3] = offsets
    return poses


POINTS = np.random.default_rng(0).normal(0, 30, (50, 3))


def test_distinct_takes_the_best_of_each_neighbourhood_in_order():
    poses = slid([0, 0.5, 10, 10.9, 20, 30])
    merits = np.array([0.5, 0.6, 0.9, 0.8, 0.1, 0.2])
    assert distinct(poses, merits, POINTS, 10, 1.0) == [2, 1, 5, 4]
    assert distinct(poses, merits, POINTS, 2, 1.0) == [2, 1]
    assert distinct(poses, merits, POINTS, 10, 0.1) == [2, 3, 1, 0, 5, 4]


def test_distinct_measures_by_root_mean_square_over_the_points():
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("z", 3, degrees=True).as_matrix()
    gap = np.sqrt((((POINTS @ turn[:3, :3].T) - POINTS) ** 2).sum(1).mean())
    poses = np.stack([np.eye(4), turn])
    assert distinct(poses, np.array([1.0, 0.5]), POINTS, 2, gap * 0.99) == [0, 1]
    assert distinct(poses, np.array([1.0, 0.5]), POINTS, 2, gap * 1.01) == [0]


def test_equal_merits_keep_the_order_of_the_poses():
    assert distinct(slid([0, 10, 20]), np.ones(3), POINTS, 2, 1.0) == [0, 1]
