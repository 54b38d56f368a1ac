"""from_sitk and to_sitk: SimpleITK's own physical points are the judge."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from medmi.grid import Grid
from medmi.io import from_sitk, to_sitk
from medmi.validation import InputError
from tests.io.making import image, oblique


def sitk_image(spatial_dims: int, components: int = 1) -> sitk.Image:
    size = (19, 23, 7)[:spatial_dims]
    rng = np.random.default_rng(1)
    array = rng.integers(0, 3000, (*size[::-1], components) if components > 1 else size[::-1]).astype(np.int16)
    result = sitk.GetImageFromArray(array, isVector=components > 1)
    turn, _ = np.linalg.qr(rng.normal(size=(spatial_dims, spatial_dims)))
    result.SetDirection(turn.flatten())
    result.SetSpacing((0.7, 1.3, 2.9)[:spatial_dims])
    result.SetOrigin((-31.0, 42.0, 7.0)[:spatial_dims])
    return result


@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_voxels_and_points_are_those_of_simpleitk(spatial_dims, components):
    source = sitk_image(spatial_dims, components)
    image = from_sitk(source)
    grid = Grid.of(image)
    assert image.dtype == torch.float32
    assert image.shape == (components, *source.GetSize())
    for index in ([0, 0, 0], [18, 3, 5], [7, 22, 6]):
        index = index[:spatial_dims]
        point = np.array(source.TransformIndexToPhysicalPoint(index)) * np.array([-1, -1, 1])[:spatial_dims]
        assert np.abs(grid.index_to_world(torch.tensor(index, dtype=torch.float64)).numpy() - point).max() < 1e-9
        assert np.array_equal(np.atleast_1d(source[index]), image[(slice(None), *index)].numpy())


@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_there_and_back(spatial_dims, components):
    source = sitk_image(spatial_dims, components)
    back = to_sitk(from_sitk(source))
    assert back.GetSize() == source.GetSize()
    for get in ("GetOrigin", "GetSpacing", "GetDirection"):
        assert np.abs(np.subtract(getattr(back, get)(), getattr(source, get)())).max() < 1e-12
    assert np.array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(source))


def test_shear_is_kept():
    sheared = image()
    affine = oblique()
    affine[:3, 2] += 0.4 * affine[:3, 1]
    sheared.affine = affine
    assert torch.allclose(from_sitk(to_sitk(sheared)).affine, affine, atol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "pixel"),
    [
        (torch.uint8, "8-bit unsigned integer"),
        (torch.bool, "8-bit unsigned integer"),
        (torch.int16, "16-bit signed integer"),
        (torch.float16, "32-bit float"),
        (torch.float64, "64-bit float"),
    ],
)
def test_voxel_types(dtype, pixel):
    assert to_sitk(image().to(dtype)).GetPixelIDTypeAsString() == pixel


def test_complex_voxels_become_their_magnitude():
    source = sitk.GetImageFromArray(np.full((4, 5), 3 + 4j, np.complex64))
    assert torch.equal(from_sitk(source).as_tensor(), torch.full((1, 5, 4), 5.0))


def test_source_stays_as_it_was():
    source = sitk_image(3)
    from_sitk(source).zero_()
    assert sitk.GetArrayViewFromImage(source).max() > 0


def test_four_dimensions_are_refused():
    with pytest.raises(InputError, match="4D"):
        from_sitk(sitk.Image([2, 3, 4, 5], sitk.sitkUInt8))
