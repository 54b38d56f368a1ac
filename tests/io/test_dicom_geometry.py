"""Where DICOM slices lie: order by position, gaps, duplicates, tilt, mixed orientations, enhanced files, films."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from pydicom.uid import generate_uid

from medmi.io import from_sitk, read_image
from medmi.validation import InputError
from tests.io.making import (
    COLUMN,
    NORMAL,
    enhanced_dataset,
    expected_affine,
    save,
    series_datasets,
    slice_dataset,
    volume_pixels,
)

TRUTH = volume_pixels().astype(np.float32) * 2 - 1000


def right(image, step=None) -> bool:
    return np.array_equal(image[0].numpy().transpose(2, 1, 0), TRUTH) and bool(
        np.abs(image.affine.numpy() - expected_affine(step)).max() < 1e-5
    )


def test_names_against_the_order(tmp_path):
    assert right(read_image(save(tmp_path, series_datasets())))


@pytest.mark.parametrize("numbers", [[3, 1, 6, 2, 5, 4], [1] * 6, [None] * 6])
def test_instance_numbers_say_nothing(tmp_path, numbers):
    datasets = series_datasets()
    for dataset, number in zip(datasets, numbers):
        dataset.InstanceNumber = number
    assert right(read_image(save(tmp_path, datasets)))


def test_in_folders_below_with_a_name_that_is_no_dicom_beside(tmp_path):
    save(tmp_path / "a" / "b", series_datasets())
    (tmp_path / "README").write_text("no image\n" * 90)
    (tmp_path / "a" / "notes.txt").write_text("no image")
    assert right(read_image(tmp_path))


def test_the_same_as_gdcm(tmp_path):
    folder = save(tmp_path, series_datasets())
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    theirs, ours = from_sitk(sitk.ReadImage(names)), read_image(folder)
    assert torch.equal(theirs.as_tensor(), ours.as_tensor())
    assert torch.allclose(theirs.affine, ours.affine, atol=1e-5)


def test_gantry_tilt_is_a_shear(tmp_path):
    step = 2.5 * NORMAL + 0.91 * COLUMN
    assert right(read_image(save(tmp_path, series_datasets(step=step))), step)


@pytest.mark.parametrize(("missing", "between"), [(2, "slice 2 .* and slice 3"), (4, "slice 4 .* and slice 5")])
def test_a_missing_slice_is_named(tmp_path, missing, between):
    datasets = series_datasets()
    del datasets[missing]
    with pytest.raises(InputError, match=f"unevenly spaced: between {between} .* step is 5.000 mm, elsewhere 2.500"):
        read_image(save(tmp_path, datasets))


def test_positions_that_are_rounded_are_no_gap(tmp_path):
    datasets = series_datasets()
    for dataset in datasets:
        dataset.ImagePositionPatient = [round(v, 2) for v in dataset.ImagePositionPatient]
    image = read_image(save(tmp_path, datasets))
    assert np.abs(image.affine.numpy() - expected_affine()).max() < 0.006


def test_a_slice_off_the_line(tmp_path):
    datasets = series_datasets()
    datasets[2].ImagePositionPatient = list(np.array(datasets[2].ImagePositionPatient) + 4 * COLUMN)
    with pytest.raises(InputError, match=r"slice 3 of 6 lies 4\.\d+ mm off"):
        read_image(save(tmp_path, datasets))


def test_a_file_that_is_there_twice_counts_once(tmp_path):
    datasets = series_datasets()
    save(tmp_path, datasets)
    save(tmp_path, [datasets[3]], prefix="COPY")
    assert right(read_image(tmp_path))


def test_two_different_slices_at_one_place(tmp_path):
    datasets = series_datasets()
    datasets.append(
        slice_dataset(volume_pixels()[0], datasets[3].ImagePositionPatient, datasets[0].SeriesInstanceUID, 9)
    )
    with pytest.raises(InputError, match=r"2 frames lie at one place .* duplicates"):
        read_image(save(tmp_path, datasets))


def test_time_points_ask_for_one(tmp_path):
    datasets = series_datasets()
    later = series_datasets()
    for dataset in later:
        dataset.SeriesInstanceUID = datasets[0].SeriesInstanceUID
        dataset.AcquisitionNumber = 2
        dataset.RescaleIntercept = 0
    folder = save(tmp_path, datasets + later)
    with pytest.raises(InputError, match="visits its slices repeatedly with 2 volumes"):
        read_image(folder)
    assert right(read_image(folder, volume=0))
    assert np.array_equal(read_image(f"{folder}#CT#1")[0].numpy().transpose(2, 1, 0), TRUTH + 1000)


def test_mixed_orientations(tmp_path):
    datasets = series_datasets()
    for dataset in datasets[4:]:
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    with pytest.raises(InputError, match=r"mixed orientations or stacks \(0: 13x11x4, 1: 13x11x2\)"):
        read_image(save(tmp_path, datasets))


def test_a_single_slice_has_its_thickness(tmp_path):
    image = read_image(save(tmp_path, series_datasets(1)))
    assert image.shape == (1, 13, 11, 1)
    assert np.abs(image.affine.numpy() - expected_affine(99 * NORMAL)).max() < 1e-5


def test_one_file_of_a_series(tmp_path):
    save(tmp_path, series_datasets())
    assert read_image(tmp_path / "IM006.dcm").shape == (1, 13, 11, 1)


@pytest.mark.parametrize("orientation", [[1, 0, 0, 1, 0, 0], [2, 0, 0, 0, 2, 0], [0] * 6])
def test_directions_that_are_none(tmp_path, orientation):
    datasets = series_datasets()
    for dataset in datasets:
        dataset.ImageOrientationPatient = orientation
    with pytest.raises(InputError):
        read_image(save(tmp_path, datasets))


@pytest.mark.parametrize("spacing", [[0, 1], [float("nan"), 1]])
def test_spacings_that_are_none(tmp_path, spacing):
    datasets = series_datasets()
    for dataset in datasets:
        dataset.PixelSpacing = spacing
    with pytest.raises(InputError):
        read_image(save(tmp_path, datasets))


def places(order: list[int]) -> list[np.ndarray]:
    return [np.array([12.0, -33.0, 57.0]) + 2.5 * k * NORMAL for k in order]


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [3, 0, 5, 1, 4, 2]])
def test_frames_of_an_enhanced_file_in_any_order(tmp_path, order):
    stored = volume_pixels()
    file = save(tmp_path, [enhanced_dataset(places(order), stored)])
    image = read_image(file)
    assert np.abs(image.affine.numpy() - expected_affine()).max() < 1e-5
    for frame, place in enumerate(order):
        assert np.array_equal(image[0, ..., place].numpy().T, stored[frame].astype(np.float32) * (frame + 1))


def test_two_stacks_of_an_enhanced_file(tmp_path):
    file = save(tmp_path, [enhanced_dataset(places([0, 1, 2, 0, 1, 2]), volume_pixels(), list("AAABBB"))])
    with pytest.raises(InputError, match=r"stacks \(0: 13x11x3, 1: 13x11x3\) with 2 volumes"):
        read_image(file)
    assert np.array_equal(read_image(file, volume=1)[0, ..., 0].numpy().T, volume_pixels()[3] * 4.0)


def test_an_enhanced_file_that_contradicts_itself(tmp_path):
    dataset = enhanced_dataset(places([0, 1, 2, 3, 4, 5]), volume_pixels())
    dataset.NumberOfFrames = 5
    with pytest.raises(InputError, match="announces 5 frames but describes 6"):
        read_image(save(tmp_path, [dataset]))


def test_frames_of_3d_ultrasound_lie_where_their_volume_positions_say(tmp_path):
    order = [3, 0, 5, 1, 4, 2]
    dataset = enhanced_dataset(places(order), volume_pixels())
    orientation = dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    orientation.ImageOrientationVolume = orientation.ImageOrientationPatient
    dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationVolumeSequence = [orientation]
    del orientation.ImageOrientationPatient, dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        position = frame.PlanePositionSequence[0]
        position.ImagePositionVolume = position.ImagePositionPatient
        frame.PlanePositionVolumeSequence = [position]
        del position.ImagePositionPatient, frame.PlanePositionSequence
    image = read_image(save(tmp_path, [dataset]))
    assert np.abs(image.affine.numpy() - expected_affine()).max() < 1e-5
    assert np.array_equal(image[0, ..., 5].numpy().T, volume_pixels()[2] * 3.0)


def test_planes_of_a_dose_grid(tmp_path):
    dataset = slice_dataset(volume_pixels()[0], np.array([12.0, -33.0, 57.0]), generate_uid(), 1)
    dataset.Modality, dataset.NumberOfFrames = "RTDOSE", 6
    dataset.GridFrameOffsetVector = [100 + 2.5 * k for k in range(6)]
    dataset.PixelData = volume_pixels().astype("<i2").tobytes()
    assert right(read_image(save(tmp_path, [dataset])))


def test_a_film_asks_for_a_frame(tmp_path):
    dataset = slice_dataset(volume_pixels()[0], None, generate_uid(), 1)
    dataset.NumberOfFrames = 6
    dataset.PixelData = volume_pixels().astype("<i2").tobytes()
    folder = save(tmp_path, [dataset])
    with pytest.raises(InputError, match=r"film .* 6 volumes"):
        read_image(folder)
    frame = read_image(folder, volume=4)
    assert np.array_equal(frame[0].numpy().T, TRUTH[4])
    assert frame.affine.tolist() == [[-0.75, 0, 0], [0, -1.5, 0], [0, 0, 1]]
