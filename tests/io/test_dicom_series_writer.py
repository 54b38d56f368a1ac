"""The moved image as derived series: read back by medmi and GDCM, where it lies, whose it is, what is refused."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from pydicom.uid import CTImageStorage, MRImageStorage, SecondaryCaptureImageStorage, UltrasoundImageStorage

from medmi.grid import Grid
from medmi.io import from_sitk, read_image
from medmi.io.dicom_series_writer import write_derived_series
from medmi.io.dicom_sources import source_series
from medmi.spatial import resample
from medmi.validation import InputError
from tests.io.making import COLUMN, NORMAL, enhanced_dataset, save, series_datasets
from tests.io.registering import (
    FIXED_FRAME,
    MOTION,
    MOVING_FRAME,
    OTHER_STUDY,
    PLANTED,
    STUDY,
    check_with_dciodvfy,
    fixed_series,
    lps,
    motion,
    moving_series,
    with_study,
)


@pytest.fixture
def pair(tmp_path):
    return fixed_series(tmp_path / "fixed"), moving_series(tmp_path / "moving")


def moved_by(transform, fixed, moving) -> MetaTensor:
    image, grid = read_image(moving), source_series(fixed).grid
    return MetaTensor(resample(image.as_tensor(), Grid.of(image), transform, grid), affine=grid.affine)


def by_gdcm(folder) -> MetaTensor:
    return from_sitk(sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))))


def error(a: MetaTensor, b: MetaTensor) -> float:
    return float((a.as_tensor() - b.as_tensor()).abs().max())


def headers(folder) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(file) for file in sorted(folder.iterdir())]


def random_moved(fixed, low: float, high: float) -> MetaTensor:
    grid = source_series(fixed).grid
    voxels = torch.rand((1, *grid.shape), generator=torch.Generator().manual_seed(4)) * (high - low) + low
    voxels[0, 0, 0, 0], voxels[0, -1, -1, -1] = low, high
    return MetaTensor(voxels, affine=grid.affine)


def test_medmi_and_gdcm_read_it_back(tmp_path, pair):
    moved = moved_by(motion(), *pair)
    assert float(moved.std()) > 100
    write_derived_series(moved, *pair, tmp_path / "out")
    for back in (read_image(tmp_path / "out"), by_gdcm(tmp_path / "out")):
        assert error(back, moved) <= 0.5
        assert float((back.affine - moved.affine).abs().max()) < 1e-6
    check_with_dciodvfy(*sorted((tmp_path / "out").iterdir())[:2])


def test_a_spot_of_the_moving_image_appears_where_the_motion_says(tmp_path, pair):
    fixed_point = lps(np.array([[12.0, -33.0, 57.0]]) + 3 * NORMAL + 4 * COLUMN, np.eye(4))
    moving_point = lps(fixed_point, MOTION) * [-1, -1, 1]
    grid = Grid((60, 60, 60), np.diag([0.5, 0.5, 0.5, 1.0]) + np.pad(moving_point.T - 15, ((0, 1), (3, 0))))
    distance = (grid.points() - torch.from_numpy(moving_point)).norm(dim=-1)
    spot = MetaTensor(1000 * torch.exp(-(distance**2) / 8).float()[None], affine=grid.affine)
    fixed_grid = source_series(pair[0]).grid
    moved = MetaTensor(resample(spot.as_tensor(), grid, motion(), fixed_grid), affine=fixed_grid.affine)
    write_derived_series(moved, *pair, tmp_path / "out")
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "out")))
    index = np.unravel_index(sitk.GetArrayFromImage(image).argmax(), image.GetSize()[::-1])
    brightest = np.array(image.TransformIndexToPhysicalPoint([int(i) for i in index[::-1]]))
    assert np.linalg.norm(brightest - fixed_point) <= np.linalg.norm([0.75, 1.5, 2.5]) / 2


def test_whose_it_is_and_what_it_says_of_itself(tmp_path, pair):
    write_derived_series(moved_by(motion(), *pair), *pair, tmp_path / "out")
    sources = headers(pair[1])
    written = headers(tmp_path / "out")
    old = {d.SOPInstanceUID for d in sources} | {d.SeriesInstanceUID for d in (*sources, *headers(pair[0]))}
    assert len({d.SOPInstanceUID for d in written}) == len(written) == 6
    assert len({d.SeriesInstanceUID for d in written}) == 1
    assert old.isdisjoint({d.SOPInstanceUID for d in written} | {written[0].SeriesInstanceUID})
    for k, dataset in enumerate(written, start=1):
        assert str(dataset.PatientName) == PLANTED and dataset.PatientID == "PLANTED-ID"
        assert (dataset.StudyInstanceUID, dataset.AccessionNumber) == (OTHER_STUDY, "PLANTED-ACC")
        assert (dataset.FrameOfReferenceUID, dataset.Modality) == (FIXED_FRAME, "MR")
        assert (dataset.ImageType[:2], dataset.InstanceNumber) == (["DERIVED", "SECONDARY"], k)
        assert dataset.EchoTime == 12 and "RescaleSlope" not in dataset
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
        assert {r.ReferencedSOPInstanceUID for r in dataset.SourceImageSequence} == {d.SOPInstanceUID for d in sources}
    assert "resampled on its grid by medmi" in written[0].DerivationDescription
    assert written[0].DerivationCodeSequence[0].CodeMeaning == "Spatial resampling"
    assert written[0].SeriesDescription == "moving registered"
    assert written[0].StudiesContainingOtherReferencedInstancesSequence[0].StudyInstanceUID == STUDY


def test_what_described_the_source_slices_is_gone(tmp_path, pair):
    for file in pair[1].iterdir():
        dataset = pydicom.dcmread(file)
        dataset.SliceLocation, dataset.WindowCenter, dataset.WindowWidth = 12.5, 40, 400
        dataset.add_new(0x00091001, "LO", "private")
        dataset.add_new(0x60003000, "OW", b"\0\0")
        dataset.save_as(file)
    write_derived_series(moved_by(motion(), *pair), *pair, tmp_path / "out")
    dataset = headers(tmp_path / "out")[0]
    assert not {"SliceLocation", "WindowCenter", "WindowWidth"} & set(dir(dataset))
    assert not [e for e in dataset if e.tag.is_private or e.tag.group == 0x6000]


def test_the_sources_slope_is_kept_where_it_holds_the_values(tmp_path, pair):
    fixed = pair[0]
    moved = random_moved(fixed, -1000.0, 3000.0)
    write_derived_series(moved, fixed, fixed, tmp_path / "out")
    dataset = headers(tmp_path / "out")[0]
    assert (dataset.RescaleSlope, dataset.RescaleIntercept, dataset.PixelRepresentation) == (2, -1000, 1)
    assert 0.5 < error(read_image(tmp_path / "out"), moved) <= 1.0
    check_with_dciodvfy(tmp_path / "out" / "0001.dcm")


@pytest.mark.parametrize(
    ("low", "high", "sign"), [(0.0, 1e6, 0), (-3e5, 1e5, 1), (0.0, 0.0, 1), (-20.0, 60000.0, 1), (0.0, 60000.0, 0)]
)
def test_any_range_of_values(tmp_path, pair, low, high, sign):
    moved = random_moved(pair[0], low, high)
    write_derived_series(moved, *pair, tmp_path / "out")
    dataset = headers(tmp_path / "out")[0]
    slope = float(dataset.get("RescaleSlope", 1))
    assert dataset.PixelRepresentation == sign and slope <= max(1.0, (high - low) / 2**15)
    for back in (read_image(tmp_path / "out"), by_gdcm(tmp_path / "out")):
        assert error(back, moved) <= 0.5001 * slope + 1e-7 * max(abs(low), high)


def test_slices_with_slopes_of_their_own_share_one_afterwards(tmp_path, pair):
    for k, file in enumerate(sorted(pair[0].iterdir())):
        dataset = pydicom.dcmread(file)
        dataset.RescaleSlope = 1 + k
        dataset.save_as(file)
    moved = random_moved(pair[0], 0.0, 50.0)
    write_derived_series(moved, pair[0], pair[0], tmp_path / "out")
    slopes = {float(d.RescaleSlope) for d in headers(tmp_path / "out")}
    assert len(slopes) == 1 and slopes.pop() == pytest.approx(50 / 65535)
    assert error(read_image(tmp_path / "out"), moved) <= 50 / 65535


def test_a_tilted_fixed_series_keeps_its_tilt(tmp_path, pair):
    slices = [with_study(d, STUDY, FIXED_FRAME, "CT") for d in series_datasets(step=2.5 * NORMAL + 0.91 * COLUMN)]
    tilted = save(tmp_path / "tilted", slices)
    moved = random_moved(tilted, 0.0, 1000.0)
    write_derived_series(moved, tilted, pair[1], tmp_path / "out")
    back = read_image(tmp_path / "out")
    assert error(back, moved) <= 0.5 and float((back.affine - moved.affine).abs().max()) < 1e-6


@pytest.mark.parametrize(
    ("source", "modality", "becomes"),
    [
        ("1.2.840.10008.5.1.4.1.1.4.1", "MR", MRImageStorage),
        ("1.2.840.10008.5.1.4.1.1.2.1", "CT", CTImageStorage),
        (UltrasoundImageStorage, "US", SecondaryCaptureImageStorage),
    ],
)
def test_other_kinds_of_source(tmp_path, pair, source, modality, becomes):
    places = [np.array([12.0, -33.0, 57.0]) + 2.5 * k * NORMAL for k in range(6)]
    stored = np.random.default_rng(7).integers(-500, 2000, (6, 11, 13)).astype(np.int16)
    dataset = with_study(enhanced_dataset(places, stored), OTHER_STUDY, MOVING_FRAME, "CT")
    dataset.Modality, dataset.SOPClassUID = modality, source
    moving = save(tmp_path / "enhanced", [dataset])
    moved = random_moved(pair[0], -100.0, 1000.0)
    write_derived_series(moved, pair[0], moving, tmp_path / "out")
    written = headers(tmp_path / "out")
    assert {d.SOPClassUID for d in written} == {becomes} and {d.Modality for d in written} == {modality}
    back = read_image(tmp_path / "out")
    assert error(back, moved) <= 1100 / 2**15 and float((back.affine - moved.affine).abs().max()) < 1e-6
    check_with_dciodvfy(tmp_path / "out" / "0001.dcm")


def test_ct_mr_and_pet_of_a_patient(tmp_path, data):
    folder = data / "dicom-ct-mr-pet" / "STS_042"
    ct, pet = folder / "CT" / "image", folder / "PET" / "image"
    still = torch.eye(4, dtype=torch.float64)
    moved = moved_by(type(motion())(still, "rigid"), ct, pet)
    write_derived_series(moved, ct, pet, tmp_path / "out")
    for back in (read_image(tmp_path / "out"), by_gdcm(tmp_path / "out")):
        assert error(back, moved) <= float(moved.max()) / 65535
        assert float((back.affine - moved.affine).abs().max()) < 1e-6
    dataset = headers(tmp_path / "out")[0]
    assert (dataset.Units, dataset.NumberOfSlices, dataset.ImageType[1]) == ("GML", 49, "PRIMARY")
    assert float(dataset.RescaleIntercept) == 0


def test_images_that_are_not_the_moved_one_are_refused(tmp_path, pair):
    moved = random_moved(pair[0], 0, 1)
    cases = {
        "does not lie on the grid": read_image(pair[1]),
        "a 3D image of one channel": MetaTensor(torch.zeros(3, *moved.shape[1:]), affine=moved.affine),
        "not finite": MetaTensor(moved.as_tensor() / 0, affine=moved.affine),
    }
    for message, image in cases.items():
        with pytest.raises(InputError, match=f"moved: .*{message}"):
            write_derived_series(image, *pair, tmp_path / "out")
        assert sorted(p.name for p in tmp_path.iterdir()) == ["fixed", "moving"]


def test_folders_that_are_not_empty_are_refused(tmp_path, pair):
    moved = random_moved(pair[0], 0, 1)
    with pytest.raises(InputError, match="exists and is not an empty folder"):
        write_derived_series(moved, *pair, pair[1])
    with pytest.raises(InputError, match="exists and is not an empty folder"):
        write_derived_series(moved, *pair, pair[1] / "IM001.dcm")
    (tmp_path / "empty").mkdir()
    write_derived_series(moved, *pair, tmp_path / "empty")
    assert len(list((tmp_path / "empty").iterdir())) == 6
    with pytest.raises(InputError, match="cannot be written"):
        write_derived_series(moved, *pair, pair[1] / "IM001.dcm" / "below")
