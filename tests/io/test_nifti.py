"""NIfTI in: the right voxels in the right frame, or one line that says what is wrong."""

from __future__ import annotations

import gzip

import nibabel
import numpy as np
import pytest
import torch

from medmi.io import read_image
from medmi.validation import InputError
from tests.io.making import SHAPE, edited, nifti, oblique

VOXELS = np.random.default_rng(0).integers(0, 4000, SHAPE).astype(np.int16)

UNREADABLE = {
    "corrupt_gzip_crc.nii.gz": "CRC",
    "dim0_is_8.nii": "8 dimensions",
    "dim_huge.nii": "cannot hold",
    "dim_negative.nii": r"size \(-5, 40, 34\)",
    "dim_zero.nii": r"size \(0, 40, 34\)",
    "empty.nii": "is empty",
    "five_d_vector.nii": "3 volumes",
    "four_d_T3.nii": "3 volumes",
    "sform_nan.nii": "not finite",
    "sform_singular.nii": "singular",
    "text_renamed.nii": "is not NIfTI",
    "truncated_data.nii": "cannot hold",
    "truncated_gzip.nii.gz": "ended before",
    "truncated_header.nii": "truncated",
    "unknown_datatype.nii": "unknown type 4242",
    "vox_offset_beyond_eof.nii": "cannot hold",
}
SAME_AS_REFERENCE = [
    "bad_magic.nii",
    "bad_sizeof_hdr.nii",
    "big_endian.nii",
    "complex64.nii",
    "not_gzip.nii.gz",
    "pixdim_nan.nii",
    "pixdim_negative.nii",
    "pixdim_zero.nii",
    "qform_sform_conflict.nii",
    "scl_slope_nan.nii",
    "scl_slope_zero.nii",
    "uint64.nii",
]


@pytest.mark.parametrize("name", SAME_AS_REFERENCE)
def test_odd_but_readable(data, name):
    reference = nibabel.load(data / "nifti-malformed" / "ok_reference.nii")
    image = read_image(data / "nifti-malformed" / name)
    assert np.array_equal(image[0].numpy(), reference.get_fdata(dtype=np.float32))
    assert np.abs(image.affine.numpy() - reference.affine).max() < 1e-6


@pytest.mark.parametrize("name", ["left_handed.nii", "sform_shear.nii"])
def test_unusual_frames_are_nibabels(data, name):
    file = data / "nifti-malformed" / name
    reference = nibabel.load(file)
    assert np.abs(read_image(file).affine.numpy() - reference.affine).max() < 1e-6


