"""Real values of DICOM pixels: slopes by slice, colour, compression, byte orders, damage."""

from __future__ import annotations

import logging
import pathlib

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEGLSLossless, RLELossless, generate_uid

from medmi.io import from_sitk, read_image
from medmi.validation import InputError
from tests.io.making import save, series_datasets, slice_dataset, volume_pixels


def stored(image) -> np.ndarray:
    return image[0].numpy().transpose(2, 1, 0)


def test_every_slice_has_its_own_slope(tmp_path):
    datasets = series_datasets()
    for k, dataset in enumerate(datasets):
        dataset.RescaleSlope, dataset.RescaleIntercept = f"{0.37 + 0.01 * k:.4f}", k
    truth = volume_pixels() * (0.37 + 0.01 * np.arange(6))[:, None, None] + np.arange(6)[:, None, None]
    assert np.abs(stored(read_image(save(tmp_path, datasets))) - truth).max() < 1e-3


@pytest.mark.parametrize(("bits", "signed"), [(8, 0), (16, 0), (16, 1), (32, 0), (32, 1)])
def test_widths_and_signs(tmp_path, bits, signed):
    dtype = np.dtype(f"<{'i' if signed else 'u'}{bits // 8}")
    values = (
        np.random.default_rng(1).integers(np.iinfo(dtype).min // 2, np.iinfo(dtype).max // 2, (11, 13)).astype(dtype)
    )
    dataset = slice_dataset(values, np.zeros(3), generate_uid(), 1)
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit, dataset.PixelRepresentation = bits - 1, signed
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
    dataset.PixelData = values.tobytes() + bytes(values.nbytes % 2)
    assert np.array_equal(stored(read_image(save(tmp_path, [dataset])))[0], values.astype(np.float32))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_other_encodings(tmp_path, syntax):
    datasets = series_datasets()
    for k, dataset in enumerate(datasets):
        dataset.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            dataset.PixelData = volume_pixels()[k].astype(">i2").tobytes()
        tmp_path.joinpath("series").mkdir(exist_ok=True)
        pydicom.dcmwrite(
            tmp_path / "series" / f"{k}.dcm",
            dataset,
            implicit_vr=syntax.is_implicit_VR,
            little_endian=syntax.is_little_endian,
            enforce_file_format=True,
        )
    assert np.array_equal(stored(read_image(tmp_path / "series")), volume_pixels() * 2.0 - 1000)


def test_a_file_without_preamble_and_transfer_syntax(tmp_path):
    dataset = series_datasets(1)[0]
    del dataset.file_meta
    dataset.preamble = None
    dataset.save_as(tmp_path / "bare", implicit_vr=True, little_endian=True)
    assert np.array_equal(stored(read_image(tmp_path / "bare"))[0], volume_pixels(1)[0] * 2.0 - 1000)


def test_a_lookup_table_in_place_of_a_slope(tmp_path):
    dataset = series_datasets(1)[0]
    del dataset.RescaleSlope, dataset.RescaleIntercept
    table = pydicom.Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [4, 0, 16], "US"
    table.add_new("LUTData", "US", [7, 70, 700, 7000])
    dataset.ModalityLUTSequence = [table]
    dataset.PixelRepresentation = 0
    values = np.arange(11 * 13).reshape(11, 13) % 4
    dataset.PixelData = values.astype("<u2").tobytes()
    assert np.array_equal(stored(read_image(save(tmp_path, [dataset])))[0], np.array([7, 70, 700, 7000])[values])


def test_run_lengths(tmp_path):
    datasets = series_datasets()
    for dataset in datasets:
        dataset.compress(RLELossless)
    assert np.array_equal(stored(read_image(save(tmp_path, datasets))), volume_pixels() * 2.0 - 1000)


@pytest.mark.parametrize("kind", ["generic_compressed_jpegls_001", "generic_compressed_rle_001"])
def test_real_compressed_series(data, kind):
    folder = data / "dicom-odd" / "dicom2nifti" / kind
    theirs = from_sitk(sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))))
    ours = read_image(folder)
    assert torch.equal(ours.as_tensor(), theirs.as_tensor())
    assert torch.allclose(ours.affine, theirs.affine, atol=1e-6)


