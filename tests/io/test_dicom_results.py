"""All DICOM results of a registration in one folder, all or nothing."""

from __future__ import annotations

import shutil

import numpy as np
import pydicom
import pytest
import torch
from monai.data import MetaTensor

from medmi.grid import Grid
from medmi.io import read_image
from medmi.io.dicom_registration_reader import read_spatial_registration
from medmi.io.dicom_results import write_dicom_results
from medmi.io.dicom_sources import source_series
from medmi.spatial import resample
from medmi.validation import InputError
from tests.io.drawing import CIRCLE, centre, contour, drawn, structures
from tests.io.registering import fixed_series, motion, moving_series

pytest.importorskip("highdicom", reason="highdicom is not installed: DICOM Segmentations are not tested")


@pytest.fixture
def pair(tmp_path):
    return fixed_series(tmp_path / "fixed"), moving_series(tmp_path / "moving")


def moved_image(fixed, moving) -> MetaTensor:
    image, grid = read_image(moving), source_series(fixed).grid
    return MetaTensor(resample(image.as_tensor(), Grid.of(image), motion(), grid), affine=grid.affine)


def refer(path, moving) -> None:
    """Let a structure set name the series it was drawn on."""
    dataset = pydicom.dcmread(path)
    series, study, frame = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    series.SeriesInstanceUID = source_series(moving).first.SeriesInstanceUID
    study.RTReferencedSeriesSequence, frame.RTReferencedStudySequence = [series], [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    dataset.save_as(path)


def test_everything_arrives(tmp_path, pair):
    moved = moved_image(*pair)
    drawings = pair[1] / "drawings"
    drawings.mkdir()
    for name in ("a", "b", "unrelated"):
        structures(pair[1], drawings / f"{name}.dcm", [contour(centre(pair[1]) + CIRCLE)])
    refer(drawings / "a.dcm", pair[1])
    refer(drawings / "b.dcm", pair[1])
    drawn(pair[1], drawings / "seg.dcm", "BINARY")
    (drawings / "notes.txt").write_text("no DICOM")
    (drawings / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 40)
    write_dicom_results(motion(), moved, f"{pair[0]}", f"{pair[1]}#moving", tmp_path / "out" / "dicom")
    out = tmp_path / "out" / "dicom"
    names = ["contours_1.dcm", "contours_2.dcm", "moved", "registration.dcm", "segmentation_1.dcm"]
    assert sorted(p.name for p in out.iterdir()) == names
    back = read_spatial_registration(out / "registration.dcm")
    assert float((back.matrix - motion().matrix).abs().max()) < 1e-9
    assert float((read_image(out / "moved").as_tensor() - moved.as_tensor()).abs().max()) <= 0.5
    assert len({pydicom.dcmread(p).SeriesInstanceUID for p in out.rglob("*.dcm")}) == 5


def test_one_moving_file_has_no_drawings(tmp_path, pair):
    single = tmp_path / "single.dcm"
    shutil.copy(pair[1] / "IM003.dcm", single)
    grid = source_series(pair[0]).grid
    moved = MetaTensor(torch.zeros(1, *grid.shape), affine=grid.affine)
    write_dicom_results(motion(), moved, pair[0], single, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["moved", "registration.dcm"]


def test_a_failure_leaves_nothing(tmp_path, pair):
    moved = moved_image(*pair)
    structures(pair[1], pair[1] / "rt.dcm", [contour(np.zeros((4, 3)), "CLOSED_PLANAR")], frame="1.2.3")
    refer(pair[1] / "rt.dcm", pair[1])
    with pytest.raises(InputError, match=r"rt.dcm: has no region"):
        write_dicom_results(motion(), moved, *pair, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fixed", "moving"]
