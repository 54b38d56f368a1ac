"""Landmark errors: how far predicted points lie from where they belong, in mm.

Words: a sample has landmarks ``(L, d)`` in world mm; samples with fewer than others in their batch are padded with NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from monai.utils import MetricReduction

from medmi.metrics.base import CumulativeMetric
from medmi.validation import InputError, choose

# Each takes distances (B, L) with NaN for what is missing to (B,), NaN where a sample has none.
STATISTICS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "mean": lambda distances: distances.nanmean(1),
    "median": lambda distances: distances.nanquantile(0.5, dim=1),
    "p95": lambda distances: distances.nanquantile(0.95, dim=1),
    "max": lambda distances: distances.nanquantile(1.0, dim=1),
    "rms": lambda distances: distances.square().nanmean(1).sqrt(),
}


def compute_target_registration_error(predicted: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Distance of each predicted point from its reference, ``|predicted - reference|``, in mm, from 0 (exact) upwards.

    Predicted points are ``T(fixed landmarks)`` and references the moving landmarks, both in world mm. Voxel indices and
    [-1, 1] coordinates give no distances: convert them by ``Grid.index_to_world`` first.

    Args:
        predicted: ``(B, L, d)``, d = 2 or 3.
        reference: of the same shape.

    Returns:
        float64 ``(B, L)``; NaN where either point holds a NaN, the padding of samples with fewer landmarks.

    Raises:
        InputError: the shapes differ, or are not those of points.

    >>> compute_target_registration_error(torch.tensor([[[3.0, 4.0]]]), torch.zeros(1, 1, 2)).tolist()
    [[5.0]]
    """
    if predicted.shape != reference.shape or predicted.ndim != 3 or predicted.shape[-1] not in (2, 3):
        shapes = f"predicted has shape {tuple(predicted.shape)}, reference {tuple(reference.shape)}"
        raise InputError(f"target registration error: {shapes}; (B, L, 2 or 3) is asked of both")
    return (predicted.double() - reference.double()).norm(dim=-1)


def pad_landmarks(samples: Sequence[torch.Tensor]) -> torch.Tensor:
    """Landmarks ``(L_i, d)`` of several samples as one batch ``(B, max L_i, d)``, padded with NaN.

    Raises:
        InputError: no sample, or the samples are not all ``(L_i, d)`` with one d.
    """
    shapes = [tuple(sample.shape) for sample in samples]
    if not samples or any(len(shape) != 2 or shape[1] != shapes[0][-1] for shape in shapes):
        raise InputError(f"pad_landmarks: samples have shapes {shapes}; (L_i, d) with one d is asked of one or more")
    floats = [sample if sample.is_floating_point() else sample.double() for sample in samples]
    return torch.nn.utils.rnn.pad_sequence(floats, batch_first=True, padding_value=torch.nan)


class TargetRegistrationErrorMetric(CumulativeMetric):
    """Target registration error in mm: one statistic of each sample's landmark distances, reduced over samples.

    ``metric(y_pred, y)`` takes predicted and reference points in world mm, ``(B, L, d)`` padded with NaN or lists of
    ``(L_i, d)``. A sample without landmarks counts as NaN and is left out of the reduction. 0 is exact; there is no
    upper end.

    Args:
        statistic: ``mean``, ``median``, ``p95`` (95th percentile), ``max`` or ``rms`` over the landmarks of a sample.
        reduction: over samples, see :class:`~medmi.metrics.base.CumulativeMetric`.
        get_not_nans: whether ``aggregate`` also gives how many samples counted.

    Raises:
        InputError: unknown statistic or reduction; when called, shapes that differ or are not those of points.

    >>> metric = TargetRegistrationErrorMetric("max")
    >>> _ = metric([torch.zeros(2, 3), torch.zeros(1, 3)], [torch.eye(3)[:2] * 2, torch.eye(3)[:1] * 6])
    >>> metric.aggregate().item()
    4.0
    """

    def __init__(
        self,
        statistic: str = "mean",
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(reduction, get_not_nans)
        self.statistic = choose(statistic, STATISTICS, "statistic")

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:  # type: ignore[override]
        """Statistic of each sample, ``(B, 1)``, mm."""
        if y is None:
            raise InputError("y: no reference landmarks came; give points (B, L, d) in world mm")
        return self.statistic(compute_target_registration_error(y_pred, y)).unsqueeze(1)
