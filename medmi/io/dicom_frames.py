"""Frames of DICOM images: each slice, of its own file or a multi-frame one, where it lies and how its values scale.

Words: *position* is the centre of the first voxel and *orientation* the directions of increasing column and row
index, both in LPS as DICOM has them; *stack* is a name for frames that belong to one volume.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass

import pydicom
from pydicom.dataset import Dataset

from medmi.validation import InputError

CENTIMETRE = 3
FLAT = 1


@dataclass(frozen=True)
class Place:
    """Where a slice lies in the patient: position (3 numbers, mm) and orientation (the two directions, 6 numbers)."""

    position: tuple[float, ...]
    orientation: tuple[float, ...]

    @property
    def normal(self) -> tuple[float, float, float]:
        """Direction across the slice, as long as the product of the two directions' lengths."""
        return cross(self.orientation[:3], self.orientation[3:])

    def __str__(self) -> str:
        """The position in words."""
        return ", ".join(f"{p:.2f}" for p in self.position)


@dataclass(frozen=True)
class Frame:
    """One slice. ``spacing`` is (row step, column step) in mm; ``place`` is None for pictures without one."""

    path: pathlib.Path
    number: int
    shape: tuple[int, int]
    place: Place | None
    spacing: tuple[float, float]
    thickness: float
    rescale: tuple[float, float]
    stack: str
    order: tuple[float, ...]
    instance: str


# Where an attribute of a frame lies in the functional groups of enhanced images, and its plain name elsewhere.
POSITION = (("PlanePositionSequence", "ImagePositionPatient"), ("PlanePositionVolumeSequence", "ImagePositionVolume"))
ORIENTATION = (
    ("PlaneOrientationSequence", "ImageOrientationPatient"),
    ("PlaneOrientationVolumeSequence", "ImageOrientationVolume"),
)
SPACING = (("PixelMeasuresSequence", "PixelSpacing"),)
THICKNESS = (("PixelMeasuresSequence", "SpacingBetweenSlices"), ("PixelMeasuresSequence", "SliceThickness"))
SLOPE = (("PixelValueTransformationSequence", "RescaleSlope"),)
INTERCEPT = (("PixelValueTransformationSequence", "RescaleIntercept"),)
STACK = (("FrameContentSequence", "StackID"),)
ORDER = (
    (("FrameContentSequence", "TemporalPositionIndex"), ("", "TemporalPositionIdentifier")),
    (("MREchoSequence", "EffectiveEchoTime"), ("", "EchoTime")),
    (("MRDiffusionSequence", "DiffusionBValue"), ("", "DiffusionBValue")),
    (("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"), ("", "TriggerTime")),
    (("FrameContentSequence", "FrameAcquisitionNumber"), ("", "AcquisitionNumber")),
    (("", "InstanceNumber"),),
)
FLAT_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")


def frames_of(dataset: Dataset, path: pathlib.Path) -> list[Frame]:
    """The frames of one file, from its header alone.

    Raises:
        InputError: the header contradicts itself or holds numbers that are none.
    """
    count = int(dataset.get("NumberOfFrames") or 1)
    shape = (int(dataset.Rows), int(dataset.Columns))
    if count < 1 or min(shape) < 1:
        raise InputError(f"{path}: header announces {count} frames of {shape[0]} x {shape[1]} pixels")
    groups: Sequence[Dataset] = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if groups and len(groups) != count:
        raise InputError(f"{path}: header announces {count} frames but describes {len(groups)}")
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    offsets = dose_offsets(dataset, count)
    return [
        frame_of(dataset, path, number, (groups[number] if groups else Dataset(), shared), offsets)
        for number in range(count)
    ]


def frame_of(
    dataset: Dataset, path: pathlib.Path, number: int, groups: tuple[Dataset, Dataset], offsets: list[float] | None
) -> Frame:
    """One frame; what its own functional groups lack is taken from the shared ones, then from the file."""
    place = place_of(dataset, groups, None if offsets is None else offsets[number])
    spacing = numbers(lookup(dataset, groups, SPACING), 2) if place else None
    return Frame(
        path=path,
        number=number,
        shape=(int(dataset.Rows), int(dataset.Columns)),
        place=place,
        spacing=tuple_of_two(spacing or flat_spacing(dataset)),
        thickness=number_or(lookup(dataset, groups, THICKNESS), 1.0),
        rescale=rescale_of(dataset, groups),
        stack=str(lookup(dataset, groups, STACK) or ""),
        order=tuple(number_or(lookup(dataset, groups, places), 0.0) for places in ORDER),
        instance=str(dataset.get("SOPInstanceUID", "")),
    )


