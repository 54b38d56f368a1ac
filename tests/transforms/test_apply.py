"""ApplyTransform: every kind of spatial transform against SimpleITK, labels, the way back, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor

from medmi.grid import Grid
from medmi.io import write_image, write_transform
from medmi.spatial import DisplacementFieldTransform, ItkTransform, LinearTransform, chain, from_sitk
from medmi.transforms import ApplyTransform
from medmi.transforms.inversion import field_preimages, inverse_on
from medmi.transforms.stored import from_plain, to_plain, to_tensor, to_transform
from medmi.validation import InputError
from tests.oracles.grids import oblique_grid
from tests.transforms.making import anatomy, itk_affine, itk_resampled, labels, motion, pair, share_equal

FIXED, MOVING = pair(3)
MATRIX = motion(3)
LINEAR = LinearTransform(MATRIX, "rigid")


def wave(grid: Grid, amplitude: float = 1.0) -> DisplacementFieldTransform:
    """A smooth field that fades out before the grid's border."""
    points = grid.points()
    fade = torch.exp(-((points - grid.centre).square().sum(-1, keepdim=True)) / 32)
    return DisplacementFieldTransform(grid, amplitude * fade * torch.sin(points / 4).roll(1, -1))


def spline(grid: Grid) -> sitk.Transform:
    """An ITK B-spline over the grid's box, its coefficients zero but in the middle."""
    box = grid.corners.numpy() * [-1, -1, 1]
    transform = sitk.BSplineTransform(3, 3)
    transform.SetTransformDomainOrigin(box.min(0).tolist())
    transform.SetTransformDomainPhysicalDimensions((box.max(0) - box.min(0)).tolist())
    transform.SetTransformDomainMeshSize([8, 8, 8])
    values = np.zeros((3, 11, 11, 11))
    values[:, 4:7, 4:7, 4:7] = np.random.default_rng(0).uniform(-1.5, 1.5, (3, 3, 3, 3))
    transform.SetParameters(values.ravel().tolist())
    return transform


def stored_field() -> torch.Tensor:
    return to_tensor(wave(Grid.of(FIXED)), Grid.of(FIXED))


KINDS = {
    "matrix": lambda folder: MATRIX,
    "float32 matrix": lambda folder: MATRIX.float(),
    "array": lambda folder: MATRIX.numpy(),
    "matrix as MetaTensor": lambda folder: MetaTensor(MATRIX),
    "medmi": lambda folder: LINEAR,
    "SimpleITK": lambda folder: itk_affine(MATRIX),
    "path": lambda folder: written(folder / "t.tfm", LINEAR),
    "FSL path": lambda folder: written(folder / "t.fsl", LINEAR),
    "displacements": lambda folder: stored_field(),
    "field path": lambda folder: written(folder / "t.nii.gz", wave(Grid.of(FIXED))),
    "chain": lambda folder: chain([LINEAR, wave(Grid.of(FIXED))]),
    "B-spline": lambda folder: spline(Grid.of(FIXED)),
    "chain with a B-spline": lambda folder: chain([from_sitk(spline(Grid.of(MOVING))), LINEAR]),
}


def written(path, transform):
    write_transform(transform, path, Grid.of(FIXED), Grid.of(MOVING))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_as_simpleitk_has_it_and_back(kind, tmp_path):
    transform = KINDS[kind](tmp_path)
    operation = ApplyTransform()
    out = operation(MOVING, transform, FIXED)
    truth = to_transform(transform, "t", Grid.of(FIXED), Grid.of(MOVING)).to_sitk()
    assert torch.equal(out.affine, FIXED.affine)
    assert share_equal(out[0].as_tensor(), itk_resampled(MOVING, truth, FIXED), 0.05) > 0.995
    back = operation.inverse(out)
    assert torch.equal(back.affine, MOVING.affine)
    assert back.shape == MOVING.shape
    # Carried forward again by SimpleITK, a point of the way back must come to where it was.
    inside, error = round_trip(out.applied_operations[-1]["extra_info"]["transform"], truth)
    assert inside > 0.3
    assert error < 0.02


def round_trip(parts, truth: sitk.Transform) -> tuple[float, float]:
    """Share of the moving points that the inverse leads into the fixed grid, and T(T^-1(y)) - y over them in mm."""
    points = Grid.of(MOVING).points()[::4, ::4, ::4].reshape(-1, 3)
    inverse = inverse_on(from_plain(parts), Grid.of(MOVING)).points(points)
    inside = Grid.of(FIXED).contains(inverse)
    flip = np.array([-1.0, -1.0, 1.0])
    there = np.array([truth.TransformPoint((p * flip).tolist()) for p in inverse[inside].numpy()]) * flip
    return float(inside.double().mean()), float(np.abs(there - points[inside].numpy()).max())


