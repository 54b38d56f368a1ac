"""Bad input at the command line: one line, exit 2, no traceback, nothing written; failures exit 3, interrupts 130."""

from __future__ import annotations

import pathlib
import signal
import subprocess
import sys
import time

import nibabel
import numpy as np
import pytest
import torch

from medmi.io import write_transform
from medmi.spatial import LinearTransform
from tests.oracles.command_line import files, run
from tests.oracles.scene import truth, write_pair


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """Good and bad files; ``fixed.nii.gz`` and ``moving.nii.gz`` are good."""
    folder = tmp_path_factory.mktemp("files")
    write_pair(folder, truth("rigid", 3))
    (folder / "flat").mkdir()
    write_pair(folder / "flat", truth("rigid", 2), ".png.mha")
    values = np.random.default_rng(0).normal(size=(12, 13, 14)).astype(np.float32)

    def save(name: str, array: np.ndarray, shift: float = 0.0) -> None:
        affine = np.eye(4)
        affine[0, 3] = shift
        nibabel.save(nibabel.Nifti1Image(array, affine), folder / name)

    save("nan.nii", np.full_like(values, np.nan))
    save("constant.nii", np.full_like(values, 3))
    save("film.nii", np.stack([values, values], -1))
    save("slice.nii", values[..., :1])
    save("far.nii", values, 5000.0)
    good = nibabel.load(folder / "fixed.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.zeros(good.shape, np.uint8), good.affine), folder / "empty.nii")
    (folder / "text.nii.gz").write_text("not an image")
    (folder / "notes.txt").write_text("not an image")
    (folder / "bare").mkdir()
    write_transform(LinearTransform(torch.eye(3, dtype=torch.float64), "rigid"), folder / "flat.tfm")
    (folder / "broken.tfm").write_text("#Insight Transform File V1.0\nTransform: Nonsense_double_3_3\n")
    return folder


IMAGES = {
    "missing file": ("none.nii.gz", ["none.nii.gz"]),
    "not an image": ("text.nii.gz", ["text.nii.gz"]),
    "unknown suffix": ("notes.txt", ["notes.txt"]),
    "empty folder": ("bare", ["bare"]),
    "all NaN": ("nan.nii", ["moving", "no voxel is finite"]),
    "constant": ("constant.nii", ["moving", "every voxel is 3"]),
    "4D": ("film.nii", ["film.nii", "2 volumes", "volume=0"]),
    "no such volume": ("film.nii#7", ["film.nii", "no volume 7"]),
    "one-voxel axis": ("slice.nii", ["moving", "(12, 13, 1)", "one voxel"]),
    "2D": ("flat/moving.png.mha", ["fixed is 3D", "moving 2D"]),
}


@pytest.mark.parametrize("case", IMAGES)
def test_images(folder, tmp_path, case):
    name, words = IMAGES[case]
    outcome = run("register", folder / "fixed.nii.gz", folder / name, "-o", tmp_path / "out")
    assert outcome.is_refusal(*words), outcome
    assert files(tmp_path) == []
    reverse = run("register", folder / name, folder / "fixed.nii.gz", "-o", tmp_path / "out")
    assert reverse.is_refusal(), reverse
    assert files(tmp_path) == []


OPTIONS = {
    "no overlap": (["--initial", "identity"], ["initial", "do not overlap", "auto"]),
    "mask on another grid": (["--fixed-mask", "constant.nii"], ["fixed_mask", "grid (12, 13, 14)", "resample"]),
    "empty mask": (["--fixed-mask", "empty.nii"], ["fixed_mask", "empty"]),
    "mask that is missing": (["--moving-mask", "none.nii"], ["none.nii"]),
    "unknown family": (["--transform", "afine"], ["transform", "'afine'", "did you mean 'affine'?"]),
    "homography in 3D": (["--transform", "homography"], ["transform", "2D only"]),
    "unknown similarity": (["--similarity", "mutal"], ["similarity", "'mutal'", "One of: mi"]),
    "unknown start": (["--initial", "moment"], ["initial", "did you mean 'moments'?"]),
    "start that is missing": (["--initial", "none.tfm"], ["none.tfm"]),
    "start of another dimension": (["--initial", "flat.tfm"], ["initial", "2D"]),
    "start that is broken": (["--initial", "broken.tfm"], ["broken.tfm"]),
    "unknown preset": (["--preset", "quick"], ["preset", "'quick'", "default, fast, accurate"]),
    "unknown device": (["--device", "cuda"], ["device", "cuda"]),
    "device that is none": (["--device", "toaster"], ["device", "toaster"]),
    "no threads": (["--threads", "0"], ["--threads", "0"]),
    "threads that are no number": (["--threads", "many"], ["--threads", "integer"]),
    "seed that is no number": (["--seed", "x"], ["--seed"]),
    "negative seed": (["--seed", "-1"], ["seed", "-1"]),
    "unknown option": (["--simlarity", "mi"], ["--simlarity"]),
    "an argument too many": (["third.nii"], ["third.nii"]),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options(folder, tmp_path, monkeypatch, case):
    arguments, words = OPTIONS[case]
    monkeypatch.chdir(folder)
    moving = "far.nii" if case == "no overlap" else "moving.nii.gz"
    outcome = run("register", "fixed.nii.gz", moving, "-o", tmp_path / "out", *arguments)
    assert outcome.is_refusal(*words), outcome
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["register"], "fixed"),
        (["register", "a.nii"], "moving"),
        (["register", "a.nii", "b.nii"], "--out"),
        (["apply", "a.nii", "--reference", "b.nii", "-o", "c.nii"], "--transform"),
        (["info"], "PATH"),
        (["regster"], "regster"),
        (["--version-of-it"], "--version-of-it"),
    ],
)
def test_usage(arguments, word):
    outcome = run(*arguments)
    assert outcome.is_refusal(word), outcome


