"""What Eq. 13 of DeepMI is: one minus a trace, with a floor at identity, and the exact variant without it."""

from __future__ import annotations

import pytest
import torch

from medmi.information import joint_histogram
from medmi.losses import LinearizedMutualInformationLoss, TotalVariationInformationLoss

RANGE = (0.0, 1.0)


def values(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rounded(x, bins):
    return (x * (bins - 1)).round() / (bins - 1)


@pytest.mark.parametrize("bins", [2, 7, 15])
def test_equation_13_as_written_is_one_minus_the_trace(bins):
    x, y = values(1, 1, 20, 21), values(1, 1, 20, 21, seed=1)
    for other in (y, x, 0.7 * x + 0.3 * y):
        p = joint_histogram(x, other, bins)[0, 0]
        own, first, second = p.diagonal(), p.sum(1), p.sum(0)
        published = (p.sum() - own.sum() + (own - first).abs().sum() + (own - second).abs().sum()) / 3
        torch.testing.assert_close(published, 1 - own.sum())
        torch.testing.assert_close(LinearizedMutualInformationLoss(bins)(x, other), published)


def test_it_is_a_mean_over_voxels():
    x, y = values(1, 1, 500), values(1, 1, 500, seed=1)
    place = [14 * v.flatten() for v in (x, y)]
    weights = [(1 - (p[:, None] - torch.arange(15)).abs()).clamp_min(0) for p in place]
    loss = LinearizedMutualInformationLoss(value_range=RANGE)(x, y)
    torch.testing.assert_close(loss, 1 - (weights[0] * weights[1]).sum(1).mean())
    exact = LinearizedMutualInformationLoss(value_range=RANGE, exact=True)(x, y)
    torch.testing.assert_close(exact, (weights[0] - weights[1]).square().sum(1).mean() / 2)


def test_floor_at_identity():
    x = values(1, 1, 300, 301)
    m = (14 * x).frac()
    floor = LinearizedMutualInformationLoss(value_range=RANGE)(x, x)
    torch.testing.assert_close(floor, (2 * m * (1 - m)).mean())
    assert float(floor) == pytest.approx(1 / 3, abs=0.003)


def test_rounding_to_bin_centres_scores_lower_than_identity():
    x = values(1, 1, 300, 301)
    loss = LinearizedMutualInformationLoss(value_range=RANGE)
    assert float(loss(x, rounded(x, 15))) == pytest.approx(1 / 4, abs=0.003)
    assert float(loss(x, rounded(x, 15))) < float(loss(x, x)) - 0.05


def test_no_image_scores_lower_than_the_rounded_one():
    """For each voxel the share is linear in its partner's fraction, so a bin centre is always among the best."""
    x = values(1, 1, 400)
    loss = LinearizedMutualInformationLoss(value_range=RANGE)
    best = float(loss(x, rounded(x, 15)))
    for seed in range(20):
        near = (x + 0.05 * (values(1, 1, 400, seed=seed + 1) - 0.5)).clamp(0, 1)
        assert float(loss(x, near)) >= best


def test_exact_variant_is_zero_only_at_identity():
    x = values(1, 1, 300, 301)
    loss = LinearizedMutualInformationLoss(value_range=RANGE, exact=True)
    assert abs(float(loss(x, x))) < 1e-12
    assert float(loss(x, rounded(x, 15))) == pytest.approx(1 / 12, abs=0.002)
    assert float(loss(x, (x + 0.01).clamp_max(1))) > 0.01


@pytest.mark.parametrize("window", ["linear", "bspline", "gaussian"])
def test_exact_variant_in_every_window(window):
    x = values(1, 1, 30, 31)
    loss = LinearizedMutualInformationLoss(12, window, exact=True)
    assert abs(float(loss(x, x))) < 1e-12 < float(loss(x, x.flip(-1)))


@pytest.mark.parametrize("shift", [-0.03, -0.01, 0.01, 0.03])
def test_exact_variant_has_gradients_for_shifts_under_one_bin(shift):
    """A smooth signal moved by less than a bin: the gradient by the shift points back."""
    t = torch.linspace(0, 6, 5001, dtype=torch.float64)
    fixed = (0.5 + 0.45 * t.sin())[None, None]
    s = torch.tensor(shift, dtype=torch.float64, requires_grad=True)
    loss = LinearizedMutualInformationLoss(value_range=RANGE, exact=True)(0.5 + 0.45 * (t + s).sin()[None, None], fixed)
    (slope,) = torch.autograd.grad(loss, s)
    assert float(slope) * shift > 0 and abs(float(slope)) > 0.05


def test_published_form_has_gradients_for_shifts_under_one_bin():
    x = values(1, 1, 400)
    moved = (x + 0.02).requires_grad_()
    (grad,) = torch.autograd.grad(LinearizedMutualInformationLoss(value_range=(-0.1, 1.1))(moved, x), moved)
    assert bool((grad != 0).all())


def test_no_gradient_beyond_two_bins():
    x = values(1, 1, 400) * 0.4
    far = (x + 0.4).requires_grad_()
    value = LinearizedMutualInformationLoss(value_range=RANGE)(far, x)
    (grad,) = torch.autograd.grad(value, far)
    assert float(value.detach()) == pytest.approx(1) and bool((grad == 0).all())


def test_identical_images_on_bin_centres_score_zero():
    x = torch.arange(32.0).repeat(5)[None, None]
    assert abs(float(LinearizedMutualInformationLoss(32)(x, x))) < 1e-12


def test_across_modalities_its_sibling_sees_what_it_cannot():
    x = values(1, 1, 60, 61)
    inverse = 1 - x
    assert float(LinearizedMutualInformationLoss()(x, inverse)) > 0.85
    sibling = TotalVariationInformationLoss(15)
    assert float(sibling(x, inverse)) == pytest.approx(float(sibling(x, x)), rel=1e-6)


@pytest.mark.parametrize("options", [{"num_bins": 1}, {"window": "box"}, {"value_range": (1, 0)}, {"reduction": "avg"}])
def test_refuses_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        LinearizedMutualInformationLoss(**options)
