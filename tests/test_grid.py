"""Grid against SimpleITK's physical points and grid_sample's unit coordinates; oblique, anisotropic, shifted grids."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch.nn import functional

from medmi.grid import Grid, apply_affine, square_affine
from medmi.validation import InputError
from tests.oracles.grids import itk_image, oblique_grid

SHAPES = [(4, 3), (19, 23), (4, 3, 5), (19, 23, 29)]
CASES = [(shape, seed) for shape in SHAPES for seed in (0, 1)]


def indices(shape: tuple[int, ...], count: int = 40) -> torch.Tensor:
    """Continuous indices inside and some voxels outside the lattice."""
    unit = torch.rand(count, len(shape), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return unit * (torch.tensor(shape) + 6) - 3


def ras(point: tuple[float, ...]) -> list[float]:
    return [-point[0], -point[1], *point[2:]]


@pytest.mark.parametrize(("shape", "seed"), CASES)
def test_points_are_simpleitks_to_1e_9_mm(shape, seed):
    grid = oblique_grid(shape, seed)
    image = itk_image(np.zeros(shape, np.float32), grid)
    index = indices(shape)
    expected = [ras(image.TransformContinuousIndexToPhysicalPoint(i)) for i in index.tolist()]
    np.testing.assert_allclose(grid.index_to_world(index), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("shape", "seed"), CASES)
def test_indices_are_simpleitks(shape, seed):
    grid = oblique_grid(shape, seed)
    image = itk_image(np.zeros(shape, np.float32), grid)
    points = grid.index_to_world(indices(shape))
    expected = [image.TransformPhysicalPointToContinuousIndex(ras(p)) for p in points.tolist()]
    np.testing.assert_allclose(grid.world_to_index(points), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("shape", "seed"), CASES)
def test_spacing_centre_and_corners_are_simpleitks(shape, seed):
    grid = oblique_grid(shape, seed)
    image = itk_image(np.zeros(shape, np.float32), grid)
    ends = itertools.product(*[(0, s - 1) for s in shape])
    corners = [ras(image.TransformIndexToPhysicalPoint(end)) for end in ends]
    middle = image.TransformContinuousIndexToPhysicalPoint([(s - 1) / 2 for s in shape])
    assert grid.spatial_dims == len(shape)
    np.testing.assert_allclose(grid.spacing, image.GetSpacing(), rtol=1e-12)
    np.testing.assert_allclose(grid.corners, corners, atol=1e-9)
    np.testing.assert_allclose(grid.centre, ras(middle), atol=1e-9)


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5)])
def test_lattice_lies_in_tensor_axis_order(shape):
    grid = oblique_grid(shape, 1)
    image = itk_image(np.zeros(shape, np.float32), grid)
    points = grid.points()
    assert points.shape == (*shape, len(shape)) and points.dtype == torch.float64
    for index in itertools.product(*map(range, shape)):
        np.testing.assert_allclose(points[index], ras(image.TransformIndexToPhysicalPoint(index)), atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_ramp_sampled_at_unit_coordinates_is_the_index(shape):
    d = len(shape)
    grid = oblique_grid(shape)
    ramps = torch.stack(torch.meshgrid(*[torch.arange(s, dtype=torch.float64) for s in shape], indexing="ij"))
    index = torch.rand(50, d, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * (
        torch.tensor(shape) - 1
    )
    unit = grid.index_to_unit(index).reshape(1, -1, *[1] * (d - 1), d)
    sampled = functional.grid_sample(ramps[None], unit, mode="bilinear", align_corners=True).reshape(d, -1).T
    np.testing.assert_allclose(sampled, index, atol=1e-12)


@pytest.mark.parametrize("shape", [*SHAPES, (1, 5), (7, 1, 3)])
def test_unit_coordinates_and_back(shape):
    grid = oblique_grid(shape)
    index = indices(shape)
    torch.testing.assert_close(grid.unit_to_index(grid.index_to_unit(index)), index, rtol=0, atol=1e-12)


def test_one_voxel_axis_is_at_unit_zero():
    grid = Grid((1, 5), torch.eye(3))
    assert grid.index_to_unit(torch.tensor([0.0, 4.0])).tolist() == [1.0, 0.0]
    assert grid.unit_to_index(torch.tensor([1.0, 0.0])).tolist() == [0.0, 4.0]


def test_geometry_is_float64_and_unit_coordinates_keep_their_precision():
    grid = oblique_grid((4, 3, 5))
    index = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float32)
    assert grid.affine.dtype == grid.inverse.dtype == grid.index_to_world(index).dtype == torch.float64
    assert grid.index_to_unit(index).dtype == grid.unit_to_index(index).dtype == torch.float32


def test_contains_ends_at_the_outermost_voxel_centres():
    grid = oblique_grid((4, 3, 5))
    index = torch.tensor([[0.001, 0, 0], [2.999, 2, 4], [3.01, 0, 0], [0, -0.01, 0], [1, 1, 4.01]], dtype=torch.float64)
    inward = torch.tensor([[0, 1e-9, 1e-9], [0, -1e-9, -1e-9], [0, 0, 0], [0, 0, 0], [0, 0, 0]], dtype=torch.float64)
    assert grid.contains(grid.index_to_world(index + inward)).tolist() == [True, True, False, False, False]


def test_same_as_asks_for_the_shape_and_for_every_corner():
    grid = oblique_grid((4, 3, 5))
    shifted = grid.affine.clone()
    shifted[0, 3] += 5e-4
    turned = grid.affine.clone()
    turned[:3, 2] *= 1.01
    assert grid.same_as(grid) and grid.same_as(Grid((4, 3, 5), shifted))
    assert not grid.same_as(Grid((4, 3, 5), shifted), tolerance=1e-4)
    assert not grid.same_as(Grid((4, 3, 5), turned))
    assert not grid.same_as(Grid((4, 3, 6), grid.affine))


def test_grid_of_a_metatensor():
    grid = oblique_grid((4, 3, 5))
    image = MetaTensor(torch.zeros(2, 4, 3, 5), affine=grid.affine)
    assert Grid.of(image).same_as(grid, 1e-9)


def test_grid_of_a_2d_metatensor_drops_the_third_axis_of_a_4x4_affine():
    grid = oblique_grid((4, 3))
    affine = torch.eye(4, dtype=torch.float64)
    affine[:2, :2], affine[:2, 3], affine[2, 3] = grid.affine[:2, :2], grid.affine[:2, 2], 77.0
    assert Grid.of(MetaTensor(torch.zeros(1, 4, 3), affine=affine)).same_as(grid, 1e-9)


def test_left_handed_sheared_and_fine_grids_are_accepted():
    sheared = torch.tensor([[1e-3, 2e-4, 5.0], [0.0, -1e-3, 7.0], [0.0, 0.0, 1.0]])
    grid = Grid((4, 3), sheared)
    index = indices((4, 3))
    torch.testing.assert_close(grid.world_to_index(grid.index_to_world(index)), index, rtol=0, atol=1e-9)


def test_grid_cannot_be_changed():
    grid = oblique_grid((4, 3))
    with pytest.raises(dataclasses.FrozenInstanceError):
        grid.shape = (5, 5)  # type: ignore[misc]


@pytest.mark.parametrize("shape", [(4,), (4, 3, 5, 2), (4, 0, 5), ()])
def test_shapes_that_are_no_image_are_refused(shape):
    with pytest.raises(InputError, match=r"Grid: shape .* is not that of a 2D or 3D image"):
        Grid(shape, torch.eye(4))


@pytest.mark.parametrize("size", [(3, 3), (5, 5), (3, 4), (4,)])
def test_affine_of_another_size_is_refused(size):
    with pytest.raises(InputError, match=r"Grid: affine has shape .*\(4, 4\) is asked for 3D"):
        square_affine(torch.ones(size), 3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_affine_that_is_not_finite_is_refused(value):
    affine = torch.eye(4)
    affine[1, 3] = value
    with pytest.raises(InputError, match="Grid: affine holds values that are not finite"):
        Grid((4, 3, 5), affine)


@pytest.mark.parametrize("column", [[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [3.0, 1e-8, 0.0]])
def test_axes_that_do_not_span_space_are_refused(column):
    affine = torch.eye(4, dtype=torch.float64)
    affine[:3, 1] = torch.tensor(column, dtype=torch.float64)
    with pytest.raises(InputError, match="Grid: affine is singular"):
        Grid((4, 3, 5), affine)


def test_apply_affine_is_the_homogeneous_product_in_the_wider_precision():
    matrix = oblique_grid((4, 3, 5)).affine
    points = indices((4, 3, 5)).float().reshape(2, 20, 3)
    homogeneous = torch.cat([points.double(), torch.ones(2, 20, 1, dtype=torch.float64)], -1)
    expected = torch.einsum("ij,bnj->bni", matrix, homogeneous)[..., :3]
    torch.testing.assert_close(apply_affine(matrix, points), expected, rtol=0, atol=1e-12)
    assert apply_affine(matrix.float(), points).dtype == torch.float32
