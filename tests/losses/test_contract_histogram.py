"""Losses that are functions of the joint histogram keep the contract, in each window."""

from __future__ import annotations

import math

from medmi.losses import (
    LinearizedMutualInformationLoss,
    MutualInformationLoss,
    NormalizedMutualInformationLoss,
    TotalVariationInformationLoss,
)
from tests.contracts.losses import LossContract

WIDE = (-0.1, 1.1)


class TestMutualInformation(LossContract):
    lowest, highest = -math.log(32), 1e-12

    def make(self, reduction="mean"):
        return MutualInformationLoss(reduction=reduction)

    def smooth(self):
        return MutualInformationLoss(num_bins=6, value_range=WIDE)


class TestMutualInformationBspline(LossContract):
    lowest, highest = -math.log(32), 1e-12

    def make(self, reduction="mean"):
        return MutualInformationLoss(window="bspline", reduction=reduction)

    def smooth(self):
        return MutualInformationLoss(num_bins=6, window="bspline", value_range=WIDE)


class TestMutualInformationGaussian(LossContract):
    lowest, highest = -math.log(32), 1e-12

    def make(self, reduction="mean"):
        return MutualInformationLoss(window="gaussian", reduction=reduction)

    def smooth(self):
        return MutualInformationLoss(num_bins=6, window="gaussian", value_range=WIDE)


class TestNormalizedMutualInformation(LossContract):
    lowest, highest = -2.0, -1.0

    def make(self, reduction="mean"):
        return NormalizedMutualInformationLoss(reduction=reduction)

    def smooth(self):
        return NormalizedMutualInformationLoss(num_bins=6, value_range=WIDE)


class TestTotalVariationInformation(LossContract):
    lowest, highest = -(1 - 1 / 32), 0.0

    def make(self, reduction="mean"):
        return TotalVariationInformationLoss(reduction=reduction)

    def smooth(self):
        return TotalVariationInformationLoss(num_bins=6, value_range=WIDE)


class TestLinearizedMutualInformation(LossContract):
    lowest, highest = 0.0, 1.0

    def make(self, reduction="mean"):
        return LinearizedMutualInformationLoss(reduction=reduction)

    def smooth(self):
        return LinearizedMutualInformationLoss(num_bins=6, value_range=WIDE)


class TestExactLinearizedMutualInformation(LossContract):
    lowest, highest = 0.0, 1.0

    def make(self, reduction="mean"):
        return LinearizedMutualInformationLoss(exact=True, reduction=reduction)

    def smooth(self):
        return LinearizedMutualInformationLoss(num_bins=6, value_range=WIDE, exact=True)
