"""All that a registration of two DICOM series leaves as DICOM: the registration object, the moved image as a series,
and what was drawn on the moving series."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator

from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage, SegmentationStorage

from medmi.image import AnyImage
from medmi.io.contours import write_carried_contours
from medmi.io.dicom_objects import new_folder
from medmi.io.dicom_registration import write_spatial_registration
from medmi.io.dicom_series_writer import write_derived_series
from medmi.io.dicom_sources import SeriesLike, SourceSeries, read_header, source_series
from medmi.io.files import PathLike, file_errors
from medmi.io.segmentations import write_carried_segmentation
from medmi.spatial import SpatialTransform

Carrier = Callable[[SpatialTransform, PathLike, SeriesLike, SeriesLike, PathLike], None]
LABEL_MAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
CARRIERS: dict[str, tuple[str, Carrier]] = {
    RTStructureSetStorage: ("contours", write_carried_contours),
    SegmentationStorage: ("segmentation", write_carried_segmentation),
    LABEL_MAP_STORAGE: ("segmentation", write_carried_segmentation),
}


def write_dicom_results(
    transform: SpatialTransform,
    moved: AnyImage,
    fixed_folder: SeriesLike,
    moving_folder: SeriesLike,
    out_folder: PathLike,
) -> None:
    """Write the results of registering two DICOM series into a new folder, all or nothing.

    The folder gets ``registration.dcm``, the series ``moved/0001.dcm`` and on, and ``contours_1.dcm``,
    ``segmentation_1.dcm`` ... for each RT Structure Set and DICOM Segmentation below the moving folder that refers to
    the moving series. See :mod:`medmi.io.dicom_registration`, :mod:`medmi.io.dicom_series_writer`,
    :mod:`medmi.io.contours` and :mod:`medmi.io.segmentations`. These files hold patient data.

    Args:
        transform: fixed world points to moving world points, RAS mm, 3D.
        moved: the moving image on the fixed grid, ``(1, i, j, k)``.
        fixed_folder: the fixed image's DICOM folder or file; ``FOLDER#MR`` chooses a series.
        moving_folder: the moving image's.
        out_folder: must not exist or be empty.

    Raises:
        InputError: as the functions of those modules.
    """
    fixed, moving = source_series(fixed_folder), source_series(moving_folder)
    with new_folder(out_folder) as folder:
        write_spatial_registration(transform, fixed, moving, folder / "registration.dcm")
        write_derived_series(moved, fixed, moving, folder / "moved")
        counts: dict[str, int] = {}
        for file, name, carry in drawings(moving):
            counts[name] = counts.get(name, 0) + 1
            carry(transform, file, fixed, moving, folder / f"{name}_{counts[name]}.dcm")


def drawings(moving: SourceSeries) -> Iterator[tuple[pathlib.Path, str, Carrier]]:
    """Structure sets and segmentations below the series' folder that refer to it, with what carries them."""
    if not moving.path.is_dir():
        return
    for file in sorted(p for p in moving.path.rglob("*") if p.is_file()):
        header = dicom_header(file)
        found = CARRIERS.get(str(header.get("SOPClassUID"))) if header else None
        if header and found and refers_to(header, str(moving.first.SeriesInstanceUID)):
            yield file, *found


def dicom_header(file: pathlib.Path) -> Dataset | None:
    """The header of a file that bears DICOM's mark, or None."""
    with file.open("rb") as stream:
        if stream.read(132)[128:] != b"DICM":
            return None
    try:
        return read_header(file)
    except file_errors():
        return None


def refers_to(header: Dataset, series: str) -> bool:
    """Whether a series UID stands anywhere in an object's references."""
    for sequence in ("ReferencedSeriesSequence", "StudiesContainingOtherReferencedInstancesSequence"):
        if any(
            refers_to(item, series) or item.get("SeriesInstanceUID") == series for item in header.get(sequence) or []
        ):
            return True
    return any(
        reference.SeriesInstanceUID == series
        for frame in header.get("ReferencedFrameOfReferenceSequence") or []
        for study in frame.get("RTReferencedStudySequence") or []
        for reference in study.get("RTReferencedSeriesSequence") or []
    )