def place_of(dataset: Dataset, groups: tuple[Dataset, Dataset], offset: float | None) -> Place | None:
    """Where the frame lies, or None. ``offset`` moves a dose grid's plane along the normal.

    One position said of many frames says where none but the first is, so it counts for nothing.
    """
    position = numbers(lookup(dataset, groups, POSITION), 3)
    orientation = numbers(lookup(dataset, groups, ORIENTATION), 6)
    if position is None or orientation is None:
        return None
    place = Place(position, orientation)
    if offset is not None:
        return Place(tuple(p + offset * n for p, n in zip(position, place.normal)), orientation)
    many = int(dataset.get("NumberOfFrames") or 1) > 1 and not dataset.get("PerFrameFunctionalGroupsSequence")
    return None if many else place


def rescale_of(dataset: Dataset, groups: tuple[Dataset, Dataset]) -> tuple[float, float]:
    """Slope and intercept from stored to real values; dose grids have a slope of their own name."""
    slope = lookup(dataset, groups, SLOPE)
    if slope is None:
        slope = dataset.get("DoseGridScaling")
    return number_or(slope, 1.0), number_or(lookup(dataset, groups, INTERCEPT), 0.0)


def lookup(dataset: Dataset, groups: tuple[Dataset, Dataset], places: Sequence[tuple[str, str]]) -> object:
    """First value found: in the frame's functional groups, the shared ones, then the file itself."""
    for sequence, keyword in places:
        for group in groups:
            items = group.get(sequence) if sequence else None
            if items and items[0].get(keyword) is not None:
                return items[0].get(keyword)
        if dataset.get(keyword) is not None:
            return dataset.get(keyword)
    return None


def numbers(value: object, count: int) -> tuple[float, ...] | None:
    """That many floats, or None where the value is absent or has another length."""
    if not isinstance(value, Sequence | pydicom.multival.MultiValue) or isinstance(value, str) or len(value) != count:
        return None
    return tuple(float(v) for v in value)


def tuple_of_two(values: Sequence[float]) -> tuple[float, float]:
    """The pair, typed as one."""
    return float(values[0]), float(values[1])


def number_or(value: object, default: float) -> float:
    """The value as a float, or the default where it is absent or empty."""
    return default if value is None or value == "" else float(value)  # type: ignore[arg-type]


def cross(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    """Vector product of two 3-vectors."""
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


def dose_offsets(dataset: Dataset, count: int) -> list[float] | None:
    """Distances of a dose grid's planes from its first one along the normal, or None for other images."""
    offsets = dataset.get("GridFrameOffsetVector")
    if offsets is None or len(offsets) != count:
        return None
    return [float(v) - float(offsets[0]) for v in offsets]


def flat_spacing(dataset: Dataset) -> tuple[float, float]:
    """Spacing of a picture without a place: ultrasound's largest calibrated region, a film's scale, else 1 mm."""
    regions = [r for r in dataset.get("SequenceOfUltrasoundRegions") or [] if is_calibrated(r)]
    if regions:
        largest = max(regions, key=region_area)
        return 10 * abs(float(largest.PhysicalDeltaY)), 10 * abs(float(largest.PhysicalDeltaX))
    for keyword in FLAT_SPACINGS:
        spacing = numbers(dataset.get(keyword), 2)
        if spacing:
            return tuple_of_two(spacing)
    return 1.0, 1.0


def is_calibrated(region: Dataset) -> bool:
    """Whether an ultrasound region is a 2D picture whose pixels have a size in cm."""
    units = (region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection"))
    steps = (region.get("PhysicalDeltaX"), region.get("PhysicalDeltaY"))
    return region.get("RegionSpatialFormat") == FLAT and units == (CENTIMETRE, CENTIMETRE) and all(steps)


def region_area(region: Dataset) -> float:
    """Pixels of an ultrasound region."""
    width = float(region.get("RegionLocationMaxX1", 0)) - float(region.get("RegionLocationMinX0", 0))
    height = float(region.get("RegionLocationMaxY1", 0)) - float(region.get("RegionLocationMinY0", 0))
    return abs(width * height)
