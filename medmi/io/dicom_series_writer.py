"""A moved image as derived DICOM series: the moving series' patient, study and acquisition, the fixed series' frame.

Stored values are 16-bit integers. Where all slices of the moving series share one slope and intercept and these can
hold the moved values, they are kept; else the slope spreads the values over 16 bits and the intercept is zero.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import pydicom
import torch
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from medmi.frames import flip_affine
from medmi.grid import Grid
from medmi.image import AnyImage
from medmi.io.dicom_identity import imaging_part
from medmi.io.dicom_objects import (
    MAKER,
    code_item,
    copy_patient_and_study,
    decimal_strings,
    instance_references,
    new_folder,
    refer_to,
    save_at,
    series_number,
    stamp,
)
from medmi.io.dicom_series import words
from medmi.io.dicom_sources import SeriesLike, SourceSeries, check_on_grid, check_one_patient, quiet, source_series
from medmi.io.files import PathLike
from medmi.validation import InputError

Attributes = dict[str, object]

# SOP classes whose headers a derived slice of the same class takes over, and what others become.
CLASSIC = {CTImageStorage, MRImageStorage, PositronEmissionTomographyImageStorage}
UNKNOWN_MR: Attributes = {
    "ScanningSequence": "RM",
    "SequenceVariant": "NONE",
    **dict.fromkeys(("ScanOptions", "MRAcquisitionType", "EchoTime", "EchoTrainLength", "RepetitionTime")),
}
BECOMES: dict[str, tuple[UID, Attributes]] = {
    EnhancedCTImageStorage: (CTImageStorage, {"KVP": None, "AcquisitionNumber": None, "RescaleType": "HU"}),
    EnhancedMRImageStorage: (MRImageStorage, UNKNOWN_MR),
}
CAPTURE: tuple[UID, Attributes] = (SecondaryCaptureImageStorage, {"ConversionType": "WSD", "PatientOrientation": None})

# What describes one slice, its pixels or its place in the source, and is untrue of the derived slices.
PARTICULAR = (
    *("PixelData", "SmallestImagePixelValue", "LargestImagePixelValue", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("PixelDataProviderURL", "IconImageSequence", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTSequence", "VOILUTFunction"),
    *("SliceLocation", "SpacingBetweenSlices", "GantryDetectorTilt", "ReconstructionDiameter", "PatientOrientation"),
    *("ReferencedImageSequence", "SourceImageSequence", "ReferencedSeriesSequence", "RealWorldValueMappingSequence"),
    *("StudiesContainingOtherReferencedInstancesSequence", "ReferencedPerformedProcedureStepSequence"),
    *(
        "PerformedProcedureStepID",
        "DigitalSignaturesSequence",
        "MACParametersSequence",
        "AlternateRepresentationSequence",
    ),
    *("DerivationCodeSequence", "PositionReferenceIndicator", "TemporalPositionIndex", "OriginalAttributesSequence"),
)


@dataclass(frozen=True)
class Encoding:
    """How values are stored: integer type, and value = slope * stored + intercept."""

    dtype: str
    slope: float
    intercept: float

    def stored(self, values: np.ndarray) -> np.ndarray:
        """The nearest integers that can be stored."""
        limits = np.iinfo(self.dtype)
        nearest = np.rint((values.astype(np.float64) - self.intercept) / self.slope)
        return nearest.clip(limits.min, limits.max).astype(self.dtype)


def write_derived_series(
    moved: AnyImage, fixed_folder: SeriesLike, moving_folder: SeriesLike, out_folder: PathLike
) -> None:
    """Write the moved image as a derived series of single slices, ``0001.dcm`` and on, in a new folder.

    CT, MR and PET stay what they are; enhanced CT and MR become their single-frame kinds, all others Secondary
    Capture with a place in the patient. Patient and study are the moving series', frame of reference and slices the
    fixed one's. Values differ from ``moved`` by half the slope at most.

    Args:
        moved: the moving image on the fixed grid, ``(1, i, j, k)``, RAS mm.
        fixed_folder: the fixed image's DICOM folder or file; ``FOLDER#MR`` chooses a series.
        moving_folder: the moving image's.
        out_folder: must not exist or be empty.

    Raises:
        InputError: a series that cannot be referred to, series of two patients, an image that is not on the fixed
            grid, not grey or not finite, or the folder cannot be written.
    """
    fixed, moving = source_series(fixed_folder), source_series(moving_folder)
    check_one_patient(fixed, moving)
    check_on_grid(moved, fixed, "moved")
    with new_folder(out_folder) as folder, quiet():
        for k, dataset in enumerate(derived_slices(moved, fixed, moving), start=1):
            save_at(dataset, folder / f"{k:04d}.dcm")


def derived_slices(moved: AnyImage, fixed: SourceSeries, moving: SourceSeries) -> Iterator[Dataset]:
    """One dataset a slice of the moved image."""
    voxels = moved.as_tensor().detach().cpu()[0]
    if not bool(torch.isfinite(voxels).all()):
        raise InputError("moved: holds values that are not finite; DICOM pixels are integers")
    header = derived_header(fixed, moving)
    encoding = encoding_of(voxels, moving)
    set_encoding(header, encoding)
    grid = Grid.of(moved)
    set_plane(header, grid)
    sop_class = header.SOPClassUID
    common = encoded(header)
    for k in range(grid.shape[2]):
        dataset = copy.copy(common)
        stamp(dataset, sop_class, k + 1)
        corner = flip_affine(grid.affine) @ torch.tensor([0.0, 0.0, k, 1.0], dtype=torch.float64)
        dataset.ImagePositionPatient = decimal_strings(corner[:3].tolist())
        if "ImageIndex" in dataset:
            dataset.ImageIndex = k + 1
        dataset.add_new("PixelData", "OW", encoding.stored(voxels[..., k].T.numpy()).astype(encoding.dtype).tobytes())
        yield dataset


def encoded(header: Dataset) -> Dataset:
    """The header, its long lists of references as bytes: they are encoded once, not again for every slice."""
    stamp(header, header.SOPClassUID, 1)
    buffer = io.BytesIO()
    header.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    return pydicom.dcmread(buffer)


def derived_header(fixed: SourceSeries, moving: SourceSeries) -> Dataset:
    """What all slices share, but for their geometry and encoding."""
    new = taken_over(moving.first)
    copy_patient_and_study(moving.first, new)
    new.ImageType = ["DERIVED", *image_type(moving.first)]
    new.SeriesInstanceUID, new.SeriesNumber = generate_uid(), series_number(moving)
    new.SeriesDescription = f"{moving.first.get('SeriesDescription') or moving.first.Modality} registered"[:64]
    new.FrameOfReferenceUID = fixed.frame_of_reference
    new.PositionReferenceIndicator = fixed.first.get("PositionReferenceIndicator")
    new.DerivationDescription = f"Registered to another series and resampled on its grid by {MAKER} {version(MAKER)}"
    new.DerivationCodeSequence = [code_item(codes.DCM.SpatialResampling)]
    new.SourceImageSequence = instance_references(moving.headers)
    for item in new.SourceImageSequence:
        item.PurposeOfReferenceCodeSequence = [code_item(codes.DCM.SourceImageForImageProcessingOperation)]
    refer_to(new, [moving, fixed])
    return new


def image_type(source: Dataset) -> list[str]:
    """Second and third word of the Image Type; PET knows no secondary images."""
    kind = [*words(source.get("ImageType")), "", "", ""][2] or "OTHER"
    return ["PRIMARY" if source.SOPClassUID == PositronEmissionTomographyImageStorage else "SECONDARY", kind]


def taken_over(source: Dataset) -> Dataset:
    """The acquisition's description: all of a classic image's, else its modality and what its class asks."""
    if source.SOPClassUID in CLASSIC:
        source.decode()
        new = imaging_part(source)
        for keyword in PARTICULAR:
            new.pop(keyword, None)
        return new
    new = Dataset()
    new.SOPClassUID, attributes = BECOMES.get(source.SOPClassUID, CAPTURE)
    new.Modality, new.Laterality = source.Modality, None
    new.PatientPosition = source.get("PatientPosition")
    for keyword, value in attributes.items():
        setattr(new, keyword, value)
    return new


def encoding_of(voxels: torch.Tensor, moving: SourceSeries) -> Encoding:
    """The source's own slope and intercept if all its slices share them and they can hold the values, else others."""
    low, high = float(voxels.min()), float(voxels.max())
    scales = {frame.rescale for frame in moving.frames}
    slope, intercept = scales.pop()
    if not scales and slope > 0:
        for dtype in ("<i2", "<u2"):
            limits = np.iinfo(dtype)
            if limits.min <= round((low - intercept) / slope) and round((high - intercept) / slope) <= limits.max:
                return Encoding(dtype, slope, intercept)
    dtype = "<u2" if low >= 0 else "<i2"
    largest = max(-low, high) or 1.0
    step = float(decimal_strings([largest / np.iinfo(dtype).max * (1 + 1e-12)])[0])
    return Encoding(dtype, step, 0.0)


