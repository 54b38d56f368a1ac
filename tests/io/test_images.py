"""Reading by suffix and contents, writing whole or not at all."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor

from medmi.io import from_sitk, read_image, write_image
from medmi.validation import InputError
from tests.io.making import image, oblique

SUFFIXES = (".nii", ".nii.gz", ".mha", ".nrrd")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_written_and_read_by_medmi_and_simpleitk(tmp_path, suffix, spatial_dims, channels):
    source = image(channels, spatial_dims)
    write_image(source, tmp_path / f"a{suffix}")
    back = read_image(tmp_path / f"a{suffix}")
    theirs = from_sitk(sitk.ReadImage(str(tmp_path / f"a{suffix}")))
    for other in (back, theirs):
        assert torch.equal(other.as_tensor(), source.as_tensor())
        assert torch.allclose(other.affine, source.affine.double(), atol=1e-5)
    assert back.is_contiguous() and back.meta["filename_or_obj"] == str(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_shear_is_written(tmp_path, suffix):
    sheared = image()
    affine = oblique()
    affine[:3, 2] += 0.4 * affine[:3, 1]
    sheared.affine = affine
    write_image(sheared, tmp_path / f"a{suffix}")
    assert torch.allclose(read_image(tmp_path / f"a{suffix}").affine, affine, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int16, torch.int64, torch.float16, torch.float64])
@pytest.mark.parametrize("suffix", [".nii.gz", ".mha"])
def test_voxel_types(tmp_path, suffix, dtype):
    voxels = (image() * 2).round().to(dtype)
    write_image(voxels, tmp_path / f"a{suffix}")
    assert torch.equal(read_image(tmp_path / f"a{suffix}").as_tensor(), voxels.as_tensor().float())


def test_integers_beyond_32_bits(tmp_path):
    big = MetaTensor(torch.full((1, 3, 4, 5), 2**40), affine=oblique())
    write_image(big, tmp_path / "a.nii")
    assert float(read_image(tmp_path / "a.nii").max()) == 2.0**40


def test_same_image_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_image(image(), tmp_path / f"{name}.nii.gz")
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_metadata_are_not_written(tmp_path):
    named = image()
    named.meta["patient_name"] = "Planted^Name"
    for suffix in SUFFIXES:
        write_image(named, tmp_path / f"a{suffix}")
    write_image(named, tmp_path / "plain.nii")
    assert all(b"Planted" not in file.read_bytes() for file in tmp_path.iterdir())


def test_unwritable_places_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "missing" / "a.nii", tmp_path / "file" / "a.nii"):
        with pytest.raises(InputError, match="cannot be written") as caught:
            write_image(image(), target)
        assert str(caught.value).startswith(str(target))


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    target = tmp_path / "a.mha"
    target.write_bytes(b"old")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("disk full")

    monkeypatch.setattr(sitk, "WriteImage", fail)
    with pytest.raises(InputError, match="disk full"):
        write_image(image(), target)
    assert target.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["a.mha"]


@pytest.mark.parametrize("name", ["a.png", "a.dcm", "a"])
def test_unknown_target(tmp_path, name):
    with pytest.raises(InputError, match=r"written to \.nii, \.nii\.gz, \.mha, \.nrrd"):
        write_image(image(), tmp_path / name)


def refusal(path: pathlib.Path | str, **choices: object) -> str:
    with pytest.raises(InputError) as caught:
        read_image(path, **choices)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_nothing_there(tmp_path):
    assert "no such file or folder" in refusal(tmp_path / "a.nii.gz")
    assert "no such file or folder" in refusal(f"{tmp_path}/a.nii.gz#2")
    assert "holds no DICOM images" in refusal(tmp_path)


@pytest.mark.parametrize("suffix", ["", ".txt", ".dcm", ".nii", ".nii.gz", ".mha", ".nrrd", ".png", ".jpg", ".tif"])
@pytest.mark.parametrize("contents", [b"This is no image.\n" * 40, b"", b"\x00" * 700, b"\x1f\x8b\x08"])
def test_not_an_image(tmp_path, suffix, contents):
    file = tmp_path / f"a{suffix}"
    file.write_bytes(contents)
    assert str(file) in refusal(file)


def test_a_name_that_says_nothing(tmp_path):
    write_image(image(), tmp_path / "a.nii")
    (tmp_path / "a.nii").rename(tmp_path / "a.image")
    assert torch.equal(read_image(tmp_path / "a.image").as_tensor(), image().as_tensor())


def test_upper_case_names(tmp_path):
    write_image(image(), tmp_path / "a.nii.gz")
    (tmp_path / "a.nii.gz").rename(tmp_path / "A.NII.GZ")
    assert read_image(tmp_path / "A.NII.GZ").shape == image().shape


def test_a_number_sign_in_a_name_is_a_name(tmp_path):
    write_image(image(), tmp_path / "a#1.nii")
    assert read_image(tmp_path / "a#1.nii").shape == image().shape


def test_series_of_a_file_that_has_none(tmp_path):
    write_image(image(), tmp_path / "a.nii")
    assert refusal(tmp_path / "a.nii", series="MR").startswith("series:")


def test_real_grids_are_simpleitks(data):
    for name in ("templates-mni/spm12_avg152T1.nii.gz", "spine-t1-t2/t2.nii.gz", "oblique/someones_epi.nii.gz"):
        ours, theirs = read_image(data / name), from_sitk(sitk.ReadImage(str(data / name)))
        assert torch.allclose(ours.affine, theirs.affine, atol=1e-4)
        assert np.allclose(ours.numpy(), theirs.numpy(), rtol=1e-6)
