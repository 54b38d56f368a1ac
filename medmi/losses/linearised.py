"""Linearised mutual information (DeepMI) as a loss, and the exact distance behind it."""

from __future__ import annotations

import torch
from monai.utils import LossReduction

from medmi.information.histogram import JointHistogram, ValueRange
from medmi.losses.base import SimilarityLoss


class LinearizedMutualInformationLoss(SimilarityLoss):
    """The mean share of each voxel pair that falls in different fuzzy bins: 0 (equal on bin centres) to 1 (no bin in
    common).

    Kumar & Behera 2020, Eq. 13: ``(sum of off-diagonal p_ij + sum |p_ii - p_i| + sum |p_ii - p_j|) / 3``. Because
    ``p_ii`` never exceeds ``p_i`` or ``p_j``, each of the three sums is ``1 - trace(p)``, and so is the loss. It is a
    mean over voxels of ``1 - <w(x_n), w(y_n)>``, w being a value's window weights, and so compares values where they
    stand: both images need the same contrast, pairs more than two bins apart have no gradient, and identical images
    keep a floor of ``2 E[m (1 - m)]``, m being the fraction in a cell: 1/3 for uniform fractions, while the image's
    rounding to bin centres scores 1/4. Images of different contrast want
    :class:`~medmi.losses.TotalVariationInformationLoss`.

    With ``exact=True`` the loss is half the mean of ``|w(x_n) - w(y_n)|^2``, zero only where every pair has equal
    weights: the floor of both images is taken off, ``(trace p_xx + trace p_yy) / 2 - trace p_xy``.

    Works on any signal, ``(B, C, length)`` included.

    Args:
        num_bins: bins along each axis, 2 to 1024; 15 as published. More bins see finer differences and reach less
            far.
        window: ``"linear"`` as published, ``"bspline"`` or ``"gaussian"``.
        value_range: as for :class:`~medmi.losses.MutualInformationLoss`.
        exact: the variant without the floor.
        reduction: ``"mean"``, ``"sum"`` or ``"none"`` (one value for each sample and channel, ``(B, C)``).

    Raises:
        InputError: an option cannot be used.

    >>> x = torch.linspace(0, 1, 29).reshape(1, 1, 29)  # every other value halfway between two of 15 bins
    >>> round(float(LinearizedMutualInformationLoss()(x, x)), 4)
    0.2414
    >>> abs(round(float(LinearizedMutualInformationLoss(exact=True)(x, x)), 4))
    0.0
    """

    def __init__(
        self,
        num_bins: int = 15,
        window: str = "linear",
        value_range: ValueRange | None = None,
        exact: bool = False,
        reduction: LossReduction | str = LossReduction.MEAN,
    ) -> None:
        super().__init__(reduction)
        self.histogram = JointHistogram(num_bins, window, value_range)
        self.exact = exact

    def per_channel(self, pred: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Losses ``(B, C)``."""

        def trace(x: torch.Tensor, y: torch.Tensor, *names: str) -> torch.Tensor:
            table = self.histogram(x, y, mask, names=(names[0], names[-1]))
            return table.diagonal(dim1=-2, dim2=-1).sum(-1)

        shared = trace(pred, target, "pred", "target")
        if not self.exact:
            return 1 - shared
        return (trace(pred, pred, "pred") + trace(target, target, "target")) / 2 - shared
