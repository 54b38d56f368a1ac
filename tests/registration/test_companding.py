"""Companding: the curve against its definition by sorting, the loop against NumPy, and what bins and points make of it."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from medmi.registration import histogram_cpu
from medmi.registration.companding import BY_FOREGROUND, KNOTS, companding
from medmi.registration.drawing import draw
from medmi.registration.levels import Volume, robust_range
from tests.oracles.grids import oblique_grid

RNG = np.random.default_rng(0)
KNOTS_AT = np.linspace(0, 1, KNOTS + 1)
NO_MASK = np.zeros((0, 0, 0), np.uint8)


def tissues(count: int = 5000) -> np.ndarray:
    """Air, and two tissues close to each other, as shares of a range."""
    means, spreads, parts = (0.05, 0.55, 0.62), (0.01, 0.02, 0.02), (0.6, 0.2, 0.2)
    return np.concatenate([RNG.normal(m, s, int(p * count)) for m, s, p in zip(means, spreads, parts)])


def test_half_of_the_rise_is_the_share_of_the_foreground_below():
    shares = tissues()
    threshold = sitk.OtsuThresholdImageFilter()
    threshold.Execute(sitk.GetImageFromArray(shares[None]))
    foreground = np.sort(shares[shares > threshold.GetThreshold()])
    below = np.searchsorted(foreground, KNOTS_AT) / len(foreground)
    np.testing.assert_allclose(companding(shares), (KNOTS_AT + below) / 2, rtol=0, atol=1e-12)


def test_the_curve_rises_from_0_to_1_and_no_bin_is_wider_than_two():
    curve = companding(np.append(tissues(), [-3.0, 4.0]))
    assert curve[0] == 0 and curve[-1] == pytest.approx(1, abs=1e-12)
    assert np.diff(curve).min() >= (1 - BY_FOREGROUND) / KNOTS - 1e-12
    # Two tissues a tenth of the range wide take half of all bins.
    assert curve[45] - curve[30] > 0.5


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_of_one_value_alone_half_of_the_rise_is_there(value):
    step = min(int(value * KNOTS), KNOTS - 1)
    expected = KNOTS_AT / 2 + 0.5 * (np.arange(KNOTS + 1) > step)
    np.testing.assert_allclose(companding(np.full(50, value)), expected, rtol=0, atol=1e-12)


def test_gain_and_offset_of_the_values_do_not_matter():
    voxels = RNG.choice(tissues(), (1, 30, 20, 10))
    one, other = (
        Volume(v.astype(np.float32), NO_MASK, np.eye(4), *robust_range(v.astype(np.float32), NO_MASK)).companded
        for v in (voxels, 250 * voxels - 1000)
    )
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-3)


def test_heights_are_those_of_the_curve_between_its_knots():
    curve = np.sort(RNG.random(KNOTS + 1)).astype(np.float32)
    values = np.append(RNG.uniform(-900, 1900, (3, 500)), [[np.nan], [np.inf], [-np.inf]], 1).astype(np.float32)
    heights = np.empty_like(values)
    histogram_cpu.compand(values, -700.0, 1500.0, curve, heights)
    finite = np.nan_to_num(values.astype(np.float64), nan=-700, posinf=1500, neginf=-700)
    expected = np.interp(finite, np.linspace(-700, 1500, KNOTS + 1), curve)
    np.testing.assert_allclose(heights, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", [(16, 14, 12), (40, 30, 1)])
def test_a_volume_is_companded_channel_by_channel_inside_its_mask(shape, masked):
    voxels = np.stack([RNG.choice(tissues(), shape), 1000 * RNG.choice(tissues(), shape)]).astype(np.float32)
    mask = (RNG.random(shape) > 0.3).astype(np.uint8) if masked else NO_MASK
    spoilt = np.where(mask, voxels, np.float32(1e4)) if masked else voxels
    low, high = np.float32([0.0, 0.0]), np.float32([0.7, 700.0])
    volume = Volume(spoilt, mask, np.eye(4), low, high)
    for k, channel in enumerate(voxels):
        seen = channel[mask > 0] if masked else channel.ravel()
        curve = companding((seen - low[k]) / (high[k] - low[k]))
        expected = np.interp(spoilt[k], np.linspace(low[k], high[k], KNOTS + 1), curve)
        np.testing.assert_allclose(volume.companded[k], expected, rtol=0, atol=2e-5)


def test_points_know_where_their_values_are_among_the_bins():
    voxels = RNG.choice(tissues(), (1, 14, 12, 10)).astype(np.float32)
    to_world = oblique_grid((14, 12, 10), 0).affine.numpy()
    volume = Volume(voxels, NO_MASK, to_world, voxels.min((1, 2, 3)), voxels.max((1, 2, 3)))
    drawn = draw(volume, 300, np.random.default_rng(0))
    image = sitk.GetImageFromArray(volume.companded[0].T)
    expected = [image.EvaluateAtContinuousIndex(p.tolist()) for p in drawn.index.T.astype(np.float64)]
    np.testing.assert_allclose(drawn.heights[0], expected, rtol=0, atol=1e-5)
