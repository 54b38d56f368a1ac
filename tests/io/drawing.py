"""Structure sets and segmentations drawn on the series that :mod:`tests.io.registering` makes."""

from __future__ import annotations

import copy

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import RTStructureSetStorage, generate_uid

from medmi.io.dicom_objects import new_object, save
from medmi.io.dicom_sources import source_series
from tests.io.registering import MOVING_COLUMN, MOVING_FRAME, MOVING_ROW

ANGLES = np.linspace(0, 2 * np.pi, 25)[:-1]
CIRCLE = 4 * (np.cos(ANGLES)[:, None] * MOVING_ROW + np.sin(ANGLES)[:, None] * MOVING_COLUMN)


LABELS = np.zeros((5, 11, 13), np.uint8)
LABELS[1:4, 2:8, 3:9] = 1
LABELS[2:5, 6:9, 9:12] = 2


def contour(points: np.ndarray, kind: str = "CLOSED_PLANAR") -> Dataset:
    item = Dataset()
    item.ContourGeometricType, item.NumberOfContourPoints = kind, len(points)
    item.ContourData = [f"{v:.8f}" for v in points.flatten()]
    return item


def structures(moving, path, contours: list[Dataset], frame: str = MOVING_FRAME):
    """A structure set of one region in the moving series' frame, and one in a frame of its own."""
    dataset = new_object(source_series(moving), RTStructureSetStorage, "RTSTRUCT", "drawn")
    dataset.StructureSetLabel = "drawn"
    regions, drawn, observations = [], [], []
    for number, uid in ((3, frame), (5, generate_uid())):
        region, content, observation = Dataset(), Dataset(), Dataset()
        region.ROINumber, region.ROIName, region.ROIVolume = number, f"Région {number}", "12.5"
        region.ReferencedFrameOfReferenceUID, region.ROIGenerationAlgorithm = uid, "MANUAL"
        content.ReferencedROINumber, content.ROIDisplayColor = number, [255, 0, number]
        content.ContourSequence = copy.deepcopy(contours)
        observation.ObservationNumber, observation.ReferencedROINumber = number, number
        observation.RTROIInterpretedType, observation.ROIInterpreter = "GTV", ""
        regions.append(region)
        drawn.append(content)
        observations.append(observation)
    dataset.StructureSetROISequence, dataset.ROIContourSequence = regions, drawn
    dataset.RTROIObservationsSequence = observations
    save(dataset, path)
    return path


def centre(moving) -> np.ndarray:
    return source_series(moving).grid.centre.numpy() * [-1, -1, 1]


def drawn(series, path, kind: str, labels: np.ndarray = LABELS):
    """A segmentation of two segments; fractional ones are 0.6."""
    import highdicom

    names = {1: codes.SCT.Bone, 2: codes.SCT.Liver}
    described = [
        highdicom.seg.SegmentDescription(n, f"part {n}", codes.SCT.Tissue, code, "MANUAL") for n, code in names.items()
    ]
    pixels = labels if kind != "FRACTIONAL" else np.stack([labels == 1, labels == 2], -1).astype(np.float32) * 0.6
    uids = [highdicom.UID(), highdicom.UID()]
    headers = source_series(series).headers
    made = highdicom.seg.Segmentation(headers, pixels, kind, described, uids[0], 1, uids[1], 1, "m", "m", "1", "0")
    made.save_as(path)
    return path
