"""DICOM readers against the truth: where each puts the voxels of series that depart from the textbook, in mm.

    python examples/benchmarks/dicom_readers.py [--readers medmi SimpleITK ...]

Every voxel of a made-up series holds a number of its own, so its true place is known; the error is the largest distance
from there to where a reader's array and affine put that number. A reader that raises shows its message instead, which
is the right answer where a folder holds no single regular volume. ITKReader needs the package itk.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import io
import pathlib
import platform
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

SLICES, ROWS, COLUMNS, STEP = 6, 11, 13, 2.5
ROW_SPACING, COLUMN_SPACING = 1.5, 0.75
FIRST = np.array([12.0, -33.0, 57.0])
AXIAL = np.array([[1.0, 0, 0], [0, 1, 0]])
SAGITTAL = np.array([[0.0, 1, 0], [0, 0, -1]])
OBLIQUE = np.array([[0.8, 0.6, 0.0], [-0.36, 0.48, 0.8]])
CT, ENHANCED_MR, ULTRASOUND = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.6.1"


@dataclass
class Truth:
    """The place of every stored number in LPS mm, and how many voxels there are."""

    places: dict[int, np.ndarray] = field(default_factory=dict)

    def picture(self, corner: np.ndarray, axes: np.ndarray, spacings: tuple[float, float]) -> np.ndarray:
        """Numbers not used before, ``(rows, columns)``, for a slice whose first voxel lies at ``corner``."""
        start = len(self.places) + 1
        picture = np.arange(start, start + ROWS * COLUMNS).reshape(ROWS, COLUMNS)
        for (row, column), number in np.ndenumerate(picture):
            self.places[int(number)] = corner + column * spacings[1] * axes[0] + row * spacings[0] * axes[1]
        return picture.astype("<i2")

    def error(self, values: np.ndarray, affine: np.ndarray) -> float:
        """Largest distance in mm; infinite where a value is none that was stored."""
        index = np.stack(np.meshgrid(*map(np.arange, values.shape), indexing="ij"), -1).reshape(-1, values.ndim)
        found = index @ affine[:3, : values.ndim].T + affine[:3, -1]
        numbers = np.rint(values).astype(int).ravel().tolist()
        if not set(numbers) <= set(self.places):
            return float("inf")
        return float(np.linalg.norm(found - np.array([self.places[n] for n in numbers]), axis=1).max())


def dataset(picture: np.ndarray, sop_class: str = CT, modality: str = "CT", series: str = "") -> FileDataset:
    """What every image has."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, sop_class
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.Modality = sop_class, modality
    made.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = generate_uid()
    made.StudyInstanceUID, made.SeriesInstanceUID, made.SeriesNumber = generate_uid(), series or generate_uid(), 1
    made.Rows, made.Columns = picture.shape[-2:]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 1
    made.PixelData = picture.tobytes()
    return made


def slices(
    truth: Truth, axes: np.ndarray = AXIAL, step: np.ndarray | None = None, count: int = SLICES
) -> list[FileDataset]:
    """A series; ``step`` leads from slice to slice, along the normal where it is not given."""
    step = STEP * np.cross(*axes) if step is None else step
    series, made = generate_uid(), []
    for k in range(count):
        corner = FIRST + k * step
        one = dataset(truth.picture(corner, axes, (ROW_SPACING, COLUMN_SPACING)), series=series)
        one.ImagePositionPatient, one.ImageOrientationPatient = corner.round(6).tolist(), axes.ravel().tolist()
        one.PixelSpacing, one.SliceThickness, one.InstanceNumber = [ROW_SPACING, COLUMN_SPACING], 5, k + 1
        made.append(one)
    return made


def renumbered(truth: Truth, numbers: list[int | None]) -> list[FileDataset]:
    made = slices(truth, OBLIQUE)
    for one, number in zip(made, numbers):
        one.InstanceNumber = number
    return made


def without(truth: Truth, missing: int) -> list[FileDataset]:
    return [one for k, one in enumerate(slices(truth, OBLIQUE)) if k != missing]


def with_localizer(truth: Truth) -> list[FileDataset]:
    made, (scout,) = slices(truth), slices(truth, SAGITTAL, count=1)
    scout.ImageType, scout.SeriesNumber = ["ORIGINAL", "PRIMARY", "LOCALIZER"], 0
    return [*made, scout]


def enhanced(truth: Truth, order: list[int], stacks: str = "") -> list[FileDataset]:
    """One multi-frame file whose frame k lies at the place ``order[k]`` of its stack."""
    pictures, frames = [], []
    for k, place in enumerate(order):
        corner = FIRST + place * STEP * np.cross(*OBLIQUE) + (40 * OBLIQUE[0] if stacks and stacks[k] == "B" else 0)
        pictures.append(truth.picture(corner, OBLIQUE, (ROW_SPACING, COLUMN_SPACING)))
        frame, position, content = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient, content.StackID = corner.round(6).tolist(), stacks[k] if stacks else "1"
        content.InStackPositionNumber = place + 1
        frame.PlanePositionSequence, frame.FrameContentSequence = [position], [content]
        frames.append(frame)
    made = dataset(np.stack(pictures), ENHANCED_MR, "MR")
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [ROW_SPACING, COLUMN_SPACING], STEP
    orientation.ImageOrientationPatient = OBLIQUE.ravel().tolist()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    made.NumberOfFrames, made.SharedFunctionalGroupsSequence = len(frames), [shared]
    made.PerFrameFunctionalGroupsSequence = frames
    return [made]