def set_encoding(dataset: Dataset, encoding: Encoding) -> None:
    """Pixel description and rescale; an MR image has none where stored values are the real ones."""
    dataset.SamplesPerPixel = 1
    if dataset.get("PhotometricInterpretation") != "MONOCHROME1":
        dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, int(encoding.dtype == "<i2")
    plain = (encoding.slope, encoding.intercept) == (1.0, 0.0)
    if plain and dataset.SOPClassUID == MRImageStorage:
        return
    dataset.RescaleSlope, dataset.RescaleIntercept = decimal_strings([encoding.slope, encoding.intercept])
    if "RescaleType" not in dataset and dataset.SOPClassUID != PositronEmissionTomographyImageStorage:
        dataset.RescaleType = "US"


def set_plane(dataset: Dataset, grid: Grid) -> None:
    """Size, spacing and orientation that all slices share."""
    lps = flip_affine(grid.affine)
    dataset.Columns, dataset.Rows = grid.shape[0], grid.shape[1]
    column_step, row_step = grid.spacing[:2].tolist()
    dataset.PixelSpacing = decimal_strings([row_step, column_step])
    dataset.ImageOrientationPatient = decimal_strings((lps[:3, :2] / grid.spacing[:2]).T.flatten().tolist())
    normal = torch.linalg.cross(lps[:3, 0] / column_step, lps[:3, 1] / row_step)
    dataset.SliceThickness = decimal_strings([abs(float(normal @ lps[:3, 2]))])[0]
    if "NumberOfSlices" in dataset:
        dataset.NumberOfSlices = grid.shape[2]
