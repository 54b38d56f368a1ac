"""from_sitk: every linear class, fields, composites in any nesting, and what only SimpleITK evaluates."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from medmi.spatial import Chain, DisplacementFieldTransform, ItkTransform, LinearTransform, from_sitk
from tests.contracts.transforms import itk_points, linear, smooth_field
from tests.oracles.grids import SHAPES, oblique_grid

CENTRES = {2: (4.0, -3.0), 3: (4.0, -3.0, 9.0)}
SHIFTS = {2: (7.0, -2.0), 3: (7.0, -2.0, 5.0)}
VERSOR = (0.1, -0.2, 0.15)


def versor_rigid() -> sitk.Transform:
    made = sitk.VersorRigid3DTransform()
    made.SetCenter(CENTRES[3])
    made.SetRotation(VERSOR, 0.7)
    made.SetTranslation(SHIFTS[3])
    return made


def scaled(d: int) -> sitk.Transform:
    made = sitk.Similarity2DTransform() if d == 2 else sitk.Similarity3DTransform()
    made.SetCenter(CENTRES[d])
    made.SetScale(1.2)
    made.SetTranslation(SHIFTS[d])
    made.SetAngle(0.4) if d == 2 else made.SetRotation(VERSOR, 0.7)
    return made


def versor() -> sitk.Transform:
    made = sitk.VersorTransform(VERSOR, 0.7)
    made.SetCenter(CENTRES[3])
    return made


def sheared(d: int) -> sitk.Transform:
    made = sitk.AffineTransform(d)
    made.SetCenter(CENTRES[d])
    made.SetTranslation(SHIFTS[d])
    made.Shear(0, 1, 0.3)
    return made


MADE = {
    "identity 2D": (lambda: sitk.Transform(2, sitk.sitkIdentity), "translation"),
    "identity 3D": (lambda: sitk.Transform(3, sitk.sitkIdentity), "translation"),
    "translation 2D": (lambda: sitk.TranslationTransform(2, SHIFTS[2]), "translation"),
    "translation 3D": (lambda: sitk.TranslationTransform(3, SHIFTS[3]), "translation"),
    "Euler 2D": (lambda: sitk.Euler2DTransform(CENTRES[2], 0.6, SHIFTS[2]), "rigid"),
    "Euler 3D": (lambda: sitk.Euler3DTransform(CENTRES[3], 0.3, -0.4, 0.5, SHIFTS[3]), "rigid"),
    "versor": (versor, "rigid"),
    "versor rigid": (versor_rigid, "rigid"),
    "similarity 2D": (lambda: scaled(2), "similarity"),
    "similarity 3D": (lambda: scaled(3), "similarity"),
    "scale 3D": (lambda: sitk.ScaleTransform(3, (1.1, 0.9, 1.3)), "affine"),
    "scale versor": (lambda: sitk.ScaleVersor3DTransform((1.1, 0.9, 1.3), VERSOR, 0.7), "affine"),
    "scale skew versor": (
        lambda: sitk.ScaleSkewVersor3DTransform((1.1, 0.9, 1.3), (0.01, 0.02, 0.03, 0.04, 0.05, 0.06), VERSOR, 0.7),
        "affine",
    ),
    "affine 2D": (lambda: sheared(2), "affine"),
    "affine 3D": (lambda: sheared(3), "affine"),
}


def some_points(d: int) -> torch.Tensor:
    return torch.randn(20, d, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 20


@pytest.mark.parametrize(("make", "family"), MADE.values(), ids=MADE)
def test_every_linear_class_keeps_its_points_and_family(make, family):
    itk = make()
    transform = from_sitk(itk)
    assert isinstance(transform, LinearTransform) and transform.family == family
    x = some_points(itk.GetDimension())
    np.testing.assert_allclose(transform.points(x), itk_points(itk, x), rtol=0, atol=1e-9)
    exported = transform.to_sitk()
    np.testing.assert_allclose(itk_points(exported, x), itk_points(itk, x), rtol=0, atol=1e-9)


def test_points_are_turned_the_right_way_round():
    quarter = sitk.Euler2DTransform((0.0, 0.0), math.pi / 2, (0.0, 0.0))
    # LPS (1, 0) goes to LPS (0, 1); in RAS both signs are turned over.
    moved = from_sitk(quarter).points(torch.tensor([[-1.0, 0.0]]))
    np.testing.assert_allclose(moved, [[0.0, -1.0]], atol=1e-12)


@pytest.mark.parametrize("d", [2, 3])
def test_fields_come_back_as_fields_on_the_same_grid(d):
    grid = oblique_grid(SHAPES[d], 1)
    field = smooth_field(grid)
    back = from_sitk(field.to_sitk())
    assert isinstance(back, DisplacementFieldTransform)
    assert back.grid.same_as(grid, 1e-9)
    torch.testing.assert_close(back.displacement, field.displacement, rtol=0, atol=1e-12)


@pytest.mark.parametrize("d", [2, 3])
def test_composites_of_linear_maps_become_one_matrix_and_nested_ones_a_flat_chain(d):
    a, b = linear("rigid", d).to_sitk(), linear("affine", d, 1).to_sitk()
    field = smooth_field(oblique_grid(SHAPES[d])).to_sitk()
    x = some_points(d)
    two = sitk.CompositeTransform([a, b])
    assert isinstance(from_sitk(two), LinearTransform)
    np.testing.assert_allclose(from_sitk(two).points(x), itk_points(two, x), rtol=0, atol=1e-9)
    nested = sitk.CompositeTransform([sitk.CompositeTransform([a, b]), field, sitk.CompositeTransform([b])])
    transform = from_sitk(nested)
    assert isinstance(transform, Chain) and len(list(transform)) == 3
    np.testing.assert_allclose(transform.points(x), itk_points(nested, x), rtol=0, atol=1e-9)


@pytest.mark.parametrize("d", [2, 3])
def test_an_empty_composite_is_the_identity(d):
    x = some_points(d)
    torch.testing.assert_close(from_sitk(sitk.CompositeTransform(d)).points(x), x, rtol=0, atol=0)


@pytest.mark.parametrize("d", [2, 3])
def test_splines_are_wrapped_and_exact(d):
    spline = sitk.BSplineTransformInitializer(sitk.Image([20] * d, sitk.sitkFloat32), [4] * d)
    count = len(spline.GetParameters())
    spline.SetParameters(np.random.default_rng(0).uniform(-2, 2, count).tolist())
    transform = from_sitk(spline)
    assert isinstance(transform, ItkTransform)
    inside = torch.rand(20, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 19
    x = inside * torch.tensor([-1.0, -1.0, 1.0])[:d]
    np.testing.assert_allclose(transform.points(x), itk_points(spline, x), rtol=0, atol=1e-12)
    assert float((transform.points(x) - x).norm(dim=-1).max()) > 0.5
