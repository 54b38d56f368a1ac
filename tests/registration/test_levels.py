"""Levels: lifting, pyramids with masks, robust ranges, and the points that are drawn."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from nibabel.orientations import io_orientation
from scipy.ndimage import map_coordinates

from medmi.grid import Grid
from medmi.registration.drawing import (
    MOST_SURPLUS,
    chances,
    draw,
    draw_sets,
    everywhere,
    in_view,
    surplus_of_points,
    surplus_of_spans,
)
from medmi.registration.levels import Volume, lift, lower, pyramid, robust_range
from medmi.registration.problem import Side
from medmi.spatial.pyramid import shrink_factors
from tests.contracts.transforms import linear
from tests.oracles.grids import SHAPES, oblique_grid
from tests.oracles.smooth_pairs import blobs, image_of

NO_MASK = np.zeros((0, 0, 0), np.uint8)


def side_of(d: int, channels: int = 1, masked: bool = False, more: int = 13) -> Side:
    grid = oblique_grid(tuple(n + more for n in SHAPES[d]), 1)
    mask = None
    if masked:
        mask = (grid.points() - grid.centre).norm(dim=-1) < 12
    return Side(image_of(blobs(d, channels), grid), grid, mask)


@pytest.mark.parametrize("d", [2, 3])
def test_lifting_keeps_the_map_and_lowering_undoes_it(d):
    matrix = linear("affine", d).matrix
    lifted = lift(matrix)
    assert lifted.shape == (4, 4)
    x = np.append(np.arange(1.0, d + 1), [0.0] * (3 - d))
    moved = (lifted @ np.append(x, 1))[:3]
    np.testing.assert_allclose(moved[:d], matrix[:-1, :-1] @ torch.from_numpy(x[:d]) + matrix[:-1, -1], atol=1e-12)
    assert not moved[d:].any()
    assert torch.equal(lower(lifted, d), matrix)


def in_the_worlds_order(side: Side) -> Side:
    """The side as its finest level holds it."""
    (whole,), d = pyramid(side, [0.1]), side.grid.spatial_dims
    shape = whole.voxels.shape[1 : d + 1]
    mask = torch.from_numpy(whole.mask.reshape(shape)) > 0 if whole.mask.size else None
    image = torch.from_numpy(whole.voxels.reshape(-1, *shape))
    return Side(image, Grid(shape, lower(whole.to_world, d)), mask)


def stored(side: Side, axes: tuple[int, ...], turned: tuple[int, ...]) -> Side:
    """The same side with its axes stored in another order, and some of them from the other end."""
    step = torch.zeros(len(axes) + 1, len(axes) + 1, dtype=torch.float64)
    step[-1, -1] = 1
    for place, axis in enumerate(axes):
        step[axis, place] = -1 if place in turned else 1
        step[axis, -1] = side.grid.shape[axis] - 1 if place in turned else 0

    def brought(image: torch.Tensor) -> torch.Tensor:
        lead = image.ndim - len(axes)
        return image.permute(*range(lead), *(lead + k for k in axes)).flip([lead + k for k in turned]).contiguous()

    grid = Grid([side.grid.shape[k] for k in axes], side.grid.affine @ step)
    return Side(brought(side.image), grid, brought(side.mask))


@pytest.mark.parametrize("axes", [*itertools.permutations(range(2)), *itertools.permutations(range(3))])
def test_how_a_file_stores_its_axes_does_not_matter(axes):
    d = len(axes)
    side = side_of(d, 2, masked=True)
    levels = pyramid(side, [4.4, 2.1, 0.1])
    points = draw(levels[1], 500, np.random.default_rng(0)).points
    for turned in itertools.chain.from_iterable(itertools.combinations(range(d), n) for n in range(d + 1)):
        others = pyramid(stored(side, axes, turned), [4.4, 2.1, 0.1])
        for level, other in zip(levels, others):
            np.testing.assert_allclose(other.to_world, level.to_world, rtol=0, atol=1e-12)
            np.testing.assert_allclose(other.voxels, level.voxels, rtol=0, atol=1e-6)
            np.testing.assert_array_equal(other.mask, level.mask)
        # Points that tip over to the next voxel with the last digit of a chance.
        apart = np.abs(draw(others[1], 500, np.random.default_rng(0)).points - points).max(0)
        assert (apart < 1e-9).mean() > 0.98


@pytest.mark.parametrize("d", [2, 3])
def test_the_finest_level_is_the_image_with_its_axes_along_the_worlds(d):
    side = side_of(d)
    (level,) = pyramid(side, [0.1])
    np.testing.assert_array_equal(io_orientation(lower(level.to_world, d)), [[axis, 1] for axis in range(d)])
    index = np.stack([np.random.default_rng(0).integers(0, n, 40) for n in level.voxels.shape[1:]])
    world = level.to_world @ np.append(index, np.ones((1, 40)), 0)
    there = np.round((np.linalg.inv(lift(side.grid.affine)) @ world)[:d]).astype(int)
    np.testing.assert_array_equal(level.voxels[0][tuple(index)], side.image[0].numpy()[tuple(there)])


@pytest.mark.parametrize("d", [2, 3])
def test_levels_come_coarse_to_fine_with_the_grid_of_the_product_of_factors(d):
    side = in_the_worlds_order(side_of(d, 2))
    levels = pyramid(side, [4.4, 2.1, 0.1])
    assert [v.voxels.shape[0] for v in levels] == [2, 2, 2]
    assert levels[-1].voxels.shape[1 : d + 1] == side.grid.shape
    np.testing.assert_allclose(levels[-1].to_world, lift(side.grid.affine))
    assert all(v.voxels.dtype == np.float32 and v.voxels.flags.c_contiguous and not v.mask.size for v in levels)
    factors = shrink_factors(side.grid, 2.1)
    assert max(factors) > 1
    assert levels[1].voxels.shape[1 : d + 1] == tuple(n // f for n, f in zip(side.grid.shape, factors))
    first = np.append((np.array(factors) - 1) / 2, [0.0] * (3 - d))
    np.testing.assert_allclose(
        levels[1].to_world[:3, 3], (lift(side.grid.affine) @ np.append(first, 1))[:3], atol=1e-12
    )
    assert levels[0].voxels.size < levels[1].voxels.size < levels[2].voxels.size


@pytest.mark.parametrize("d", [2, 3])
def test_masked_blocks_average_the_voxels_inside_alone(d):
    side = in_the_worlds_order(side_of(d, 1, masked=True))
    factors = shrink_factors(side.grid, 2.1)
    poisoned = Side(torch.where(side.mask, side.image, torch.tensor(1e4)), side.grid, side.mask)
    (clean,), (level,) = pyramid(side, [2.1]), pyramid(poisoned, [2.1])
    np.testing.assert_allclose(level.voxels, clean.voxels, rtol=0, atol=1e-5)
    assert 0 < level.mask.mean() < 1 and level.mask.dtype == np.uint8
    block = tuple(slice(n // 2 * f, (n // 2 + 1) * f) for n, f in zip(level.mask.shape, factors))
    at = tuple(n // 2 for n in level.mask.shape[:d])
    expected = side.image[0][block][side.mask[block]].mean()
    assert float(level.voxels[0].reshape(level.mask.shape[:d])[at]) == pytest.approx(float(expected), abs=1e-5)


def test_a_mask_thinner_than_half_a_block_is_kept_where_it_lies():
    side = side_of(3)
    thin = torch.zeros(side.grid.shape, dtype=torch.bool)
    thin[8, 8, 8] = True
    (level,) = pyramid(Side(side.image, side.grid, thin), [4.0])
    assert level.mask.sum() == 1
    assert float(level.voxels[0][level.mask > 0][0]) == pytest.approx(float(side.image[0, 8, 8, 8]), abs=1e-5)


def test_range_is_that_of_the_percentiles_by_channel_inside_the_mask():
    rng = np.random.default_rng(0)
    voxels = np.stack([rng.normal(0, 1, (20, 20, 20)), rng.gamma(2, 50, (20, 20, 20))]).astype(np.float32)
    mask = (rng.random((20, 20, 20)) > 0.4).astype(np.uint8)
    low, high = robust_range(voxels, mask)
    seen = voxels[:, mask > 0]
    np.testing.assert_allclose(low, np.percentile(seen, 0.5, axis=1), rtol=1e-6)
    np.testing.assert_allclose(high, np.percentile(seen, 99.9, axis=1), rtol=1e-6)
    spoilt = np.where(mask > 0, voxels, np.float32(1e6))
    np.testing.assert_array_equal(robust_range(spoilt, mask), (low, high))


def test_range_of_a_rare_object_is_the_full_one_and_never_empty():
    voxels = np.zeros((2, 40, 40, 1), np.float32)
    voxels[0, 5, 5] = 7
    low, high = robust_range(voxels, NO_MASK)
    assert (low[0], high[0]) == (0, 7) and high[1] > low[1]


@pytest.mark.parametrize("d", [2, 3])
def test_drawn_values_are_those_at_the_drawn_points(d):
    side = side_of(d, 2)
    (volume,) = pyramid(side, [0.1])
    drawn = draw(volume, 700, np.random.default_rng(0))
    assert drawn.points.shape == drawn.centred(np.zeros(3)).shape == (3, 700) and drawn.values.shape == (2, 700)
    index = (drawn.points.T - volume.to_world[:3, 3]) @ np.linalg.inv(volume.to_world[:3, :3]).T
    top = np.array(volume.voxels.shape[1:]) - 1
    assert (index > -1e-5).all() and (index < top + 1e-5).all()
    assert d == 3 or not drawn.points[2].any()
    for c, channel in enumerate(volume.voxels):
        expected = map_coordinates(channel.astype(np.float64), index.T, order=1, mode="nearest")
        np.testing.assert_allclose(drawn.values[c], expected, rtol=0, atol=1e-4)
    assert (np.abs(index - np.round(index)).max(0)[:d] > 0.3).all()
    centre = np.array([1.5, -2, 0.25])
    np.testing.assert_allclose(drawn.centred(centre), drawn.points - centre[:, None], rtol=0, atol=2e-5)


def test_points_are_drawn_from_the_mask_alone():
    (volume,) = pyramid(side_of(3, masked=True), [0.1])
    drawn = draw(volume, 2000, np.random.default_rng(0))
    index = np.round((drawn.points.T - volume.to_world[:3, 3]) @ np.linalg.inv(volume.to_world[:3, :3]).T).astype(int)
    assert volume.mask[tuple(index.T)].mean() > 0.999


def flat_with_an_edge() -> Volume:
    voxels = np.zeros((1, 40, 20, 20), np.float32)
    voxels[0, 30:] = 1
    return Volume(voxels, NO_MASK, np.eye(4), np.zeros(1, np.float32), np.ones(1, np.float32))


@pytest.mark.parametrize("share", [0.0, 0.4, 0.8])
def test_the_asked_share_goes_where_the_image_changes(share):
    drawn = draw(flat_with_an_edge(), 8000, np.random.default_rng(0), share)
    near = np.abs(drawn.points[0] - 29.5) < 1
    # The edge's two layers get the share and, like every other, a twentieth of the rest.
    assert near.mean() == pytest.approx(share + (1 - share) * 2 / 40, abs=0.01)


@pytest.mark.parametrize("masked", [False, True])
def test_a_flat_level_is_drawn_evenly(masked):
    flat = np.ones((1, 12, 12, 12), np.float32)
    mask = np.zeros((12, 12, 12), np.uint8)
    mask[:6] = 1
    volume = Volume(flat, mask if masked else NO_MASK, np.eye(4), np.zeros(1, np.float32), np.ones(1, np.float32))
    drawn = draw(volume, 3000, np.random.default_rng(0))
    halves, _ = np.histogram(drawn.points[0], [0, 5.5, 11])
    assert halves.tolist() == pytest.approx([3000, 0] if masked else [1500, 1500], abs=60)


def test_the_same_generator_draws_the_same_points():
    volume = flat_with_an_edge()
    first, again, other = (draw(volume, 500, np.random.default_rng(s)) for s in (3, 3, 4))
    np.testing.assert_array_equal(first.points, again.points)
    assert (first.points != other.points).any()


@pytest.mark.parametrize("d", [2, 3])
def test_points_of_what_the_moving_image_sees_stand_for_their_share_of_the_chances(d):
    (fixed,), (moving,) = (pyramid(side_of(d, more=more), [0.1]) for more in (13, 2))
    centre, pose, margin = np.array([0.3, -0.2, 0.1]), np.eye(4), 2.5
    pose[:3, 3] = centre + np.array([6.0, -4.0, 3.0]) * (np.arange(3) < d)
    spans = in_view(fixed, moving, pose, centre, margin)
    index = np.indices(fixed.voxels.shape[1:]).reshape(3, -1)
    world = fixed.to_world @ np.append(index, np.ones((1, index.shape[1])), 0)
    world[:3] -= centre[:, None]
    there = (np.linalg.inv(moving.to_world) @ pose @ world)[:3]
    more = margin / np.linalg.norm(moving.to_world[:3, :3], axis=0)[:, None]
    last = np.array(moving.voxels.shape[1:])[:, None] - 1
    inside = ((there >= -more) & (there <= last + more)).all(0).reshape(fixed.voxels.shape[1:])
    steps = np.arange(inside.shape[-1])
    np.testing.assert_array_equal((steps >= spans[..., :1]) & (steps < spans[..., 1:]), inside)
    assert 0.1 < inside.mean() < 0.9
    steps = np.diff(chances(fixed, 0.4), prepend=0)
    (drawn,) = draw_sets(fixed, chances(fixed, 0.4), (1, 500), 0, spans)
    share = steps[inside.ravel()].sum()
    assert drawn.share == pytest.approx(share) and drawn.index.shape[1] == pytest.approx(500 * share, abs=15)
    assert draw(fixed, 500, np.random.default_rng(0)).share == pytest.approx(1)
    assert share * surplus_of_spans(chances(fixed, 0.4), spans) == pytest.approx(1, rel=0.2)
    assert inside[tuple(np.round(drawn.index).astype(int))].mean() > 0.9


def test_where_nothing_is_seen_everything_is_drawn():
    (fixed,), (moving,) = (pyramid(side_of(3, more=more), [0.1]) for more in (13, 2))
    pose = np.eye(4)
    pose[:3, 3] = 1e4
    cumulative, spans = chances(fixed, 0.4), in_view(fixed, moving, pose, np.zeros(3), 2.5)
    assert (spans[..., 0] == spans[..., 1]).all() and surplus_of_spans(cumulative, spans) == 1
    nothing, everything = (draw_sets(fixed, cumulative, (2, 50), 3, some) for some in (spans, everywhere(fixed)))
    for one, other in zip(nothing, everything):
        np.testing.assert_array_equal(one.index, other.index)
        assert one.share == other.share == 1


def test_next_to_nothing_asks_for_no_more_points():
    (fixed,) = pyramid(side_of(3, more=13), [0.1])
    cumulative, spans = chances(fixed, 0.4), np.zeros((*fixed.voxels.shape[1:3], 2), np.int64)
    spans[3, 4] = 5, 6
    assert surplus_of_spans(cumulative, spans) == 1
    (drawn,) = draw_sets(fixed, cumulative, (1, 200_000), 3, spans)
    assert drawn.share < 1e-3 and 0 < drawn.index.shape[1] < 300
    np.testing.assert_array_equal(np.unique(np.round(drawn.index), axis=1), [[3], [4], [5]])


@pytest.mark.parametrize("threads", [1, 3])
def test_sets_are_drawn_alike_by_any_number_of_threads(threads):
    volume = flat_with_an_edge()
    alone = draw_sets(volume, chances(volume, 0.4), (5, 80), 11, everywhere(volume))
    shared = draw_sets(volume, chances(volume, 0.4), (5, 80), 11, everywhere(volume), threads)
    other = draw_sets(volume, chances(volume, 0.4), (5, 80), 12, everywhere(volume))
    for one, same, unlike in zip(alone, shared, other):
        np.testing.assert_array_equal(one.index, same.index)
        np.testing.assert_array_equal(one.values, same.values)
        assert (one.index != unlike.index).any()


def empty(shape: tuple[int, int, int], spacing: tuple[float, float, float], counting: int = 0) -> Volume:
    """A volume of which ``counting`` voxels count, or all for 0."""
    mask = (np.arange(np.prod(shape)) < counting).reshape(shape).astype(np.uint8) if counting else NO_MASK
    return Volume(np.zeros((1, *shape), np.float32), mask, np.diag([*spacing, 1.0]), np.zeros(1), np.ones(1))


LARGE, SMALL, PLANE = (
    empty(*of) for of in (((40, 40, 20), (2, 2, 2)), ((10, 10, 10), (1, 2, 4)), ((40, 20, 1), (1, 3, 1)))
)


@pytest.mark.parametrize(
    ("fixed", "moving", "surplus"),
    [
        (SMALL, LARGE, 1.0),
        (LARGE, LARGE, 1.0),
        (LARGE, empty((40, 40, 40), (1, 1, 2)), 2.0),
        (PLANE, empty((10, 20, 1), (1, 3, 1)), 4.0),
        (LARGE, empty((40, 40, 20), (2, 2, 2), 8000), 4.0),
        (empty((40, 40, 20), (2, 2, 2), 8000), LARGE, 1.0),
        (LARGE, SMALL, MOST_SURPLUS),
    ],
)
def test_more_points_are_drawn_where_the_moving_image_sees_a_part(fixed, moving, surplus):
    assert surplus_of_points(fixed, moving) == pytest.approx(surplus)