def test_an_output_that_cannot_be_written(folder, tmp_path):
    (tmp_path / "file").write_text("in the way")
    pair = folder / "fixed.nii.gz", folder / "moving.nii.gz"
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert run("register", *pair, "-o", out).is_refusal("cannot be written"), out
    assert files(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "in the way"


def test_what_apply_refuses(folder, tmp_path):
    moving, reference = folder / "moving.nii.gz", ["--reference", folder / "fixed.nii.gz"]
    write_transform(LinearTransform(torch.eye(4, dtype=torch.float64), "rigid"), tmp_path / "t.tfm")
    good = ["--transform", tmp_path / "t.tfm"]
    for arguments, word in [
        ([moving, *good, *reference, "-o", tmp_path / "o.xyz"], "o.xyz"),
        ([moving, *good, *reference, "-o", tmp_path / "none" / "o.nii.gz"], "none"),
        ([moving, *good, *reference, "-o", tmp_path / "o.nii.gz", "--interpolation", "cubic"], "interpolation"),
        ([moving, "--transform", folder / "flat.tfm", *reference, "-o", tmp_path / "o.nii.gz"], "dimensions differ"),
        ([moving, "--transform", folder / "notes.txt", *reference, "-o", tmp_path / "o.nii.gz"], "notes.txt"),
        ([folder / "none.nii", *good, *reference, "-o", tmp_path / "o.nii.gz"], "none.nii"),
    ]:
        outcome = run("apply", *arguments)
        assert outcome.is_refusal(word), outcome
        assert files(tmp_path) == ["t.tfm"]


def test_debug_shows_where_it_happened(folder, tmp_path):
    pair = folder / "fixed.nii.gz", folder / "nan.nii"
    outcome = run("register", *pair, "-o", tmp_path / "out", "--debug")
    assert outcome.code == 2 and outcome.out == ""
    assert outcome.err.startswith("Traceback") and "InputError: moving: no voxel is finite" in outcome.err
    assert outcome.err.splitlines()[-1].startswith("medmi: moving: no voxel is finite")
    assert files(tmp_path) == []


@pytest.fixture
def noise(tmp_path) -> list[object]:
    """Arguments of a registration that fails: two volumes of noise and a start that leaves them a rim in common."""
    rng = np.random.default_rng(0)
    for name in ("a.nii", "b.nii"):
        nibabel.save(nibabel.Nifti1Image(rng.random((40, 30, 26), np.float32), np.eye(4)), tmp_path / name)
    shift = torch.tensor([37.5, 0, 0], dtype=torch.float64)
    write_transform(LinearTransform.from_parameters(shift, "translation"), tmp_path / "start.tfm")
    return ["register", tmp_path / "a.nii", tmp_path / "b.nii", "--initial", tmp_path / "start.tfm"]


def test_a_failed_registration_leaves_no_transform_and_no_moved_image(noise, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("transform.tfm", "moved.nii.gz"):
        (out / name).write_text("of an earlier run")
    outcome = run(*noise, "-o", out, "--json")
    assert outcome.code == 3
    assert outcome.json["status"].startswith("failed: ")
    assert outcome.err.startswith("medmi: failed: ") and outcome.err.count("\n") == 1
    assert files(out) == ["comparison.png", "report.html", "result.json"]
    plain = run(*noise, "-o", out)
    assert (plain.code, plain.out) == (3, "") and plain.err == outcome.err


def test_an_unexpected_error_is_one_line_that_asks_for_a_report(folder, tmp_path, monkeypatch):
    def broken(*_: object) -> None:
        raise ZeroDivisionError("of medmi's own making")

    monkeypatch.setattr("medmi.apps.registration.register_files", broken)
    pair = folder / "fixed.nii.gz", folder / "moving.nii.gz"
    outcome = run("register", *pair, "-o", tmp_path / "out")
    assert outcome.code == 1
    line = "medmi: unexpected ZeroDivisionError: of medmi's own making; run again with --debug and report it\n"
    assert outcome.err == line
    debugged = run("register", *pair, "-o", tmp_path / "out", "--debug")
    assert debugged.code == 1
    assert debugged.err.startswith("Traceback") and debugged.err.endswith(line)


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_leaves_nothing_behind(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a.nii", "b.nii"):
        nibabel.save(nibabel.Nifti1Image(rng.random((200, 200, 200), np.float32), np.eye(4)), tmp_path / name)
    out = tmp_path / "results"
    out.mkdir()
    command = [sys.executable, "-m", "medmi", "register", tmp_path / "a.nii", tmp_path / "b.nii", "-o", out]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not files(out) and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (stdout, stderr) == ("", "medmi: interrupted; nothing was written\n")
    assert files(out) == []
