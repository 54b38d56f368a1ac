"""Two DICOM series of one patient on unlike oblique grids, a known motion between them, and dciodvfy."""

from __future__ import annotations

import pathlib
import shutil
import subprocess

import numpy as np
import pytest
import torch
from pydicom.dataset import FileDataset
from pydicom.uid import UID, generate_uid

from medmi.frames import flip_matrix
from medmi.grid import Grid
from medmi.spatial import DisplacementFieldTransform, LinearTransform
from tests.io.making import save, series_datasets

MR = UID("1.2.840.10008.5.1.4.1.1.4")
STUDY, OTHER_STUDY, FIXED_FRAME, MOVING_FRAME = (generate_uid(entropy_srcs=[word]) for word in ("s", "o", "f", "m"))
PLANTED = "Planted^Näme"
MOVING_ROW, MOVING_COLUMN = np.array([0.0, 1.0, 0.0]), np.array([0.28, 0.0, -0.96])
MOVING_NORMAL = np.cross(MOVING_ROW, MOVING_COLUMN)

# A motion from fixed to moving points, LPS mm: a turn of 30 degrees about (1, 2, 2) / 3, then a shift.
COSINE, SINE = np.cos(np.pi / 6), np.sin(np.pi / 6)
AXIS = np.array([1.0, 2.0, 2.0]) / 3
CROSS = np.array([[0, -AXIS[2], AXIS[1]], [AXIS[2], 0, -AXIS[0]], [-AXIS[1], AXIS[0], 0]])
MOTION = np.eye(4)
MOTION[:3, :3] = COSINE * np.eye(3) + SINE * CROSS + (1 - COSINE) * np.outer(AXIS, AXIS)
MOTION[:3, 3] = [7.25, -11.5, 4.125]


def with_study(dataset: FileDataset, study: str, frame: str, modality: str) -> FileDataset:
    """The attributes that a complete CT or MR image has beside those of ``slice_dataset``."""
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName, dataset.PatientSex = PLANTED, "O"
    dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = study, frame
    dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber = "20010203", "040506", "PLANTED-ACC"
    dataset.ReferringPhysicianName, dataset.StudyID, dataset.PositionReferenceIndicator = "", "7", ""
    dataset.Manufacturer, dataset.Laterality, dataset.PatientPosition = "Maker", "", "HFS"
    dataset.ContentDate, dataset.ContentTime = "20010203", "040506"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.AcquisitionNumber, dataset.KVP, dataset.RescaleType = 1, 120, "HU"
    if modality == "MR":
        dataset.Modality, dataset.SOPClassUID = "MR", MR
        dataset.file_meta.MediaStorageSOPClassUID = MR
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
        dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = "SE", "NONE", ""
        dataset.MRAcquisitionType, dataset.EchoTime, dataset.RepetitionTime = "2D", 12, 500
        dataset.EchoTrainLength = 1
        del dataset.KVP, dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType
    return dataset


def fixed_series(folder: pathlib.Path, study: str = STUDY) -> pathlib.Path:
    """A CT of 6 slices of 11 x 13, oblique."""
    return save(folder, [with_study(d, study, FIXED_FRAME, "CT") for d in series_datasets()])


def moving_series(folder: pathlib.Path, study: str = OTHER_STUDY) -> pathlib.Path:
    """An MR of 5 slices, oblique otherwise, in another frame of reference and another study."""
    datasets = series_datasets(5, 3.0 * MOVING_NORMAL, np.array([58.8, -47.3, 61.8]))
    for dataset in datasets:
        dataset.ImageOrientationPatient = [*MOVING_ROW, *MOVING_COLUMN]
        dataset.PixelSpacing, dataset.SeriesDescription = [1.25, 1.0], "moving"
        with_study(dataset, study, MOVING_FRAME, "MR")
    return save(folder, datasets)


def motion() -> LinearTransform:
    """:data:`MOTION` as medmi has it, RAS."""
    return LinearTransform(flip_matrix(torch.from_numpy(MOTION)), "rigid")


def smooth_field(grid: Grid, size: float = 3.0) -> DisplacementFieldTransform:
    """A smooth deformation of up to ``size`` mm that does not fold."""
    index = (grid.points() - grid.centre) / (grid.corners - grid.centre).norm(dim=-1).max()
    return DisplacementFieldTransform(grid, size * torch.sin(2 * index[..., [1, 2, 0]] + 0.3))


def check_with_dciodvfy(*files: pathlib.Path) -> None:
    """No line of dciodvfy's verdict is an error."""
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy (Debian package dicom3tools) is not installed: objects are not validated")
    for file in files:
        done = subprocess.run([program, str(file)], capture_output=True, text=True, check=False)
        assert done.stderr.strip(), "dciodvfy names the class of what it read"
        assert [line for line in done.stderr.splitlines() if "Error" in line] == []


def lps(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points ``(n, 3)`` through a 4x4 matrix."""
    return points @ matrix[:3, :3].T + matrix[:3, 3]
