"""Augmentation: each change by its own closed form, range, seeds, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from medmi.simulation.augmentation import Augmentation
from medmi.validation import InputError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def only(**strength: float) -> Augmentation:
    return Augmentation(**{"gamma": 0.0, "bias": 0.0, "noise": 0.0, "speckle": 0.0, "curve": 0.0, **strength})


def images(*size: int) -> torch.Tensor:
    return torch.rand(6, 1, *size, generator=seeded(9)) * 40 - 10


@pytest.mark.parametrize("size", [(19, 23), (9, 11, 13)])
def test_gamma_is_one_power_for_each_image_and_keeps_the_ends(size):
    before = images(*size)
    after = only(gamma=0.5)(before, seeded())
    powers = []
    for a, b in zip(before, after):
        x, y = (a - a.min()) / (a.max() - a.min()), (b - a.min()) / (a.max() - a.min())
        inside = (x > 0.05) & (x < 0.95)
        ratio = y[inside].log() / x[inside].log()
        assert float(ratio.std()) < 1e-3
        powers.append(float(ratio.mean().log()))
        assert float(b.min()) == pytest.approx(float(a.min()), abs=1e-4)
        assert float(b.max()) == pytest.approx(float(a.max()), abs=1e-4)
    assert max(map(abs, powers)) <= 0.5 and min(powers) < 0 < max(powers)


@pytest.mark.parametrize("size", [(60, 60), (14, 15, 16)])
def test_a_curve_is_linear_between_corners_that_move_by_its_share_at_most(size):
    before = images(*size)
    after = only(curve=0.4)(before, seeded())
    falls = 0
    for a, b in zip(before, after):
        x, order = ((a - a.min()) / (a.max() - a.min())).flatten().sort()
        y = ((b - a.min()) / (a.max() - a.min())).flatten()[order]
        assert float(y.min()) >= 0 and float(y.max()) <= 1 and float((y - x).abs().max()) <= 0.4 + 1e-5
        assert float(y[0]) == pytest.approx(0, abs=1e-5)
        corners = np.interp(np.arange(7) / 6, x.numpy(), y.numpy())
        np.testing.assert_allclose(y.numpy(), np.interp(x.numpy(), np.arange(7) / 6, corners), rtol=0, atol=0.01)
        falls += bool((np.diff(corners) < 0).any())
    assert falls > 0 and float((after - before).abs().max()) > 0.1


def test_bias_is_a_smooth_gain_within_its_bound():
    after = only(bias=0.4)(torch.cat([torch.zeros(6, 1, 24, 1), torch.ones(6, 1, 24, 30)], 3), seeded())
    gains = after[..., 1:].log()
    assert 0.2 < float(gains.abs().max()) <= 0.4 + 1e-6
    assert float(gains.diff(dim=2).abs().max()) < 0.1 and float(after[..., 0].abs().max()) == 0


def test_noise_has_the_deviation_asked_for():
    before = torch.cat([torch.zeros(6, 1, 60, 60), torch.full((6, 1, 60, 60), 50.0)], 3)
    deviations = (only(noise=0.1)(before, seeded()) - before).flatten(1).std(1) / 50
    assert 0.03 < float(deviations.max()) <= 0.103 and float(deviations.min()) < 0.5 * float(deviations.max())


def test_speckle_multiplies_and_keeps_the_mean():
    before = torch.cat([torch.zeros(6, 1, 60, 60), torch.ones(6, 1, 60, 60)], 3)
    after = only(speckle=1.0)(before, seeded())
    assert float(after[..., :60].abs().max()) == 0
    assert float(after[..., 60:].mean()) == pytest.approx(1, abs=0.03) and float(after[..., 60:].std()) > 0.1


def test_seeds_decide_and_images_differ():
    before = torch.rand(1, 1, 12, 13, generator=seeded()).repeat(2, 1, 1, 1)
    every = Augmentation(0.3, 0.3, 0.1, 0.5, 0.5)
    first, again, other = every(before, seeded(1)), every(before, seeded(1)), every(before, seeded(2))
    assert torch.equal(first, again) and not torch.equal(first, other) and not torch.equal(first[0], first[1])


def test_a_constant_image_stays_finite():
    every = Augmentation(0.3, 0.3, 0.1, 0.5, 0.5)
    assert bool(every(torch.full((1, 1, 8, 8), 3.0), seeded()).isfinite().all())


@pytest.mark.parametrize(
    ("name", "value"),
    [("gamma", -0.1), ("bias", math.nan), ("noise", math.inf), ("speckle", 1.1), ("speckle", -1.0), ("curve", 1.1)],
)
def test_bad_strengths_are_refused(name, value):
    with pytest.raises(InputError, match=name):
        Augmentation(**{name: value})
