"""``medmi register`` and ``medmi apply``: what they write and print, and that SimpleITK alone gets the moved image from it."""

from __future__ import annotations

import json
import pathlib
import runpy
import subprocess
import sys

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch

import medmi
from medmi.io import read_image
from tests.io.making import save, series_datasets
from tests.oracles.command_line import files, run, run_alone
from tests.oracles.grids import array_of
from tests.oracles.scene import error, truth, write_pair

WRITTEN = ["comparison.png", "moved.nii.gz", "report.html", "result.json", "transform.tfm"]
FAMILIES = [
    *[(family, d) for d in (2, 3) for family in ("translation", "rigid", "similarity", "affine")],
    ("homography", 2),
]


def by_simpleitk(fixed: pathlib.Path, moving: pathlib.Path, transform: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """The moving image resampled by SimpleITK alone, and where it reads a voxel or more inside the moving grid."""
    f, m = (sitk.ReadImage(str(path), sitk.sitkFloat32) for path in (fixed, moving))
    map_ = sitk.ReadTransform(str(transform))
    inner = sitk.Image(m.GetSize(), sitk.sitkUInt8) + 1
    inner.CopyInformation(m)
    d = m.GetDimension()
    inner = sitk.BinaryErode(inner, [2] * d, sitk.sitkBox, 0, 1, False)
    moved = sitk.Resample(m, f, map_, sitk.sitkLinear, 0.0)
    return array_of(moved), array_of(sitk.Resample(inner, f, map_, sitk.sitkNearestNeighbor, 0)) > 0


@pytest.mark.parametrize(("family", "spatial_dims"), FAMILIES)
def test_simpleitk_alone_gets_the_moved_image_from_the_written_transform(tmp_path, family, spatial_dims):
    matrix = truth(family, spatial_dims)
    fixed, moving = write_pair(tmp_path, matrix, ".mha")
    done = run("register", fixed, moving, "-o", tmp_path / "out", "--transform", family, "--json")
    assert (done.code, done.err) == (0, "")
    summary = done.json
    assert error(torch.tensor(summary["matrix_ras"], dtype=torch.float64), matrix) < 0.5
    name = "transform.h5" if family == "homography" else "transform.tfm"
    assert files(tmp_path / "out") == sorted([*WRITTEN[:-1], name])
    theirs, interior = by_simpleitk(fixed, moving, tmp_path / "out" / name)
    ours = np.squeeze(nibabel.load(tmp_path / "out" / "moved.nii.gz").get_fdata())
    assert interior.mean() > 0.3
    assert np.abs(theirs - ours)[interior].max() < 1e-4 * np.ptp(theirs)


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> pathlib.Path:
    """A folder with a pair of files and the results of registering them."""
    folder = tmp_path_factory.mktemp("pair")
    fixed, moving = write_pair(folder, truth("rigid", 3))
    outcome = run("register", fixed, moving, "-o", folder / "out")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("converged: results in ") and outcome.out.count("\n") == 1
    return folder


def test_the_result_folder_holds_what_the_readme_says(done):
    assert files(done / "out") == WRITTEN
    summary = json.loads((done / "out" / "result.json").read_text())
    assert summary["status"] == "converged"
    assert summary["transform"] == "rigid" and summary["similarity_term"] == "mi" and summary["seed"] == 0
    assert summary["versions"]["medmi"] == medmi.__version__
    assert error(torch.tensor(summary["matrix_ras"], dtype=torch.float64), truth("rigid", 3)) < 0.2
    names = (str(done), "fixed.nii", "moving.nii")
    assert not any(name in (done / "out" / "result.json").read_text() for name in names)
    assert (done / "out" / "comparison.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("interpolation", ["linear", "nearest", "bspline"])
def test_apply_writes_the_moved_image(done, tmp_path, interpolation):
    transform, out = done / "out" / "transform.tfm", tmp_path / "again.nii.gz"
    asked = ["--interpolation", interpolation] if interpolation != "linear" else []
    reference = ["--reference", done / "fixed.nii.gz"]
    outcome = run("apply", done / "moving.nii.gz", "--transform", transform, *reference, "-o", out, *asked, "--json")
    assert outcome.code == 0 and outcome.json == {"status": "done", "written": "again.nii.gz"}
    moved, again = read_image(done / "out" / "moved.nii.gz"), read_image(out)
    assert torch.allclose(moved.affine, again.affine)
    difference = float((moved.as_tensor() - again.as_tensor()).abs().max())
    assert difference < 1e-4 if interpolation == "linear" else difference > 1e-3


@pytest.mark.slow
def test_python_m_medmi_and_the_installed_command_are_this_program(done, tmp_path):
    for arguments in (
        ["info", done / "moving.nii.gz", "--json"],
        ["register", done / "none.nii", "b.nii", "-o", tmp_path],
    ):
        here = run(*arguments)
        assert run_alone(*arguments) == here
        command = pathlib.Path(sys.executable).with_name("medmi")
        script = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
        assert (script.returncode, script.stdout, script.stderr) == (here.code, here.out, here.err)


def test_python_m_medmi_is_this_program(monkeypatch):
    called: list[str] = []
    monkeypatch.setattr("medmi.apps.cli.main", lambda: called.append("main"))
    runpy.run_module("medmi", run_name="__main__")
    assert called == ["main"]


@pytest.mark.parametrize(
    "command", ["", "register", "apply", "batch", "demo", "info", "mi", "evaluate", "convert", "train"]
)
def test_every_command_has_help(command):
    outcome = run(*command.split(), "--help")
    assert outcome.code == 0 and "Usage: medmi" in outcome.out and outcome.err == ""


def test_every_option_reaches_the_solver(done, tmp_path):
    fixed, moving = done / "fixed.nii.gz", done / "moving.nii.gz"
    asked = ["--transform", "translation,rigid", "--similarity", "nmi", "--initial", "moments", "--preset", "fast"]
    masks = ["--fixed-mask", fixed, "--moving-mask", moving]
    rest = ["--device", "cpu", "--threads", 2, "--seed", 5, "--json"]
    outcome = run("register", fixed, moving, "-o", tmp_path, *asked, *masks, *rest)
    assert outcome.code == 0
    result = medmi.register(
        fixed,
        moving,
        transform=["translation", "rigid"],
        similarity="nmi",
        initial="moments",
        preset="fast",
        fixed_mask=fixed,
        moving_mask=moving,
        seed=5,
    )
    assert outcome.json["matrix_ras"] == result.transform.matrix.tolist()
    assert outcome.json["similarity"] == result.similarity
    assert (outcome.json["seed"], outcome.json["initial"]) == (5, "moments")


def test_a_transform_file_starts_the_solver_and_is_not_named(done, tmp_path):
    start = done / "out" / "transform.tfm"
    pair = done / "fixed.nii.gz", done / "moving.nii.gz"
    outcome = run("register", *pair, "-o", tmp_path, "--initial", start, "--json")
    assert outcome.code == 0 and outcome.json["initial"] == "file"
    assert "transform.tfm" not in outcome.out


def test_an_earlier_result_is_replaced_and_other_files_are_kept(done, tmp_path):
    for name in ("transform.h5", "notes.txt"):
        (tmp_path / name).write_text("earlier")
    pair = done / "fixed.nii.gz", done / "moving.nii.gz"
    assert run("register", *pair, "-o", tmp_path).code == 0
    assert files(tmp_path) == sorted([*WRITTEN, "notes.txt"])


def test_dicom_folders_and_their_series(tmp_path):
    folder = save(tmp_path / "ct", series_datasets())
    outcome = run("register", folder, f"{folder}#CT", "-o", tmp_path / "out", "--initial", "identity", "--json")
    assert outcome.code == 0
    assert np.abs(np.array(outcome.json["matrix_ras"]) - np.eye(4)).max() < 0.1
    written = "".join(path.read_text(errors="ignore") for path in (tmp_path / "out").glob("*.[jht]*"))
    assert "Planted" not in written and "PLANTED" not in written
