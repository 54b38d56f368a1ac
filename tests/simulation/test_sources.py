"""Sources: where patients' images lie on the common grid, scaling, boxes, slices, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from medmi.grid import Grid
from medmi.simulation.sources import block_means, centred_grid, scaled, slices_of, source_of
from medmi.validation import InputError
from tests.oracles.grids import SHAPES, oblique_grid


def ramp(grid: Grid, axis: int) -> MetaTensor:
    """World coordinates along an axis, as an image."""
    return MetaTensor(grid.points()[..., axis][None].float(), affine=grid.affine)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_sources_lie_about_the_fixed_images_middle(spatial_dims):
    """A ramp along the world stays one, at world coordinates that count from the fixed image's middle."""
    own, grid = oblique_grid(SHAPES[spatial_dims]), centred_grid((7, 9, 5)[:spatial_dims], 1.0)
    image = ramp(own, 1)
    low, high = np.quantile(image.numpy().astype(np.float64), [0.005, 0.995])
    expected = (grid.points()[..., 1] + own.centre[1] - low) / (high - low)
    source = source_of(image, image, grid)
    torch.testing.assert_close(source.fixed.double(), expected.clamp(0, 1), atol=2e-3, rtol=0)
    assert torch.equal(source.fixed, source.moving)


def test_a_moving_image_keeps_its_place_in_the_fixed_ones_world():
    fixed = MetaTensor(torch.rand(1, 20, 20), affine=centred_grid((20, 20), 1.0).affine)
    grid = Grid((40, 30), [[1.0, 0, -17.5], [0, 1, -12.5], [0, 0, 1]])
    values = torch.zeros(1, 40, 30)
    values[0, 20, 15] = 1
    source = source_of(fixed, MetaTensor(values, affine=grid.affine), centred_grid((20, 20), 1.0))
    peak = torch.stack(torch.unravel_index(source.moving.argmax(), (20, 20))).double()
    assert centred_grid((20, 20), 1.0).index_to_world(peak).tolist() == [2.5, 2.5]


def test_boxes_are_what_the_image_covers():
    image = MetaTensor(torch.rand(1, 10, 6), affine=torch.diag(torch.tensor([2.0, 3.0, 1.0])))
    source = source_of(image, None, centred_grid((40, 40), 1.0))
    assert source.low == (10, 11) and source.high == (30, 29) and source.moving is None
    outside = source.fixed[: source.low[0]]
    assert torch.equal(outside, outside[-1:].expand_as(outside))


def test_fine_images_are_smoothed_before_they_are_coarsened():
    """Of noise, ScipPy's Gaussian of 0.4 coarse voxels and linear interpolation leave as little."""
    own, grid = centred_grid((96, 96), 1.0), centred_grid((20, 20), 4.0)
    image = torch.rand(96, 96, generator=torch.Generator().manual_seed(0))
    found = source_of(MetaTensor(image[None], affine=own.affine), None, grid).fixed
    smooth = ndimage.gaussian_filter(scaled(image).numpy(), 1.6, mode="nearest", truncate=3)
    index = own.world_to_index(grid.points()).numpy()
    expected = ndimage.map_coordinates(smooth, np.moveaxis(index, -1, 0), order=1, mode="nearest")
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-3)


def test_scaling_is_by_percentiles():
    values = torch.arange(2001.0).reshape(3, 667) - 500
    found = scaled(values)
    assert found.min() == 0 and found.max() == 1
    torch.testing.assert_close(
        found[1], (values[1] - (-490)) / (1490 - 10 + 0.0 - (-490) - 490 + 500), atol=0.02, rtol=0
    )


def test_slices_run_along_the_last_axis_and_show_something():
    volume = torch.rand(1, 12, 14, 6, generator=torch.Generator().manual_seed(0))
    volume[..., 2] = 0
    source = source_of(MetaTensor(volume, affine=torch.eye(4)), volume_of(volume), centred_grid((12, 14, 10), 1.0))
    slices = slices_of(source)
    assert len(slices) == 5 and all(s.fixed.shape == (12, 14) for s in slices)
    assert torch.equal(slices[0].fixed, source.fixed[..., source.low[2]])
    assert torch.equal(slices[4].moving, source.moving[..., source.high[2] - 1])


def volume_of(values: torch.Tensor) -> MetaTensor:
    return MetaTensor(1 - values, affine=torch.eye(4))


def test_blocks_are_averaged():
    image = torch.rand(6, 9, 12)
    expected = image.numpy().reshape(2, 3, 3, 3, 4, 3).mean((1, 3, 5))
    np.testing.assert_allclose(block_means(image, 3).numpy(), expected, atol=1e-6)
    coarse = centred_grid((2, 3, 4), 3.0)
    points = block_means(centred_grid((6, 9, 12), 1.0).points()[..., 0], 3)
    torch.testing.assert_close(points, coarse.points()[..., 0])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(2, 8, 8), r"fixed: shape \(2, 8, 8\)"),
        (torch.zeros(1, 8, 8, 8), r"fixed: shape \(1, 8, 8, 8\)"),
        (torch.full((1, 8, 8), torch.nan), "fixed: holds values that are not finite"),
    ],
)
def test_bad_images_are_refused(image, message):
    with pytest.raises(InputError, match=message):
        source_of(MetaTensor(image, affine=torch.eye(image.ndim)), None, centred_grid((8, 8), 1.0))
    good = MetaTensor(torch.rand(1, 8, 8), affine=torch.eye(3))
    with pytest.raises(InputError, match=message.replace("fixed", "moving")):
        source_of(good, MetaTensor(image, affine=torch.eye(image.ndim)), centred_grid((8, 8), 1.0))
