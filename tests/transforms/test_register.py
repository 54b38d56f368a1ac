"""Register on single pairs: what it returns, what it leaves alone, its inverse and its failures."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor, set_track_meta
from monai.transforms import LazyTransform, Randomizable

from medmi import register
from medmi.io import to_sitk
from medmi.transforms import Register, Registerd, RegistrationFailedError, array
from medmi.validation import InputError
from tests.transforms.making import OPTIONS, itk_affine, itk_resampled, motion_error, pair, share_equal


@pytest.fixture(scope="module", params=[2, 3])
def done(request):
    fixed, moving = pair(request.param)
    moved, matrix = Register(**OPTIONS)(fixed, moving)
    return fixed, moving, moved, matrix


def test_matrix_is_the_known_motion(done):
    fixed, _, _, matrix = done
    d = fixed.ndim - 1
    assert matrix.shape == (d + 1, d + 1)
    assert matrix.dtype == torch.float64
    assert type(matrix) is torch.Tensor
    assert motion_error(matrix, d) < 0.5


def test_moved_lies_on_the_fixed_grid_as_simpleitk_resamples_it(done):
    fixed, moving, moved, matrix = done
    assert isinstance(moved, MetaTensor)
    assert moved.shape == fixed.shape
    assert torch.equal(moved.affine, fixed.affine)
    assert share_equal(moved[0].as_tensor(), itk_resampled(moving, itk_affine(matrix), fixed), 0.05) > 0.995


def test_same_bits_as_the_function(done):
    fixed, moving, moved, matrix = done
    result = register(fixed, moving, **OPTIONS)
    assert torch.equal(result.transform.matrix, matrix)
    assert torch.equal(result.moved.as_tensor(), moved.as_tensor())


def test_inverse_lies_on_the_moving_grid_as_simpleitk_resamples_it(done):
    _, moving, moved, matrix = done
    back = Register(**OPTIONS).inverse(moved)
    expected = itk_resampled(moved, itk_affine(matrix).GetInverse(), moving)
    assert back.shape == moving.shape
    assert torch.equal(back.affine, moving.affine)
    assert share_equal(back[0].as_tensor(), expected, 0.05) > 0.995
    assert back.applied_operations == moving.applied_operations
    assert len(moved.applied_operations) == 1


def test_inputs_stay_as_they_are():
    fixed, moving = pair(2)
    moving.applied_operations = [{"class": "Earlier"}]
    before = copy.deepcopy((fixed, moving))
    Register(**OPTIONS)(fixed, moving)
    for now, then in zip((fixed, moving), before):
        assert torch.equal(now.as_tensor(), then.as_tensor())
        assert torch.equal(now.affine, then.affine)
        assert now.meta.keys() == then.meta.keys()
        assert now.applied_operations == then.applied_operations


def test_metadata_are_those_of_the_grid_and_the_name_alone():
    fixed, moving = pair(2)
    moving.meta["0010|0010"] = fixed.meta["db_name"] = "Planted^Name"
    fixed.meta["original_affine"], fixed.meta["spatial_shape"] = 2 * fixed.affine, (50, 60)
    moved, _ = Register(**OPTIONS)(fixed, moving)
    assert set(moved.meta) == {
        "affine", "filename_or_obj", "original_affine", "registration_status", "space", "spatial_shape",
    }  # fmt: skip
    assert moved.meta["filename_or_obj"] == "/somewhere/T2.nii.gz"
    assert torch.equal(moved.meta["original_affine"], 2 * fixed.affine)
    assert moved.meta["spatial_shape"].tolist() == [50, 60]
    assert moved.meta["registration_status"] in ("converged", "max_iterations")
    back = Register(**OPTIONS).inverse(moved)
    assert torch.equal(back.meta["original_affine"], moving.affine)
    assert back.meta["spatial_shape"].tolist() == list(moving.shape[1:])


def test_2d_image_with_a_4x4_affine_keeps_it():
    fixed, moving = pair(2)
    wide = []
    for image in (fixed, moving):
        affine = torch.eye(4, dtype=torch.float64)
        affine[:2, :2], affine[:2, 3] = image.affine[:2, :2], image.affine[:2, 2]
        wide.append(MetaTensor(image.as_tensor(), affine=affine))
    moved, matrix = Register(**OPTIONS)(*wide)
    assert matrix.shape == (3, 3)
    assert torch.equal(moved.affine, wide[0].affine)
    assert torch.equal(Register(**OPTIONS).inverse(moved).affine, wide[1].affine)
    assert torch.equal(matrix, Register(**OPTIONS)(fixed, moving)[1])


def test_every_option_reaches_the_solver(monkeypatch):
    fixed, moving = pair(2)
    mask = MetaTensor(torch.ones_like(fixed.as_tensor()), affine=fixed.affine)
    mask[:, :5] = 0
    seen = []
    monkeypatch.setattr(array, "register", lambda *a, **k: seen.append((a, k)) or register(*a, **k))
    options = {
        "transform": ["translation", "rigid"],
        "similarity": "nmi",
        "initial": "geometry",
        "preset": "fast",
        "seed": 9,
    }
    _, matrix = Register(**options)(fixed, moving, mask, None)
    (_, given) = seen[0]
    assert {name: given[name] for name in options} == options
    assert given["fixed_mask"] is not None
    assert given["moving_mask"] is None
    assert torch.equal(matrix, register(fixed, moving, fixed_mask=mask, **options).transform.matrix)


def test_masks_of_both_sides_count():
    fixed, moving = pair(2)
    corner = [MetaTensor(torch.zeros_like(i.as_tensor()), affine=i.affine) for i in (fixed, moving)]
    for mask in corner:
        mask[:, 8:, 8:] = 1
    found = [Register(**OPTIONS)(fixed, moving, *masks)[1] for masks in ((), (corner[0],), (None, corner[1]))]
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_simpleitk_images_are_taken():
    fixed, moving = pair(2)
    _, expected = Register(**OPTIONS)(fixed, moving)
    moved, matrix = Register(**OPTIONS)(to_sitk(fixed), to_sitk(moving))
    torch.testing.assert_close(matrix, expected, atol=1e-3, rtol=0)  # the affine was taken apart and put together
    assert "filename_or_obj" not in moved.meta


def failing(monkeypatch):
    """The solver's own answer with a failed status."""
    monkeypatch.setattr(
        array, "register", lambda *a, **k: dataclasses.replace(register(*a, **k), status="failed: overlap under 10%")
    )


