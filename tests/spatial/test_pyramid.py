"""Shrinking against NumPy's reshape and mean, and the grid of block centres against SimpleITK's BinShrink."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from medmi.grid import Grid
from medmi.spatial.pyramid import shrink, shrink_factors
from tests.oracles.grids import SHAPES, array_of, itk_image, oblique_grid

FACTORS = [(2, 3), (1, 4), (5, 1), (2, 3, 4), (1, 2, 1), (4, 1, 3), (3, 3, 3)]


def block_means(array: np.ndarray, factors: tuple[int, ...]) -> np.ndarray:
    """Means of blocks, what does not fill one being cut off."""
    counts = [n // f for n, f in zip(array.shape, factors)]
    cut = array[tuple(slice(0, n * f) for n, f in zip(counts, factors))].astype(np.float64)
    split = cut.reshape(list(itertools.chain(*zip(counts, factors))))
    return split.mean(tuple(range(1, 2 * len(factors), 2)))


def image_on(shape: tuple[int, ...], channels: int = 1) -> torch.Tensor:
    return torch.rand(channels, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("factors", FACTORS)
def test_values_are_block_means_of_each_channel(factors):
    shape = SHAPES[len(factors)]
    image = image_on(shape, 3)
    small, grid = shrink(image, oblique_grid(shape), factors)
    assert tuple(small.shape[1:]) == grid.shape
    for channel, expected in zip(small, image):
        np.testing.assert_allclose(channel, block_means(expected.numpy(), factors), rtol=0, atol=1e-6)


@pytest.mark.parametrize("factors", FACTORS)
def test_block_centres_are_binshrinks(factors):
    shape = SHAPES[len(factors)]
    grid = oblique_grid(shape, 1)
    image = image_on(shape)
    small, ours = shrink(image, grid, factors)
    binned = sitk.BinShrink(itk_image(image[0], grid), factors)
    theirs = itk_image(np.zeros(binned.GetSize(), np.float32), ours)
    assert ours.shape == binned.GetSize()
    np.testing.assert_allclose(theirs.GetOrigin(), binned.GetOrigin(), rtol=0, atol=1e-9)
    np.testing.assert_allclose(theirs.GetSpacing(), binned.GetSpacing(), rtol=0, atol=1e-9)
    np.testing.assert_allclose(theirs.GetDirection(), binned.GetDirection(), rtol=0, atol=1e-9)
    np.testing.assert_allclose(small[0], array_of(binned), rtol=0, atol=1e-6)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_permuted_memory_gives_the_same_values(order):
    image = image_on(SHAPES[3], 2)
    stored = image.permute(0, *[k + 1 for k in order]).contiguous()
    view = stored.permute(0, *[order.index(k) + 1 for k in range(3)])
    assert torch.equal(view, image)
    grid = oblique_grid(SHAPES[3])
    small, its_grid = shrink(view, grid, (2, 3, 4))
    expected, expected_grid = shrink(image, grid, (2, 3, 4))
    torch.testing.assert_close(small, expected, rtol=0, atol=1e-6)
    assert its_grid.same_as(expected_grid, 1e-12)


def test_a_slice_of_a_larger_tensor_gives_the_same_values():
    image = image_on((20, 21, 40))
    view = image[:, :, :, ::2]
    small, _ = shrink(view, oblique_grid((20, 21, 20)), (2, 2, 2))
    np.testing.assert_allclose(small[0], block_means(view[0].numpy(), (2, 2, 2)), rtol=0, atol=1e-6)


def test_ones_leave_image_and_grid_as_they_are():
    image, grid = image_on(SHAPES[3]), oblique_grid(SHAPES[3])
    small, its_grid = shrink(image, grid, (1, 1, 1))
    assert small is image and its_grid is grid


def test_factors_come_nearest_the_spacing_and_leave_voxels():
    grid = Grid((64, 64, 20, 1)[:3], torch.diag(torch.tensor([1.0, 0.5, 4.0, 1.0])))
    assert shrink_factors(grid, 4.0) == (4, 8, 1)
    assert shrink_factors(grid, 0.1) == (1, 1, 1)
    assert shrink_factors(grid, 1000.0) == (8, 8, 2)
    assert shrink_factors(grid, 1000.0, least=16) == (4, 4, 1)
    assert shrink_factors(Grid((5, 7), torch.eye(3)), 100.0) == (1, 1)


@pytest.mark.parametrize("d", [2, 3])
def test_factors_do_not_see_the_direction_of_the_axes(d):
    grid = oblique_grid(SHAPES[d], 1)
    straight = Grid(grid.shape, torch.diag(torch.cat([grid.spacing, torch.ones(1, dtype=torch.float64)])))
    assert shrink_factors(grid, 2.3, 2) == shrink_factors(straight, 2.3, 2)
