"""RT Structure Sets carried to the fixed series: points by hand, planes, references, what is refused."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from medmi.io.contours import write_carried_contours
from medmi.io.dicom_sources import source_series
from medmi.spatial import LinearTransform, chain
from medmi.validation import InputError
from tests.io.drawing import CIRCLE, centre, contour, structures
from tests.io.registering import (
    FIXED_FRAME,
    MOTION,
    STUDY,
    check_with_dciodvfy,
    fixed_series,
    lps,
    motion,
    moving_series,
    smooth_field,
)


@pytest.fixture
def pair(tmp_path):
    return fixed_series(tmp_path / "fixed"), moving_series(tmp_path / "moving")


def points_of(item: Dataset) -> np.ndarray:
    return np.array(item.ContourData, dtype=float).reshape(-1, 3)


def test_points_go_from_moving_to_fixed(tmp_path, pair):
    drawn = centre(pair[1]) + CIRCLE
    file = structures(pair[1], tmp_path / "rt.dcm", [contour(drawn), contour(drawn[:1], "POINT")])
    write_carried_contours(motion(), file, *pair, tmp_path / "out.dcm")
    dataset = pydicom.dcmread(tmp_path / "out.dcm")
    closed, point = dataset.ROIContourSequence[0].ContourSequence
    assert (closed.ContourGeometricType, point.ContourGeometricType) == ("CLOSED_PLANAR", "POINT")
    assert np.abs(lps(points_of(closed), MOTION) - drawn).max() < 1e-7
    assert np.abs(lps(points_of(point), MOTION) - drawn[:1]).max() < 1e-7
    check_with_dciodvfy(tmp_path / "out.dcm")


def test_it_belongs_to_the_fixed_series(tmp_path, pair):
    file = structures(pair[1], tmp_path / "rt.dcm", [contour(centre(pair[1]) + CIRCLE)])
    write_carried_contours(motion(), file, *pair, tmp_path / "out.dcm")
    dataset = pydicom.dcmread(tmp_path / "out.dcm")
    assert (dataset.StudyInstanceUID, dataset.PatientID) == (STUDY, "PLANTED-ID")
    frame = dataset.ReferencedFrameOfReferenceSequence[0]
    series = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    first = source_series(pair[0]).first
    assert (frame.FrameOfReferenceUID, series.SeriesInstanceUID) == (FIXED_FRAME, first.SeriesInstanceUID)
    assert len(series.ContourImageSequence) == 6
    (region,) = dataset.StructureSetROISequence
    assert (region.ROIName, region.ReferencedFrameOfReferenceUID) == ("Région 3", FIXED_FRAME)
    assert "ROIVolume" not in region
    assert dataset.ROIContourSequence[0].ROIDisplayColor == [255, 0, 3]
    assert [o.ReferencedROINumber for o in dataset.RTROIObservationsSequence] == [3]


def test_after_a_deformation_the_transform_leads_back(tmp_path, pair):
    drawn = centre(pair[1]) + CIRCLE
    file = structures(pair[1], tmp_path / "rt.dcm", [contour(drawn), contour(drawn[:9], "OPEN_PLANAR")])
    transform = chain([motion(), smooth_field(source_series(pair[0]).grid)])
    write_carried_contours(transform, file, *pair, tmp_path / "out.dcm")
    closed, opened = pydicom.dcmread(tmp_path / "out.dcm").ROIContourSequence[0].ContourSequence
    assert {closed.ContourGeometricType, opened.ContourGeometricType} == {"OPEN_NONPLANAR"}
    assert int(closed.NumberOfContourPoints) == 25 and int(opened.NumberOfContourPoints) == 9
    by_itk = transform.to_sitk()
    back = np.array([by_itk.TransformPoint(p) for p in points_of(closed).tolist()])
    assert np.abs(back - np.concatenate([drawn, drawn[:1]])).max() < 1e-3
    assert isinstance(by_itk, sitk.Transform)
    check_with_dciodvfy(tmp_path / "out.dcm")


def test_the_image_that_holds_a_contour_is_named(tmp_path, pair):
    fixed = source_series(pair[0])
    still = LinearTransform(torch.eye(4, dtype=torch.float64), "rigid")
    corner = np.array(fixed.headers[2].ImagePositionPatient, dtype=float)
    row, column = np.array(fixed.first.ImageOrientationPatient, dtype=float).reshape(2, 3)
    square = corner + np.array([row, 3 * row, 3 * row + 4 * column, row + 4 * column])
    slanted = square + np.array([0, 0, 1, 1])[:, None] * 4 * np.cross(row, column)
    far = square + 60 * np.cross(row, column)
    drawn = [contour(p) for p in (square, slanted, far)]
    file = structures(pair[0], tmp_path / "rt.dcm", drawn, FIXED_FRAME)
    write_carried_contours(still, file, pair[0], pair[0], tmp_path / "out.dcm")
    inside, across, outside = pydicom.dcmread(tmp_path / "out.dcm").ROIContourSequence[0].ContourSequence
    assert inside.ContourImageSequence[0].ReferencedSOPInstanceUID == fixed.headers[2].SOPInstanceUID
    assert "ContourImageSequence" not in across and "ContourImageSequence" not in outside


def test_real_contours_travel_there_and_back(tmp_path, data):
    folder = data / "dicom-ct-mr-pet" / "STS_042"
    ct, mr = folder / "CT" / "image", folder / "MR_T1" / "image"
    original = pydicom.dcmread(folder / "MR_T1" / "mask" / "RS.dcm")
    write_carried_contours(motion(), folder / "MR_T1" / "mask" / "RS.dcm", ct, mr, tmp_path / "there.dcm")
    write_carried_contours(motion().inverse(), tmp_path / "there.dcm", mr, ct, tmp_path / "back.dcm")
    there, back = pydicom.dcmread(tmp_path / "there.dcm"), pydicom.dcmread(tmp_path / "back.dcm")
    assert there.StructureSetROISequence[0].ROIName == "GTV_Mass_MR_T1"
    pairs = zip(original.ROIContourSequence[0].ContourSequence, back.ROIContourSequence[0].ContourSequence, strict=True)
    for before, after in pairs:
        assert after.ContourGeometricType == "CLOSED_PLANAR"
        assert np.abs(points_of(before) - points_of(after)).max() < 1e-6
    check_with_dciodvfy(tmp_path / "there.dcm")


def test_regions_without_contours(tmp_path, pair):
    file = structures(pair[1], tmp_path / "rt.dcm", [])
    write_carried_contours(motion(), file, *pair, tmp_path / "out.dcm")
    assert "ContourSequence" not in pydicom.dcmread(tmp_path / "out.dcm").ROIContourSequence[0]


def test_refusals(tmp_path, pair):
    drawn = [contour(centre(pair[1]) + CIRCLE)]
    foreign = structures(pair[1], tmp_path / "foreign.dcm", drawn, generate_uid())
    drawn[0].NumberOfContourPoints = 7
    wrong = structures(pair[1], tmp_path / "wrong.dcm", drawn)
    flat = LinearTransform(torch.eye(3))
    cases = [
        (motion(), foreign, "foreign.dcm: has no region in the moving series' frame"),
        (motion(), wrong, "wrong.dcm: a contour announces 7 points but holds 72 numbers"),
        (motion(), pair[0] / "IM001.dcm", "is no RT Structure Set"),
        (motion(), tmp_path / "none.dcm", "no such file"),
        (flat, wrong, "transform: is 2D"),
    ]
    for transform, file, message in cases:
        with pytest.raises(InputError, match=message):
            write_carried_contours(transform, file, *pair, tmp_path / "out.dcm")
    assert not (tmp_path / "out.dcm").exists()
