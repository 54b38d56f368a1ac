"""The compiled resampling against the walk through torch, which keeps gradients, and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from medmi.grid import Grid
from medmi.spatial import LinearTransform, resample
from medmi.spatial.kernels_cpu import resample_through_matrix
from tests.contracts.transforms import linear
from tests.oracles.grids import oblique_grid

SHAPES = {2: ((23, 19), (17, 21)), 3: ((13, 11, 9), (10, 12, 14))}


def scene(spatial_dims: int) -> tuple[torch.Tensor, Grid, Grid]:
    moving_shape, fixed_shape = SHAPES[spatial_dims]
    image = torch.rand(2, *moving_shape, generator=torch.Generator().manual_seed(0))
    return image, oblique_grid(moving_shape, 1), oblique_grid(fixed_shape, 2)


@pytest.mark.parametrize(("family", "spatial_dims"), [("rigid", 2), ("homography", 2), ("rigid", 3), ("affine", 3)])
def test_it_is_what_the_path_with_gradients_gives(family, spatial_dims):
    image, moving, fixed = scene(spatial_dims)
    transform = linear(family, spatial_dims)
    fast = resample(image, moving, transform, fixed)
    slow = resample(image.clone().requires_grad_(), moving, transform, fixed)
    assert slow.requires_grad and not fast.requires_grad
    assert (fast != 0).any()
    same = (fast == 0) == (slow == 0)
    assert same.float().mean() > 0.99  # a point within rounding of the rim may fall on either side
    torch.testing.assert_close(fast[same], slow.detach()[same], rtol=0, atol=5e-5)


def test_values_are_scipy_s():
    image, _, _ = scene(3)
    rng = np.random.default_rng(0)
    matrix = np.eye(4)
    matrix[:3] += rng.normal(0, 0.05, (3, 4))
    matrix[:3, 3] += 1.5
    grid = Grid((6, 5, 4), torch.eye(4))
    out = resample_through_matrix(image, torch.from_numpy(matrix), grid).numpy()
    lattice = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    at = lattice @ matrix[:3, :3].T + matrix[:3, 3]
    for channel, ours in zip(image.numpy(), out):
        expected = map_coordinates(channel, at.transpose(3, 0, 1, 2), order=1, mode="nearest")
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_bits_do_not_depend_on_threads(threads):
    image, moving, fixed = scene(3)
    transform = linear("rigid", 3)
    before = torch.get_num_threads()
    expected = resample(image, moving, transform, fixed)
    try:
        torch.set_num_threads(threads)
        assert torch.equal(resample(image, moving, transform, fixed), expected)
    finally:
        torch.set_num_threads(before)


def test_gradients_of_the_transform_are_not_asked_here():
    """A matrix that learns goes the way of torch, and leaves a value without a graph to the compiled loop."""
    image, moving, fixed = scene(2)
    matrix = linear("rigid", 2).matrix.clone().requires_grad_()
    with torch.no_grad():
        assert not resample(image, moving, LinearTransform(matrix), fixed).requires_grad
