"""Presets by name and from YAML: what they stand for, that explicit arguments win, and what is refused."""

from __future__ import annotations

import pathlib

import pytest
import torch
from monai.data import MetaTensor

from medmi import InputError, apply, register
from medmi.registration.inputs import as_device, as_term
from medmi.registration.presets import PRESETS, Preset, as_preset, read_preset
from medmi.registration.schedule import Plan
from medmi.simulation.noise import gaussian_blur
from medmi.transforms import Register
from tests.oracles.command_line import run
from tests.oracles.scene import error, pair, truth, write_pair

IMAGES = pair(truth("rigid", 2))
WHOLE = """
search_points: 700
rotations: 300
points: [1000, 2000, 5000]
poses: [10, 3, 1]
steps: [18, 12, 15]
bins: [12, 20, 28]
detail: 0.9
finest: 0.5
smoothing: 0.7
similarity: nmi
"""


def written(folder: pathlib.Path, text: str, name: str = "own.yaml") -> pathlib.Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_none_and_names():
    assert as_preset(None) == PRESETS["default"] == Preset(Plan(), "mi")
    assert as_preset("fast") is PRESETS["fast"]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_names_a_similarity_there_is(name):
    as_term(PRESETS[name].similarity, as_device(None))


def test_a_file_holds_all_or_some(tmp_path):
    plan = Plan(700, 300, (1000, 2000, 5000), (10, 3, 1), (18, 12, 15), (12, 20, 28), 0.9, 0.5, 0.7)
    assert read_preset(written(tmp_path, WHOLE)) == Preset(plan, "nmi")
    assert read_preset(written(tmp_path, "detail: 2\n")) == Preset(Plan(detail=2.0))
    assert as_preset(str(written(tmp_path, "similarity: lc2\n", "OWN.YML"))) == Preset(similarity="lc2")


def test_a_file_is_taken_by_every_front_door(tmp_path, monkeypatch):
    own = written(tmp_path, WHOLE)
    wanted = register(*IMAGES, preset=own)
    plan = register(*IMAGES, preset=str(own), similarity="mi")
    assert not torch.equal(wanted.transform.matrix, plan.transform.matrix)
    assert error(wanted.transform.matrix, truth("rigid", 2)) < 0.1
    assert torch.equal(Register(preset=own)(*IMAGES)[1], wanted.transform.matrix)
    write_pair(tmp_path, truth("rigid", 3))
    monkeypatch.chdir(tmp_path)
    outcome = run("register", "fixed.nii.gz", "moving.nii.gz", "-o", "out", "--preset", "own.yaml", "--json")
    assert (outcome.code, outcome.json["similarity_term"]) == (0, "nmi")
    outcome = run(
        "register",
        "fixed.nii.gz",
        "moving.nii.gz",
        "-o",
        "out",
        "--preset",
        "own.yaml",
        "--similarity",
        "ncc",
        "--json",
    )
    assert (outcome.code, outcome.json["similarity_term"]) == (0, "ncc")


def test_an_explicit_similarity_wins_over_the_presets(tmp_path):
    same_plan = written(tmp_path, f"detail: {PRESETS['mr-us'].plan.detail}\n")
    assert (
        register(*IMAGES, preset="mr-us", similarity="mi").similarity == register(*IMAGES, preset=same_plan).similarity
    )
    own = register(*IMAGES, preset=same_plan, similarity="lc2")
    assert register(*IMAGES, preset="mr-us").similarity == own.similarity


def test_smoothing_is_of_the_moving_image_alone(tmp_path):
    fixed, moving = IMAGES
    blurred = MetaTensor(gaussian_blur(moving.as_tensor()[0], [1.5, 1.5])[None], affine=moving.affine)
    found = register(fixed, moving, preset=written(tmp_path, "smoothing: 1.5\n"))
    same, plain = register(fixed, blurred), register(fixed, moving)
    assert torch.equal(found.transform.matrix, same.transform.matrix)
    assert not torch.equal(found.transform.matrix, plain.transform.matrix)
    # The image that is carried over is the one that was given.
    assert torch.equal(apply(moving, found.transform, fixed), found.moved)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rotation: 5\n", r"unknown item 'rotation'; did you mean 'rotations'\? One of: search_points, rotations"),
        ("5: 5\n", "unknown item '5'"),
        ("rotations: 0\n", "rotations: '0' cannot be used; give a whole number from 1"),
        ("rotations: 1.5\n", "rotations: '1.5' cannot be used"),
        ("rotations: true\n", "rotations: 'True' cannot be used"),
        ("detail: -1\n", "detail: '-1' cannot be used; give a number above 0"),
        ("detail: .inf\n", "detail: 'inf' cannot be used"),
        ("detail: .nan\n", "detail: 'nan' cannot be used"),
        ("smoothing: 0\n", "smoothing: '0' cannot be used; give a number above 0"),
        ("finest: fine\n", "finest: 'fine' cannot be used; give a number above 0"),
        ("points: [1, 2]\n", "points: .* cannot be used; give a list of 3 whole numbers from 1"),
        ("points: [1, 2, 3.5]\n", "points: .* cannot be used"),
        ("points: 7\n", "points: '7' cannot be used"),
        ("similarity: 3\n", "similarity: '3' cannot be used; give the name of a similarity"),
        ("- a\n", "holds no mapping"),
        ("", "own.yaml"),
        ("a: [\n", "is no preset in YAML"),
        ("a: !!python/object/apply:os.getcwd []\n", "is no preset in YAML"),
        ("x" * 70_000, "has 70000 bytes; a preset has at most 65536"),
    ],
)
def test_files_that_are_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        register(*IMAGES, preset=written(tmp_path, text))
    assert "\n" not in str(caught.value) and "own.yaml" in str(caught.value)


def test_a_similarity_of_a_file_that_is_unknown(tmp_path):
    with pytest.raises(InputError, match=r"similarity: unknown value 'nmii'; did you mean 'nmi'\?"):
        register(*IMAGES, preset=written(tmp_path, "similarity: nmii\n"))


def test_a_file_that_is_not_there():
    with pytest.raises(InputError, match=r"none\.yaml: no such file"):
        register(*IMAGES, preset="none.yaml")


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(InputError, match=r"preset: unknown value 'mr_us'; did you mean 'mr-us'\?"):
        register(*IMAGES, preset="mr_us")
