"""Normalised cross-correlation as losses: of whole images, and within windows."""

from __future__ import annotations

import torch
from monai.utils import LossReduction

from medmi.losses.base import DenseLoss
from medmi.losses.local_sums import fixed_order_sum, standardised, window_kernel, window_sum

FLAT_WINDOW = 1e-5
"""Least variance of a window, relative to its image's: a flatter one takes this, and so counts as uncorrelated."""


class NormalizedCrossCorrelationLoss(DenseLoss):
    """Minus Pearson's correlation: from -1 (one image is a positive gain and an offset of the other) to 1 (a negative
    gain).

    0 where the images are uncorrelated or one is constant, which has zero gradient.

    Args:
        reduction: ``"mean"``, ``"sum"`` or ``"none"`` (one value for each sample and channel, ``(B, C)``).

    >>> x = torch.arange(6.0).reshape(1, 1, 2, 3)
    >>> round(float(NormalizedCrossCorrelationLoss()(x, 100 + 3 * x)), 6)
    -1.0
    """

    def measure(self, pred: torch.Tensor, target: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """Minus the correlation inside."""
        product = standardised(pred, inside) * standardised(target, inside)
        return -fixed_order_sum(product) / fixed_order_sum(inside.double())


class LocalNormalizedCrossCorrelationLoss(DenseLoss):
    """Minus the squared correlation within windows, averaged over them: from -1 (in each a gain and an offset) to 0
    (uncorrelated).

    As MONAI's loss of this name, which it equals in the interior, with these differences: windows end at the border
    and at the mask rather than reach into zeros, so that gain and offset change nothing anywhere; a window is flat
    relative to its image's variance rather than to a fixed number; constant images score 0; ``"triangular"`` is a
    triangle of any size. Windows centred inside the mask are averaged.

    Args:
        kernel_size: voxels along each side of a window, odd, 3 or more.
        kernel_type: ``"rectangular"``, ``"triangular"`` or ``"gaussian"`` (sigma a third of the size).
        reduction: ``"mean"``, ``"sum"`` or ``"none"`` (one value for each sample and channel, ``(B, C)``).

    Raises:
        InputError: an option cannot be used.
    """

    def __init__(
        self,
        kernel_size: int = 9,
        kernel_type: str = "rectangular",
        reduction: LossReduction | str = LossReduction.MEAN,
    ) -> None:
        super().__init__(reduction)
        self.kernel_size = kernel_size
        self.register_buffer("kernel", window_kernel(kernel_type, kernel_size), persistent=False)

    def measure(self, pred: torch.Tensor, target: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """Minus the mean squared local correlation inside."""
        first, second = (standardised(image, inside).to(image) for image in (pred, target))
        squared = local_squared_correlation(first, second, inside, torch.as_tensor(self.kernel))
        return -fixed_order_sum((squared * inside).double()) / fixed_order_sum(inside.double())


def local_squared_correlation(
    x: torch.Tensor, y: torch.Tensor, inside: torch.Tensor, kernel: torch.Tensor
) -> torch.Tensor:
    """Squared correlation of x and y over the part of each voxel's window that is inside, ``(B, C, *spatial)``, from
    0 to 1.

    Args:
        x: standardised image, zero outside, ``(B, C, *spatial)``.
        y: likewise.
        inside: one where voxels count and zero elsewhere.
        kernel: weights of the window along one axis.
    """
    mass = window_sum(inside, kernel).clamp_min(float(kernel.min()) ** (x.ndim - 2) / 2)
    mean_x, mean_y = window_sum(x, kernel) / mass, window_sum(y, kernel) / mass
    cross = window_sum(x * y, kernel) / mass - mean_x * mean_y
    var_x = (window_sum(x * x, kernel) / mass - mean_x**2).clamp_min(FLAT_WINDOW)
    var_y = (window_sum(y * y, kernel) / mass - mean_y**2).clamp_min(FLAT_WINDOW)
    return cross * cross / (var_x * var_y)
