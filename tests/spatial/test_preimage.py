"""Fixed points of moving points: the transform maps them back, whatever its kind."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from medmi.grid import Grid
from medmi.spatial import DisplacementFieldTransform, ItkTransform, LinearTransform, chain
from medmi.spatial.preimage import preimage
from medmi.validation import InputError

AFFINE = torch.tensor([[2.0, 0.5, 0, -20], [-0.3, 1.5, 0.2, 10], [0, 0.1, 3, 5], [0, 0, 0, 1]], dtype=torch.float64)


def field(size: float) -> DisplacementFieldTransform:
    grid = Grid((19, 23, 11), AFFINE)
    x = (grid.points() - grid.centre) / 10
    return DisplacementFieldTransform(grid, size * torch.sin(x[..., [2, 0, 1]]) * torch.cos(x))


def turn() -> LinearTransform:
    return LinearTransform.from_parameters(torch.tensor([5.0, -3.0, 8.0, 0.9, -0.6, 1.4]), "rigid")


def spline() -> ItkTransform:
    transform = sitk.BSplineTransform(3, 3)
    transform.SetTransformDomainPhysicalDimensions([100.0, 100.0, 100.0])
    transform.SetTransformDomainOrigin([-50.0, -50.0, -20.0])
    transform.SetTransformDomainMeshSize([3, 3, 3])
    transform.SetParameters((5 * np.random.default_rng(2).normal(size=len(transform.GetParameters()))).tolist())
    return ItkTransform(transform)


CASES = {
    "turn": turn(),
    "field": field(3.0),
    "spline": spline(),
    "turned field": chain([turn(), field(3.0)]),
    "field after a turn": chain([field(2.0), turn(), field(3.0)]),
}


@pytest.mark.parametrize("name", CASES)
def test_the_transform_maps_the_found_points_to_the_given(name):
    transform = CASES[name]
    index = torch.rand((4, 50, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 10
    y = transform.points(Grid((19, 23, 11), AFFINE).index_to_world(index))
    x = preimage(transform, y)
    assert x.shape == y.shape
    assert float((transform.points(x) - y).norm(dim=-1).max()) < 1e-3
    assert float((x - Grid((19, 23, 11), AFFINE).index_to_world(index)).norm(dim=-1).max()) < 2e-3


def test_a_strong_deformation_where_plain_iteration_diverges():
    grid = Grid((41, 5, 5), torch.eye(4, dtype=torch.float64))
    displacement = torch.zeros((*grid.shape, 3), dtype=torch.float64)
    displacement[..., 0] = 3 * (grid.points()[..., 0] - 20)
    transform = DisplacementFieldTransform(grid, displacement)
    y = torch.tensor([[40.0, 2.0, 2.0], [10.0, 2.0, 2.0]], dtype=torch.float64)
    assert torch.allclose(preimage(transform, y)[:, 0], torch.tensor([25.0, 17.5], dtype=torch.float64), atol=1e-4)


def test_no_points():
    assert preimage(field(1.0), torch.zeros((0, 3), dtype=torch.float64)).shape == (0, 3)


def test_points_that_nothing_maps_to_are_refused():
    grid = Grid((9, 9), torch.eye(3, dtype=torch.float64))
    displacement = torch.zeros((9, 9, 2), dtype=torch.float64)
    displacement[..., 0] = 100.0
    with pytest.raises(InputError, match=r"no fixed point maps to the moving point \[4.0, 4.0\] mm"):
        preimage(DisplacementFieldTransform(grid, displacement), torch.tensor([[4.0, 4.0]], dtype=torch.float64))
