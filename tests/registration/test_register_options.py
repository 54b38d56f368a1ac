"""Options of register: starts, presets, lists of families, masks, progress, threads; each switched on and each refused."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor

from medmi import Grid, InputError, register
from medmi.io import write_image, write_transform
from medmi.registration.initialise import STARTS
from medmi.registration.presets import PRESETS
from medmi.spatial import DisplacementFieldTransform, LinearTransform
from tests.oracles.scene import as_itk, colours, error, grids, image, moved_points, pair, scene, truth

RIGID = truth("rigid", 3)


def shifted(image: MetaTensor, way: list[float]) -> MetaTensor:
    affine = image.affine.clone()
    affine[:-1, -1] += torch.tensor(way, dtype=affine.dtype)
    return MetaTensor(image.as_tensor().clone(), affine=affine)


@pytest.mark.parametrize("start", ["auto", *STARTS])
def test_every_named_start_reaches_a_near_pose(start):
    assert error(register(*pair(RIGID), initial=start).transform.matrix, RIGID) < 0.15


@pytest.mark.parametrize("start", ["auto", "geometry", "moments"])
def test_a_start_that_places_the_images_bridges_any_distance(start):
    fixed, moving = pair(truth("rigid", 2))
    far = np.eye(3)
    far[:2, 2] = [400, -300]
    found = register(fixed, shifted(moving, [400, -300]), initial=start).transform.matrix
    assert error(found, far @ truth("rigid", 2)) < 0.05


def test_a_named_start_is_taken_at_its_word():
    half = np.diag([-1.0, -1.0, 1.0]) @ truth("rigid", 2)
    fixed, moving = pair(half)
    assert error(register(fixed, moving, initial="auto").transform.matrix, half) < 0.05
    assert error(register(fixed, moving, initial="identity").transform.matrix, half) > 5


@pytest.mark.parametrize("similarity", ["ncc", "ssd"])
@pytest.mark.parametrize(("d", "family"), [(2, "similarity"), (2, "affine"), (3, "affine")])
def test_a_search_over_sizes_does_not_fall_for_a_fair_fit_of_more_points(similarity, d, family):
    for seed in (0, 2, 3):
        fixed, moving = pair(truth(family, d), "same", seed)
        found = register(fixed, moving, family, similarity).transform.matrix
        assert error(found, truth(family, d)) < 0.3


def test_a_transform_starts_the_solver_in_any_form(tmp_path):
    near = LinearTransform(torch.from_numpy(truth("translation", 3) @ RIGID), "rigid")
    write_transform(near, tmp_path / "near.tfm")
    found = [
        register(*pair(RIGID), initial=start)
        for start in (near, near.to_sitk(), tmp_path / "near.tfm", str(tmp_path / "near.tfm"))
    ]
    for result in found:
        assert error(result.transform.matrix, RIGID) < 0.15
        assert float((result.transform.matrix - found[0].transform.matrix).abs().max()) < 1e-6


def test_starts_that_cannot_be_used(tmp_path):
    fixed, moving = pair(RIGID)
    grid = Grid.of(fixed)
    field = DisplacementFieldTransform(grid, torch.zeros((*grid.shape, 3), dtype=torch.float64))
    flat = LinearTransform(torch.from_numpy(truth("rigid", 2)), "rigid")
    far = LinearTransform.from_parameters(torch.tensor([500.0, 0, 0], dtype=torch.float64), "translation")
    for start, message in [
        ("momnts", r"initial: unknown value 'momnts'; did you mean 'moments'\?"),
        (tmp_path / "none.tfm", r"none\.tfm"),
        (field, "initial: only a linear transform can start the solver"),
        (flat, "initial: the transform is 2D and the images are 3D"),
        (far, "initial: the images do not overlap there; use initial auto"),
        (np.eye(4), "initial: got ndarray"),
    ]:
        with pytest.raises(InputError, match=message):
            register(fixed, moving, initial=start)
    with pytest.raises(InputError, match="initial: the images do not overlap there; use initial auto"):
        register(fixed, shifted(moving, [500, 0, 0]), initial="identity")


@pytest.mark.parametrize("preset", PRESETS)
def test_the_plan_of_every_preset_finds_the_known_map(preset):
    assert error(register(*pair(RIGID), similarity="mi", preset=preset).transform.matrix, RIGID) < 0.2


def test_families_run_in_order():
    matrix = truth("affine", 2)
    told: list[float] = []
    result = register(*pair(matrix), transform=["rigid", "affine"], progress=told.append)
    assert result.transform.family == "affine"
    assert error(result.transform.matrix, matrix) < 0.1
    assert told == sorted(told) and 0 < told[0] < 0.5 < told[-1] == 1
    levels = [row["level"] for row in result.history]
    assert levels != sorted(levels), "the second family begins at the coarsest level again"


def test_progress_on_a_terminal_or_not_writes_nothing_to_stdout(capsys):
    register(*pair(truth("rigid", 2)), progress=True)
    assert capsys.readouterr().out.strip() == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transform": "rigd"}, r"transform: unknown value 'rigd'; did you mean 'rigid'\?"),
        ({"transform": []}, "transform: the list is empty"),
        ({"transform": ["rigid", "afine"]}, r"transform: unknown value 'afine'; did you mean 'affine'\?"),
        ({"transform": "homography"}, "transform: homography is 2D only"),
        ({"similarity": "mutual"}, "similarity: unknown value 'mutual'. One of: mi, nmi"),
        ({"preset": "quick"}, "preset: unknown value 'quick'. One of: default, fast, accurate"),
        ({"device": "mps"}, "device: mps came; choose cpu or cuda"),
        ({"device": "gpu"}, r"device: gpu cannot be used here \(.*cpu.*\); leave it out or pass cpu"),
        ({"device": "cuda:99"}, r"device: cuda:99 cannot be used here \(.*\); leave it out or pass cpu"),
        ({"threads": 0}, "threads: got 0; at least 1 is asked"),
    ],
)
def test_option_values_that_are_unknown(options, message):
    with pytest.raises(InputError, match=message):
        register(*pair(RIGID), **options)


def test_the_same_call_gives_the_same_bits_at_any_number_of_threads():
    images = pair(RIGID)
    first = register(*images, seed=3, threads=1)
    for threads in (1, 2, 3):
        again = register(*images, seed=3, threads=threads)
        assert torch.equal(again.transform.matrix, first.transform.matrix)
        assert again.history == first.history
        assert torch.equal(again.moved.as_tensor(), first.moved.as_tensor())


def test_torch_threads_and_global_seeds_do_not_matter():
    images = pair(truth("rigid", 2))
    first = register(*images)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if before > 1 else 2)
        torch.rand(3)
        np.random.default_rng().random(3)
        assert torch.equal(register(*images).transform.matrix, first.transform.matrix)
    finally:
        torch.set_num_threads(before)


def test_the_seed_draws_other_points():
    images = pair(truth("rigid", 2))
    a, b = (register(*images, seed=seed).transform.matrix for seed in (0, 1))
    assert not torch.equal(a, b)
    assert float((a - b).abs().max()) < 0.05


def two_motions() -> tuple[MetaTensor, MetaTensor, list[np.ndarray], list[MetaTensor], list[MetaTensor]]:
    """A picture whose left and right half move on their own: images, both maps, masks of both halves on either image."""
    fixed, moving = grids(2)
    maps = [np.eye(3), np.eye(3)]
    maps[0][:2, 2], maps[1][:2, 2] = [2.0, 3.0], [1.0, -4.0]
    x, y = fixed.points().numpy(), moving.points().numpy()
    halves = [moved_points(np.linalg.inv(m), y) for m in maps]
    right = y[..., 0] > 1.5
    values = np.where(right, scene(halves[1]), scene(halves[0]))
    fixed_masks = [image(x[..., 0] < -2, fixed), image(x[..., 0] > 2, fixed)]
    moving_masks = [image(y[..., 0] < 0, moving), image(y[..., 0] > 3, moving)]
    return image(scene(x), fixed), image(values, moving), maps, fixed_masks, moving_masks


@pytest.mark.parametrize("half", [0, 1])
@pytest.mark.parametrize("role", ["fixed_mask", "moving_mask"])
def test_masks_say_what_is_compared(role, half):
    fixed, moving, maps, fixed_masks, moving_masks = two_motions()
    mask = {"fixed_mask": fixed_masks, "moving_mask": moving_masks}[role][half]
    found = register(fixed, moving, transform="translation", similarity="ncc", initial="identity", **{role: mask})
    assert error(found.transform.matrix, maps[half]) < 0.3
    assert error(found.transform.matrix, maps[1 - half]) > 6


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int16, torch.float64])
def test_masks_of_any_type_mean_the_same(dtype):
    fixed, moving, _, masks, _ = two_motions()
    plain = register(fixed, moving, fixed_mask=masks[0])
    typed = MetaTensor(masks[0].as_tensor().to(dtype), affine=masks[0].affine)
    assert torch.equal(register(fixed, moving, fixed_mask=typed).transform.matrix, plain.transform.matrix)


def test_a_mask_of_ones_changes_nothing_but_the_draw():
    fixed, moving = pair(RIGID)
    whole = MetaTensor(torch.ones_like(fixed.as_tensor()), affine=fixed.affine)
    assert error(register(fixed, moving, fixed_mask=whole).transform.matrix, RIGID) < 0.15


def test_masks_that_cannot_be_used(tmp_path):
    fixed, moving = pair(RIGID)
    empty = MetaTensor(torch.zeros(fixed.shape), affine=fixed.affine)
    moved = shifted(MetaTensor(torch.ones(moving.shape), affine=moving.affine), [0.5, 0, 0])
    write_image(empty, tmp_path / "empty.nii.gz")
    corner = MetaTensor(torch.zeros(fixed.shape), affine=fixed.affine)
    corner[0, 0, 0, 0] = 1
    for options, message in [
        ({"fixed_mask": empty}, "fixed_mask: it is empty; give a mask with voxels inside or none"),
        ({"fixed_mask": tmp_path / "empty.nii.gz"}, "fixed_mask: it is empty"),
        ({"fixed_mask": moving}, r"fixed_mask: its grid \(37, 41, 21\) is not that of the fixed image \(44, 34, 23\)"),
        ({"moving_mask": moved}, "moving_mask: its grid .* is not that of the moving image"),
        ({"fixed_mask": pathlib.Path("none.nii.gz")}, "none.nii.gz"),
        ({"fixed_mask": "mask"}, "mask"),
        ({"fixed_mask": np.ones((2, 2))}, "fixed_mask: got ndarray"),
        ({"fixed_mask": corner}, "fixed: every voxel inside its mask is .*; a constant image cannot be aligned"),
    ]:
        with pytest.raises(InputError, match=message):
            register(fixed, moving, **options)


def test_a_mask_may_be_simpleitks():
    fixed, moving, maps, masks, _ = two_motions()
    mask = sitk.Cast(as_itk(masks[1]), sitk.sitkUInt8)
    found = register(fixed, moving, transform="translation", similarity="ncc", initial="identity", fixed_mask=mask)
    assert error(found.transform.matrix, maps[1]) < 0.3


def test_colour_masks_count_any_channel():
    fixed, moving = colours(truth("rigid", 2))
    mask = MetaTensor((fixed.as_tensor() > 0.05).float(), affine=fixed.affine)
    assert error(register(fixed, moving, fixed_mask=mask).transform.matrix, truth("rigid", 2)) < 0.1
