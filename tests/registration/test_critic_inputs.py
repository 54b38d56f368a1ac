"""What a critic sees: scale, robust range, masks, and each descriptor against its closed form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medmi.registration.critic_inputs import DESCRIPTORS, LEAST_CONTRAST, SMOOTHING_VOXELS, critic_volume
from medmi.registration.levels import NO_MASK, Volume

SHAPE = (19, 23, 29)


def volume(voxels: np.ndarray, mask: np.ndarray = NO_MASK, low: float = -1e6, high: float = 1e6) -> Volume:
    channels = len(voxels)
    ends = (np.full(channels, end, np.float32) for end in (low, high))
    return Volume(voxels.astype(np.float32), mask, np.diag([2.0, 3, 4, 1]), *ends)


def noise(channels: int = 1, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(channels, *shape))


def along(made: np.ndarray, expected: np.ndarray) -> None:
    """Equal but for the scale and origin that standardising takes away, where no edge is near."""
    inner = tuple(slice(7, -7) if size > 14 else slice(None) for size in made.shape)
    a, b = made[inner].ravel(), expected[inner].ravel()
    assert np.corrcoef(a, b)[0, 1] > 0.9999


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_channels_have_mean_zero_and_deviation_one(name):
    made = critic_volume(volume(300 * noise(2) + 1000), (name,))
    assert made.voxels.dtype == np.float32 and made.voxels.flags.c_contiguous and made.voxels.shape == (2, *SHAPE)
    np.testing.assert_allclose(made.voxels.mean((1, 2, 3)), 0, atol=1e-3)
    np.testing.assert_allclose(made.voxels.std((1, 2, 3)), 1, atol=1e-3)
    np.testing.assert_array_equal(made.low, made.voxels.min((1, 2, 3)))
    np.testing.assert_array_equal(made.high, made.voxels.max((1, 2, 3)))


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_gain_and_offset_of_the_image_do_not_matter(name):
    made, other = (critic_volume(volume(gain * noise() + 5), (name,)).voxels for gain in (1, 40))
    np.testing.assert_allclose(made, other, atol=1e-3)


def test_names_come_in_order_each_with_every_channel():
    both = critic_volume(volume(noise(2)), ("gradient", "intensity")).voxels
    assert len(both) == 4
    np.testing.assert_array_equal(both[:2], critic_volume(volume(noise(2)), ("gradient",)).voxels)
    np.testing.assert_array_equal(both[2:], critic_volume(volume(noise(2)), ("intensity",)).voxels)


def test_intensities_are_cut_to_their_robust_range():
    spoilt = noise()
    spoilt[0, 3, 4, 5] = 1e5
    made = critic_volume(volume(spoilt, low=-2, high=2), ("intensity",)).voxels
    along(made[0], np.clip(spoilt[0], -2, 2))
    assert made.max() < 3


def test_the_scale_is_that_of_the_mask():
    mask = np.zeros(SHAPE, np.uint8)
    mask[4:12, 5:15, 6:20] = 1
    values = np.where(mask, noise()[0], 50.0)[None]
    made = critic_volume(volume(values, mask), ("intensity",)).voxels[0][mask > 0]
    assert abs(made.mean()) < 1e-3 and abs(made.std() - 1) < 1e-3


def test_a_constant_channel_stays_finite():
    for name in DESCRIPTORS:
        assert np.abs(critic_volume(volume(np.full((1, *SHAPE), 7.0)), (name,)).voxels).max() < 1e-3


@pytest.mark.parametrize("shape", [(41, 37, 1), (27, 25, 23)])
def test_descriptors_of_a_wave_are_those_of_calculus(shape):
    k = 0.35
    phase = k * np.arange(shape[0], dtype=np.float64)[:, None, None] + np.zeros(shape)
    wave = np.sin(phase)[None]
    damping = np.exp(-((k * SMOOTHING_VOXELS) ** 2) / 2)
    made = {name: critic_volume(volume(wave), (name,)).voxels[0] for name in DESCRIPTORS}
    along(made["intensity"], np.sin(phase))
    along(made["smoothed"], np.sin(phase))
    along(made["gradient"], np.abs(np.cos(phase)))
    # Mean of sin^2 less the square of the mean of sin, under a Gaussian.
    spread = (1 - damping**4 * np.cos(2 * phase)) / 2 - (damping * np.sin(phase)) ** 2
    along(made["deviation"], np.sqrt(spread))
    along(made["contrast"], (1 - damping) * np.sin(phase) / (np.sqrt(spread) + LEAST_CONTRAST * wave.std()))


def test_contrast_does_not_see_a_slowly_varying_gain():
    gain = np.exp(np.linspace(-0.7, 0.7, SHAPE[2])) * np.exp(np.linspace(0.7, -0.7, SHAPE[0]))[:, None, None]
    wave = 3 + 4 * ndimage.gaussian_filter(noise()[0], 1.0)
    plain, biased = (
        {name: critic_volume(volume(v[None]), (name,)).voxels.ravel() for name in ("intensity", "contrast")}
        for v in (wave, gain * wave)
    )
    agreement = {name: np.corrcoef(plain[name], biased[name])[0, 1] for name in plain}
    assert agreement["contrast"] > 0.95 and agreement["intensity"] < 0.5