def ultrasound(truth: Truth) -> list[FileDataset]:
    """A picture whose only calibration is that of its region, in cm."""
    made = dataset(truth.picture(np.zeros(3), AXIAL, (0.3, 0.2)), ULTRASOUND, "US")
    region = Dataset()
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX, region.PhysicalDeltaY = 0.02, 0.03
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 0, 0
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = COLUMNS - 1, ROWS - 1
    made.SequenceOfUltrasoundRegions = [region]
    return [made]


TILTED = STEP * np.cross(*OBLIQUE) + np.tan(np.radians(20)) * STEP * OBLIQUE[1]
# Case -> its datasets; where the folder holds no single regular volume, ``refused`` is the right answer.
CASES: dict[str, Callable[[Truth], list[FileDataset]]] = {
    "axial": slices,
    "oblique": lambda truth: slices(truth, OBLIQUE),
    "sagittal": lambda truth: slices(truth, SAGITTAL),
    "names against the order": lambda truth: slices(truth, OBLIQUE)[::-1],
    "scrambled InstanceNumber": lambda truth: renumbered(truth, [3, 1, 6, 2, 5, 4]),
    "identical InstanceNumber": lambda truth: renumbered(truth, [1] * SLICES),
    "no InstanceNumber": lambda truth: renumbered(truth, [None] * SLICES),
    "gantry tilt 20 degrees": lambda truth: slices(truth, OBLIQUE, TILTED),
    "slice missing in the middle": lambda truth: without(truth, 2),
    "slice missing near the end": lambda truth: without(truth, SLICES - 2),
    "two series in a folder": lambda truth: slices(truth) + slices(truth, SAGITTAL),
    "series + localizer": with_localizer,
    "Enhanced MR, oblique": lambda truth: enhanced(truth, [0, 1, 2, 3, 4, 5]),
    "Enhanced MR, frames interleaved": lambda truth: enhanced(truth, [0, 3, 1, 4, 2, 5]),
    "two stacks in one enhanced file": lambda truth: enhanced(truth, [0, 1, 2, 0, 1, 2], "AAABBB"),
    "ultrasound region spacing": ultrasound,
}
REFUSED = {
    "slice missing in the middle": "unevenly spaced",
    "slice missing near the end": "unevenly spaced",
    "two series in a folder": "holds 2 series; choose one",
    "two stacks in one enhanced file": "2 volumes; choose one of 0 to 1",
}


def write(folder: pathlib.Path, case: str) -> Truth:
    """Write the case's files; its truth."""
    truth = Truth()
    for k, one in enumerate(CASES[case](truth)):
        one.save_as(folder / f"IM{k:03d}.dcm", enforce_file_format=True)
    return truth


Volume = tuple[np.ndarray, np.ndarray]
TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def by_medmi(folder: pathlib.Path) -> Volume:
    from medmi.io import read_image

    return from_ras(read_image(folder))


def by_monai(reader: str) -> Callable[[pathlib.Path], Volume]:
    def read(folder: pathlib.Path) -> Volume:
        from monai.transforms import LoadImage

        return from_ras(LoadImage(reader=reader, image_only=True, ensure_channel_first=True)(str(folder)))

    return read


def from_ras(image: object) -> Volume:
    """Channel 0 of a MetaTensor, and its affine in LPS, ``(4, d + 1)``."""
    values, affine = np.asarray(image.as_tensor())[0], np.asarray(image.affine, dtype=float)  # type: ignore[attr-defined]
    return values, TO_LPS @ padded(affine, values.ndim)


def padded(affine: np.ndarray, dims: int) -> np.ndarray:
    """``(4, dims + 1)`` of an affine of any size."""
    out = np.zeros((4, dims + 1))
    rows = min(len(affine) - 1, 3)
    out[:rows, :dims] = affine[:rows, :dims]
    out[:rows, dims], out[3, dims] = affine[:rows, -1], 1
    return out


def by_simpleitk(folder: pathlib.Path) -> Volume:
    import SimpleITK as sitk

    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    image = sitk.ReadImage(names if len(names) > 1 else names[0])
    d = image.GetDimension()
    affine = np.zeros((4, d + 1))
    affine[:d, :d] = np.array(image.GetDirection()).reshape(d, d) * image.GetSpacing()
    affine[:d, d] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).T, affine


READERS: dict[str, Callable[[pathlib.Path], Volume]] = {
    "medmi": by_medmi,
    "ITKReader": by_monai("ITKReader"),
    "PydicomReader": by_monai("PydicomReader"),
    "SimpleITK": by_simpleitk,
}


def outcome(reader: str, folder: pathlib.Path, truth: Truth) -> str:
    """The error in mm, how much of the folder it is of where that is not all, or the message."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            values, affine = READERS[reader](folder)
        except Exception as error:  # whatever a reader says, in its own words
            return f"{type(error).__name__}: {' '.join(str(error).replace(str(folder), 'FOLDER').split())}"
    share = "" if values.size == len(truth.places) else f", {values.size} of {len(truth.places)} voxels"
    return f"{truth.error(values, affine):.2f} mm{share}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readers", nargs="+", choices=READERS, default=list(READERS))
    readers = parser.parse_args().readers
    print(f"{datetime.date.today()}, {platform.machine()}, Python {platform.python_version()}; {versions()}")
    for case in CASES:
        print(f"\n{case}{'  (no single volume)' if case in REFUSED else ''}")
        with tempfile.TemporaryDirectory() as place:
            truth = write(pathlib.Path(place), case)
            for reader in readers:
                print(f"  {reader:14s} {outcome(reader, pathlib.Path(place), truth)[:150]}")


def versions() -> str:
    """The packages that read."""
    told = []
    for name in ("medmi", "monai", "itk", "SimpleITK", "pydicom"):
        try:
            told.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            told.append(f"{name} is not installed")
    return ", ".join(told)


if __name__ == "__main__":
    main()
