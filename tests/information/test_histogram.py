"""Joint histograms against a dense twin, SciPy's splines and NumPy's counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from medmi.information import joint_histogram
from medmi.information.windows import WINDOWS
from medmi.threads import one_thread

BINS = 9


@pytest.fixture(autouse=True)
def _one_thread():
    with one_thread():
        yield


def linear_kernel(distance):
    return np.maximum(1 - np.abs(distance), 0)


def spline_kernel(distance):
    return np.nan_to_num(BSpline.basis_element(np.arange(-2.0, 3.0), extrapolate=False)(distance))


def gaussian_kernel(distance):
    return np.exp(-2 * distance**2) * (np.abs(distance) <= 3)


KERNELS = {"linear": linear_kernel, "bspline": spline_kernel, "gaussian": gaussian_kernel}


def dense(values, low, high, window, bins=BINS):
    """Weights (values, bins) from distances to all centres, those beyond an end added to it."""
    place = (values - low) / (high - low) * (bins - 1)
    cell = np.minimum(np.floor(place), bins - 2)
    weights = KERNELS[window](place[:, None] - np.arange(-3, bins + 3))
    first, last = WINDOWS[window].first, WINDOWS[window].first + len(WINDOWS[window].taps) - 1
    centre = np.arange(-3, bins + 3) - cell[:, None]
    weights = weights * (first <= centre) * (centre <= last)
    weights = weights / weights.sum(1, keepdims=True)
    folded = weights[:, 3:-3].copy()
    folded[:, 0] += weights[:, :3].sum(1)
    folded[:, -1] += weights[:, -3:].sum(1)
    return folded


def images(*shape, dtype=torch.float64):
    g = torch.Generator().manual_seed(1)
    x = torch.randn(shape, generator=g, dtype=dtype)
    return x, x**2 + torch.rand(shape, generator=g, dtype=dtype)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("shape", [(2, 3, 41), (2, 3, 5, 7), (2, 3, 3, 4, 5)])
def test_equals_its_dense_twin(window, shape):
    x, y = images(*shape)
    found = joint_histogram(x, y, BINS, window)
    assert found.dtype == torch.float64 and found.shape == (2, 3, BINS, BINS)
    for b in range(2):
        for c in range(3):
            u, v = x[b, c].flatten().numpy(), y[b, c].flatten().numpy()
            wanted = dense(u, u.min(), u.max(), window).T @ dense(v, v.min(), v.max(), window) / len(u)
            np.testing.assert_allclose(found[b, c].numpy(), wanted, atol=3e-9 if window == "gaussian" else 1e-14)


@pytest.mark.parametrize("window", WINDOWS)
def test_long_rows_equal_their_dense_twin_with_mask_and_weights(window):
    g = torch.Generator().manual_seed(2)
    x, y = images(2, 2, 199, 203)
    mask = torch.rand(2, 1, 199, 203, generator=g) < 0.7
    weights = torch.rand(2, 2, 199, 203, generator=g, dtype=torch.float64)
    found = joint_histogram(x, y, BINS, window, mask=mask, weights=weights)
    for b in range(2):
        for c in range(2):
            inside = mask[b, 0].flatten().numpy()
            u, v, w = (part[b, c].flatten().numpy()[inside] for part in (x, y, weights))
            first, second = (dense(part, part.min(), part.max(), window) for part in (u, v))
            np.testing.assert_allclose(found[b, c].numpy(), (first * w[:, None]).T @ second / w.sum(), atol=3e-9)


def test_values_on_bin_centres_are_counted():
    g = torch.Generator().manual_seed(3)
    x, y = (torch.randint(0, BINS, (1, 1, 30, 31), generator=g).float() for _ in range(2))
    wanted = np.histogram2d(x.flatten().numpy(), y.flatten().numpy(), bins=BINS)[0] / x.numel()
    np.testing.assert_allclose(joint_histogram(x, y, BINS)[0, 0].numpy(), wanted, atol=1e-15)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_windows_share_out_one(window, fraction):
    f = torch.tensor([fraction], dtype=torch.float64, requires_grad=True)
    weights = WINDOWS[window].weights(f)
    assert torch.allclose(weights.sum(0), torch.ones(1, dtype=torch.float64), atol=1e-14)
    taps = np.arange(len(weights)) + WINDOWS[window].first
    np.testing.assert_allclose(
        weights[:, 0].detach(), dense(np.array([5 + fraction]), 0, 8, window)[0][5 + taps], atol=2e-7
    )


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("value_range", [(-0.2, 1.2), ((0.1, 0.8), (-0.3, 1.1))])
def test_gradients_by_finite_differences(window, value_range):
    g = torch.Generator().manual_seed(4)
    x, y = (torch.rand(2, 2, 2, 3, generator=g, dtype=torch.float64).requires_grad_() for _ in range(2))
    weights = torch.rand(2, 1, 2, 3, generator=g)
    weights[0, 0, 1, 2] = 0
    table = torch.rand(5, 5, generator=g, dtype=torch.float64)

    def reading(p, q, given=None):
        return (joint_histogram(p, q, 5, window, value_range, weights=given) * table).sum((-1, -2))

    assert torch.autograd.gradcheck(reading, (x, y))
    assert torch.autograd.gradcheck(lambda p, q: reading(p, q, weights), (x, y))
    assert torch.autograd.gradcheck(lambda p: reading(p, p), (x,))


def test_automatic_range_is_held_constant():
    x, y = images(1, 1, 6, 7)
    x = x.requires_grad_()
    table = torch.rand(BINS, BINS, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    given = ((float(x.detach().min()), float(x.detach().max())), (float(y.min()), float(y.max())))
    free, fixed = (
        torch.autograd.grad((joint_histogram(x, y, BINS, value_range=r) * table).sum(), x)[0] for r in (None, given)
    )
    inner = (x > x.min()) & (x < x.max())
    torch.testing.assert_close(free[inner], fixed[inner])


def test_values_beyond_a_given_range_count_at_its_ends_without_gradient():
    x = torch.tensor([[[-5.0, 0.25, 0.5, 7.0]]], requires_grad=True)
    y = torch.tensor([[[0.0, 0.0, 1.0, 1.0]]])
    table = joint_histogram(x, y, 3, value_range=(0.0, 1.0))
    assert table[0, 0].tolist() == [[0.375, 0.0, 0.0], [0.125, 0.0, 0.25], [0.0, 0.0, 0.25]]
    (table * torch.arange(9.0).reshape(3, 3) ** 2).sum().backward()
    assert [bool(v) for v in x.grad.flatten() != 0] == [False, True, True, False]


def test_axes_are_x_then_y():
    x, y = images(1, 1, 8, 9)
    table = joint_histogram(x, y, BINS)
    torch.testing.assert_close(table, joint_histogram(y, x, BINS).transpose(-1, -2), rtol=0, atol=1e-15)
    np.testing.assert_allclose(
        table[0, 0].sum(1), dense(x.flatten().numpy(), float(x.min()), float(x.max()), "linear").mean(0), atol=1e-14
    )
