"""The DICOM series that results refer to: its headers in the order of the slices, its grid, its frame of reference.

Words: an *instance* is one DICOM object (file); a *source* is an original series that a written object belongs to or
was made from.
"""

from __future__ import annotations

import pathlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pydicom
from pydicom.dataset import Dataset

from medmi.grid import Grid
from medmi.image import AnyImage
from medmi.io.dicom import kinds
from medmi.io.dicom_frames import Frame
from medmi.io.dicom_series import choose_series, find_series
from medmi.io.dicom_stack import volume_of, volumes_of
from medmi.io.files import PathLike, one_line
from medmi.io.images import with_choices
from medmi.io.volumes import choose_volume
from medmi.validation import InputError


@dataclass(frozen=True)
class SourceSeries:
    """One volume of a DICOM series.

    Attributes:
        path: the file or folder it was found in.
        headers: one dataset without pixels an instance, in the order of the slices.
        frames: its slices in order.
        grid: where they lie, RAS mm.
    """

    path: pathlib.Path
    headers: list[Dataset] = field(repr=False)
    frames: list[Frame] = field(repr=False)
    grid: Grid

    @property
    def first(self) -> Dataset:
        """Header of the first instance."""
        return self.headers[0]

    @property
    def frame_of_reference(self) -> str:
        """UID of the frame of reference that all slices share."""
        return str(self.first.FrameOfReferenceUID)


SeriesLike = PathLike | SourceSeries


def source_series(path: SeriesLike) -> SourceSeries:
    """The series (and of a series with several volumes the one) that ``path`` means.

    Args:
        path: DICOM file or folder, with choices as :func:`medmi.io.read_image` takes them: ``FOLDER#MR#3``. A series
            that was found before is given back as it is.

    Raises:
        InputError: no such series, a choice is needed, slices without a place in the patient, or no single frame of
            reference.
    """
    if isinstance(path, SourceSeries):
        return path
    folder, series, volume = with_choices(pathlib.Path(path), None, None)
    if not folder.exists():
        raise InputError(f"{folder}: no such file or folder")
    chosen = choose_series(folder, find_series(folder), series)
    candidates = volumes_of(folder, chosen.frames)
    with one_line(folder, "DICOM"):
        ordered = volume_of(folder, candidates[choose_volume(folder, len(candidates), volume, kinds(candidates))])
        if ordered.frames[0].place is None:
            raise InputError(f"{folder}: its slices have no place in the patient, so nothing can be registered to them")
        headers = [read_header(file) for file in dict.fromkeys(f.path for f in ordered.frames)]
    check_headers(folder, headers)
    return SourceSeries(folder, headers, ordered.frames, grid_of(ordered.frames, ordered.affine))


def grid_of(frames: Sequence[Frame], affine: object) -> Grid:
    """The grid of ordered frames: columns, rows, slices."""
    rows, columns = frames[0].shape
    return Grid((columns, rows, len(frames)), affine)  # type: ignore[arg-type]


@contextmanager
def quiet() -> Iterator[None]:
    """Hush pydicom's warnings about harmless departures from the standard in what a source brings along."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_header(file: pathlib.Path) -> Dataset:
    """A file's attributes without its pixels."""
    with quiet():
        return pydicom.dcmread(file, stop_before_pixels=True, force=True)


def check_headers(path: pathlib.Path, headers: list[Dataset]) -> None:
    """Refuse a series that objects cannot refer to: without UIDs, or not in one frame of reference."""
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "FrameOfReferenceUID"):
        if any(not header.get(keyword) for header in headers):
            raise InputError(f"{path}: lacks the DICOM attribute {keyword}, which objects that refer to it need")
    frames = {str(header.FrameOfReferenceUID) for header in headers}
    if len(frames) > 1:
        raise InputError(f"{path}: its slices name {len(frames)} frames of reference; split the series")


def check_one_patient(fixed: SourceSeries, moving: SourceSeries) -> None:
    """Refuse two series of different patients, without naming either."""
    ids = {str(s.first.get("PatientID") or "") for s in (fixed, moving)} - {""}
    if len(ids) > 1:
        raise InputError(
            f"{moving.path}: has another Patient ID than {fixed.path}; DICOM results would mix two patients' records"
        )


def check_on_grid(image: AnyImage, source: SourceSeries, argument: str) -> None:
    """Refuse an image that does not lie on the grid of the series."""
    if image.ndim != 4 or len(image) != 1:
        raise InputError(f"{argument}: has shape {tuple(image.shape)}; a 3D image of one channel (1, i, j, k) is asked")
    if not Grid.of(image).same_as(source.grid):
        raise InputError(
            f"{argument}: does not lie on the grid of {source.path} (shape {tuple(image.shape[1:])}, the series has "
            f"{source.grid.shape}); give the image that was resampled on it"
        )
