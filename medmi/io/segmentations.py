"""DICOM Segmentations carried through a transform: segments of the moving series resampled on the fixed series.

highdicom reads and writes the objects; it comes with the extra ``dicom``.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from types import ModuleType
from typing import Any

import numpy as np
import torch
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from medmi.frames import flip_affine
from medmi.grid import Grid
from medmi.io.dicom_identity import remove_identity
from medmi.io.dicom_objects import MAKER, OPTIONAL, REQUIRED, save, series_number
from medmi.io.dicom_sources import SeriesLike, SourceSeries, check_one_patient, quiet, source_series
from medmi.io.files import PathLike, existing_file, one_line
from medmi.spatial import SpatialTransform, resample
from medmi.validation import InputError

OWN = ("DeviceSerialNumber", "ContentCreatorName")  # medmi's, and empty
INTERPOLATION = {"BINARY": "nearest", "LABELMAP": "nearest", "FRACTIONAL": "linear"}


def write_carried_segmentation(
    transform: SpatialTransform,
    segmentation: PathLike,
    fixed_folder: SeriesLike,
    moving_folder: SeriesLike,
    path: PathLike,
) -> None:
    """Write a DICOM Segmentation of the moving series as one of the fixed series.

    Segments keep their numbers, labels, codes and colours. Binary segments and label maps are resampled by the nearest
    voxel, fractional ones linearly.

    Args:
        transform: fixed world points to moving world points, RAS mm, 3D.
        segmentation: SEG file of the moving series.
        fixed_folder: the fixed image's DICOM folder or file; ``FOLDER#MR`` chooses a series.
        moving_folder: the moving image's.
        path: file to write.

    Raises:
        InputError: highdicom is not installed, not a segmentation, of another frame of reference than the moving
            series', series of two patients, or nothing of it falls on the fixed series.
    """
    highdicom = load_highdicom()
    if transform.spatial_dims != 3:
        raise InputError(f"transform: is {transform.spatial_dims}D; segmentations are 3D")
    fixed, moving = source_series(fixed_folder), source_series(moving_folder)
    check_one_patient(fixed, moving)
    file = existing_file(segmentation)
    with one_line(file, "a DICOM Segmentation"), quiet():
        source = highdicom.seg.segread(file)
        if str(source.FrameOfReferenceUID) != moving.frame_of_reference:
            raise InputError(f"{file}: is not in the moving series' frame of reference")
        carried = resampled_segments(transform, source, fixed)
        new = segmentation_object(highdicom, source, carried, fixed)
    with quiet():
        save(new, path)


def load_highdicom() -> ModuleType:
    """The library, or an error that says how to get it."""
    try:
        importlib.import_module("highdicom.seg")
        return importlib.import_module("highdicom")
    except ImportError as error:
        raise InputError("segmentation: DICOM Segmentations need highdicom; pip install 'medmi[dicom]'") from error


def resampled_segments(transform: SpatialTransform, source: Any, fixed: SourceSeries) -> np.ndarray:
    """Segments on the fixed grid, ``(slices, rows, columns, segments)``, bool or float32 from 0 to 1."""
    volume = source.get_volume(combine_segments=False).pad(1)  # the slices it leaves out beside its own are empty
    grid = Grid(volume.spatial_shape, flip_affine(torch.from_numpy(np.array(volume.affine, dtype=np.float64))))
    interpolation = INTERPOLATION[source.segmentation_type.value]
    parts = []
    for number in range(volume.array.shape[-1]):
        segment = torch.from_numpy(np.ascontiguousarray(volume.array[..., number]).astype(np.float32))
        moved = resample(segment[None], grid, transform, fixed.grid, interpolation)[0].permute(2, 1, 0)
        parts.append((moved > 0.5 if interpolation == "nearest" else moved.clamp(0, 1)).numpy())
    carried = np.stack(parts, -1)
    if not carried.any():
        raise InputError("none of its segments falls on the fixed series")
    return carried


def segmentation_object(highdicom: ModuleType, source: Any, carried: np.ndarray, fixed: SourceSeries) -> Dataset:
    """The new object; its frames are stored in the order of the fixed series' instances."""
    order = list(range(len(fixed.frames)))
    if len(fixed.headers) == 1:
        if len(fixed.frames) != int(fixed.first.get("NumberOfFrames") or 1):
            raise InputError(
                f"{fixed.path}: has frames of several volumes in one file, which segmentations cannot tell apart"
            )
        order.sort(key=lambda k: fixed.frames[k].number)
    descriptions = [source.get_segment_description(number) for number in source.segment_numbers]
    new = highdicom.seg.Segmentation(
        source_images=fixed.headers,
        pixel_array=carried[order],
        segmentation_type=source.segmentation_type,
        segment_descriptions=descriptions,
        series_instance_uid=generate_uid(),
        series_number=series_number(fixed),
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=MAKER,
        manufacturer_model_name=MAKER,
        software_versions=version(MAKER),
        device_serial_number="0",
        series_description="Registered segmentation",
    )
    remove_identity(new, (*REQUIRED, *OPTIONAL, *OWN))
    return new
