"""Losses of voxels and neighbourhoods keep the contract."""

from __future__ import annotations

import pytest

from medmi.losses import (
    CorrelationOfLinearCombinationLoss,
    LocalNormalizedCrossCorrelationLoss,
    ModalityIndependentDescriptorLoss,
    NormalizedCrossCorrelationLoss,
)
from tests.contracts.losses import LossContract


class TestNormalizedCrossCorrelation(LossContract):
    lowest, highest = -1.0, 1.0

    def make(self, reduction="mean"):
        return NormalizedCrossCorrelationLoss(reduction)


class TestLocalNormalizedCrossCorrelation(LossContract):
    pointwise = False
    lowest, highest = -1.0, 0.0

    def make(self, reduction="mean"):
        return LocalNormalizedCrossCorrelationLoss(kernel_size=5, reduction=reduction)


class TestModalityIndependentDescriptor(LossContract):
    pointwise = False
    lowest, highest = 0.0, 1.0

    def make(self, reduction="mean"):
        return ModalityIndependentDescriptorLoss(radius=1, dilation=1, reduction=reduction)


class TestCorrelationOfLinearCombination(LossContract):
    symmetric = False
    pointwise = False
    lowest, highest = -1.0, 0.0

    def make(self, reduction="mean"):
        return CorrelationOfLinearCombinationLoss(kernel_size=5, reduction=reduction)


@pytest.mark.parametrize("make", [LocalNormalizedCrossCorrelationLoss, CorrelationOfLinearCombinationLoss])
@pytest.mark.parametrize("size", [4, 1, 2.5])
def test_refuses_windows_without_a_centre(make, size):
    with pytest.raises(ValueError, match="kernel_size"):
        make(kernel_size=size)
