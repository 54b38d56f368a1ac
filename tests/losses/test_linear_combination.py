"""LC2 against least squares patch by patch, and its two ends."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medmi.losses import CorrelationOfLinearCombinationLoss
from medmi.losses.linear_combination import explained_variance, gradient_magnitude
from medmi.losses.local_sums import window_kernel


def smooth_image(shape, seed=0):
    x = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for axis in range(2, x.ndim):
        x = (x + x.roll(1, axis) + x.roll(-1, axis)) / 3
    return x


@pytest.mark.parametrize("shape", [(33,), (15, 17), (9, 8, 10)])
@pytest.mark.parametrize("spacing", [1.0, 2.5])
def test_gradient_magnitude_of_a_ramp(shape, spacing):
    steps = np.arange(1, len(shape) + 1) * spacing
    slopes = np.array([3.0, -1.0, 0.5])[: len(shape)]
    places = np.stack(np.meshgrid(*(np.arange(s) * d for s, d in zip(shape, steps)), indexing="ij"))
    ramp = torch.tensor(np.tensordot(slopes, places, 1))[None, None]
    found = gradient_magnitude(ramp, torch.ones_like(ramp), list(steps))
    np.testing.assert_allclose(found.numpy(), np.linalg.norm(slopes), rtol=1e-10)


@pytest.mark.parametrize("shape", [(33,), (13, 15), (8, 7, 9)])
def test_explained_variance_is_that_of_least_squares(shape):
    u, p, g = (
        torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(s), dtype=torch.float64) for s in range(3)
    )
    size = 5
    explained, variance = explained_variance(u, p, g, torch.ones_like(u), window_kernel("rectangular", size))
    for voxel in [(0,) * len(shape), tuple(s // 2 for s in shape), tuple(s - 1 for s in shape)]:
        patch = (0, 0, *(slice(max(v - size // 2, 0), v + size // 2 + 1) for v in voxel))
        target, *others = (part[patch].flatten().numpy() for part in (u, p, g))
        design = np.stack([*others, np.ones_like(target)], 1)
        fit = design @ np.linalg.lstsq(design, target, rcond=None)[0]
        assert float(variance[(0, 0, *voxel)]) == pytest.approx(target.var(), rel=1e-9)
        assert float(explained[(0, 0, *voxel)]) == pytest.approx(fit.var(), rel=0.05)


@pytest.mark.parametrize("shape", [(61,), (23, 25), (13, 12, 14)])
def test_ends_of_the_range(shape):
    anatomy = smooth_image(shape)
    edges = gradient_magnitude(anatomy, torch.ones_like(anatomy), (1.0,) * len(shape))
    loss = CorrelationOfLinearCombinationLoss(kernel_size=7)
    assert float(loss(anatomy, 40 - 3 * anatomy)) == pytest.approx(-1, abs=0.03)
    assert float(loss(anatomy, 5 * edges - 0.7 * anatomy)) == pytest.approx(-1, abs=0.03)
    noise = torch.randn(anatomy.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    assert float(loss(anatomy, noise)) > (-0.45 if len(shape) == 1 else -0.15)
    assert float(loss(anatomy, torch.ones_like(anatomy))) == 0


def test_roles():
    anatomy = smooth_image((23, 25))
    ultrasound = gradient_magnitude(anatomy, torch.ones_like(anatomy), (1.0, 1.0))
    first = CorrelationOfLinearCombinationLoss(7)(anatomy, ultrasound)
    second = CorrelationOfLinearCombinationLoss(7, ultrasound="pred")(ultrasound, anatomy)
    assert torch.equal(first, second)
    assert float(first) < float(CorrelationOfLinearCombinationLoss(7)(ultrasound, anatomy)) - 0.1


def test_spacing_matters_where_it_differs_between_axes():
    anatomy = smooth_image((23, 25))
    ultrasound = gradient_magnitude(anatomy, torch.ones_like(anatomy), (1.0, 4.0))
    scores = {
        s: float(CorrelationOfLinearCombinationLoss(9, spacing=s)(anatomy, ultrasound))
        for s in ((1, 4), (1, 1), (2, 8))
    }
    assert scores[1, 4] < scores[1, 1] - 0.05 and scores[1, 4] == pytest.approx(scores[2, 8], abs=1e-9)


@pytest.mark.parametrize(
    "options", [{"ultrasound": "both"}, {"spacing": (1.0, 0.0)}, {"spacing": (1.0, float("nan"))}, {"reduction": "x"}]
)
def test_refuses_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        CorrelationOfLinearCombinationLoss(**options)


def test_refuses_spacing_of_other_dimension():
    x = smooth_image((9, 9))
    with pytest.raises(ValueError, match="spacing: 3 lengths for images with 2"):
        CorrelationOfLinearCombinationLoss(spacing=(1, 1, 1))(x, x)
