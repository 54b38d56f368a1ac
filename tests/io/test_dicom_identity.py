"""What of a header is about people, at every depth, and what is about the image."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from medmi.io.dicom_identity import imaging_part, remove_free_text, remove_identity
from tests.io.making import series_datasets
from tests.io.registering import MOVING_FRAME, OTHER_STUDY, with_study
from tests.oracles.planting import WORDS, plant, traces


@pytest.fixture
def header() -> Dataset:
    return plant(with_study(series_datasets(1)[0], OTHER_STUDY, MOVING_FRAME, "MR"))


def test_the_imaging_part_tells_how_and_not_of_whom(header):
    before = header.to_json()
    part = imaging_part(header)
    assert traces(part.to_json().encode()) == set()
    assert (part.EchoTime, part.RepetitionTime, part.Modality, part.FrameOfReferenceUID) == (
        12,
        500,
        "MR",
        MOVING_FRAME,
    )
    assert "SliceThickness" in part and "PixelSpacing" in part and "ContributingEquipmentSequence" not in part
    assert header.to_json() == before


def test_spared_attributes_stay_at_every_depth(header):
    inner = Dataset()
    inner.PatientID, inner.InstitutionName = "1", "2"
    header.ReferencedStudySequence = [inner]
    remove_identity(header, ("PatientID",))
    assert header.PatientID == WORDS["PatientID"] and "PatientName" not in header and "OperatorsName" not in header
    assert header.ReferencedStudySequence[0].PatientID == "1"
    assert "InstitutionName" not in header.ReferencedStudySequence[0]
    assert not [element for element in header if element.tag.is_private]


def test_structured_contents_and_codes_stay():
    dataset, code = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "113076", "DCM", "Segmentation"
    dataset.PurposeOfReferenceCodeSequence, dataset.RequestAttributesSequence = [code], [code]
    remove_identity(dataset)
    assert [element.keyword for element in dataset] == ["PurposeOfReferenceCodeSequence"]


def test_comments_go_at_every_depth():
    dataset, inner = Dataset(), Dataset()
    inner.ImageComments, inner.SeriesDescription = "free", "kept"
    dataset.AcquisitionComments, dataset.ReferencedImageSequence = "free", [inner]
    remove_free_text(dataset)
    assert [e.keyword for e in dataset.iterall()] == ["ReferencedImageSequence", "SeriesDescription"]
