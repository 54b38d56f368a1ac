"""Cross-correlation losses against NumPy, MONAI in the interior, and the invariances MONAI's lacks at the border."""

from __future__ import annotations

import monai.losses
import numpy as np
import pytest
import torch

from medmi.losses import LocalNormalizedCrossCorrelationLoss, NormalizedCrossCorrelationLoss
from medmi.losses.correlation import local_squared_correlation
from medmi.losses.local_sums import fixed_order_sum, window_kernel


def images(*shape, dtype=torch.float64):
    g = torch.Generator().manual_seed(1)
    x = torch.rand(shape, generator=g, dtype=dtype)
    return x, x**2 + torch.rand(shape, generator=g, dtype=dtype)


@pytest.mark.parametrize("shape", [(2, 2, 31), (2, 2, 13, 17), (2, 2, 7, 9, 5)])
def test_global_correlation_is_numpys(shape):
    x, y = images(*shape)
    found = NormalizedCrossCorrelationLoss("none")(x, y)
    for b, c in np.ndindex(2, 2):
        assert float(found[b, c]) == pytest.approx(-np.corrcoef(x[b, c].flatten(), y[b, c].flatten())[0, 1], abs=1e-12)


@pytest.mark.parametrize(("gain", "wanted"), [(0.01, -1.0), (40.0, -1.0), (-3.0, 1.0)])
def test_global_correlation_at_its_ends(gain, wanted):
    x, _ = images(1, 1, 9, 8)
    assert float(NormalizedCrossCorrelationLoss()(x, gain * x - 1000)) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize(
    ("kernel_type", "size"), [("rectangular", 3), ("rectangular", 7), ("gaussian", 5), ("triangular", 5)]
)
@pytest.mark.parametrize("shape", [(2, 1, 31), (2, 1, 21, 23), (1, 1, 13, 15, 14)])
def test_interior_is_monais(kernel_type, size, shape):
    """Up to the rounding of MONAI's kernels, which are float32."""
    x, y = images(*shape)
    theirs = monai.losses.LocalNormalizedCrossCorrelationLoss(
        len(shape) - 2, size, kernel_type, reduction="none", smooth_dr=1e-12
    )
    found = local_squared_correlation(x, y, torch.ones_like(x), window_kernel(kernel_type, size))
    inner = (..., *(slice(size // 2, -(size // 2)),) * (len(shape) - 2))
    torch.testing.assert_close(-theirs(x, y)[inner], found[inner], rtol=0, atol=1e-5)


def test_windows_at_the_border_are_those_of_the_image_alone():
    x, y = images(1, 1, 9, 11)
    found = local_squared_correlation(x, y, torch.ones_like(x), window_kernel("rectangular", 5))
    for i, j in [(0, 0), (0, 5), (8, 10), (1, 3)]:
        patch = (0, 0, slice(max(i - 2, 0), i + 3), slice(max(j - 2, 0), j + 3))
        assert float(found[0, 0, i, j]) == pytest.approx(
            np.corrcoef(x[patch].flatten(), y[patch].flatten())[0, 1] ** 2, rel=1e-9
        )


@pytest.mark.parametrize("kernel_type", ["rectangular", "triangular", "gaussian"])
@pytest.mark.parametrize("gain", [1e-3, -1.0, 700.0])
def test_gain_and_offset_change_nothing_up_to_the_border(kernel_type, gain):
    x, _ = images(1, 1, 24, 24, dtype=torch.float32)
    loss = LocalNormalizedCrossCorrelationLoss(9, kernel_type)
    assert float(loss(x, gain * x + 3 * gain)) == pytest.approx(-1, abs=1e-4)
    assert float(monai.losses.LocalNormalizedCrossCorrelationLoss(2, 9)(x, -x + 3)) > -0.98


def test_constant_images_score_zero():
    x, y = torch.full((1, 1, 24, 24), 0.3), torch.full((1, 1, 24, 24), 0.9)
    for loss in (LocalNormalizedCrossCorrelationLoss(), NormalizedCrossCorrelationLoss()):
        assert float(loss(x, y)) == 0


def test_triangle_of_any_size():
    assert window_kernel("triangular", 3).tolist() == [0.5, 1.0, 0.5]


def test_unknown_kernels_are_refused():
    with pytest.raises(ValueError, match="kernel_type: unknown value 'box'"):
        LocalNormalizedCrossCorrelationLoss(kernel_type="box")


@pytest.mark.parametrize("count", [1, 2, 4095, 4097, 100_001])
def test_fixed_order_sum(count):
    x = torch.rand(2, 3, count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(fixed_order_sum(x), x.sum(2), rtol=1e-13, atol=0)
