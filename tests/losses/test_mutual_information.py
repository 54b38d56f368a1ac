"""Histogram losses against closed forms: correlated Gaussians, one-to-one maps, and the histogram's bias in both
directions.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from medmi.losses import (
    MutualInformationLoss,
    NormalizedMutualInformationLoss,
    TotalVariationInformationLoss,
)


def gaussian_pair(rho, count=400_000, seed=1):
    z = torch.randn(2, 1, 1, count, generator=torch.Generator().manual_seed(seed))
    return z[0][None, 0], (rho * z[0] + math.sqrt(1 - rho**2) * z[1])[None, 0]


def truth(rho):
    return -0.5 * math.log(1 - rho**2)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8, -0.8, 0.95])
def test_correlated_gaussians(rho):
    found = -float(MutualInformationLoss(num_bins=64)(*gaussian_pair(rho)))
    assert found == pytest.approx(truth(rho), abs=0.06 if abs(rho) > 0.9 else 0.012)


@pytest.mark.parametrize("window", ["linear", "bspline", "gaussian"])
def test_coarse_bins_are_biased_low(window):
    pair = gaussian_pair(0.8)
    found = [-float(MutualInformationLoss(bins, window)(*pair)) for bins in (8, 16, 32, 64)]
    assert found == sorted(found) and found[-1] < truth(0.8) + 0.002
    assert found[0] < 0.75 * truth(0.8)


def test_smoothing_of_the_linear_window_is_as_its_convolution_predicts():
    """A linear window convolves the density with a triangle of variance h^2 / 6 on average, for Gaussians a known
    loss.
    """
    x, y = gaussian_pair(0.8)
    width = [float(v.max() - v.min()) / 31 for v in (x, y)]
    spread = np.sqrt([(1 + w * w / 6) for w in width])
    predicted = truth(0.8 / spread.prod())
    assert -float(MutualInformationLoss(num_bins=32)(x, y)) == pytest.approx(predicted, abs=0.006)


def test_finite_samples_are_biased_high():
    """Values on bin centres make hard bins; independent ones give about (bins - 1)^2 / 2N, the mean of chi-squared
    over 2N.
    """
    bins, count, found = 64, 10_000, []
    for seed in range(10):
        g = torch.Generator().manual_seed(seed)
        x, y = (torch.rand(1, 1, count, generator=g).mul(bins).floor() for _ in range(2))
        found.append(-float(MutualInformationLoss(num_bins=bins)(x, y)))
    assert (bins - 1) ** 2 / 2 / count * 0.7 < np.mean(found) < (bins - 1) ** 2 / 2 / count * 1.5
    large = torch.rand(2, 1, 1, 2_000_000, generator=torch.Generator().manual_seed(0)).mul(8).floor()
    assert -float(MutualInformationLoss(num_bins=8)(large[0], large[1])) == pytest.approx(49 / 4e6, abs=2e-5)


@pytest.mark.parametrize("bins", [8, 32])
def test_one_to_one_maps_reach_the_end_of_the_range(bins):
    g = torch.Generator().manual_seed(3)
    x = torch.arange(bins).repeat(60)[None, None].float()
    y = torch.randperm(bins, generator=g)[x.long()].float()
    assert float(MutualInformationLoss(bins)(x, y)) == pytest.approx(-math.log(bins), rel=1e-6)
    assert float(NormalizedMutualInformationLoss(bins)(x, y)) == pytest.approx(-2, rel=1e-6)
    assert float(TotalVariationInformationLoss(bins)(x, y)) == pytest.approx(-(1 - 1 / bins), rel=1e-6)


def test_total_variation_of_correlated_gaussians():
    """1/2 of the integral of |joint - product| on a fine grid."""
    axis = np.linspace(-6, 6, 1201)
    points = np.stack(np.meshgrid(axis, axis), -1)
    joint, product = (multivariate_normal([0, 0], [[1, r], [r, 1]]).pdf(points) for r in (0.8, 0.0))
    wanted = np.abs(joint - product).sum() * (axis[1] - axis[0]) ** 2 / 2
    assert -float(TotalVariationInformationLoss(num_bins=64)(*gaussian_pair(0.8))) == pytest.approx(wanted, abs=0.01)


def test_one_channel_at_a_time_where_pooling_would_mislead():
    """Two channels with opposite signs: each has full information, pooled voxels far less."""
    x = torch.rand(1, 2, 40, 41, generator=torch.Generator().manual_seed(4))
    y = torch.cat([x[:, :1], 5 - 3 * x[:, 1:]], 1)
    each = MutualInformationLoss(num_bins=16, reduction="none")(x, y)
    alone = torch.cat(
        [MutualInformationLoss(16, reduction="none")(x[:, c : c + 1], y[:, c : c + 1]) for c in (0, 1)], 1
    )
    assert torch.equal(each, alone)
    pooled = MutualInformationLoss(num_bins=16)(x.reshape(1, 1, 80, 41), y.reshape(1, 1, 80, 41))
    assert float(each.max()) < float(pooled) - 0.3


def test_descent_recovers_a_contrast_invariant_shift():
    """The gradient by the shift of a smooth signal points to where it matches its cubed, inverted copy."""
    t = torch.linspace(0, 20, 4001, dtype=torch.float64)
    fixed = -((t.sin() + (0.37 * t).cos()) ** 3)[None, None]
    for loss in (MutualInformationLoss(), NormalizedMutualInformationLoss(), TotalVariationInformationLoss()):
        for shift in (-0.3, -0.05, 0.05, 0.3):
            s = torch.tensor(shift, dtype=torch.float64, requires_grad=True)
            (slope,) = torch.autograd.grad(loss(((t + s).sin() + (0.37 * (t + s)).cos())[None, None], fixed), s)
            assert math.copysign(1, float(slope)) == math.copysign(1, shift)


@pytest.mark.parametrize("options", [{"num_bins": 1}, {"window": "box"}, {"value_range": (1, 0)}, {"reduction": "avg"}])
@pytest.mark.parametrize(
    "make", [MutualInformationLoss, NormalizedMutualInformationLoss, TotalVariationInformationLoss]
)
def test_refuses_options(make, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        make(**options)
