"""What all DICOM objects that medmi writes share: patient and study of a source, UIDs, equipment, references.

Patient data pass from a source series into these objects, where they belong, and nowhere else.
"""

from __future__ import annotations

import datetime
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import format_number_as_ds, validate_value

from medmi.io.dicom_sources import SourceSeries, quiet
from medmi.io.files import PathLike, reason, replacing
from medmi.validation import InputError

MAKER = "medmi"
# Patient, General Study and Patient Study modules (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2): what must be there, and what may
# because values mean less without it.
REQUIRED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber"),
)
OPTIONAL = (
    *("IssuerOfPatientID", "PatientIdentityRemoved", "DeidentificationMethod"),
    *("DeidentificationMethodCodeSequence", "LongitudinalTemporalInformationModified"),
    *("StudyDescription", "PatientAge", "PatientSize", "PatientWeight", "TimezoneOffsetFromUTC"),
)
IDENTITY = {"PatientName", "PatientID"}


def new_object(source: SourceSeries, sop_class: UID, modality: str, description: str) -> Dataset:
    """An object of a new series in the source's study, complete but for what is particular to its class.

    Args:
        source: series whose patient and study it keeps.
        sop_class: UID of its SOP class.
        modality: ``REG``, ``RTSTRUCT`` ...
        description: of the new series.
    """
    new = Dataset()
    copy_patient_and_study(source.first, new)
    new.SeriesInstanceUID = generate_uid()
    new.SeriesNumber = series_number(source)
    new.SeriesDescription = description
    new.Modality = modality
    stamp(new, sop_class, 1)
    return new


def stamp(dataset: Dataset, sop_class: UID, number: int) -> None:
    """Make a dataset a new instance of medmi's making: UID, number, maker, date, UTF-8."""
    now = datetime.datetime.now()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, generate_uid()
    dataset.InstanceNumber = number
    dataset.InstanceCreationDate = dataset.ContentDate = now.strftime("%Y%m%d")
    dataset.InstanceCreationTime = dataset.ContentTime = now.strftime("%H%M%S")
    dataset.Manufacturer = dataset.ManufacturerModelName = MAKER
    dataset.SoftwareVersions, dataset.DeviceSerialNumber = version(MAKER), "0"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.ImplementationVersionName = f"medmi {version(MAKER)}"[:16]


def copy_patient_and_study(source: Dataset, new: Dataset) -> None:
    """Copy them; a value that breaks its own type's rules is left out, unless it says who the patient is."""
    with quiet():
        source.decode()
        for keyword in (*REQUIRED, *OPTIONAL):
            if keyword in source and (keyword in IDENTITY or is_valid(source[keyword])):
                new[keyword] = source[keyword]
            elif keyword in REQUIRED:
                setattr(new, keyword, None)


def is_valid(element: pydicom.DataElement) -> bool:
    """Whether every value keeps the rules of its value representation."""
    if element.VR == "SQ":
        return True
    values = element.value if element.VM > 1 else [element.value]
    try:
        for value in values:
            validate_value(element.VR, value, pydicom.config.RAISE)
    except ValueError:
        return False
    return True


def series_number(source: SourceSeries) -> int:
    """A number beside the source's own: its number with two digits behind."""
    number = source.first.get("SeriesNumber")
    return (int(number) % 10_000_000) * 100 + 1 if number not in (None, "") else 1


def instance_references(headers: Iterable[Dataset]) -> list[Dataset]:
    """Items of a Referenced Image or Source Image Sequence."""
    items = []
    for header in headers:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
        items.append(item)
    return items


def refer_to(new: Dataset, sources: Sequence[SourceSeries]) -> None:
    """The Common Instance Reference module (PS3.3 C.12.2): all instances of the sources, by study and series."""
    elsewhere: dict[str, dict[str, Dataset]] = {}
    here: dict[str, Dataset] = {}
    for source in sources:
        study = str(source.first.StudyInstanceUID)
        series = here if study == new.StudyInstanceUID else elsewhere.setdefault(study, {})
        item = Dataset()
        item.SeriesInstanceUID = source.first.SeriesInstanceUID
        item.ReferencedInstanceSequence = instance_references(source.headers)
        series[str(source.first.SeriesInstanceUID)] = item
    if here:
        new.ReferencedSeriesSequence = list(here.values())
    studies = []
    for study, series in elsewhere.items():
        other = Dataset()
        other.StudyInstanceUID, other.ReferencedSeriesSequence = study, list(series.values())
        studies.append(other)
    if studies:
        new.StudiesContainingOtherReferencedInstancesSequence = studies


def code_item(code: Code) -> Dataset:
    """A coded concept as item of a code sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def decimal_strings(values: Iterable[float]) -> list[str]:
    """Numbers as DICOM writes them, 16 characters at most; lengths in mm keep 1e-9 mm or better.

    >>> decimal_strings([1.0, -123.456789012345678])
    ['1.0', '-123.45678901235']
    """
    return [format_number_as_ds(float(v) + 0.0) for v in values]


def save(dataset: Dataset, path: PathLike) -> None:
    """Write a DICOM file, whole or not at all.

    Raises:
        InputError: the file cannot be written there.
    """
    with replacing(path, ".dcm") as temporary:
        save_at(dataset, temporary)


def save_at(dataset: Dataset, path: pathlib.Path) -> None:
    """Write it there."""
    with quiet():
        dataset.save_as(path, enforce_file_format=True)


@contextmanager
def new_folder(path: PathLike) -> Iterator[pathlib.Path]:
    """A temporary folder that becomes ``path`` when the block ends without error.

    Raises:
        InputError: there is something already, or it cannot be written there.
    """
    target = pathlib.Path(path)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise InputError(f"{target}: exists and is not an empty folder; choose another")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work = pathlib.Path(tempfile.mkdtemp(prefix=".medmi-", dir=target.parent))
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({reason(error)}); choose a writable place") from error
    try:
        yield work
        work.chmod(0o755)
        if target.exists():
            target.rmdir()
        os.replace(work, target)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({reason(error)})") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
