"""Mutual information of image pairs as metrics: by joint histogram, normalised, and by a neural estimator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from monai.utils import MetricReduction

from medmi.information.entropy import mutual_information, normalized_mutual_information
from medmi.information.estimator import MutualInformationNeuralEstimator
from medmi.information.histogram import JointHistogram, ValueRange
from medmi.metrics.base import CumulativeMetric
from medmi.validation import InputError, check_pair


def compute_mutual_information(
    x: torch.Tensor,
    y: torch.Tensor,
    num_bins: int = 32,
    window: str = "linear",
    mask: torch.Tensor | None = None,
    value_range: ValueRange | None = None,
) -> torch.Tensor:
    """Mutual information of two images' values from their joint histogram, in nat.

    The estimate is biased: coarse bins lower it (a Gaussian pair of correlation 0.8, truth 0.511 nat, gives less the
    fewer the bins), and few voxels raise it by about ``(num_bins - 1)^2 / (2 N)``, what independent images of N
    voxels would score.

    Args:
        x: ``(B, C, *spatial)``, one or more spatial axes.
        y: of the same shape.
        num_bins: bins along each axis, 2 to 1024.
        window: ``linear``, ``bspline`` or ``gaussian``, as of :func:`medmi.information.histogram.joint_histogram`.
        mask: ``(B, 1 or C, *spatial)``; only voxels where it is not zero count.
        value_range: (low, high) for both images, or one such pair for each; the extremes of each sample and channel
            by default.

    Returns:
        float64 ``(B, C)``, from 0 (independent) to the lesser of the two entropies, at most ``ln(num_bins)``.
        Differentiable.

    Raises:
        InputError: shapes disagree, unknown window, bins or range that cannot be used, fewer than two voxels, or NaN.

    >>> x = torch.tensor([0.0, 0.0, 1.0, 1.0]).reshape(1, 1, 4)
    >>> round(compute_mutual_information(x, 3 - x, num_bins=2).item(), 4)
    0.6931
    """
    check_pair("compute_mutual_information", x, y, mask)
    return mutual_information(JointHistogram(num_bins, window, value_range)(x, y, mask))


@dataclass(frozen=True)
class NeuralEstimation:
    """How a neural estimate of mutual information is made.

    Attributes:
        bound: that the critic is trained on, a row of :data:`medmi.information.bounds.BOUNDS`.
        num_samples: voxels drawn from each image, without repetition; all of them where there are fewer.
        seed: of everything random.
    """

    bound: str = "mine"
    num_samples: int = 10_000
    seed: int = 0


def compute_neural_mutual_information(
    x: torch.Tensor, y: torch.Tensor, mask: torch.Tensor | None = None, settings: NeuralEstimation | None = None
) -> torch.Tensor:
    """Mutual information of two images' values by a critic trained for each pair and read on held-out voxels, in nat.

    All channels of a voxel form one vector, so colour or multi-parametric images are taken as they are. Unlike the
    histogram's it has no bins; it takes seconds a pair.

    Args:
        x: ``(B, C, *spatial)``.
        y: ``(B, C or other, *spatial)``.
        mask: ``(B, 1, *spatial)``; only voxels where it is not zero count.
        settings: bound, number of voxels and seed.

    Returns:
        float64 ``(B, 1)``; 0 for independent images, up to sampling noise, with no upper end.

    Raises:
        InputError: shapes disagree, unknown bound, too few voxels, NaN.
    """
    settings = settings or NeuralEstimation()
    if settings.num_samples < 1:
        raise InputError(f"num_samples: {settings.num_samples!r} came; a positive number is asked")
    check_pair("compute_neural_mutual_information", x[:, :1], y[:, :1], mask)
    values = []
    for sample in range(len(x)):
        inside = None if mask is None else mask[sample, 0].flatten() != 0
        first, second = (_voxels(image[sample], inside, settings) for image in (x, y))
        estimator = MutualInformationNeuralEstimator(bound=settings.bound, seed=settings.seed)
        # Evaluation loops switch autograd off, and the critic has to learn inside them.
        with torch.inference_mode(False), torch.enable_grad():
            values.append(estimator.fit(first, second).estimate(first, second).value)
    return torch.tensor(values, dtype=torch.float64, device=x.device).unsqueeze(1)


def _voxels(image: torch.Tensor, inside: torch.Tensor | None, settings: NeuralEstimation) -> torch.Tensor:
    """The same voxels of any image of one shape, ``(N, C)``."""
    rows = image.detach().as_subclass(torch.Tensor).flatten(1).T
    rows = rows if inside is None else rows[inside]
    if len(rows) <= settings.num_samples:
        return rows
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(settings.seed))
    return rows[order[: settings.num_samples].to(rows.device)]


class HistogramMetric(CumulativeMetric, ABC):
    """Base of the metrics that read one number for each sample and channel from a joint histogram.

    ``metric(y_pred, y, mask=None)`` takes ``(B, C, *spatial)`` images; with lists of samples no mask is taken.

    Args:
        num_bins: bins along each axis, 2 to 1024.
        window: ``linear``, ``bspline`` or ``gaussian``.
        value_range: (low, high) for both images, or one such pair for each; the extremes of each sample and channel
            by default.
        reduction: over samples and channels, see :class:`~medmi.metrics.base.CumulativeMetric`.
        get_not_nans: whether ``aggregate`` also gives how many values counted.

    Raises:
        InputError: unknown window or reduction, bins or range that cannot be used; when called, images that do not fit.
    """

    def __init__(
        self,
        num_bins: int = 32,
        window: str = "linear",
        value_range: ValueRange | None = None,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(reduction, get_not_nans)
        self.histogram = JointHistogram(num_bins, window, value_range)

    def _compute_tensor(  # type: ignore[override]
        self, y_pred: torch.Tensor, y: torch.Tensor | None = None, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Score of each sample and channel, ``(B, C)``."""
        if y is None:
            raise InputError("y: no second image came; give one of y_pred's shape")
        check_pair(type(self).__name__, y_pred, y, mask)
        return self.score(self.histogram(y_pred, y, mask))

    @abstractmethod
    def score(self, table: torch.Tensor) -> torch.Tensor:
        """Scores ``(B, C)`` of joint probabilities ``(B, C, bins, bins)``."""


