"""What of a DICOM header says who somebody is, and what of it describes how an image was made.

A derived object needs the second, and of the first only what ties it to its patient and study; whatever else a source
says of people, institutions and visits stays where it was (compare PS3.15, Basic Application Level Confidentiality
Profile).
"""

from __future__ import annotations

import copy
from collections.abc import Collection

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

# Acquisition, relationship, image presentation, nuclear medicine; everything else is of people, orders and visits.
IMAGING_GROUPS = {0x0018, 0x0020, 0x0028, 0x0054}
IMAGING = {
    *("SOPClassUID", "Modality", "ImageType", "SeriesDate", "SeriesTime", "AcquisitionDate", "AcquisitionTime"),
    *("AcquisitionDateTime", "LossyImageCompressionRatio"),
}
PEOPLE_GROUPS = {0x0010, 0x0012, 0x0032, 0x0038, 0x4008}
ORDERS = range(0x00400000, 0x0040A100)  # procedure steps, orders, observers; what follows are structured contents
FREE_TEXT = {"LT", "ST", "UT", "UC"}
IDENTIFIERS = {
    *("InstitutionName", "InstitutionAddress", "InstitutionCodeSequence", "InstitutionalDepartmentName"),
    *("InstitutionalDepartmentTypeCodeSequence", "StationName", "ProtocolName", "AdmittingDiagnosesDescription"),
    *("ReferringPhysicianIdentificationSequence", "PhysiciansOfRecordIdentificationSequence"),
    *("ConsultingPhysicianIdentificationSequence", "OperatorIdentificationSequence", "ReferencedPatientSequence"),
    *("PerformingPhysicianIdentificationSequence", "PhysiciansReadingStudyIdentificationSequence"),
    *("DeviceSerialNumber", "DeviceUID", "PlateID", "CassetteID", "GeneratorID", "GantryID"),
    *("ContributingEquipmentSequence", "StudyID", "IssuerOfAccessionNumberSequence"),
}


def imaging_part(source: Dataset) -> Dataset:
    """A copy of what describes how the image was made, without private elements and free text."""
    new = Dataset()  # a fresh one: a copy would be written in the encoding it was read in
    for element in source:
        if not element.tag.is_private and (element.tag.group in IMAGING_GROUPS or element.keyword in IMAGING):
            new[element.tag] = copy.deepcopy(element)
    remove_identity(new)
    remove_free_text(new)
    return new


def remove_identity(dataset: Dataset, spare: Collection[str] = ()) -> None:
    """Remove people, institutions, devices, orders and visits at every depth, but for the attributes to ``spare``."""
    for element in list(dataset):
        if element.keyword not in spare and is_personal(element):
            del dataset[element.tag]
        elif element.VR == "SQ":
            for item in element.value:
                remove_identity(item, spare)


def is_personal(element: DataElement) -> bool:
    """Whether an element tells of people, institutions, devices, orders or visits, or may, being private."""
    tag = element.tag
    somebodys = tag.group in PEOPLE_GROUPS or tag in ORDERS or element.VR == "PN" or element.keyword in IDENTIFIERS
    return somebodys or tag.is_private


def remove_free_text(dataset: Dataset) -> None:
    """Remove comments at every depth."""
    for element in list(dataset):
        if element.VR in FREE_TEXT:
            del dataset[element.tag]
        elif element.VR == "SQ":
            for item in element.value:
                remove_free_text(item)
