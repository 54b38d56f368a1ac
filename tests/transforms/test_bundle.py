"""The MONAI bundle, run by MONAI's command line in a process of its own that can reach no network."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from monai.bundle import run

from medmi.io import read_image, read_transform
from tests.io.making import save, series_datasets
from tests.transforms.making import files, itk_affine, itk_resampled, motion_error, share_equal

pytest.importorskip("fire", reason="fire is not installed: MONAI's bundles have no command line")
pytest.importorskip("jsonschema", reason="jsonschema is not installed: MONAI verifies no metadata")
BUNDLE = pathlib.Path(__file__).parents[2] / "examples" / "bundles" / "rigid_mi"
NOWHERE = {f"{name}_proxy": "http://127.0.0.1:9" for name in ("http", "https", "all")}


def bundle(command: str, *arguments: object) -> subprocess.CompletedProcess:
    """``python -m monai.bundle COMMAND`` in the bundle's folder."""
    line = [sys.executable, "-m", "monai.bundle", command, *map(str, arguments)]
    environment = os.environ | NOWHERE
    return subprocess.run(line, cwd=BUNDLE, env=environment, capture_output=True, text=True, timeout=120, check=False)


def inference(pairs: pathlib.Path, out: pathlib.Path, *options: object) -> subprocess.CompletedProcess:
    asked = ["--config_file", "configs/inference.json", "--dataset_dir", pairs, "--output_dir", out]
    return bundle("run", *asked, *options)


def check(out: pathlib.Path, item: dict[str, str]) -> None:
    """The saved files are each other's, and the transform is the truth."""
    transform, moved = out / "moving_transform.tfm", out / "moving_moved.nii.gz"
    matrix = read_transform(transform).matrix
    assert motion_error(matrix, 3) < 0.5
    fixed, moving, saved = (read_image(path) for path in (item["fixed"], item["moving"], moved))
    assert saved.shape == fixed.shape and np.abs(saved.affine - fixed.affine).max() < 1e-4
    expected = itk_resampled(moving, itk_affine(matrix), fixed)
    assert share_equal(saved[0].as_tensor(), expected, 0.05) > 0.99


def test_a_folder_of_pairs_on_unlike_grids(tmp_path):
    items = files(tmp_path / "pairs", 2)
    done = inference(tmp_path / "pairs", tmp_path / "out", "--preset", "fast")
    assert done.returncode == 0, done.stderr
    for number, item in enumerate(items):
        check(tmp_path / "out" / f"p{number}" / "moving", item)


@pytest.mark.filterwarnings("ignore:parsing config_file")  # MONAI's, that a config is a program
def test_a_table_of_pairs(tmp_path):
    (item,) = files(tmp_path / "pairs")
    table = tmp_path / "pairs.csv"
    table.write_text("id,fixed,moving\na,pairs/p0/fixed.nii.gz,pairs/p0/moving.nii.gz\n")
    places = {"dataset_dir": str(table), "output_dir": str(tmp_path / "out")}
    run(config_file=str(BUNDLE / "configs" / "inference.json"), preset="fast", **places)
    check(tmp_path / "out" / "moving", item)


@pytest.mark.slow
def test_workers_options_and_dicom_folders(tmp_path):
    files(tmp_path / "pairs", 2)
    (tmp_path / "pairs" / "p2").mkdir()
    for role in ("fixed", "moving"):
        save(tmp_path / "pairs" / "p2" / role, series_datasets())
    options = ["--preset", "fast", "--transform", "translation", "--similarity", "ncc", "--seed", 3]
    for name, workers in (("here", 0), ("workers", 2)):
        done = inference(tmp_path / "pairs", tmp_path / name, *options, "--num_workers", workers)
        assert done.returncode == 0, done.stderr
    written = sorted(p.relative_to(tmp_path / "here") for p in (tmp_path / "here").rglob("*.tfm"))
    assert len(written) == 3
    for path in written:
        here, there = (read_transform(tmp_path / name / path).matrix for name in ("here", "workers"))
        assert np.array_equal(here, there)
        np.testing.assert_allclose(here[:3, :3], np.eye(3), rtol=0, atol=1e-14)


@pytest.mark.slow
def test_real_images(data, tmp_path):
    templates = data / "templates-mni"
    (tmp_path / "pairs" / "a").mkdir(parents=True)
    for role, kind in (("fixed", "T1"), ("moving", "T2")):
        shutil.copy(templates / f"spm12_avg152{kind}.nii.gz", tmp_path / "pairs" / "a" / f"{role}.nii.gz")
    done = inference(tmp_path / "pairs", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    transform = sitk.ReadTransform(str(tmp_path / "out" / "moving" / "moving_transform.tfm"))
    for point in ((0.0, 0.0, 0.0), (50.0, 60.0, 40.0), (-50.0, 80.0, -20.0)):
        assert np.linalg.norm(np.array(transform.TransformPoint(point)) - point) < 1.0


@pytest.mark.slow
def test_the_metadata_are_verified_without_a_network():
    metadata, schema = "configs/metadata.json", "configs/metadata_schema.json"
    done = bundle("verify_metadata", "--meta_file", metadata, "--filepath", schema)
    assert done.returncode == 0 and "verified with no error" in done.stdout + done.stderr


@pytest.mark.parametrize("missing", ["authors", "network_data_format"])
def test_the_schema_refuses_metadata_that_lack_something(missing):
    import jsonschema

    metadata, schema = (json.loads((BUNDLE / "configs" / f"metadata{n}.json").read_text()) for n in ("", "_schema"))
    jsonschema.validate(metadata, schema)
    del metadata[missing]
    with pytest.raises(jsonschema.ValidationError, match=missing):
        jsonschema.validate(metadata, schema)
