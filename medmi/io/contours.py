"""RT Structure Sets carried through a transform: contours of the moving series written against the fixed series.

Contours are lists of points, so they go from moving to fixed points by the inverse of T. They stay where the transform
takes them: a contour of a slice of the moving series is a plane curve after a linear transform, if not in a slice of
the fixed series, and none after a deformation; then it is stored as an open one that returns to its first point, for
DICOM's closed contours are planar.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage

from medmi.frames import flip_points
from medmi.io.dicom_identity import remove_free_text, remove_identity
from medmi.io.dicom_objects import decimal_strings, instance_references, new_object, save
from medmi.io.dicom_sources import SeriesLike, SourceSeries, check_one_patient, quiet, read_header, source_series
from medmi.io.files import PathLike, existing_file, one_line
from medmi.spatial import SpatialTransform
from medmi.spatial.preimage import preimage
from medmi.validation import InputError

PLANAR = 1e-3  # mm off its plane that a contour may be
PLANAR_TYPES = {"CLOSED_PLANAR", "OPEN_PLANAR", "CLOSEDPLANAR_XOR"}
# Attributes of an ROI that a transform leaves true, comments left aside.
KEPT = ("ROINumber", "ROIName", "ROIGenerationAlgorithm")
STUDY_COMPONENT = "1.2.840.10008.3.1.2.3.1"  # Detached Study Management, the class that RT objects name studies by


def write_carried_contours(
    transform: SpatialTransform,
    contours: PathLike,
    fixed_folder: SeriesLike,
    moving_folder: SeriesLike,
    path: PathLike,
) -> None:
    """Write an RT Structure Set of the moving series as one of the fixed series.

    Names, numbers, colours and observations of the regions are kept; those of other frames of reference are left out.

    Args:
        transform: fixed world points to moving world points, RAS mm, 3D.
        contours: RTSTRUCT file of the moving series.
        fixed_folder: the fixed image's DICOM folder or file; ``FOLDER#MR`` chooses a series.
        moving_folder: the moving image's.
        path: file to write.

    Raises:
        InputError: not a structure set, none of its regions lies in the moving series' frame of reference, series of
            two patients, or points where the transform has no inverse.
    """
    if transform.spatial_dims != 3:
        raise InputError(f"transform: is {transform.spatial_dims}D; contours are 3D")
    fixed, moving = source_series(fixed_folder), source_series(moving_folder)
    check_one_patient(fixed, moving)
    file = existing_file(contours)
    with one_line(file, "an RT Structure Set"), quiet():
        structures = read_header(file)
        if structures.get("SOPClassUID") != RTStructureSetStorage:
            raise InputError(f"{file}: is no RT Structure Set")
        carried = carried_structures(transform, structures, fixed, moving)
    with quiet():
        save(carried, path)


def carried_structures(
    transform: SpatialTransform, structures: Dataset, fixed: SourceSeries, moving: SourceSeries
) -> Dataset:
    """The new structure set."""
    structures.decode()
    regions = [
        region
        for region in structures.StructureSetROISequence
        if region.ReferencedFrameOfReferenceUID == moving.frame_of_reference
    ]
    if not regions:
        raise InputError("has no region in the moving series' frame of reference")
    numbers = {int(region.ROINumber) for region in regions}
    new = new_object(fixed, RTStructureSetStorage, "RTSTRUCT", "Registered contours")
    new.StructureSetLabel = str(structures.get("StructureSetLabel") or "Contours")[:16]
    new.StructureSetDate, new.StructureSetTime = new.ContentDate, new.ContentTime
    new.ReferencedFrameOfReferenceSequence = [frame_reference(fixed)]
    new.StructureSetROISequence = [kept_region(region, fixed) for region in regions]
    new.ROIContourSequence = [
        carried_region(transform, region, fixed)
        for region in structures.ROIContourSequence
        if int(region.ReferencedROINumber) in numbers
    ]
    new.RTROIObservationsSequence = [
        kept_observation(observation)
        for observation in structures.get("RTROIObservationsSequence") or []
        if int(observation.ReferencedROINumber) in numbers
    ]
    new.FrameOfReferenceUID = fixed.frame_of_reference
    new.PositionReferenceIndicator = fixed.first.get("PositionReferenceIndicator")
    new.ApprovalStatus, new.OperatorsName = "UNAPPROVED", None
    del new.ContentDate, new.ContentTime
    return new


def frame_reference(fixed: SourceSeries) -> Dataset:
    """The fixed frame of reference with the study, series and images that are in it."""
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = fixed.first.SeriesInstanceUID
    series.ContourImageSequence = instance_references(fixed.headers)
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = STUDY_COMPONENT, fixed.first.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = fixed.frame_of_reference
    frame.RTReferencedStudySequence = [study]
    return frame


def kept_region(region: Dataset, fixed: SourceSeries) -> Dataset:
    """What remains true of a region; its volume does not."""
    new = Dataset()
    for keyword in KEPT:
        if keyword in region:
            new[keyword] = region[keyword]
    if "ROIGenerationAlgorithm" not in new:
        new.ROIGenerationAlgorithm = None
    new.ReferencedFrameOfReferenceUID = fixed.frame_of_reference
    return new


def kept_observation(observation: Dataset) -> Dataset:
    """What was observed, without comments and by whom."""
    new = copy.deepcopy(observation)
    remove_identity(new)
    remove_free_text(new)
    new.ROIInterpreter = None
    return new


def carried_region(transform: SpatialTransform, region: Dataset, fixed: SourceSeries) -> Dataset:
    """All contours of one region, their points mapped together."""
    new = Dataset()
    new.ReferencedROINumber = region.ReferencedROINumber
    if region.get("ROIDisplayColor"):
        new.ROIDisplayColor = region.ROIDisplayColor
    contours = list(region.get("ContourSequence") or [])
    points = [contour_points(contour) for contour in contours]
    if points:
        mapped = flip_points(preimage(transform, flip_points(torch.cat(points)))).split([len(p) for p in points])
        new.ContourSequence = list(carried_contours(contours, mapped, fixed))
    return new


def contour_points(contour: Dataset) -> torch.Tensor:
    """Points of a contour, LPS mm, ``(n, 3)``."""
    values = np.array(contour.ContourData, dtype=np.float64)
    if values.size != 3 * int(contour.NumberOfContourPoints):
        raise InputError(f"a contour announces {contour.NumberOfContourPoints} points but holds {values.size} numbers")
    return torch.from_numpy(values.reshape(-1, 3))


def carried_contours(
    contours: Iterable[Dataset], points: Iterable[torch.Tensor], fixed: SourceSeries
) -> Iterator[Dataset]:
    """New contours of mapped points; the image a contour lies in is named where there is one."""
    for number, (contour, mapped) in enumerate(zip(contours, points), start=1):
        new = Dataset()
        kind = str(contour.ContourGeometricType)
        if kind in PLANAR_TYPES and off_plane(mapped) > PLANAR:
            closed = kind != "OPEN_PLANAR"
            kind, mapped = "OPEN_NONPLANAR", torch.cat([mapped, mapped[:1]]) if closed else mapped
        image = image_of(mapped, fixed)
        if image is not None:
            new.ContourImageSequence = instance_references([image])
        new.ContourGeometricType, new.NumberOfContourPoints = kind, len(mapped)
        new.ContourNumber = number
        new.ContourData = decimal_strings(mapped.flatten().tolist())
        yield new


def off_plane(points: torch.Tensor) -> float:
    """Largest distance in mm of points ``(n, 3)`` from the plane that fits them best."""
    if len(points) < 4:
        return 0.0
    centred = points - points.mean(0)
    normal = torch.linalg.svd(centred, full_matrices=False).Vh[2]
    return float((centred @ normal).abs().max())


def image_of(points: torch.Tensor, fixed: SourceSeries) -> Dataset | None:
    """Header of the single-frame fixed image whose slice holds all points (LPS) within half a slice, or None."""
    slices = fixed.grid.world_to_index(flip_points(points))[:, 2]
    nearest = int(slices.mean().round())
    outside = not 0 <= nearest < len(fixed.frames) or float((slices - nearest).abs().max()) > 0.5
    if outside or len(fixed.headers) < len(fixed.frames):
        return None
    instance = fixed.frames[nearest].instance
    return next((header for header in fixed.headers if str(header.SOPInstanceUID) == instance), None)
