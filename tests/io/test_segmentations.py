"""DICOM Segmentations carried to the fixed series, against SimpleITK's resampling."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from pydicom.sr.codedict import codes

from medmi.io import to_sitk
from medmi.io.dicom_sources import source_series
from medmi.io.segmentations import write_carried_segmentation
from medmi.spatial import LinearTransform, chain
from medmi.validation import InputError
from tests.io.drawing import LABELS, drawn
from tests.io.making import enhanced_dataset, save
from tests.io.registering import (
    FIXED_FRAME,
    MOVING_FRAME,
    STUDY,
    check_with_dciodvfy,
    fixed_series,
    motion,
    moving_series,
    smooth_field,
    with_study,
)

highdicom = pytest.importorskip("highdicom", reason="highdicom is not installed: DICOM Segmentations are not tested")


@pytest.fixture
def pair(tmp_path):
    return fixed_series(tmp_path / "fixed"), moving_series(tmp_path / "moving")


def by_simpleitk(transform, fixed, moving, label: int, kind: str) -> np.ndarray:
    """The segment resampled on the fixed series, ``(slices, rows, columns)``."""
    reference = source_series(fixed).grid
    voxels = torch.from_numpy((label == LABELS).astype(np.float32)).permute(2, 1, 0)[None]
    source = to_sitk(MetaTensor(voxels, affine=source_series(moving).grid.affine))
    target = to_sitk(MetaTensor(torch.zeros(1, *reference.shape), affine=reference.affine))
    method = sitk.sitkLinear if kind == "FRACTIONAL" else sitk.sitkNearestNeighbor
    return sitk.GetArrayFromImage(sitk.Resample(source, target, transform.to_sitk(), method, 0.0))


def on_fixed(path, fixed) -> np.ndarray:
    """Segments of a file on the fixed series, ``(slices, rows, columns, segments)``."""
    read = highdicom.seg.segread(path)
    uids = [header.SOPInstanceUID for header in source_series(fixed).headers]
    return read.get_pixels_by_source_instance(uids, ignore_spatial_locations=True, assert_missing_frames_are_empty=True)


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
@pytest.mark.parametrize("deformed", [False, True])
def test_segments_lie_where_simpleitk_puts_them(tmp_path, pair, kind, deformed):
    field = smooth_field(source_series(pair[0]).grid, 2.0)
    transform = chain([motion(), field]) if deformed else motion()
    file = drawn(pair[1], tmp_path / "seg.dcm", kind)
    write_carried_segmentation(transform, file, *pair, tmp_path / "out.dcm")
    carried = on_fixed(tmp_path / "out.dcm", pair[0])
    for label in (1, 2):
        expected = by_simpleitk(transform, *pair, label, kind) > 0.5
        assert expected.sum() > 20
        assert (carried[..., label - 1].astype(bool) != expected).sum() == 0


def test_fractional_segments_are_interpolated(tmp_path, pair):
    file = drawn(pair[1], tmp_path / "seg.dcm", "FRACTIONAL")
    write_carried_segmentation(motion(), file, *pair, tmp_path / "out.dcm")
    carried = on_fixed(tmp_path / "out.dcm", pair[0])
    expected = 0.6 * by_simpleitk(motion(), *pair, 1, "FRACTIONAL")
    assert expected.std() > 0.1 and np.abs(carried[..., 0] - expected).max() < 0.006
    check_with_dciodvfy(tmp_path / "out.dcm")


def test_segments_keep_what_they_are(tmp_path, pair):
    file = drawn(pair[1], tmp_path / "seg.dcm", "BINARY")
    write_carried_segmentation(motion(), file, *pair, tmp_path / "out.dcm")
    back = highdicom.seg.segread(tmp_path / "out.dcm")
    assert [back.get_segment_description(n).SegmentLabel for n in (1, 2)] == ["part 1", "part 2"]
    assert back.get_segment_description(2).segmented_property_type == codes.SCT.Liver
    assert (back.FrameOfReferenceUID, back.StudyInstanceUID, back.PatientID) == (FIXED_FRAME, STUDY, "PLANTED-ID")
    assert back.ReferencedSeriesSequence[0].SeriesInstanceUID == source_series(pair[0]).first.SeriesInstanceUID
    check_with_dciodvfy(tmp_path / "out.dcm")


def test_a_fixed_series_of_one_multi_frame_file_in_any_order(tmp_path, pair):
    order = [3, 0, 5, 1, 4, 2]
    headers = source_series(pair[0]).headers
    places = [np.array(headers[k].ImagePositionPatient, dtype=float) for k in order]
    dataset = enhanced_dataset(places, np.zeros((6, 11, 13), np.int16))
    dataset = with_study(dataset, STUDY, FIXED_FRAME, "CT")
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    enhanced = save(tmp_path / "enhanced", [dataset])
    file = drawn(pair[1], tmp_path / "seg.dcm", "BINARY")
    write_carried_segmentation(motion(), file, enhanced, pair[1], tmp_path / "out.dcm")
    write_carried_segmentation(motion(), file, *pair, tmp_path / "plain.dcm")
    volumes = [
        highdicom.seg.segread(tmp_path / name).get_volume(combine_segments=True) for name in ("out.dcm", "plain.dcm")
    ]
    assert volumes[0].array.sum() > 50
    assert np.array_equal(volumes[0].array, volumes[1].array)
    assert np.abs(volumes[0].affine - volumes[1].affine).max() < 1e-5


def test_refusals(tmp_path, pair):
    right = drawn(pair[1], tmp_path / "seg.dcm", "BINARY")
    foreign = drawn(pair[0], tmp_path / "foreign.dcm", "BINARY", np.pad(LABELS, ((0, 1), (0, 0), (0, 0))))
    away = torch.eye(4, dtype=torch.float64)
    away[:3, 3] = 500.0
    cases = [
        (motion(), foreign, "foreign.dcm: is not in the moving series' frame of reference"),
        (LinearTransform(away, "rigid"), right, "none of its segments falls on the fixed series"),
        (LinearTransform(torch.eye(3)), right, "transform: is 2D"),
        (motion(), pair[0] / "IM001.dcm", "cannot be read as a DICOM Segmentation"),
        (motion(), tmp_path / "none.dcm", "no such file"),
    ]
    for transform, file, message in cases:
        with pytest.raises(InputError, match=message):
            write_carried_segmentation(transform, file, *pair, tmp_path / "out.dcm")
    assert MOVING_FRAME != FIXED_FRAME and not (tmp_path / "out.dcm").exists()


def test_without_highdicom_the_message_says_what_to_install(tmp_path, pair, monkeypatch):
    file = drawn(pair[1], tmp_path / "seg.dcm", "BINARY")
    monkeypatch.setitem(sys.modules, "highdicom.seg", None)
    with pytest.raises(InputError, match=r"pip install 'medmi\[dicom\]'"):
        write_carried_segmentation(motion(), file, *pair, tmp_path / "out.dcm")
