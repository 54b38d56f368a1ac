"""Displacement fields and wrapped ITK transforms: the contract, SimpleITK's border, folding, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from medmi.grid import Grid
from medmi.spatial import DisplacementFieldTransform, ItkTransform, SpatialTransform
from medmi.validation import InputError
from tests.contracts.transforms import TransformContract, itk_points, linear, lps, smooth_field
from tests.oracles.grids import SHAPES, oblique_grid


class FieldContract(TransformContract):
    suffix = ".h5"
    inverse_error = 0.05

    def make(self, seed: int) -> SpatialTransform:
        return smooth_field(self.grid, seed)

    def identity(self) -> SpatialTransform:
        return smooth_field(self.grid, size=0.0)

    def test_inverse_is_within_a_micrometre_at_the_voxels(self) -> None:
        transform, x = self.make(0), self.grid.points()
        torch.testing.assert_close(transform.points(transform.inverse().points(x)), x, rtol=0, atol=1e-3)


class TestField2D(FieldContract):
    spatial_dims = 2


class TestField3D(FieldContract):
    spatial_dims = 3


class ItkContract(TransformContract):
    """Euler and stretch about a centre, evaluated by SimpleITK alone."""

    def make(self, seed: int) -> SpatialTransform:
        itk = sitk.AffineTransform(self.spatial_dims)
        itk.SetMatrix((0.9 * linear("affine", self.spatial_dims, seed).matrix[:-1, :-1]).flatten().tolist())
        itk.SetCenter([4.0, -3.0, 2.0][: self.spatial_dims])
        return ItkTransform(itk)

    def identity(self) -> SpatialTransform:
        return ItkTransform(sitk.Transform(self.spatial_dims, sitk.sitkIdentity))


class TestItk2D(ItkContract):
    spatial_dims = 2


class TestItk3D(ItkContract):
    spatial_dims = 3


@pytest.mark.parametrize("d", [2, 3])
def test_displacement_ends_half_a_voxel_outside_as_in_simpleitk(d):
    grid = oblique_grid(SHAPES[d])
    size = torch.tensor(grid.shape, dtype=torch.float64)
    generator = torch.Generator().manual_seed(2)
    displacement = torch.randn(*grid.shape, d, generator=generator, dtype=torch.float64)
    transform = DisplacementFieldTransform(grid, displacement)
    rows = []
    for axis in range(d):
        for at in (-0.51, -0.49, -0.1, float(size[axis]) - 0.9, float(size[axis]) - 0.51, float(size[axis]) - 0.49):
            rows.append(torch.rand(d, generator=generator, dtype=torch.float64) * (size - 1))
            rows[-1][axis] = at
    points = grid.index_to_world(torch.stack(rows))
    exported = transform.to_sitk()
    np.testing.assert_allclose(itk_points(exported, points), transform.points(points), rtol=0, atol=1e-9)
    outside = points.reshape(d, 6, d)[:, [0, 5]]
    torch.testing.assert_close(transform.points(outside), outside, rtol=0, atol=0)


@pytest.mark.parametrize("family", ["affine", "homography"])
def test_sampled_is_exact_at_the_voxels_and_linear_between(family):
    grid = oblique_grid(SHAPES[2])
    transform = linear(family, 2)
    sampled = DisplacementFieldTransform.sampled(transform, grid)
    torch.testing.assert_close(sampled.points(grid.points()), transform.points(grid.points()), rtol=0, atol=1e-12)
    middle = grid.index_to_world(torch.tensor([[4.5, 7.0]], dtype=torch.float64))
    ends = grid.index_to_world(torch.tensor([[4.0, 7.0], [5.0, 7.0]], dtype=torch.float64))
    expected = transform.points(ends).mean(0, keepdim=True)
    torch.testing.assert_close(sampled.points(middle), expected, rtol=0, atol=1e-12)


def test_vectors_are_stored_as_itk_stores_them():
    grid = oblique_grid((4, 3, 5))
    displacement = torch.arange(4 * 3 * 5 * 3, dtype=torch.float64).reshape(4, 3, 5, 3)
    image = sitk.DisplacementFieldTransform(DisplacementFieldTransform(grid, displacement).to_sitk())
    image = image.GetDisplacementField()
    assert image.GetSize() == (4, 3, 5)
    for index in [(0, 0, 0), (3, 1, 2), (1, 2, 4)]:
        np.testing.assert_allclose(image[index], lps(displacement[index]))
        np.testing.assert_allclose(
            image.TransformIndexToPhysicalPoint(index), lps(grid.index_to_world(torch.tensor(index)))
        )


def test_gradient_by_points_is_one_plus_the_fields():
    grid = oblique_grid(SHAPES[2])
    field = smooth_field(grid)
    x = grid.index_to_world(torch.tensor([[4.3, 7.6], [9.2, 11.7]], dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(field.points, (x,))


def test_a_folding_field_has_no_inverse():
    grid = Grid((16, 16), torch.eye(3))
    rng = np.random.default_rng(0)
    folding = DisplacementFieldTransform(grid, torch.from_numpy(rng.uniform(-6, 6, (16, 16, 2))))
    with pytest.raises(InputError, match="inverse: the displacement field folds"):
        folding.inverse()


@pytest.mark.parametrize("d", [2, 3])
def test_a_sheared_grid_is_kept_by_simpleitk_and_its_files(d, tmp_path):
    shear = torch.eye(d + 1, dtype=torch.float64)
    shear[0, 1] = 0.3
    straight = oblique_grid(SHAPES[d])
    field = smooth_field(Grid(straight.shape, straight.affine @ shear))
    x = field.grid.index_to_world(
        torch.rand(30, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        * (torch.tensor(straight.shape) - 1)
    )
    path = str(tmp_path / "sheared.h5")
    sitk.WriteTransform(field.to_sitk(), path)
    np.testing.assert_allclose(itk_points(sitk.ReadTransform(path), x), field.points(x), rtol=0, atol=1e-9)


def test_wrong_shapes_and_non_finite_displacements_are_refused():
    grid = oblique_grid((4, 3, 5))
    with pytest.raises(InputError, match=r"displacement has shape \(3, 4, 3, 5\); \(4, 3, 5, 3\) is asked"):
        DisplacementFieldTransform(grid, torch.zeros(3, 4, 3, 5))
    with pytest.raises(InputError, match="displacement holds values that are not finite"):
        DisplacementFieldTransform(grid, torch.full((4, 3, 5, 3), float("nan")))


def test_what_itk_cannot_invert_is_refused():
    spline = ItkTransform(sitk.BSplineTransform(3, 3))
    assert spline.folded(spline) is None and spline.spatial_dims == 3
    with pytest.raises(InputError, match="inverse: ITK has none for BSplineTransform; sample it as a field first"):
        spline.inverse()