class MutualInformationMetric(HistogramMetric):
    """Mutual information in nat, from 0 (independent) to ``ln(num_bins)``; see :func:`compute_mutual_information`."""

    def score(self, table: torch.Tensor) -> torch.Tensor:
        """``I(x; y)``."""
        return mutual_information(table)


class NormalizedMutualInformationMetric(HistogramMetric):
    """``(H(x) + H(y)) / H(x, y)``, from 1 (independent) to 2 (each image determines the other)."""

    def score(self, table: torch.Tensor) -> torch.Tensor:
        """Normalised mutual information."""
        return normalized_mutual_information(table)


class NeuralMutualInformationMetric(CumulativeMetric):
    """Mutual information of each sample by a neural estimator, in nat; :func:`compute_neural_mutual_information`.

    ``metric(y_pred, y, mask=None)`` takes ``(B, C, *spatial)`` images; with lists of samples no mask is taken.

    Args:
        settings: bound, number of voxels and seed.
        reduction: over samples, see :class:`~medmi.metrics.base.CumulativeMetric`.
        get_not_nans: whether ``aggregate`` also gives how many samples counted.

    Raises:
        InputError: unknown reduction; when called, as :func:`compute_neural_mutual_information`.
    """

    def __init__(
        self,
        settings: NeuralEstimation | None = None,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(reduction, get_not_nans)
        self.settings = settings or NeuralEstimation()

    def _compute_tensor(  # type: ignore[override]
        self, y_pred: torch.Tensor, y: torch.Tensor | None = None, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Estimate of each sample, ``(B, 1)``, nat."""
        if y is None:
            raise InputError("y: no second image came; give one on y_pred's grid")
        return compute_neural_mutual_information(y_pred, y, mask, self.settings)