def test_a_compressed_frame_cut_short(data, tmp_path):
    source = data / "dicom-odd" / "dicom2nifti" / "generic_compressed_jpegls_001" / "IM-0001-0001-0001.dcm"
    dataset = pydicom.dcmread(source)
    frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = pydicom.encaps.encapsulate([frame[: len(frame) // 2]])
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(InputError, match="truncated"):
        read_image(tmp_path / "a.dcm")


def test_no_decoder_names_what_to_install(data, tmp_path):
    source = data / "dicom-odd" / "dicom2nifti" / "generic_compressed_jpegls_001" / "IM-0001-0001-0001.dcm"
    dataset = pydicom.dcmread(source)
    if pydicom.pixels.get_decoder(JPEGLSLossless).is_available:
        pytest.skip("a decoder for JPEG-LS is installed")
    frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.NumberOfFrames = 2
    dataset.PixelData = pydicom.encaps.encapsulate([frame, frame])
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(InputError, match=r"JPEG-LS Lossless .* pip install pyjpegls"):
        read_image(tmp_path / "a.dcm", volume=0)


@pytest.mark.parametrize("keep", [0.2, 0.6, 0.95])
def test_cut_short(tmp_path, keep):
    folder = save(tmp_path, series_datasets(1))
    file = folder / "IM001.dcm"
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * keep)])
    for place in (file, folder):
        with pytest.raises(InputError):
            read_image(place)


def test_absurd_sizes_allocate_nothing(tmp_path):
    dataset = series_datasets(1)[0]
    dataset.compress(RLELossless)
    dataset.Rows = dataset.Columns = 60000
    with pytest.raises(InputError, match="cannot hold"):
        read_image(save(tmp_path, [dataset]))


def test_slices_of_unlike_shape_are_unlike_stacks(tmp_path):
    datasets = series_datasets()
    datasets[3].Rows, datasets[3].Columns = 13, 11
    with pytest.raises(InputError, match="mixed orientations or stacks"):
        read_image(save(tmp_path, datasets))


def test_real_patient_is_the_same_from_dicom_and_nifti(data):
    for kind in ("CT", "MR_T1", "PET"):
        reference = nibabel.load(data / "ct-mr-pet" / "STS_042" / f"{kind}_image.nii.gz")
        image = read_image(data / "dicom-ct-mr-pet" / "STS_042" / kind / "image")
        truth = reference.get_fdata(dtype=np.float32)
        assert np.abs(image.affine.numpy() - reference.affine).max() < 1e-3
        assert np.abs(image[0].numpy() - truth).max() <= 1e-6 * np.abs(truth).max()


@pytest.mark.parametrize("name", ["siemens_multiframe_anatomical_001", "philips_enhanced_anatomical_001"])
def test_real_enhanced_files(data, name):
    folder = data / "dicom-odd" / "dicom2nifti"
    reference = nibabel.load(folder / f"{name}_ground_truth.nii.gz")
    image = read_image(folder / name)
    truth = reference.get_fdata().squeeze()
    index = np.linalg.inv(reference.affine) @ image.affine.numpy()
    assert np.abs(index - np.eye(4)).max() < 1e-3
    assert np.abs(image[0].numpy() - truth).max() <= 1e-6 * np.abs(truth).max()


