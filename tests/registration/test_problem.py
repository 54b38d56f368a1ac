"""The problem: what is accepted and how it is brought to form, and what is refused with which words."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medmi.grid import Grid
from medmi.registration.problem import pose_problem
from medmi.validation import InputError
from tests.oracles.grids import SHAPES, oblique_grid


def image(d: int = 3, channels: int = 1, seed: int = 0, shape: tuple[int, ...] | None = None) -> MetaTensor:
    shape = shape or SHAPES[d]
    generator = torch.Generator().manual_seed(seed)
    return MetaTensor(torch.rand(channels, *shape, generator=generator), affine=oblique_grid(shape, seed).affine)


def mask_of(like: MetaTensor) -> MetaTensor:
    inside = torch.zeros(1, *like.shape[1:])
    inside[0, 2:9, 3:8] = 1
    return MetaTensor(inside, affine=like.affine)


@pytest.mark.parametrize("d", [2, 3])
def test_sides_hold_voxels_grids_and_no_mask(d):
    fixed, moving = image(d), image(d, seed=1, shape=(11, 14, 9)[:d])
    problem = pose_problem(fixed, moving)
    assert problem.spatial_dims == d
    for side, given in ((problem.fixed, fixed), (problem.moving, moving)):
        assert torch.equal(side.image, given.as_tensor()) and type(side.image) is torch.Tensor
        assert side.mask is None and side.grid.same_as(Grid.of(given), 0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.float16, torch.float64, torch.bool])
def test_any_type_of_number_becomes_float32(dtype):
    values = (image().as_tensor() * 2).round().to(dtype)
    problem = pose_problem(MetaTensor(values, affine=image().affine), image(seed=1))
    assert problem.fixed.image.dtype == torch.float32
    torch.testing.assert_close(problem.fixed.image, values.float(), rtol=0, atol=0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_voxels_that_are_not_finite_are_masked_and_the_input_is_left_alone(bad):
    fixed = image(channels=2)
    fixed[1, 3, 4, 5] = bad
    side = pose_problem(fixed, image(channels=2, seed=1)).fixed
    assert side.mask is not None and side.mask.dtype == torch.bool
    assert int((~side.mask).sum()) == 1 and not bool(side.mask[3, 4, 5])
    assert bool(torch.isfinite(side.image).all()) and float(side.image[1, 3, 4, 5]) == 0
    assert not bool(torch.isfinite(fixed[1, 3, 4, 5]))


def test_masks_are_cut_where_the_image_is_not_finite():
    fixed = image()
    fixed[0, 4, 4, 5] = float("nan")
    mask = mask_of(fixed)
    side = pose_problem(fixed, image(seed=1), mask).fixed
    expected = mask.as_tensor()[0] != 0
    expected[4, 4, 5] = False
    assert side.mask is not None and torch.equal(side.mask, expected)


def test_any_number_but_zero_counts_in_a_mask_of_any_channels():
    fixed = image()
    layers = torch.zeros(2, *fixed.shape[1:])
    layers[0, 1, 1, 1], layers[1, 5, 5, 5], layers[1, 6, 6, 6] = -3, 0.5, float("nan")
    side = pose_problem(fixed, image(seed=1), MetaTensor(layers, affine=fixed.affine)).fixed
    assert side.mask is not None and side.mask.nonzero().tolist() == [[1, 1, 1], [5, 5, 5]]


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float64])
def test_masks_of_any_type_are_taken(dtype):
    fixed = image()
    mask = mask_of(fixed)
    typed = MetaTensor(mask.as_tensor().to(dtype), affine=fixed.affine)
    side = pose_problem(fixed, image(seed=1), typed).fixed
    assert side.mask is not None and torch.equal(side.mask, mask.as_tensor()[0] != 0)


def test_colour_against_grey_is_taken_as_luminance():
    fixed, moving = image(2, 3), image(2, seed=1)
    problem = pose_problem(fixed, moving)
    red, green, blue = fixed.as_tensor().numpy()
    np.testing.assert_allclose(problem.fixed.image[0], 0.299 * red + 0.587 * green + 0.114 * blue, rtol=0, atol=1e-6)
    assert torch.equal(problem.moving.image, moving.as_tensor())
    assert len(pose_problem(fixed, image(2, 3, 1)).fixed.image) == 3


def test_other_counts_of_channels_are_averaged():
    fixed = image(3, 4)
    np.testing.assert_allclose(
        pose_problem(fixed, image(seed=1)).fixed.image[0], fixed.as_tensor().mean(0), rtol=0, atol=1e-6
    )


def test_dimensions_that_differ_are_refused():
    with pytest.raises(InputError, match=r"fixed is 2D \(19, 23\) but moving 3D \(19, 23, 29\)"):
        pose_problem(image(2), image(3))


@pytest.mark.parametrize("role", ["fixed", "moving"])
class TestRefusals:
    """Each role is named in its message."""

    def pose(self, role: str, broken: MetaTensor, mask: MetaTensor | None = None) -> None:
        good = image(seed=1)
        if role == "fixed":
            pose_problem(broken, good, mask)
        else:
            pose_problem(good, broken, None, mask)

    def test_a_one_voxel_axis(self, role):
        with pytest.raises(InputError, match=rf"{role}: shape \(9, 1, 8\) has an axis of one voxel"):
            self.pose(role, image(shape=(9, 1, 8)))

    def test_a_constant_image(self, role):
        flat = MetaTensor(torch.full((1, 5, 6, 7), 4.0), affine=oblique_grid((5, 6, 7)).affine)
        with pytest.raises(InputError, match=f"{role}: every voxel is 4; a constant image cannot be aligned"):
            self.pose(role, flat)

    def test_an_image_constant_inside_its_mask(self, role):
        broken = image()
        broken[0, 2:9, 3:8] = 4
        with pytest.raises(InputError, match=f"{role}: every voxel inside its mask is 4"):
            self.pose(role, broken, mask_of(broken))

    def test_an_image_constant_but_for_nan(self, role):
        flat = MetaTensor(torch.full((1, 5, 6, 7), 4.0), affine=oblique_grid((5, 6, 7)).affine)
        flat[0, 0, 0, 0] = float("nan")
        with pytest.raises(InputError, match=f"{role}: every voxel is 4"):
            self.pose(role, flat)

    def test_no_finite_voxel(self, role):
        with pytest.raises(InputError, match=f"{role}: no voxel is finite; the image is broken"):
            self.pose(role, MetaTensor(torch.full((1, 5, 6, 7), float("nan")), affine=torch.eye(4)))

    def test_no_finite_voxel_inside_the_mask(self, role):
        broken = image()
        broken[0, 2:9, 3:8] = float("inf")
        with pytest.raises(InputError, match=f"{role}: no voxel is finite inside its mask"):
            self.pose(role, broken, mask_of(broken))

    def test_an_empty_mask(self, role):
        broken = image()
        empty = MetaTensor(torch.zeros(broken.shape), affine=broken.affine)
        with pytest.raises(InputError, match=f"{role}_mask: it is empty"):
            self.pose(role, broken, empty)

    def test_a_mask_on_another_grid(self, role):
        broken = image()
        elsewhere = MetaTensor(torch.ones(broken.shape), affine=oblique_grid(SHAPES[3], 5).affine)
        smaller = MetaTensor(torch.ones(1, 4, 5, 6), affine=broken.affine)
        for mask in (elsewhere, smaller):
            with pytest.raises(InputError, match=f"{role}_mask: its grid .* is not that of the {role} image"):
                self.pose(role, broken, mask)
