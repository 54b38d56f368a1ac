"""What all metrics of medmi share with MONAI's: values of each batch are kept, ``aggregate`` reduces them."""

from __future__ import annotations

from abc import ABC

import torch
from monai.metrics import CumulativeIterationMetric
from monai.metrics.utils import do_metric_reduction
from monai.utils import MetricReduction

from medmi.validation import InputError, choose

REDUCTIONS = {row.value: row for row in MetricReduction}


class CumulativeMetric(CumulativeIterationMetric, ABC):
    """Base of the metrics: call it with ``(y_pred, y)`` for every batch, then ``aggregate()``, then ``reset()``.

    Both arguments are batch-first tensors or lists of samples without the batch axis, as everywhere in MONAI, and
    ``monai.handlers.IgniteMetricHandler(metric_fn=...)`` attaches any of them to an Ignite engine. Each holds one
    number a sample (and channel), because handlers record only the first of several.

    Args:
        reduction: ``none``, ``mean``, ``sum``, ``mean_batch``, ``sum_batch``, ``mean_channel`` or ``sum_channel``,
            over values that are not NaN.
        get_not_nans: whether ``aggregate`` also gives how many values were not NaN.

    Raises:
        InputError: unknown reduction.
    """

    def __init__(self, reduction: MetricReduction | str = MetricReduction.MEAN, get_not_nans: bool = False) -> None:
        super().__init__()
        self.reduction = choose(str(reduction), REDUCTIONS, "reduction")
        self.get_not_nans = get_not_nans

    def aggregate(
        self, reduction: MetricReduction | str | None = None
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """The reduced values of all batches since the last reset.

        Args:
            reduction: used in place of the constructor's.

        Raises:
            InputError: no batch has come yet, or unknown reduction.
        """
        values = self.get_buffer()
        if values is None:
            raise InputError(f"{type(self).__name__}: there is nothing to aggregate; call it with a batch first")
        row = self.reduction if reduction is None else choose(str(reduction), REDUCTIONS, "reduction")
        reduced, not_nans = do_metric_reduction(values, row)
        return (reduced, not_nans) if self.get_not_nans else reduced
