"""Mutual information from joint histograms, as losses: plain, normalised, and its linear kin in total variation."""

from __future__ import annotations

from abc import abstractmethod

import torch
from monai.utils import LossReduction

from medmi.information.entropy import (
    mutual_information,
    normalized_mutual_information,
    total_variation_information,
)
from medmi.information.histogram import JointHistogram, ValueRange
from medmi.losses.base import SimilarityLoss


class HistogramLoss(SimilarityLoss):
    """A loss that is a function of the joint histogram of each sample and channel.

    Args:
        num_bins: bins along each axis, 2 to 1024.
        window: ``"linear"``, ``"bspline"`` or ``"gaussian"``; see :func:`medmi.information.joint_histogram`.
        value_range: (low, high) for both images or one such pair for each; by default each sample and channel's own
            extremes inside the mask, held constant by autograd.
        reduction: ``"mean"``, ``"sum"`` or ``"none"`` (one value for each sample and channel, ``(B, C)``).

    Raises:
        InputError: an option cannot be used.
    """

    def __init__(
        self,
        num_bins: int = 32,
        window: str = "linear",
        value_range: ValueRange | None = None,
        reduction: LossReduction | str = LossReduction.MEAN,
    ) -> None:
        super().__init__(reduction)
        self.histogram = JointHistogram(num_bins, window, value_range)

    def per_channel(self, pred: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Losses ``(B, C)`` from the joint histograms."""
        return self.measure(self.histogram(pred, target, mask, names=("pred", "target")))

    @abstractmethod
    def measure(self, p: torch.Tensor) -> torch.Tensor:
        """Losses ``(...)`` of joint probabilities ``(..., bins, bins)``."""


class MutualInformationLoss(HistogramLoss):
    """Minus the mutual information of the joint histogram, nat: from -ln(num_bins) (one-to-one) to 0 (independent, or
    constant).

    The histogram's estimate is biased: low, because values within a bin are not told apart and windows blur (a
    Gaussian pair of correlation 0.8, 0.511 nat, gives less with fewer bins), and high by about ``(num_bins - 1)^2 /
    2N`` for N voxels with hard bins. Compare values only at equal bins and voxels. Viola & Wells 1997; windows as in
    Mattes et al. 2003 and Kumar & Behera 2020.

    Args: see :class:`HistogramLoss`.

    >>> x = torch.arange(16.0).reshape(1, 1, 4, 4)
    >>> round(float(MutualInformationLoss(num_bins=16)(x, -x)), 4)  # -ln 16
    -2.7726
    """

    def measure(self, p: torch.Tensor) -> torch.Tensor:
        """Minus mutual information."""
        return -mutual_information(p)


class NormalizedMutualInformationLoss(HistogramLoss):
    """Minus ``(H(x) + H(y)) / H(x, y)``: from -2 (each value determines the other's bin) to -1 (independent, or
    constant).

    Less sensitive than mutual information to how much of the images overlaps. Studholme, Hill & Hawkes 1999.

    Args: see :class:`HistogramLoss`.
    """

    def measure(self, p: torch.Tensor) -> torch.Tensor:
        """Minus normalised mutual information."""
        return -normalized_mutual_information(p)


class TotalVariationInformationLoss(HistogramLoss):
    """Minus ``1/2 sum |p_ij - p_i p_j|``: from -(1 - 1/num_bins) (a uniform one-to-one map of bins) to 0
    (independent, or constant).

    The cross-modality sibling of :class:`LinearizedMutualInformationLoss`: without logarithms as that one is, but
    blind to a relabelling of either image's values, so that it aligns images of different contrasts.

    Args: see :class:`HistogramLoss`.
    """

    def measure(self, p: torch.Tensor) -> torch.Tensor:
        """Minus the total-variation information."""
        return -total_variation_information(p)
