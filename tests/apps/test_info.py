"""``medmi info``: images, DICOM folders, transforms and presets, as a table and as JSON."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor

from medmi.io import write_image, write_transform
from medmi.registration.presets import PRESETS
from medmi.spatial import LinearTransform
from tests.io.making import save, series_datasets
from tests.oracles.command_line import run


def rows(*arguments: object) -> list[dict[str, object]]:
    outcome = run("info", *arguments, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert list(outcome.json) == ["rows"]
    return outcome.json["rows"]


def test_an_image(tmp_path):
    voxels = torch.arange(2 * 4 * 5 * 6, dtype=torch.float32).reshape(2, 4, 5, 6)
    voxels[0, 0, 0, 0] = float("nan")
    affine = torch.tensor([[0, 2.0, 0, 7], [-1, 0, 0, 8], [0, 0, -3, 9], [0, 0, 0, 1]])
    write_image(MetaTensor(voxels, affine=affine), tmp_path / "image.nii.gz")
    assert rows(tmp_path / "image.nii.gz") == [
        {
            "kind": "image",
            "channels": 2,
            "shape": "4x5x6",
            "spacing_mm": "1 x 2 x 3",
            "orientation": "PRI",
            "range": "1 to 239",
            "not_finite": 1,
        }
    ]


def test_an_image_of_two_dimensions(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.arange(30, dtype=np.uint8).reshape(5, 6)), str(tmp_path / "picture.png"))
    (row,) = rows(tmp_path / "picture.png")
    assert (row["shape"], row["orientation"], row["range"]) == ("6x5", "LP", "0 to 29")


def test_an_image_without_a_finite_voxel_is_described_not_refused(tmp_path):
    write_image(MetaTensor(torch.full((1, 4, 5, 6), torch.nan), affine=torch.eye(4)), tmp_path / "nan.mha")
    (row,) = rows(tmp_path / "nan.mha")
    assert (row["range"], row["not_finite"]) == ("no finite voxel", 120)


def test_a_dicom_folder_row_by_row_without_names(tmp_path):
    save(tmp_path / "both", series_datasets(6))
    save(tmp_path / "both", series_datasets(4), prefix="SECOND")
    outcome = run("info", tmp_path / "both", "--json")
    found = outcome.json["rows"]
    assert {row["size"] for row in found} == {"13x11x6", "13x11x4"}
    assert {row["modality"] for row in found} == {"CT"}
    assert {row["description"] for row in found} == {"thin slices"}
    assert "Planted" not in outcome.out and "PLANTED" not in outcome.out and "1901" not in outcome.out


def test_transforms(tmp_path):
    matrix = torch.tensor([[0, -1.0, 0, 5], [1, 0, 0, 6], [0, 0, 1, 7], [0, 0, 0, 1]], dtype=torch.float64)
    write_transform(LinearTransform(matrix, "rigid"), tmp_path / "rigid.tfm")
    (row,) = rows(tmp_path / "rigid.tfm")
    assert (row["kind"], row["dimension"], row["family"]) == ("LinearTransform", 3, "rigid")
    assert np.allclose(np.array(row["matrix_ras"]), matrix.numpy(), rtol=0, atol=1e-9)
    field = sitk.DisplacementFieldTransform(sitk.Image([4, 5, 6], sitk.sitkVectorFloat64, 3))
    parts = sitk.CompositeTransform([sitk.Euler3DTransform(), field])
    sitk.WriteTransform(parts, str(tmp_path / "both.h5"))
    assert [row["kind"] for row in rows(tmp_path / "both.h5")] == ["LinearTransform", "DisplacementFieldTransform"]


def test_presets():
    found = rows("--presets")
    assert [row["preset"] for row in found] == list(PRESETS)
    assert {"search_points", "rotations", "points", "poses", "steps", "bins"} <= set(found[0])


def test_the_table_shows_the_same(tmp_path):
    write_image(MetaTensor(torch.rand(1, 4, 5, 6), affine=torch.eye(4)), tmp_path / "image.nii.gz")
    outcome = run("info", tmp_path / "image.nii.gz")
    assert outcome.code == 0
    assert "4x5x6" in outcome.out and "RAS" in outcome.out


@pytest.mark.parametrize("name", ["none.nii", "none.tfm", "bare"])
def test_what_cannot_be_described(tmp_path, name):
    (tmp_path / "bare").mkdir()
    assert run("info", tmp_path / name).is_refusal(name)
