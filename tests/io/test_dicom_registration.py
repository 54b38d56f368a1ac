"""DICOM registration objects: what stands in the file, by hand and by dciodvfy, and the same transform back."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch

from medmi.frames import flip_points
from medmi.grid import Grid
from medmi.io.dicom_registration import orthogonal_cover, write_spatial_registration
from medmi.io.dicom_registration_reader import read_spatial_registration
from medmi.io.dicom_sources import source_series
from medmi.spatial import ItkTransform, LinearTransform, SpatialTransform, chain
from tests.io.making import COLUMN, NORMAL, ROW, save, series_datasets
from tests.io.registering import (
    FIXED_FRAME,
    MOTION,
    MOVING_FRAME,
    OTHER_STUDY,
    PLANTED,
    STUDY,
    check_with_dciodvfy,
    fixed_series,
    lps,
    motion,
    moving_series,
    smooth_field,
    with_study,
)

FIXED_POINTS = np.array([[12.0, -33.0, 57.0], [20.0, -25.0, 66.0], [3.5, -30.25, 61.125]])


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    return fixed_series(folder / "fixed"), moving_series(folder / "moving")


def written(transform: SpatialTransform, pair, path) -> pydicom.Dataset:
    write_spatial_registration(transform, *pair, path)
    return pydicom.dcmread(path)


def matrix_of(item: pydicom.Dataset) -> np.ndarray:
    return np.array(item.FrameOfReferenceTransformationMatrix, dtype=float).reshape(4, 4)


def test_the_matrix_maps_moving_to_fixed_points(tmp_path, pair):
    dataset = written(motion(), pair, tmp_path / "r.dcm")
    still, moved = dataset.RegistrationSequence
    moving_points = lps(FIXED_POINTS, MOTION)
    entry = moved.MatrixRegistrationSequence[0].MatrixSequence[0]
    assert entry.FrameOfReferenceTransformationMatrixType == "RIGID"
    assert np.abs(lps(moving_points, matrix_of(entry)) - FIXED_POINTS).max() < 1e-9
    assert (moved.FrameOfReferenceUID, still.FrameOfReferenceUID) == (MOVING_FRAME, FIXED_FRAME)
    assert dataset.FrameOfReferenceUID == FIXED_FRAME
    assert np.array_equal(matrix_of(still.MatrixRegistrationSequence[0].MatrixSequence[0]), np.eye(4))


def test_both_series_are_referred_to(tmp_path, pair):
    dataset = written(motion(), pair, tmp_path / "r.dcm")
    for item, folder in zip(dataset.RegistrationSequence, pair):
        uids = {pydicom.dcmread(f).SOPInstanceUID for f in folder.iterdir()}
        assert {r.ReferencedSOPInstanceUID for r in item.ReferencedImageSequence} == uids
    other = dataset.StudiesContainingOtherReferencedInstancesSequence[0]
    assert (dataset.StudyInstanceUID, other.StudyInstanceUID) == (STUDY, OTHER_STUDY)
    assert len(dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 6
    assert len(other.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 5


def test_patient_and_study_are_the_fixed_series(tmp_path, pair):
    dataset = written(motion(), pair, tmp_path / "r.dcm")
    assert str(dataset.PatientName) == PLANTED and dataset.PatientID == "PLANTED-ID"
    assert dataset.AccessionNumber == "PLANTED-ACC" and dataset.StudyID == "7"


FAMILIES = {"translation": 3, "rigid": 6, "similarity": 7, "affine": 12}


@pytest.mark.parametrize("family", FAMILIES)
def test_linear_transforms_come_back(tmp_path, pair, family):
    parameters = 0.1 * torch.randn(FAMILIES[family], generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    parameters[:3] *= 50
    grid = source_series(pair[0]).grid
    transform = LinearTransform.from_parameters(parameters, family, grid.centre)
    written(transform, pair, tmp_path / "r.dcm")
    back = read_spatial_registration(tmp_path / "r.dcm")
    assert isinstance(back, LinearTransform) and back.family == family
    points = grid.points().reshape(-1, 3)
    assert float((back.points(points) - transform.points(points)).abs().max()) < 1e-9
    assert np.allclose(
        back.to_sitk().TransformPoint([1.0, 2.0, 3.0]), transform.to_sitk().TransformPoint([1.0, 2.0, 3.0])
    )
    check_with_dciodvfy(tmp_path / "r.dcm")


def test_the_identity_within_one_frame_comes_back(tmp_path, pair):
    still = LinearTransform(torch.eye(4, dtype=torch.float64), "translation")
    written(still, (pair[0], pair[0]), tmp_path / "r.dcm")
    assert torch.equal(read_spatial_registration(tmp_path / "r.dcm").matrix, torch.eye(4, dtype=torch.float64))


def test_a_motion_within_one_frame_comes_back(tmp_path, pair):
    written(motion(), (pair[0], pair[0]), tmp_path / "r.dcm")
    back = read_spatial_registration(tmp_path / "r.dcm")
    assert float((back.matrix - motion().matrix).abs().max()) < 1e-9


def turn(seed: int) -> LinearTransform:
    parameters = torch.randn(6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return LinearTransform.from_parameters(parameters * torch.tensor([5, 5, 5, 0.2, 0.2, 0.2]), "rigid")


def test_the_deformable_grid_is_the_transform_by_the_standards_equation(tmp_path, pair):
    post, pre = motion(), turn(1)
    field = smooth_field(Grid((5, 4, 3), pre.matrix @ torch.diag(torch.tensor([6.0, 7, 8, 1], dtype=torch.float64))))
    transform = chain([post, field, pre])
    dataset = written(transform, pair, tmp_path / "d.dcm")
    still, item = dataset.DeformableRegistrationSequence
    grid = item.DeformableRegistrationGridSequence[0]
    row, column = np.array(grid.ImageOrientationPatient, dtype=float).reshape(2, 3)
    axes = np.stack([row, column, np.cross(row, column)])
    vectors = np.frombuffer(grid.VectorGridData, "<f4").reshape(*grid.GridDimensions[::-1], 3)
    m_pre = matrix_of(item.PreDeformationMatrixRegistrationSequence[0])
    m_post = matrix_of(item.PostDeformationMatrixRegistrationSequence[0])
    for i, j, k in ((0, 0, 0), (4, 1, 2), (2, 3, 1)):
        start = np.array(grid.ImagePositionPatient, dtype=float)
        point = start + (np.array([i, j, k]) * np.array(grid.GridResolution)) @ axes
        source = lps(lps(point[None], m_pre) + vectors[k, j, i], m_post)
        expected = flip_points(transform.points(flip_points(torch.from_numpy(point[None]))))
        assert np.abs(source - expected.numpy()).max() < 1e-5
    assert (item.SourceFrameOfReferenceUID, still.SourceFrameOfReferenceUID) == (MOVING_FRAME, FIXED_FRAME)
    assert np.abs(m_post - MOTION).max() < 1e-9


def same(a: SpatialTransform, b: SpatialTransform, points: torch.Tensor, tolerance: float = 1e-5) -> bool:
    return float((a.points(points) - b.points(points)).abs().max()) < tolerance


@pytest.mark.parametrize("hand", [1.0, -1.0])
@pytest.mark.parametrize("ends", ["field", "post", "pre", "both"])
def test_fields_come_back_between_their_voxels_and_outside(tmp_path, pair, hand, ends):
    fixed = source_series(pair[0]).grid
    affine = fixed.affine @ torch.diag(torch.tensor([2.0, 1.5, hand, 1.0], dtype=torch.float64))
    field = smooth_field(Grid((7, 8, 6), affine))
    parts = {"field": [field], "post": [motion(), field], "pre": [field, turn(2)], "both": [motion(), field, turn(2)]}
    transform = chain(parts[ends])
    written(transform, pair, tmp_path / "d.dcm")
    spread = 40 * torch.rand((500, 3), generator=torch.Generator().manual_seed(3), dtype=torch.float64) - 20
    assert same(read_spatial_registration(tmp_path / "d.dcm"), transform, field.grid.centre + spread)
    check_with_dciodvfy(tmp_path / "d.dcm")


def test_other_transforms_are_exact_at_the_fixed_voxels(tmp_path, pair):
    grid = source_series(pair[0]).grid
    spline = sitk.BSplineTransform(3, 3)
    spline.SetTransformDomainOrigin([-40.0, -60.0, 30.0])
    spline.SetTransformDomainPhysicalDimensions([100.0, 80.0, 70.0])
    spline.SetTransformDomainMeshSize([4, 4, 4])
    spline.SetParameters((3 * np.random.default_rng(1).normal(size=len(spline.GetParameters()))).tolist())
    transform = chain([motion(), ItkTransform(spline)])
    written(transform, pair, tmp_path / "d.dcm")
    back = read_spatial_registration(tmp_path / "d.dcm")
    assert float((transform.points(grid.points()) - motion().points(grid.points())).norm(dim=-1).max()) > 1
    assert same(back, transform, grid.points())


def test_a_tilted_fixed_series_is_covered_by_an_orthogonal_grid(tmp_path, pair):
    slices = [
        with_study(d, STUDY, FIXED_FRAME, "CT") for d in series_datasets(step=2.5 * NORMAL + 0.9 * COLUMN + 0.4 * ROW)
    ]
    folder = save(tmp_path / "tilted", slices)
    fixed = source_series(folder).grid
    # linear in x, so interpolation is exact; not a matrix to medmi, so it is sampled
    transform = ItkTransform(sitk.AffineTransform([1.02, 0.01, 0, 0, 0.99, 0.03, 0.02, 0, 1], [1.0, 2.0, 3.0]))
    written(transform, (folder, pair[1]), tmp_path / "d.dcm")
    back = read_spatial_registration(tmp_path / "d.dcm")
    cover = orthogonal_cover(fixed)
    index = cover.world_to_index(fixed.corners)
    assert float(index.min()) > -1e-6 and bool((index < torch.tensor(cover.shape) - 1 + 1e-6).all())
    assert same(back, transform, fixed.points())


def by_plastimatch(source, pair, folder):
    """The registration object that plastimatch makes of a transform file, or a skip."""
    program = shutil.which("plastimatch")
    if program is None:
        pytest.skip("plastimatch is not installed: its registration objects are not read")
    options = ["--output-dicom", folder, "--fixed-rcs", pair[0], "--moving-rcs", pair[1], "--filenames-without-uids"]
    subprocess.run([program, "xf-convert", "--input", source, *options], check=True, capture_output=True)
    return next(file for file in folder.iterdir() if pydicom.dcmread(file, stop_before_pixels=True).Modality == "REG")


def test_plastimatchs_matrix_is_read(tmp_path, pair):
    sitk.WriteTransform(motion().to_sitk(), str(tmp_path / "t.tfm"))
    back = read_spatial_registration(by_plastimatch(tmp_path / "t.tfm", pair, tmp_path / "out"))
    assert same(back, motion(), source_series(pair[0]).grid.points(), 1e-4)  # it writes six decimals


def test_plastimatchs_field_is_read(tmp_path, pair):
    grid = source_series(pair[0]).grid
    field = smooth_field(grid)
    image = sitk.Cast(field.to_sitk().GetDisplacementField(), sitk.sitkVectorFloat32)
    sitk.WriteImage(image, str(tmp_path / "v.mha"))
    back = read_spatial_registration(by_plastimatch(tmp_path / "v.mha", pair, tmp_path / "out"))
    assert same(back, field, grid.points(), 1e-4)
