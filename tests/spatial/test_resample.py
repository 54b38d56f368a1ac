"""resample against SimpleITK.Resample: unlike oblique grids, every family and interpolation, the half-voxel border, NaN."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from medmi.grid import Grid
from medmi.spatial import LinearTransform, SpatialTransform, chain, from_sitk, resample
from medmi.spatial.resample import INTERPOLATIONS
from medmi.validation import InputError
from tests.contracts.transforms import linear, smooth_field
from tests.oracles.grids import SHAPES, array_of, itk_image, oblique_grid

ITK = {"linear": sitk.sitkLinear, "nearest": sitk.sitkNearestNeighbor, "bspline": sitk.sitkBSpline}
FIXED = {2: (21, 17), 3: (15, 21, 18)}
FAMILIES = [(f, d) for f in ("translation", "rigid", "similarity", "affine", "field", "chain") for d in (2, 3)]
TIE = 1e-3


def scene(d: int, seed: int = 0) -> tuple[torch.Tensor, Grid, Grid]:
    """A random moving image ``(1, *shape)`` with values from -1 to 1, its grid, and an unlike fixed grid over it."""
    moving, fixed = oblique_grid(SHAPES[d], seed), oblique_grid(FIXED[d], seed + 1)
    image = torch.rand(1, *SHAPES[d], generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return image, moving, fixed


def transform_of(kind: str, d: int, fixed: Grid) -> SpatialTransform:
    if kind == "field":
        return smooth_field(fixed)
    if kind == "chain":
        return chain([linear("rigid", d), smooth_field(fixed)])
    return linear(kind, d)


def itk_resample(image: torch.Tensor, moving: Grid, transform: SpatialTransform, fixed: Grid, how: str) -> np.ndarray:
    reference = itk_image(np.zeros(fixed.shape, np.float32), fixed)
    floating = itk_image(image.numpy(), moving)
    return array_of(sitk.Resample(floating, reference, transform.to_sitk(fixed), ITK[how], 0.0, sitk.sitkFloat32))


def moving_index(moving: Grid, transform: SpatialTransform, fixed: Grid) -> torch.Tensor:
    return moving.world_to_index(transform.points(fixed.points()))


def off_ties(index: torch.Tensor, size: tuple[int, ...], nearest: bool) -> np.ndarray:
    """Voxels where rounding cannot tip a decision: the rim of the moving image and, for nearest, half-way points."""
    rim = torch.minimum((index + 0.5).abs(), (index - torch.tensor(size) + 0.5).abs()).amin(-1)
    half = ((index - index.floor()) - 0.5).abs().amin(-1) if nearest else torch.ones(())
    return ((rim > TIE) & (half > TIE)).numpy()


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize(("kind", "d"), FAMILIES)
def test_it_is_simpleitks_inside_outside_and_on_the_border(kind, d, interpolation):
    image, moving, fixed = scene(d)
    transform = transform_of(kind, d, fixed)
    ours = resample(image, moving, transform, fixed, interpolation)
    expected = itk_resample(image[0], moving, transform, fixed, interpolation)
    index = moving_index(moving, transform, fixed)
    sure = off_ties(index, moving.shape, interpolation == "nearest")
    assert ours.dtype == torch.float32 and ours.shape == (1, *fixed.shape)
    assert (expected != 0).mean() > 0.1 and sure.mean() > 0.95
    np.testing.assert_allclose(ours[0].numpy()[sure], expected[sure], rtol=0, atol=2e-4)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("d", [2, 3])
def test_the_outer_half_voxel_is_simpleitks(d, interpolation):
    image, moving, _ = scene(d)
    step = torch.eye(d + 1, dtype=torch.float64)
    step[range(d), range(d)], step[:-1, -1] = 0.187, -0.83
    fixed = Grid([14] * d, moving.affine @ step)
    still = LinearTransform(torch.eye(d + 1))
    ours = resample(image, moving, still, fixed, interpolation)[0].numpy()
    expected = itk_resample(image[0], moving, still, fixed, interpolation)
    index = moving_index(moving, still, fixed)
    assert bool(((index > -0.5) & (index < 0)).any()) and bool((index < -0.5).any())
    np.testing.assert_allclose(ours, expected, rtol=0, atol=2e-4)


def test_nearest_rounds_half_way_points_up_as_simpleitk_does():
    moving = Grid((7, 8), torch.eye(3))
    image = torch.arange(56.0).reshape(1, 7, 8)
    fixed = Grid((6, 7), torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]))
    still = LinearTransform(torch.eye(3))
    expected = itk_resample(image[0], moving, still, fixed, "nearest")
    np.testing.assert_array_equal(resample(image, moving, still, fixed, "nearest")[0], expected)
    np.testing.assert_array_equal(expected, image[0, 1:, 1:])


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_homography_is_simpleitks_through_its_field(interpolation):
    image, moving, fixed = scene(2)
    transform = linear("homography", 2)
    ours = resample(image, moving, transform, fixed, interpolation)[0].numpy()
    expected = itk_resample(image[0], moving, transform, fixed, interpolation)
    sure = off_ties(moving_index(moving, transform, fixed), moving.shape, interpolation == "nearest")
    np.testing.assert_allclose(ours[sure], expected[sure], rtol=0, atol=2e-4)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("d", [2, 3])
def test_channels_are_resampled_one_by_one(d, interpolation):
    image, moving, fixed = scene(d)
    colour = torch.cat([image, image.flip(1), 2 - image])
    transform = linear("affine", d)
    together = resample(colour, moving, transform, fixed, interpolation)
    for k in range(3):
        alone = resample(colour[k : k + 1], moving, transform, fixed, interpolation)
        torch.testing.assert_close(together[k : k + 1], alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
def test_nan_stays_where_it_is_read_and_never_leaks_outside(interpolation):
    image, moving, fixed = scene(3)
    image[0, 0], image[0, 9, 11, 14] = float("nan"), float("inf")
    transform = linear("rigid", 3)
    ours = resample(image, moving, transform, fixed, interpolation)[0].numpy()
    index = moving_index(moving, transform, fixed)
    size = torch.tensor(moving.shape)
    outside = ((index < -0.5) | (index > size - 0.5)).any(-1).numpy()
    assert outside.any() and not ours[outside].any()
    touched = (index[..., 0] < 1).numpy() & ~outside
    far = ((index - torch.tensor([9.0, 11.0, 14.0])).abs().amax(-1) > 1).numpy()
    assert np.isnan(ours[touched]).any() and np.isfinite(ours[~touched & far]).all()


def test_integers_and_views_are_taken_and_left_alone():
    image, moving, fixed = scene(3)
    labels = (image * 50).to(torch.int16)
    before = labels.clone()
    still = linear("rigid", 3)
    as_float = resample(labels.float(), moving, still, fixed, "nearest")
    torch.testing.assert_close(resample(labels, moving, still, fixed, "nearest"), as_float, rtol=0, atol=0)
    assert torch.equal(labels, before)
    view = labels.permute(0, 3, 2, 1).contiguous().permute(0, 3, 2, 1)
    torch.testing.assert_close(resample(view, moving, still, fixed, "nearest"), as_float, rtol=0, atol=0)


def test_slabs_do_not_show(monkeypatch):
    image, moving, fixed = scene(3)
    transform = linear("affine", 3)
    whole = resample(image, moving, transform, fixed)
    monkeypatch.setitem(resample.__globals__, "SLAB_POINTS", 1000)
    torch.testing.assert_close(resample(image, moving, transform, fixed), whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_one_voxel_axes_are_sampled(interpolation):
    moving = Grid((12, 11, 1), torch.diag(torch.tensor([1.0, 1.2, 3.0, 1.0])))
    image = torch.rand(1, 12, 11, 1, generator=torch.Generator().manual_seed(0))
    still = LinearTransform(torch.eye(4))
    ours = resample(image, moving, still, moving, interpolation)
    torch.testing.assert_close(ours, image, rtol=0, atol=1e-5)


def test_a_wrapped_spline_resamples_as_in_simpleitk():
    image, moving, fixed = scene(3)
    spline = sitk.BSplineTransformInitializer(itk_image(np.zeros(fixed.shape, np.float32), fixed), [3, 3, 3])
    spline.SetParameters(np.random.default_rng(0).uniform(-2, 2, len(spline.GetParameters())).tolist())
    transform = from_sitk(spline)
    ours = resample(image, moving, transform, fixed)[0].numpy()
    sure = off_ties(moving_index(moving, transform, fixed), moving.shape, False)
    np.testing.assert_allclose(
        ours[sure], itk_resample(image[0], moving, transform, fixed, "linear")[sure], rtol=0, atol=2e-4
    )


def test_unknown_interpolations_are_refused():
    image, moving, fixed = scene(2)
    with pytest.raises(InputError, match="interpolation: unknown value 'liner'; did you mean 'linear'"):
        resample(image, moving, linear("rigid", 2), fixed, "liner")
