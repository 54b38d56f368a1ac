"""Levels: lifting, pyramids with masks, robust ranges."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from nibabel.orientations import io_orientation

from medmi.grid import Grid
from medmi.registration.drawing import draw
from medmi.registration.levels import lift, lower, percentiles, pyramid, robust_range
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


@pytest.mark.parametrize("size", [1, 2, 101])
def test_percentiles_are_numpys(size):
    rows, percents = np.random.default_rng(0).normal(size=(2, size)).astype(np.float32), [0, 0.5, 37, 99.9, 100]
    np.testing.assert_allclose(percentiles(rows, percents), np.percentile(rows, percents, axis=1), rtol=1e-6)


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