def test_failure_raises_and_says_which_pair(monkeypatch):
    failing(monkeypatch)
    with pytest.raises(
        RegistrationFailedError, match=r"failed: overlap under 10% \(/somewhere/T2.nii.gz\); pass on_failure"
    ):
        Register(**OPTIONS)(*pair(2))


def test_failure_may_keep_the_header_s_pose(monkeypatch):
    failing(monkeypatch)
    fixed, moving = pair(2)
    with pytest.warns(UserWarning, match="kept where its header says it lies"):
        moved, matrix = Register(**OPTIONS, on_failure="identity")(fixed, moving)
    assert torch.equal(matrix, torch.eye(3, dtype=torch.float64))
    assert moved.meta["registration_status"] == "failed: overlap under 10%"
    expected = itk_resampled(moving, sitk.Transform(2, sitk.sitkIdentity), fixed)
    assert share_equal(moved[0].as_tensor(), expected, 0.05) > 0.995


def test_refusals():
    fixed, moving = pair(2)
    with pytest.raises(InputError, match="on_failure: unknown value 'rais'; did you mean 'raise'"):
        Register(on_failure="rais")
    with pytest.raises(InputError, match="moving: got Tensor; pass a path, a MetaTensor"):
        Register()(fixed, moving.as_tensor())
    with pytest.raises(InputError, match="transform: unknown value 'rigd'"):
        Register("rigd")(fixed, moving)


def test_inverse_refuses_what_it_did_not_make(done):
    moved = done[2].clone()
    with pytest.raises(InputError, match="last operation recorded on the image is none, not Register"):
        Register().inverse(done[1])
    moved.applied_operations = [*moved.applied_operations, {"class": "Flip"}]
    with pytest.raises(InputError, match="is Flip, not Register; invert later operations first"):
        Register().inverse(moved)


def test_without_tracing_or_metadata():
    operation = Register(**OPTIONS)
    operation.tracing = False
    moved, _ = operation(*pair(2))
    assert moved.applied_operations == []
    fixed, moving = pair(2)
    set_track_meta(False)
    try:
        plain, _ = Register(**OPTIONS)(fixed, moving)
    finally:
        set_track_meta(True)
    assert type(plain) is torch.Tensor
    assert torch.equal(plain, moved.as_tensor())


def test_neither_lazy_nor_random():
    assert not isinstance(Register(), LazyTransform | Randomizable)


@pytest.mark.parametrize("call", ["array", "dictionary"])
def test_the_device_reaches_the_solver(call):
    fixed, moving = pair(2)
    with pytest.raises(InputError, match="device: cuda:99 cannot be used here"):
        if call == "array":
            Register(device="cuda:99")(fixed, moving)
        else:
            Registerd(device="cuda:99")({"fixed": fixed, "moving": moving})
