"""Image stands in for a MetaTensor wherever medmi takes one."""

from __future__ import annotations

import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor

from medmi import Grid, InputError, apply, register
from medmi.image import Image
from medmi.io import read_image, to_sitk, write_image
from medmi.io.images import load_image
from medmi.io.itk import image_of
from medmi.transforms import Register

# Turned about the third axis by the angle of the triangle 3, 4, 5, which floating point holds well; spacing 1.5, 2, 2.5 mm.
AFFINE = torch.tensor([[1.2, -1.2, 0, -9], [0.9, 1.6, 0, 4], [0, 0, 2.5, 30], [0, 0, 0, 1]], dtype=torch.float64)


def blob(shift: float = 0.0) -> Image:
    grid = Grid((19, 17, 15), AFFINE)
    away = grid.points() - grid.centre - shift
    return Image(torch.exp(-(away / torch.tensor([6.0, 8, 9])).square().sum(-1)).float()[None], AFFINE)


def test_a_metatensor_of_it_shares_the_voxels_and_names_the_file_where_there_is_one():
    image = Image(torch.rand(1, 3, 4, 5), AFFINE, "scan.nii")
    whole = image.metatensor()
    assert isinstance(whole, MetaTensor) and whole.data_ptr() == image.voxels.data_ptr()
    assert torch.equal(whole.affine, AFFINE) and whole.meta["filename_or_obj"] == "scan.nii"
    assert "filename_or_obj" not in Image(image.voxels, AFFINE).metatensor().meta


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd"])
def test_files_read_as_either_hold_the_same(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    write_image(blob(), path)
    plain, whole = load_image(path), read_image(path)
    assert torch.equal(plain.voxels, whole.as_tensor()) and torch.equal(plain.affine, whole.affine)
    assert plain.name == whole.meta["filename_or_obj"] == str(path)
    itk = sitk.ReadImage(str(path))
    torch.testing.assert_close(image_of(itk).affine, AFFINE, atol=1e-5, rtol=0)


def test_it_is_registered_as_a_metatensor_is_to_the_bit():
    fixed, moving = blob(), blob(1.5)
    plain = register(fixed, moving, "translation", initial="identity")
    whole = register(fixed.metatensor(), moving.metatensor(), "translation", initial="identity")
    assert torch.equal(plain.transform.matrix, whole.transform.matrix)
    assert torch.equal(plain.moved.as_tensor(), whole.moved.as_tensor())
    assert isinstance(plain.moved, MetaTensor) and plain.moved.data_ptr() == plain.moved_image.voxels.data_ptr()
    assert torch.equal(apply(moving, plain.transform, fixed).as_tensor(), plain.moved.as_tensor())


def test_the_transform_for_pipelines_takes_it():
    moved, matrix = Register("translation", initial="identity")(blob(), blob(1.5))
    assert isinstance(moved, MetaTensor) and matrix.shape == (4, 4)


def test_a_plain_tensor_is_still_refused_by_name():
    with pytest.raises(InputError, match="fixed: got Tensor; pass a path, a MetaTensor"):
        register(blob().voxels, blob())


def test_simpleitk_gets_it_with_its_frame():
    image = to_sitk(blob())
    corner = image.TransformContinuousIndexToPhysicalPoint([18.0, 0, 14])
    expected = Grid((19, 17, 15), AFFINE).index_to_world(torch.tensor([18.0, 0, 14]))
    torch.testing.assert_close(torch.tensor(corner, dtype=torch.float64), expected * torch.tensor([-1.0, -1, 1]))
