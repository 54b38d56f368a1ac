"""MetaImage, NRRD and pictures: SimpleITK's voxels and points; damage that ITK reads without a word is refused."""

from __future__ import annotations

import pathlib

import numpy as np
import PIL.Image
import pytest
import SimpleITK as sitk
import torch

from medmi.io import from_sitk, read_image
from medmi.validation import InputError

VOXELS = np.random.default_rng(0).normal(100, 20, (7, 23, 19)).astype(np.int16)


def volume() -> sitk.Image:
    image = sitk.GetImageFromArray(VOXELS)
    image.SetSpacing((0.5, 1.25, 3.0))
    image.SetOrigin((-7.0, 20.0, 3.0))
    turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    image.SetDirection(turn.flatten())
    return image


def same_as_simpleitk(file: pathlib.Path) -> bool:
    ours, theirs = read_image(file), from_sitk(sitk.ReadImage(str(file)))
    return torch.equal(ours.as_tensor(), theirs.as_tensor()) and torch.equal(ours.affine, theirs.affine)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nrrd", "a.nhdr"])
def test_volumes(tmp_path, name, compressed):
    sitk.WriteImage(volume(), str(tmp_path / name), compressed)
    assert same_as_simpleitk(tmp_path / name)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("keep", [0.3, 0.7, 0.99])
@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
def test_cut_short(tmp_path, name, keep, compressed):
    file = tmp_path / name
    sitk.WriteImage(volume(), str(file), compressed)
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * keep)])
    with pytest.raises(InputError):
        read_image(file)


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
def test_a_byte_changed_in_compressed_voxels(tmp_path, name):
    file = tmp_path / name
    sitk.WriteImage(volume(), str(file), True)
    damaged = bytearray(file.read_bytes())
    damaged[-len(damaged) // 3] ^= 0xFF
    file.write_bytes(damaged)
    with pytest.raises(InputError):
        read_image(file)


@pytest.mark.parametrize("name", ["a.mhd", "a.nhdr"])
def test_voxels_in_a_file_that_is_missing(tmp_path, name):
    sitk.WriteImage(volume(), str(tmp_path / name))
    next(p for p in tmp_path.iterdir() if p.name != name).unlink()
    with pytest.raises(InputError, match="no such file"):
        read_image(tmp_path / name)


@pytest.mark.parametrize(
    "header",
    [
        "ObjectType = Image\nNDims = 3\nDimSize = 4000 4000 4000\nElementType = MET_SHORT\nElementDataFile = LOCAL\n",
        "NRRD0004\ntype: short\ndimension: 3\nsizes: 4000 4000 4000\nencoding: raw\nendian: little\n\n",
    ],
)
def test_absurd_sizes_allocate_nothing(tmp_path, header):
    file = tmp_path / ("a.mha" if header.startswith("Object") else "a.nrrd")
    file.write_bytes(header.encode() + bytes(1000))
    with pytest.raises(InputError, match="cannot hold"):
        read_image(file)


def test_four_dimensions_ask_for_a_volume(tmp_path):
    frames = [volume(), volume() + 1]
    sitk.WriteImage(sitk.JoinSeries(frames), str(tmp_path / "a.mha"))
    with pytest.raises(InputError, match=r"4D .* 2 volumes"):
        read_image(tmp_path / "a.mha")
    chosen = read_image(tmp_path / "a.mha", volume=1)
    assert torch.equal(chosen.as_tensor(), from_sitk(frames[1]).as_tensor())
    assert torch.allclose(chosen.affine, from_sitk(frames[1]).affine, atol=1e-12)


def test_many_components_ask_for_one(tmp_path):
    vector = sitk.Compose([sitk.Cast(volume(), sitk.sitkFloat32) + k for k in range(6)])
    sitk.WriteImage(vector, str(tmp_path / "a.nrrd"))
    with pytest.raises(InputError, match="6 volumes"):
        read_image(tmp_path / "a.nrrd")
    assert torch.equal(read_image(tmp_path / "a.nrrd", volume=5)[0], from_sitk(volume() + 5)[0])


def test_a_film_of_ultrasound_asks_for_a_frame(data):
    file = data / "ultrasound" / "BoneUltrasound_L14.igs.mha"
    with pytest.raises(InputError, match="21 volumes"):
        read_image(file)
    frame = read_image(file, volume=20)
    assert np.array_equal(frame[0].numpy().T, sitk.GetArrayFromImage(sitk.ReadImage(str(file)))[20])
    assert frame.affine.shape == (3, 3)


@pytest.mark.parametrize("suffix", ["mhd", "png"])
def test_real_2d_images(data, suffix):
    files = sorted((data / "2d-known-transforms").glob(f"*.{suffix}"))
    assert files
    for file in files:
        assert same_as_simpleitk(file), file.name


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp_is_unknown"])
@pytest.mark.parametrize("mode", ["L", "RGB", "I;16", "P"])
def test_pictures(tmp_path, suffix, mode):
    file = tmp_path / f"a.{suffix}"
    rng = np.random.default_rng(5)
    array = rng.integers(0, 256, (13, 17, 3), dtype=np.uint8)
    picture = PIL.Image.fromarray(array if mode in ("RGB", "P") else array[..., 0])
    if mode == "I;16":
        picture = PIL.Image.fromarray(array[..., 0].astype(np.uint16) * 200)
    if mode == "P":
        picture = picture.quantize(64)
    if suffix not in ("png", "tif"):
        picture.save(file, format="PNG")
        with pytest.raises(InputError, match="no image medmi reads"):
            read_image(file)
        return
    picture.save(file)
    image = read_image(file)
    if (suffix, mode) == ("tif", "P"):
        assert same_as_simpleitk(file)  # the colours of TIFF palettes are 16-bit numbers
        return
    pixels = np.asarray(picture.convert("RGB") if mode == "P" else picture).astype(np.float32)
    channels = pixels[..., None] if pixels.ndim == 2 else pixels
    assert np.array_equal(image.numpy(), channels.transpose(2, 1, 0))
    assert torch.equal(image.affine, from_sitk(sitk.ReadImage(str(file))).affine)


def test_jpeg_is_colour_and_in_simpleitks_frame(data):
    file = data / "2d-colour-landmarks" / "Rat-Kidney_HE.jpg"
    image = read_image(file)
    assert image.shape[0] == 3 and same_as_simpleitk(file)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_dropped(tmp_path, mode):
    array = np.random.default_rng(5).integers(0, 256, (13, 17, len(mode)), dtype=np.uint8)
    PIL.Image.fromarray(array, mode if mode == "RGBA" else None).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png").numpy(), array[..., :-1].transpose(2, 1, 0))


def test_printing_inks_are_refused(tmp_path):
    PIL.Image.new("CMYK", (13, 17)).save(tmp_path / "a.jpg")
    with pytest.raises(InputError, match="CMYK"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_half_a_picture(tmp_path, suffix):
    file = tmp_path / f"a.{suffix}"
    PIL.Image.fromarray(np.random.default_rng(5).integers(0, 256, (60, 80), dtype=np.uint8)).save(file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    with pytest.raises(InputError):
        read_image(file)


def test_pages_are_slices_and_a_missing_one_is_noticed(tmp_path):
    file = tmp_path / "a.tif"
    sitk.WriteImage(sitk.GetImageFromArray(VOXELS), str(file))
    assert read_image(file).shape == (1, 19, 23, 7)
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    with pytest.raises(InputError):
        read_image(file)
