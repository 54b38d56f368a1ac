"""What DICOM registration objects refuse, and what foreign ones may hold beside what medmi writes."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
import torch
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian

from medmi.frames import flip_matrix
from medmi.io.dicom_objects import decimal_strings
from medmi.io.dicom_registration import write_spatial_registration
from medmi.io.dicom_registration_reader import read_spatial_registration
from medmi.io.dicom_sources import source_series
from medmi.spatial import DisplacementFieldTransform, LinearTransform, chain
from medmi.validation import InputError
from tests.io.making import save, series_datasets
from tests.io.registering import (
    FIXED_FRAME,
    MOTION,
    STUDY,
    fixed_series,
    motion,
    moving_series,
    smooth_field,
    with_study,
)


@pytest.fixture
def pair(tmp_path):
    return fixed_series(tmp_path / "fixed"), moving_series(tmp_path / "moving")


@pytest.fixture
def rigid(tmp_path, pair):
    write_spatial_registration(motion(), *pair, tmp_path / "rigid.dcm")
    return tmp_path / "rigid.dcm"


@pytest.fixture
def deformable(tmp_path, pair):
    field = smooth_field(source_series(pair[0]).grid)
    write_spatial_registration(chain([motion(), field]), *pair, tmp_path / "deformable.dcm")
    return tmp_path / "deformable.dcm"


def edited(path, edit):
    dataset = pydicom.dcmread(path)
    edit(dataset)
    dataset.save_as(path)
    return path


def entry(matrix: np.ndarray) -> Dataset:
    item = Dataset()
    item.FrameOfReferenceTransformationMatrixType = "AFFINE"
    item.FrameOfReferenceTransformationMatrix = decimal_strings(matrix.flatten())
    return item


def test_several_matrices_are_multiplied_in_their_order(rigid):
    first, second = np.linalg.inv(MOTION), np.diag([1.5, 1.0, 0.5, 1.0])
    second[:3, 3] = [1, 2, 3]

    def two(dataset):
        dataset.RegistrationSequence[1].MatrixRegistrationSequence[0].MatrixSequence = [entry(first), entry(second)]

    back = read_spatial_registration(edited(rigid, two))
    assert back.family == "affine"
    expected = flip_matrix(torch.from_numpy(np.linalg.inv(first @ second)))
    assert float((back.matrix - expected).abs().max()) < 1e-9


def test_an_object_without_an_item_for_the_fixed_series(rigid):
    back = read_spatial_registration(edited(rigid, lambda d: d.RegistrationSequence.pop(0)))
    assert float((back.matrix - motion().matrix).abs().max()) < 1e-9


def test_two_moving_series_are_refused(rigid):
    def third(dataset):
        dataset.RegistrationSequence.append(dataset.RegistrationSequence[1])

    with pytest.raises(InputError, match=r"rigid.dcm: registers 2 series to the fixed frame, not one; split it"):
        read_spatial_registration(edited(rigid, third))


def test_no_items_are_refused(rigid):
    with pytest.raises(InputError, match="registers nothing"):
        read_spatial_registration(edited(rigid, lambda d: d.RegistrationSequence.clear()))


@pytest.mark.parametrize("numbers", [["1"] * 15, ["1"] * 16, ["0"] * 15 + ["1"]])
def test_matrices_that_are_none_are_refused(rigid, numbers):
    def break_it(dataset):
        matrix = dataset.RegistrationSequence[1].MatrixRegistrationSequence[0].MatrixSequence[0]
        matrix.FrameOfReferenceTransformationMatrix = numbers

    with pytest.raises(InputError, match=r"rigid.dcm: .*matrix"):
        read_spatial_registration(edited(rigid, break_it))


def the_grid(dataset: Dataset) -> Dataset:
    return dataset.DeformableRegistrationSequence[1].DeformableRegistrationGridSequence[0]


def test_undefined_vectors_are_no_displacement(deformable, pair):
    def undefine(dataset):
        vectors = np.frombuffer(the_grid(dataset).VectorGridData, "<f4").copy()
        vectors[:3] = np.nan
        the_grid(dataset).VectorGridData = vectors.tobytes()

    back = read_spatial_registration(edited(deformable, undefine))
    corner = source_series(pair[0]).grid.index_to_world(torch.zeros(3, dtype=torch.float64))
    assert float((back.points(corner) - motion().points(corner)).abs().max()) < 1e-9


@pytest.mark.parametrize(
    ("keyword", "value", "message"),
    [
        ("VectorGridData", b"\0" * 24, "does not agree with its 24 bytes"),
        ("GridDimensions", [13, 11], "does not agree"),
        ("GridDimensions", [2**31, 2**31, 2**31], "does not agree"),
        ("GridResolution", [0.0, 1.0, 1.0], "singular"),
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0], "not two orthogonal unit vectors"),
    ],
)
def test_grids_that_are_none_are_refused(deformable, keyword, value, message):
    path = edited(deformable, lambda dataset: setattr(the_grid(dataset), keyword, value))
    with pytest.raises(InputError, match=message):
        read_spatial_registration(path)


def test_big_endian_vectors(deformable, pair):
    points = source_series(pair[0]).grid.points()
    before = read_spatial_registration(deformable).points(points)

    def swap(dataset):
        the_grid(dataset).VectorGridData = (
            np.frombuffer(the_grid(dataset).VectorGridData, "<f4").astype(">f4").tobytes()
        )
        dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian

    dataset = pydicom.dcmread(deformable)
    swap(dataset)
    plain = Dataset()
    plain.update(dataset)
    plain.file_meta = dataset.file_meta
    plain.save_as(deformable, enforce_file_format=True)
    assert torch.equal(read_spatial_registration(deformable).points(points), before)


def test_other_files_are_refused(tmp_path, pair, rigid):
    with pytest.raises(InputError, match="is no DICOM Spatial Registration object"):
        read_spatial_registration(pair[0] / "IM001.dcm")
    with pytest.raises(InputError, match="no such file"):
        read_spatial_registration(tmp_path / "none.dcm")
    (tmp_path / "text.dcm").write_text("no DICOM" * 40)
    with pytest.raises(InputError, match=r"text.dcm: cannot be read as a DICOM registration"):
        read_spatial_registration(tmp_path / "text.dcm")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_truncated_files_are_refused(deformable, share):
    data = deformable.read_bytes()
    deformable.write_bytes(data[: int(share * len(data))])
    with pytest.raises(InputError, match=r"deformable\.dcm"):
        read_spatial_registration(deformable)


def test_2d_transforms_are_refused(tmp_path, pair):
    with pytest.raises(InputError, match="transform: is 2D; DICOM registrations are 3D"):
        write_spatial_registration(LinearTransform(torch.eye(3)), *pair, tmp_path / "r.dcm")


def test_another_patient_is_refused_without_a_name(tmp_path, pair):
    datasets = [with_study(d, STUDY, FIXED_FRAME, "CT") for d in series_datasets()]
    for dataset in datasets:
        dataset.PatientID = "SOMEBODY-ELSE"
    with pytest.raises(InputError, match="has another Patient ID") as caught:
        write_spatial_registration(motion(), pair[0], save(tmp_path / "else", datasets), tmp_path / "r.dcm")
    assert "SOMEBODY" not in str(caught.value) and "PLANTED" not in str(caught.value)
    assert not (tmp_path / "r.dcm").exists()


@pytest.mark.parametrize("keyword", ["FrameOfReferenceUID", "StudyInstanceUID", "SOPClassUID"])
def test_series_without_what_references_need_are_refused(tmp_path, pair, keyword):
    for file in pair[1].iterdir():
        dataset = pydicom.dcmread(file)
        setattr(dataset, keyword, "")
        dataset.save_as(file)
    with pytest.raises(InputError, match=f"lacks the DICOM attribute {keyword}"):
        write_spatial_registration(motion(), *pair, tmp_path / "r.dcm")


def test_slices_of_two_frames_of_reference_are_refused(tmp_path, pair):
    file = pair[1] / "IM001.dcm"
    edited(file, lambda d: setattr(d, "FrameOfReferenceUID", FIXED_FRAME))
    with pytest.raises(InputError, match="name 2 frames of reference"):
        write_spatial_registration(motion(), *pair, tmp_path / "r.dcm")


def test_pictures_without_a_place_are_refused(tmp_path, pair):
    dataset = with_study(series_datasets(1)[0], STUDY, FIXED_FRAME, "CT")
    del dataset.ImagePositionPatient
    with pytest.raises(InputError, match="no place in the patient"):
        write_spatial_registration(motion(), pair[0], save(tmp_path / "flat", [dataset]), tmp_path / "r.dcm")


def test_a_series_is_chosen_as_by_read_image(tmp_path, pair):
    write_spatial_registration(motion(), f"{tmp_path}#CT", f"{tmp_path}#moving", tmp_path / "r.dcm")
    assert pydicom.dcmread(tmp_path / "r.dcm").FrameOfReferenceUID == FIXED_FRAME
    with pytest.raises(InputError, match="holds 2 series"):
        write_spatial_registration(motion(), tmp_path, pair[1], tmp_path / "r2.dcm")
    with pytest.raises(InputError, match="no such file or folder"):
        write_spatial_registration(motion(), tmp_path / "none", pair[1], tmp_path / "r2.dcm")


def test_a_field_beyond_4_gib_is_refused(tmp_path, pair):
    grid = source_series(pair[0]).grid
    field = smooth_field(grid)
    object.__setattr__(field.grid, "shape", (2048, 2048, 2048))
    assert isinstance(field, DisplacementFieldTransform)
    with pytest.raises(InputError, match="beyond the 4 GiB"):
        write_spatial_registration(field, *pair, tmp_path / "r.dcm")


def test_values_that_break_their_type_are_left_out(tmp_path, pair):
    for file in pair[0].iterdir():
        dataset = pydicom.dcmread(file)
        with pytest.warns(UserWarning, match="exceeds the maximum length of 16"):
            dataset.StudyID = "A study id of more than 16 characters"
        dataset.save_as(file)
    write_spatial_registration(motion(), *pair, tmp_path / "r.dcm")
    assert not pydicom.dcmread(tmp_path / "r.dcm").StudyID
