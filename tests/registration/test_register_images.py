"""Images that register takes: every dtype, colour, SimpleITK, voxels that are not finite; and images it refuses."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from medmi import InputError, register
from medmi.io import write_image
from tests.oracles.scene import as_itk, colours, error, pair, truth

RIGID = truth("rigid", 3)
FLAT = truth("rigid", 2)


def typed(image: MetaTensor, dtype: torch.dtype, low: float, high: float) -> tuple[MetaTensor, MetaTensor]:
    """The image stretched to whole numbers from low to high, in that dtype and in float32."""
    values = image.as_tensor()
    whole = ((values - values.min()) / (values.max() - values.min()) * (high - low) + low).round()
    return MetaTensor(whole.to(dtype), affine=image.affine), MetaTensor(whole, affine=image.affine)


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        (torch.uint8, 0, 255),
        (torch.int16, -1024, 3071),
        (torch.int32, -70000, 70000),
        (torch.int64, 0, 4000),
        (torch.float64, -1, 1000),
        (torch.float16, 0, 1000),
    ],
)
def test_every_dtype_gives_the_bits_of_float32(dtype, low, high):
    (fixed, fixed32), (moving, moving32) = (typed(image, dtype, low, high) for image in pair(RIGID))
    result = register(fixed, moving)
    assert error(result.transform.matrix, RIGID) < 0.2
    assert torch.equal(result.transform.matrix, register(fixed32, moving32).transform.matrix)
    assert result.moved.dtype == torch.float32


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_bool_images(spatial_dims):
    matrix = truth("rigid", spatial_dims)
    fixed, moving = (MetaTensor(i.as_tensor() > 0.4, affine=i.affine) for i in pair(matrix, "same"))
    assert error(register(fixed, moving).transform.matrix, matrix) < 0.5


def test_the_inputs_stay_as_they_were():
    fixed, moving = pair(RIGID)
    kept = fixed.as_tensor().clone(), moving.as_tensor().clone(), fixed.affine.clone(), moving.affine.clone()
    register(fixed, moving)
    for before, after in zip(kept, (fixed.as_tensor(), moving.as_tensor(), fixed.affine, moving.affine)):
        assert torch.equal(before, after)


def test_neither_memory_order_nor_gradients_matter():
    fixed, moving = pair(RIGID)
    plain = register(fixed, moving).transform.matrix
    strided = MetaTensor(fixed.as_tensor().permute(0, 3, 2, 1).contiguous().permute(0, 3, 2, 1), affine=fixed.affine)
    wanted = MetaTensor(moving.as_tensor().clone().requires_grad_(True), affine=moving.affine)
    assert torch.equal(register(fixed, wanted).transform.matrix, plain)
    # Blocks are summed in the order of memory: only rounding may tell.
    assert error(register(strided, moving).transform.matrix, plain.numpy()) < 0.01


def test_intensity_scale_does_not_matter_to_mutual_information():
    fixed, moving = pair(RIGID)
    tiny = MetaTensor(moving.as_tensor() * 1e-6, affine=moving.affine)
    huge = MetaTensor(fixed.as_tensor() * 1e6 + 1e6, affine=fixed.affine)
    assert error(register(huge, tiny).transform.matrix, RIGID) < 0.2


def test_simpleitk_images_and_files_are_the_same_images(tmp_path):
    fixed, moving = pair(RIGID)
    write_image(moving, tmp_path / "moving.nii.gz")
    plain = register(fixed, moving).transform.matrix
    for other in (as_itk(moving), tmp_path / "moving.nii.gz", str(tmp_path / "moving.nii.gz")):
        found = register(as_itk(fixed), other).transform.matrix
        assert float((found - plain).abs().max()) < 1e-2  # NIfTI keeps affines as float32


def test_colour_is_summed_over_channels():
    fixed, moving = colours(FLAT)
    result = register(fixed, moving)
    assert error(result.transform.matrix, FLAT) < 0.05
    assert result.moved.shape == fixed.shape
    singles = [register(fixed[k : k + 1], moving[k : k + 1]).similarity for k in range(3)]
    assert abs(result.similarity - sum(singles)) < 0.1 * sum(singles)


def test_colour_against_grey_is_luminance():
    fixed, _ = colours(FLAT)
    # Colours whose luminance is the scene and whose mean is not.
    scene, moving = (image.as_tensor() for image in pair(FLAT))
    other = fixed.as_tensor()[1:2]
    rgb = MetaTensor(torch.cat([scene + 0.587 * other, scene - 0.299 * other, scene]), affine=fixed.affine)
    grey = MetaTensor(moving, affine=pair(FLAT)[1].affine)
    assert error(register(rgb, grey).transform.matrix, FLAT) < 0.05


def test_voxels_that_are_not_finite_are_left_out():
    fixed, moving = pair(RIGID)
    holes = torch.rand(fixed.shape, generator=torch.Generator().manual_seed(0)) < 0.02
    broken = MetaTensor(fixed.as_tensor().clone(), affine=fixed.affine)
    broken[holes] = float("nan")
    broken[0, 0, 0, 0] = float("inf")
    result = register(broken, moving)
    assert error(result.transform.matrix, RIGID) < 0.2
    back = register(moving, broken)
    assert bool(torch.isfinite(back.moved.as_tensor()).all())


def with_values(image: MetaTensor, value: float) -> MetaTensor:
    return MetaTensor(torch.full(image.shape, value), affine=image.affine)


FIXED, MOVING = pair(RIGID)
REFUSED = {
    "all NaN": (FIXED, with_values(MOVING, float("nan")), "moving: no voxel is finite; the image is broken"),
    "all infinite": (with_values(FIXED, float("inf")), MOVING, "fixed: no voxel is finite"),
    "constant": (with_values(FIXED, 7.0), MOVING, "fixed: every voxel is 7; a constant image cannot be aligned"),
    "2D against 3D": (pair(FLAT)[0], MOVING, r"fixed is 2D \(52, 41\) but moving 3D \(37, 41, 21\); both must be"),
    "one-voxel axis": (FIXED, MOVING[..., :1], r"moving: shape \(37, 41, 1\) has an axis of one voxel"),
    "no channel axis": (FIXED[0, 0], MOVING, r"fixed: shape \(34, 23\) is not \(C, \*spatial\)"),
    "batched": (MetaTensor(FIXED.as_tensor()[None]), MOVING, r"fixed: shape \(1, 1, 44, 34, 23\) is not"),
    "array": (FIXED.numpy(), MOVING, "fixed: got ndarray; pass a path, a MetaTensor"),
    "tensor": (FIXED, MOVING.as_tensor(), "moving: got Tensor; pass a path, a MetaTensor"),
    "nothing": (FIXED, None, "moving: got NoneType"),
    "missing file": ("no/such.nii.gz", MOVING, "such.nii.gz"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_images_that_cannot_be_aligned(case):
    fixed, moving, message = REFUSED[case]
    with pytest.raises(InputError, match=message) as caught:
        register(fixed, moving)
    assert "\n" not in str(caught.value)


def test_one_constant_channel_harms_nothing():
    fixed, moving = colours(FLAT)
    fixed[1] = 3.0
    assert error(register(fixed, moving).transform.matrix, FLAT) < 0.1


def test_values_beyond_float32_are_refused_or_aligned():
    fixed, moving = pair(RIGID)
    huge = MetaTensor(fixed.as_tensor().double() * 1e300, affine=fixed.affine)
    with pytest.raises(InputError, match="fixed"):
        register(huge, moving)