ODD = {
    "ExplVR_BigEndNoMeta.dcm": "no DICOM image",
    "MR_truncated.dcm": "less than expected",
    "badVR.dcm": "cannot be read as DICOM",
    "emri_small.dcm": "film .* 10 volumes",
    "emri_small_jpeg_2k_lossless_too_short.dcm": "10 volumes",
    "meta_missing_tsyntax.dcm": "no DICOM image",
    "no_meta.dcm": "no DICOM image",
    "rtplan_truncated.dcm": "no DICOM image",
    "test-SR.dcm": "no DICOM image",
    "waveform_ecg.dcm": "no DICOM image",
}
SAME_AS_GDCM = [
    "CT_small.dcm",
    "JPEG2000.dcm",
    "MR_small.dcm",
    "MR_small_bigendian.dcm",
    "SC_rgb_small_odd.dcm",
    "rtdose.dcm",
]


@pytest.mark.parametrize(("name", "message"), ODD.items())
def test_odd_files_are_refused_in_one_line(data, name, message, caplog):
    with pytest.raises(InputError, match=message) as caught:
        read_image(data / "dicom-odd" / "pydicom" / name)
    assert "\n" not in str(caught.value)


def test_the_last_frame_of_a_file_cut_short(data):
    with pytest.raises(InputError):
        read_image(data / "dicom-odd" / "pydicom" / "emri_small_jpeg_2k_lossless_too_short.dcm", volume=9)


@pytest.mark.parametrize("name", SAME_AS_GDCM)
def test_odd_files_that_gdcm_reads_right(data, name):
    file = data / "dicom-odd" / "pydicom" / name
    theirs = sitk.GetArrayFromImage(sitk.ReadImage(str(file))).astype(np.float32)
    theirs = theirs * np.float32(pydicom.dcmread(file).get("DoseGridScaling", 1))  # which GDCM leaves out
    ours = read_image(file)
    planes = np.moveaxis(ours.numpy(), 0, -1).T.squeeze()
    planes = np.moveaxis(planes, 0, -1) if len(ours) == 3 else planes
    assert np.allclose(planes, theirs.squeeze(), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "spacing", "shape"),
    [
        ("palette", 0.2622878766, (3, 800, 350)),
        ("rgb_color", 1.0, (3, 320, 240)),
        ("ybr_color", 0.5104970559, (3, 320, 240)),
    ],
)
def test_ultrasound_is_rgb_with_the_regions_calibration(data, name, spacing, shape):
    file = data / "ultrasound" / f"examples_{name}.dcm"
    image = read_image(file, volume=7 if name == "ybr_color" else None)
    assert image.shape == shape
    assert np.abs(image.affine.numpy() - np.diag([-spacing, -spacing, 1])).max() < 1e-9
    theirs = sitk.GetArrayFromImage(sitk.ReadImage(str(file))).reshape(-1, *shape[:0:-1], 3)
    frame = theirs[7 if name == "ybr_color" else 0].transpose(2, 1, 0)
    ours = image.numpy() / (256 if name == "palette" else 1)  # GDCM keeps the upper 8 bits of a palette's 16
    assert np.abs(ours - frame).mean() < 2.55  # JPEG decoders round differently


def test_a_palette_gives_its_own_colours(data):
    file = data / "ultrasound" / "examples_palette.dcm"
    dataset = pydicom.dcmread(file)
    tables = [np.frombuffer(dataset[f"{c}PaletteColorLookupTableData"].value, "<u2") for c in ("Red", "Green", "Blue")]
    indices = dataset.pixel_array
    image = read_image(file).numpy()
    for table, channel in zip(tables, image):
        assert np.array_equal(channel.T, table[indices].astype(np.float32))


def test_nothing_is_logged_or_kept_of_the_patient(tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    image = read_image(save(tmp_path, series_datasets()))
    said = caplog.text + "".join(capfd.readouterr()) + str(image.meta)
    assert not any(secret in said.replace(str(tmp_path), "") for secret in ("Planted", "PLANTED", "19010203"))


def test_folder_of_files_that_only_look_like_dicom(tmp_path):
    for k in range(3):
        pathlib.Path(tmp_path / f"{k}.dcm").write_bytes(np.random.default_rng(k).bytes(3000))
    with pytest.raises(InputError, match="holds no DICOM images"):
        read_image(tmp_path)
