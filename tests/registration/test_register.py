"""register and apply against scenes in closed form: every family, similarity and dimension; what a result holds."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor

from medmi import Grid, InputError, RegistrationResult, apply, register
from medmi.io import write_image
from medmi.spatial import LinearTransform
from tests.oracles.grids import array_of
from tests.oracles.scene import as_itk, error, pair, truth

# Largest error in mm within the scene; voxels are about 0.8 x 1.1 (x 1.9) mm.
FAMILIES = {
    ("translation", 2): 0.05,
    ("rigid", 2): 0.05,
    ("similarity", 2): 0.05,
    ("affine", 2): 0.1,
    ("homography", 2): 0.1,
    ("translation", 3): 0.05,
    ("rigid", 3): 0.15,
    ("similarity", 3): 0.3,
    ("affine", 3): 0.5,
}


@pytest.mark.parametrize(("family", "spatial_dims"), FAMILIES)
def test_every_family_finds_the_known_map(family, spatial_dims):
    matrix = truth(family, spatial_dims)
    result = register(*pair(matrix), transform=family)
    assert result.status == "converged"
    assert result.transform.family == family
    assert error(result.transform.matrix, matrix) < FAMILIES[family, spatial_dims]


@pytest.mark.parametrize(
    ("similarity", "contrast"), [("mi", "other"), ("nmi", "other"), ("ncc", "same"), ("ssd", "same")]
)
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_every_similarity_finds_the_known_map(similarity, contrast, spatial_dims):
    matrix = truth("rigid", spatial_dims)
    result = register(*pair(matrix, contrast), similarity=similarity)
    assert error(result.transform.matrix, matrix) < FAMILIES["rigid", spatial_dims]
    best = {"mi": 0.5, "nmi": 1.1, "ncc": 0.99, "ssd": -1e-3}[similarity]
    assert result.similarity > best


@pytest.fixture(scope="module")
def rigid() -> tuple[MetaTensor, MetaTensor, RegistrationResult]:
    fixed, moving = pair(truth("rigid", 3))
    return fixed, moving, register(fixed, moving)


def test_moved_is_what_simpleitk_makes_of_the_transform(rigid):
    fixed, moving, result = rigid
    theirs = array_of(sitk.Resample(as_itk(moving), as_itk(fixed), result.transform.to_sitk(), sitk.sitkLinear, 0.0))
    inside = result.transform.points(Grid.of(fixed).points())
    index = Grid.of(moving).world_to_index(inside)
    interior = ((index >= 1) & (index <= torch.tensor(moving.shape[1:]) - 2)).all(-1).numpy()
    assert interior.mean() > 0.5
    assert np.abs(theirs - result.moved.numpy()[0])[interior].max() < 1e-4 * np.ptp(theirs)


def test_moved_is_float32_on_the_fixed_grid_and_zero_outside(rigid):
    fixed, moving, result = rigid
    assert result.moved.dtype == torch.float32
    assert Grid.of(result.moved).same_as(Grid.of(fixed), 1e-9)
    index = Grid.of(moving).world_to_index(result.transform.points(Grid.of(fixed).points()))
    # A voxel reaches half its size beyond its centre, as in ITK.
    outside = ((index < -0.5) | (index > torch.tensor(moving.shape[1:]) - 0.5)).any(-1)
    assert 0 < outside.sum() < outside.numel()
    assert bool((result.moved.as_tensor()[0][outside] == 0).all())


def test_what_a_result_tells(rigid):
    fixed, _, result = rigid
    assert result.status == "converged" and not result.failed
    assert 0.5 < result.overlap <= 1
    assert result.seconds > 0
    assert result.fixed_grid.same_as(Grid.of(fixed))
    assert 0 <= result.confidence <= 1 and result.expected_error_mm > 0
    assert [row["level"] for row in result.history] == sorted(row["level"] for row in result.history)
    assert {frozenset(row) for row in result.history} == {frozenset({"level", "similarity", "overlap"})}
    assert result.history[-1]["similarity"] == result.similarity


def test_the_inverse_leads_back(rigid):
    fixed, _, result = rigid
    points = Grid.of(fixed).corners
    assert float((result.transform.inverse().points(result.transform.points(points)) - points).abs().max()) < 1e-9


def test_apply_of_the_transform_is_moved(rigid, tmp_path):
    fixed, moving, result = rigid
    write_image(moving, tmp_path / "moving.mha")
    for image, transform, reference in [
        (moving, result.transform, fixed),
        (as_itk(moving), result.transform.to_sitk(), as_itk(fixed)),
        (tmp_path / "moving.mha", result.transform, fixed),
    ]:
        again = apply(image, transform, reference)
        assert Grid.of(again).same_as(Grid.of(fixed), 1e-3)
        assert float((again - result.moved).abs().max()) < 1e-4


@pytest.mark.parametrize(
    ("interpolation", "itk"), [("nearest", sitk.sitkNearestNeighbor), ("bspline", sitk.sitkBSpline3)]
)
def test_apply_interpolates_as_simpleitk_does(rigid, interpolation, itk):
    fixed, moving, result = rigid
    mine = apply(moving, result.transform, fixed, interpolation).numpy()[0]
    theirs = array_of(sitk.Resample(as_itk(moving), as_itk(fixed), result.transform.to_sitk(), itk, 0.0))
    index = Grid.of(moving).world_to_index(result.transform.points(Grid.of(fixed).points()))
    interior = ((index >= 4) & (index <= torch.tensor(moving.shape[1:]) - 5)).all(-1).numpy()
    # A point that lies midway between two voxels may go to either.
    far = np.abs(mine - theirs)[interior] > 1e-3 * np.ptp(theirs)
    assert interior.sum() > 1000 and far.mean() < 1e-3


def test_apply_refuses_what_does_not_fit(rigid):
    fixed, moving, result = rigid
    flat, _ = pair(truth("rigid", 2))
    with pytest.raises(InputError, match=r"apply: dimensions differ: moving is 3D, transform is 3D, reference is 2D"):
        apply(moving, result.transform, flat)
    with pytest.raises(InputError, match="transform: got ndarray; pass a path"):
        apply(moving, np.eye(4), fixed)
    with pytest.raises(InputError, match="interpolation: unknown value 'cubic'"):
        apply(moving, result.transform, fixed, "cubic")


@pytest.fixture
def unrelated() -> tuple[MetaTensor, MetaTensor, LinearTransform]:
    """Two volumes of noise, and a start that leaves them a rim of one twentieth in common."""
    generator = torch.Generator().manual_seed(0)
    fixed, moving = (
        MetaTensor(torch.rand((1, 40, 30, 26), generator=generator), affine=torch.eye(4)) for _ in range(2)
    )
    shift = torch.tensor([37.5, 0, 0], dtype=torch.float64)
    return fixed, moving, LinearTransform.from_parameters(shift, "translation")


def test_a_failed_registration_is_a_result_not_an_exception(unrelated):
    fixed, moving, start = unrelated
    result = register(fixed, moving, initial=start)
    assert result.failed
    assert result.status.startswith("failed: the images overlap by ") and "\n" not in result.status