@pytest.mark.parametrize(("name", "message"), UNREADABLE.items())
def test_unreadable(data, name, message):
    file = data / "nifti-malformed" / name
    with pytest.raises(InputError, match=message) as caught:
        read_image(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_every_orientation_is_one_head_in_the_world(data):
    reference = read_image(data / "nifti-orientations" / "RAS.nii.gz")
    files = sorted((data / "nifti-orientations").glob("*.nii.gz"))
    assert len(files) == 48
    for file in files:
        image = nibabel.as_closest_canonical(
            nibabel.Nifti1Image(read_image(file)[0].numpy(), read_image(file).affine.numpy())
        )
        assert np.array_equal(image.get_fdata(dtype=np.float32), reference[0].numpy()), file.name
        assert np.abs(image.affine - reference.affine.numpy()).max() < 1e-3, file.name


@pytest.mark.parametrize(
    "dtype", ["u1", "i1", "<i2", ">i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f4", ">f4", "<f8", ">f8"]
)
def test_every_type(tmp_path, dtype):
    voxels = (VOXELS % 100).astype(dtype)
    header = nibabel.Nifti1Header(endianness=">" if dtype.startswith(">") else "<")
    header.set_data_dtype(voxels.dtype)
    nibabel.save(nibabel.Nifti1Image(voxels, oblique().numpy(), header), tmp_path / "a.nii.gz")
    image = read_image(tmp_path / "a.nii.gz")
    assert image.dtype == torch.float32 and image.is_contiguous()
    assert image.affine.dtype == torch.float64
    assert np.array_equal(image[0].numpy(), (VOXELS % 100).astype(np.float32))


def test_metadata_are_the_path_and_the_space_only(tmp_path):
    file = nifti(tmp_path / "a.nii", VOXELS)
    edited(file, descrip=b"Planted Name", intent_name=b"PLANTED-ID")
    meta = read_image(file).meta
    assert meta["filename_or_obj"] == str(file)
    assert "Planted" not in str(meta) and "PLANTED" not in str(meta)


def test_slope_and_intercept(tmp_path):
    file = edited(nifti(tmp_path / "a.nii", VOXELS), scl_slope=0.5, scl_inter=-3)
    assert np.array_equal(read_image(file)[0].numpy(), VOXELS * np.float32(0.5) - 3)


def test_intercept_that_is_no_number(tmp_path):
    file = edited(nifti(tmp_path / "a.nii", VOXELS), scl_slope=2, scl_inter=np.nan)
    with pytest.raises(InputError, match="intercept nan"):
        read_image(file)


def test_nan_voxels_are_readable(tmp_path):
    voxels = VOXELS.astype(np.float32)
    voxels[3, 4, 5] = np.nan
    assert int(torch.isnan(read_image(nifti(tmp_path / "a.nii", voxels))).sum()) == 1


def test_sform_before_qform(tmp_path):
    file = nibabel.Nifti1Image(VOXELS, oblique().numpy())
    file.set_qform(np.diag([5, 5, 5, 1.0]), 1)
    nibabel.save(file, tmp_path / "a.nii")
    assert torch.allclose(read_image(tmp_path / "a.nii").affine, oblique(), atol=1e-5)


def test_qform_alone(tmp_path):
    file = nibabel.Nifti1Image(VOXELS, oblique().numpy())
    file.set_qform(oblique().numpy(), 1)
    file.set_sform(None, 0)
    nibabel.save(file, tmp_path / "a.nii")
    assert torch.allclose(read_image(tmp_path / "a.nii").affine, oblique(), atol=1e-4)


def test_neither_form_is_the_frame_itk_takes(tmp_path):
    import SimpleITK as sitk

    from medmi.io import from_sitk

    file = edited(nifti(tmp_path / "a.nii", VOXELS), sform_code=0, qform_code=0)
    assert torch.equal(read_image(file).affine, from_sitk(sitk.ReadImage(str(file))).affine)


def test_nifti_two(tmp_path):
    nibabel.save(nibabel.Nifti2Image(VOXELS, oblique().numpy()), tmp_path / "a.nii.gz")
    image = read_image(tmp_path / "a.nii.gz")
    assert np.array_equal(image[0].numpy(), VOXELS) and torch.allclose(image.affine, oblique(), atol=1e-12)


def test_pair_of_files(tmp_path):
    nibabel.save(nibabel.Nifti1Pair(VOXELS, oblique().numpy()), tmp_path / "a.img")
    assert np.array_equal(read_image(tmp_path / "a.hdr")[0].numpy(), VOXELS)
    (tmp_path / "a.img").unlink()
    with pytest.raises(InputError, match="no such file"):
        read_image(tmp_path / "a.hdr")


def test_analyze_is_refused(tmp_path):
    nibabel.save(nibabel.AnalyzeImage(VOXELS, np.eye(4)), tmp_path / "a.img")
    with pytest.raises(InputError, match="Analyze"):
        read_image(tmp_path / "a.hdr")


@pytest.mark.parametrize(("kind", "fields"), [("RGB", "RGB"), ("RGBA", "RGBA")])
def test_colour_is_three_channels(tmp_path, kind, fields):
    voxels = np.zeros(SHAPE, dtype=[(f, "u1") for f in fields])
    for k, f in enumerate(fields):
        voxels[f] = (VOXELS + k) % 251
    image = read_image(nifti(tmp_path / "a.nii.gz", voxels))
    assert image.shape == (3, *SHAPE)
    for k in range(3):
        assert np.array_equal(image[k].numpy(), (VOXELS + k) % 251)


def test_complex_is_magnitude(tmp_path):
    voxels = (VOXELS * (3 + 4j)).astype(np.complex64)
    assert np.allclose(read_image(nifti(tmp_path / "a.nii.gz", voxels))[0].numpy(), 5.0 * VOXELS)


def test_four_dimensions_ask_for_a_volume(tmp_path):
    voxels = np.stack([VOXELS, VOXELS + 1, VOXELS + 2], -1)
    file = nifti(tmp_path / "a.nii.gz", voxels)
    with pytest.raises(InputError, match=r"3 volumes; choose one of 0 to 2: volume=0, or .*#0"):
        read_image(file)
    assert np.array_equal(read_image(file, volume=2)[0].numpy(), VOXELS + 2)
    assert np.array_equal(read_image(f"{file}#1")[0].numpy(), VOXELS + 1)
    for wrong in (3, -1):
        with pytest.raises(InputError, match=f"no volume {wrong}"):
            read_image(file, volume=wrong)


def test_one_volume_needs_no_choice(tmp_path):
    file = nifti(tmp_path / "a.nii.gz", VOXELS[..., None])
    assert read_image(file).shape == (1, *SHAPE)
    assert read_image(file, volume=0).shape == (1, *SHAPE)


def test_planar_files(tmp_path):
    flat = np.diag([2.0, 3.0, 1.0, 1.0])
    flat[:3, 3] = [5, 6, 7]
    image = read_image(nifti(tmp_path / "flat.nii", VOXELS[..., 0], flat))
    assert image.shape == (1, *SHAPE[:2]) and image.affine.tolist() == [[2, 0, 5], [0, 3, 6], [0, 0, 1]]
    assert read_image(nifti(tmp_path / "tilted.nii", VOXELS[..., 0])).shape == (1, *SHAPE[:2], 1)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_cut_short_anywhere(tmp_path, suffix, keep):
    file = nifti(tmp_path / f"a{suffix}", VOXELS)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(InputError):
        read_image(file)


def test_a_gzip_file_that_could_not_hold_what_it_announces(tmp_path):
    header = nibabel.Nifti1Header()
    header.set_data_shape((2000, 2000, 2000))
    header["magic"], header["vox_offset"] = b"n+1", 352
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(header.binaryblock + bytes(4)))
    with pytest.raises(InputError, match="cannot hold"):
        read_image(tmp_path / "a.nii.gz")
