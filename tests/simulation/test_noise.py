"""Noise and blurring against SciPy and the distributions they are to have."""

from __future__ import annotations

import math

import pytest
import scipy.ndimage
import scipy.stats
import torch

from medmi.simulation.noise import gaussian_blur, poisson, rayleigh, rician, speckled, unit_noise
from medmi.validation import InputError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_blur_is_scipys():
    volume = torch.rand((19, 23, 29), generator=seeded(), dtype=torch.float64)
    sigmas = (1.7, 0.0, 2.5)
    reaches = [math.ceil(3 * s) for s in sigmas]
    expected = scipy.ndimage.gaussian_filter(volume.numpy(), sigmas, mode="nearest", radius=reaches)
    assert torch.allclose(gaussian_blur(volume, sigmas), torch.from_numpy(expected), atol=1e-12)


def test_speckle_is_rayleigh_with_the_signal_to_noise_ratio_1_91():
    fine = rayleigh((41, 53, 37), (0.0, 0.0, 0.0), seeded(1))
    assert scipy.stats.kstest(fine.flatten().numpy(), scipy.stats.rayleigh.cdf).pvalue > 0.01
    coarse = rayleigh((90, 80, 70), (1.2, 0.9, 0.6), seeded(2))
    assert float(coarse.mean() / coarse.std()) == pytest.approx(1 / math.sqrt(4 / math.pi - 1), rel=0.01)


def test_speckle_is_correlated_over_its_cell():
    sigma = 1.5
    noise = unit_noise((256, 256), (sigma, 0.0), seeded(3))
    for lag in (1, 2, 3):
        along = float((noise * noise.roll(lag, 0)).mean())
        assert along == pytest.approx(math.exp(-(lag**2) / (4 * sigma**2)), abs=0.03)
        assert float((noise * noise.roll(lag, 1)).mean()) == pytest.approx(0.0, abs=0.02)


def test_rician_noise_has_the_rice_distribution():
    seen = rician(torch.full((60, 50, 40), 100.0), (1.0, 1.0, 1.0), 0.3, seeded(4))
    assert scipy.stats.kstest(seen.flatten().numpy(), scipy.stats.rice(100 / 30, scale=30).cdf).pvalue > 0.01
    assert (
        scipy.stats.kstest(
            rician(torch.tensor([0.0, 1.0]).repeat(20000), (1.0,), 0.5, seeded(5))[::2].numpy(),
            scipy.stats.rayleigh(scale=0.5).cdf,
        ).pvalue
        > 0.01
    )


def test_poisson_noise_keeps_the_mean_and_its_variance_falls_with_the_filter():
    flat = torch.full((64, 64, 32), 5.0)
    coarse_voxels = poisson(flat, (50.0, 50.0, 50.0), 0.2, seeded(6))
    assert float(coarse_voxels.mean()) == pytest.approx(5.0, rel=2e-3)
    assert float(coarse_voxels.std()) == pytest.approx(0.2 * 5.0, rel=0.02)
    assert float(poisson(flat, (2.0, 2.0, 2.0), 0.2, seeded(6)).std()) < 0.3
    assert torch.allclose(poisson(flat, (2.0, 2.0, 2.0), 0.0, seeded(6)), flat)
    assert float(poisson(torch.zeros((4, 5, 6)), (2.0, 2.0, 2.0), 0.2, seeded(6)).abs().max()) == 0


def test_no_noise_leaves_the_image():
    image = torch.rand((5, 6), generator=seeded())
    assert torch.equal(rician(image, (1.0, 1.0), 0.0, seeded()), image)
    assert torch.equal(speckled(image, (1.0, 1.0), 0.0, seeded()), image)


def test_a_share_of_speckle_above_one_is_refused():
    with pytest.raises(InputError, match=r"speckle: noise is 1\.5"):
        speckled(torch.ones(4, 5), (1.0, 1.0), 1.5, seeded())
