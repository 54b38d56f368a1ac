"""Small files made in code: an oblique image, its NIfTI, and DICOM series with any departure a test asks for."""

from __future__ import annotations

import pathlib

import nibabel
import numpy as np
import pydicom
import torch
from monai.data import MetaTensor
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

SHAPE = (19, 23, 7)


def oblique(spatial_dims: int = 3) -> torch.Tensor:
    """An anisotropic, turned affine away from the origin, ``(d + 1, d + 1)``."""
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(spatial_dims, spatial_dims)))
    affine = np.eye(spatial_dims + 1)
    affine[:-1, :-1] = turn @ np.diag([0.9, 1.7, 3.1][:spatial_dims])
    affine[:-1, -1] = [31.0, -47.5, 12.25][:spatial_dims]
    return torch.from_numpy(affine)


def image(channels: int = 1, spatial_dims: int = 3, seed: int = 0) -> MetaTensor:
    """Random float32 voxels on an oblique grid."""
    generator = torch.Generator().manual_seed(seed)
    return MetaTensor(torch.rand((channels, *SHAPE[:spatial_dims]), generator=generator), affine=oblique(spatial_dims))


def nifti(path: pathlib.Path, array: np.ndarray, affine: np.ndarray | None = None) -> pathlib.Path:
    """A NIfTI file written by nibabel alone."""
    nibabel.save(nibabel.Nifti1Image(array, oblique().numpy() if affine is None else affine), path)
    return path


def edited(path: pathlib.Path, **fields: object) -> pathlib.Path:
    """The same uncompressed NIfTI file with fields of its header overwritten, unchecked."""
    raw = path.read_bytes()
    header = nibabel.Nifti1Header(raw[:348], check=False)
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(header.binaryblock + raw[348:])
    return path


ROW = np.array([0.8, 0.6, 0.0])
COLUMN = np.array([-0.36, 0.48, 0.8])
NORMAL = np.cross(ROW, COLUMN)


def slice_dataset(pixels: np.ndarray, position: np.ndarray | None, series: str, number: int) -> FileDataset:
    """One CT slice of integer pixels, oblique, spacing 1.5 (rows) by 0.75 mm (columns)."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.SeriesInstanceUID = series
    dataset.Modality, dataset.SeriesNumber, dataset.SeriesDescription = "CT", 4, "thin slices"
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "Planted^Name", "PLANTED-ID", "19010203"
    dataset.InstanceNumber = number
    dataset.PixelSpacing = [1.5, 0.75]
    dataset.SliceThickness = 99
    if position is not None:
        dataset.ImagePositionPatient = [round(float(v), 6) for v in position]
        dataset.ImageOrientationPatient = [*ROW, *COLUMN]
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.RescaleSlope, dataset.RescaleIntercept = 2, -1000
    dataset.PixelData = pixels.astype("<i2").tobytes()
    return dataset


def volume_pixels(slices: int = 6) -> np.ndarray:
    """Stored values ``(slices, rows, columns)``."""
    return np.random.default_rng(7).integers(-500, 2000, (slices, 11, 13)).astype(np.int16)


def series_datasets(
    slices: int = 6, step: np.ndarray | None = None, first: np.ndarray | None = None
) -> list[FileDataset]:
    """A regular series, 2.5 mm from slice to slice along the normal, in order."""
    uid = generate_uid()
    step = 2.5 * NORMAL if step is None else step
    start = np.array([12.0, -33.0, 57.0]) if first is None else first
    return [slice_dataset(pixels, start + k * step, uid, k + 1) for k, pixels in enumerate(volume_pixels(slices))]


def save(folder: pathlib.Path, datasets: list[FileDataset], prefix: str = "IM") -> pathlib.Path:
    """Write them under names that run against their order."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, dataset in enumerate(datasets):
        dataset.save_as(folder / f"{prefix}{len(datasets) - k:03d}.dcm", enforce_file_format=True)
    return folder


def expected_affine(step: np.ndarray | None = None, first: np.ndarray | None = None) -> np.ndarray:
    """Index -> RAS of :func:`series_datasets`, written out by hand."""
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = ROW * 0.75, COLUMN * 1.5
    affine[:3, 2] = 2.5 * NORMAL if step is None else step
    affine[:3, 3] = np.array([12.0, -33.0, 57.0]) if first is None else first
    return np.diag([-1, -1, 1, 1.0]) @ affine


def enhanced_dataset(positions: list[np.ndarray], pixels: np.ndarray, stacks: list[str] | None = None) -> FileDataset:
    """An enhanced multi-frame file; frame k lies at ``positions[k]`` and has the slope k + 1."""
    dataset = slice_dataset(pixels[0], None, generate_uid(), 1)
    del dataset.PixelSpacing, dataset.RescaleSlope, dataset.RescaleIntercept
    dataset.NumberOfFrames = len(positions)
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [1.5, 0.75], 99
    orientation.ImageOrientationPatient = [*ROW, *COLUMN]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    dataset.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for k, place in enumerate(positions):
        frame, position, content, values = Dataset(), Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [round(float(v), 6) for v in place]
        content.StackID = stacks[k] if stacks else "1"
        values.RescaleSlope, values.RescaleIntercept, values.RescaleType = k + 1, 0, "US"
        frame.PlanePositionSequence, frame.FrameContentSequence = [position], [content]
        frame.PixelValueTransformationSequence = [values]
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    dataset.PixelData = pixels.astype("<i2").tobytes()
    return dataset