def test_a_homography_is_told_by_its_last_row():
    fixed, moving = pair(2)
    matrix = torch.eye(3, dtype=torch.float64)
    matrix[2, :2] = torch.tensor([0.004, -0.003])
    out = ApplyTransform()(moving, matrix, fixed)
    truth = LinearTransform(matrix, "homography").to_sitk(Grid.of(fixed))
    assert share_equal(out[0].as_tensor(), itk_resampled(moving, truth, fixed), 0.05) > 0.99
    assert from_plain(to_plain(LinearTransform(matrix, "homography"), Grid.of(fixed)))[0].family == "homography"


@pytest.mark.parametrize(("name", "itk"), [("linear", sitk.sitkLinear), ("nearest", sitk.sitkNearestNeighbor)])
def test_interpolations(name, itk):
    out = ApplyTransform(name)(MOVING, MATRIX, FIXED)
    assert share_equal(out[0].as_tensor(), itk_resampled(MOVING, itk_affine(MATRIX), FIXED, itk), 0.05) > 0.995


def test_cubic_interpolation_beats_linear():
    grid = oblique_grid((45, 41, 37), 3)
    smooth = MetaTensor(anatomy(grid.points()).float()[None], affine=grid.affine)
    reference = MetaTensor(torch.zeros(1, 19, 17, 13), affine=oblique_grid((19, 17, 13), 4).affine)
    truth = anatomy(Grid.of(reference).points() @ MATRIX[:3, :3].T + MATRIX[:3, 3])
    errors = [
        float((ApplyTransform(name)(smooth, MATRIX, reference)[0].as_tensor() - truth).abs().max())
        for name in ("bspline", "linear")
    ]
    assert errors[0] < errors[1] / 3


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64, torch.float64])
def test_labels_keep_type_and_values(dtype):
    mask = labels(MOVING, dtype)
    operation = ApplyTransform("nearest")
    out = operation(mask, MATRIX, FIXED)
    assert out.dtype == dtype
    assert set(out.unique().tolist()) <= set(mask.unique().tolist())
    assert operation.inverse(out).dtype == dtype


def test_labels_beyond_float_are_refused():
    mask = labels(MOVING, torch.int64)
    mask[0, 0, 0, 0] = 2**24 + 1
    with pytest.raises(InputError, match="label 16777217"):
        ApplyTransform("nearest")(mask, MATRIX, FIXED)


def test_every_channel_is_carried():
    both = MetaTensor(torch.cat([MOVING.as_tensor(), -MOVING.as_tensor()]), affine=MOVING.affine)
    out = ApplyTransform()(both, MATRIX, FIXED)
    assert torch.equal(out[1].as_tensor(), -out[0].as_tensor())


def test_paths_are_read(tmp_path):
    write_image(MOVING, tmp_path / "moving.nii.gz")
    out = ApplyTransform()(tmp_path / "moving.nii.gz", MATRIX, FIXED)
    assert share_equal(out.as_tensor(), ApplyTransform()(MOVING, MATRIX, FIXED).as_tensor(), 0.05) > 0.99


def test_refusals():
    with pytest.raises(InputError, match="interpolation: unknown value 'bilinear'; did you mean 'linear'"):
        ApplyTransform("bilinear")
    with pytest.raises(InputError, match="dimensions differ: image is 3D, transform is 2D, reference is 3D"):
        ApplyTransform()(MOVING, torch.eye(3), FIXED)
    with pytest.raises(InputError, match=r"matrix has shape \(1, 4, 4\)"):
        ApplyTransform()(MOVING, torch.eye(4)[None], FIXED)
    with pytest.raises(InputError, match="transform: got int"):
        ApplyTransform()(MOVING, 7, FIXED)
    with pytest.raises(InputError, match="image: got Tensor"):
        ApplyTransform()(MOVING.as_tensor(), MATRIX, FIXED)


def test_a_folding_field_is_applied_but_not_inverted():
    operation = ApplyTransform()
    out = operation(MOVING, wave(Grid.of(FIXED), 40.0), FIXED)
    with pytest.raises(InputError, match="the displacement field folds"):
        operation.inverse(out)


def test_a_wrapped_itk_transform_is_stored_as_displacements():
    stored = to_tensor(ItkTransform(spline(Grid.of(FIXED))), Grid.of(FIXED))
    assert stored.shape == (3, *FIXED.shape[1:])
    assert torch.equal(stored.affine, FIXED.affine)
    assert stored.dtype == torch.float64


def test_a_field_that_does_not_vanish_at_its_border_is_inverted():
    """A rigid motion sampled as a field: inside, its inverse is the motion's own; far outside, nothing moves."""
    grid = Grid.of(FIXED)
    field = DisplacementFieldTransform.sampled(LINEAR, grid)
    targets = Grid.of(MOVING).points().reshape(-1, 3)
    found = field_preimages(field, targets)
    truth = LINEAR.inverse().points(targets)
    inside = grid.contains(truth)
    assert 0.3 < float(inside.double().mean()) < 1
    assert float((found - truth)[inside].abs().max()) < 2e-3
    assert not grid.contains(found[~inside & grid.contains(targets)]).any()
    far = targets + 500
    assert torch.equal(field_preimages(field, far), far)
