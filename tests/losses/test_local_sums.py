"""Sums over windows against SciPy's correlation, over all voxels against math.fsum; their derivatives by differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from medmi.losses.local_sums import KERNELS, everywhere, fixed_order_sum, window_kernel, window_sum
from medmi.threads import one_thread

SHAPES = [(2, 1, 11), (1, 2, 7, 4), (1, 1, 5, 6, 3)]


def random(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64)


@pytest.mark.parametrize("size", [3, 5, 9])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_window_is_scipys(shape, kernel, size):
    values, weights = random(shape), window_kernel(kernel, size)
    expected = values.numpy()
    for axis in range(2, len(shape)):
        expected = ndimage.correlate1d(expected, weights.numpy(), axis, mode="constant")
    np.testing.assert_allclose(window_sum(values, weights), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shape", SHAPES)
def test_derivatives_of_windows(shape, kernel):
    values, weights = random(shape).requires_grad_(), window_kernel(kernel, 5)
    assert torch.autograd.gradcheck(lambda x: window_sum(x, weights), values)
    assert torch.autograd.gradgradcheck(lambda x: window_sum(x * x, weights), values)


@pytest.mark.parametrize("stretch", [8, 4096])
@pytest.mark.parametrize("count", [1, 7, 8, 9, 8 * 9, 8 * 8 * 8 + 3, 40_005])
def test_sums_over_all_voxels(count, stretch, monkeypatch):
    monkeypatch.setattr("medmi.losses.local_sums.STRETCH", stretch)
    values = random((2, 1, count))
    with one_thread():
        alone = fixed_order_sum(values)
    assert torch.equal(fixed_order_sum(values), alone)
    expected = [[math.fsum(row.tolist())] for row in values[:, 0]]
    np.testing.assert_allclose(alone, expected, rtol=0, atol=1e-12 * count)


def test_derivatives_of_sums_and_of_what_is_repeated():
    values, rows = random((2, 3, 4, 5)).requires_grad_(), random((2, 3)).requires_grad_()
    assert torch.autograd.gradcheck(fixed_order_sum, values)
    assert torch.autograd.gradgradcheck(lambda x: fixed_order_sum(x * x), values)
    assert torch.autograd.gradcheck(lambda x: everywhere(x, torch.Size((2, 3, 4, 5))), rows)
    assert torch.autograd.gradgradcheck(lambda x: everywhere(x * x, torch.Size((2, 3, 4, 5))), rows)
