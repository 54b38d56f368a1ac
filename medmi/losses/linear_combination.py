"""Correlation of linear combination (LC2): ultrasound explained by another image's intensity and gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from monai.utils import LossReduction

from medmi.losses.base import DenseLoss
from medmi.losses.local_sums import fixed_order_sum, standardised, window_kernel, window_sum
from medmi.validation import InputError, choose

RIDGE = 1e-3
"""Variance added to each explaining term, of images of variance one: where these are flat in a window, they explain
nothing.
"""

ROLES: Mapping[str, int] = MappingProxyType({"pred": 0, "target": 1})


class CorrelationOfLinearCombinationLoss(DenseLoss):
    """Minus the share of ultrasound variance that intensity and gradient magnitude explain: from -1 (all) to 0 (none,
    or constant).

    In the window around each voxel the ultrasound u is fitted by ``alpha p + beta |grad p| + gamma`` in least
    squares, p being the MR or CT image, and the loss is ``-sum explained / sum variance of u`` over windows centred
    inside the mask: a mean of each window's LC2 weighted by its ultrasound's variance. Wein et al. 2008 and Fuerst et
    al. 2014. Not symmetric: the two images have different roles. Windows and gradients end at the border and at the
    mask.

    Args:
        kernel_size: voxels along each side of a window, odd, 3 or more.
        ultrasound: which of the two arguments is ultrasound, ``"target"`` or ``"pred"``.
        spacing: mm between voxels along each axis, for the gradient's magnitude; equal by default.
        reduction: ``"mean"``, ``"sum"`` or ``"none"`` (one value for each sample and channel, ``(B, C)``).

    Raises:
        InputError: an option cannot be used.
    """

    def __init__(
        self,
        kernel_size: int = 9,
        ultrasound: str = "target",
        spacing: Sequence[float] | None = None,
        reduction: LossReduction | str = LossReduction.MEAN,
    ) -> None:
        super().__init__(reduction)
        self.role = choose(ultrasound, ROLES, "ultrasound")
        self.spacing = None if spacing is None else tuple(float(step) for step in spacing)
        if self.spacing is not None and not all(0 < step < float("inf") for step in self.spacing):
            raise InputError(f"spacing: {spacing!r} cannot be used; give a length above zero for each axis")
        self.register_buffer("kernel", window_kernel("rectangular", kernel_size), persistent=False)

    def measure(self, pred: torch.Tensor, target: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """Minus the explained share of variance inside."""
        ultrasound, anatomy = (pred, target) if self.role == 0 else (target, pred)
        spacing = self.spacing or (1.0,) * (pred.ndim - 2)
        if len(spacing) != pred.ndim - 2:
            raise InputError(f"spacing: {len(spacing)} lengths for images with {pred.ndim - 2} spatial axes")
        edges = gradient_magnitude(standardised(anatomy, inside).to(anatomy), inside, spacing)
        u, p, g = (standardised(image, inside).to(image) for image in (ultrasound, anatomy, edges))
        explained, variance = explained_variance(u, p, g, inside, torch.as_tensor(self.kernel))
        total = fixed_order_sum((variance * inside).double())
        varies = total > 0
        return -fixed_order_sum((explained * inside).double()) / torch.where(varies, total, 1.0)


def gradient_magnitude(image: torch.Tensor, inside: torch.Tensor, spacing: Sequence[float]) -> torch.Tensor:
    """Length of the gradient at each voxel inside, from differences between neighbours that are both inside; ``(B, C,
    *spatial)``.
    """
    squared = torch.zeros_like(image)
    for axis, step in enumerate(spacing, start=2):
        both = inside.narrow(axis, 1, inside.shape[axis] - 1) * inside.narrow(axis, 0, inside.shape[axis] - 1)
        rise = image.diff(dim=axis) * both / step
        zero = torch.zeros_like(image.narrow(axis, 0, 1))
        sides = torch.cat([both, zero], axis) + torch.cat([zero, both], axis)
        slope = (torch.cat([rise, zero], axis) + torch.cat([zero, rise], axis)) / sides.clamp_min(1)
        squared = squared + slope * slope
    steep = squared > 0
    return torch.where(steep, torch.where(steep, squared, 1.0).sqrt(), 0.0)


def explained_variance(
    u: torch.Tensor, p: torch.Tensor, g: torch.Tensor, inside: torch.Tensor, kernel: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """In each window, the variance of u that a combination of p, g and a constant explains, and all of it; ``(B, C,
    *spatial)``.

    Args:
        u: standardised image to explain, zero outside.
        p: standardised image that explains it.
        g: another.
        inside: one where voxels count and zero elsewhere.
        kernel: weights of the window along one axis.
    """
    mass = window_sum(inside, kernel).clamp_min(0.5)

    def mean(values: torch.Tensor) -> torch.Tensor:
        return window_sum(values, kernel) / mass

    mean_u, mean_p, mean_g = mean(u), mean(p), mean(g)
    pu, gu, pg = mean(p * u) - mean_p * mean_u, mean(g * u) - mean_g * mean_u, mean(p * g) - mean_p * mean_g
    pp = (mean(p * p) - mean_p**2).clamp_min(0) + RIDGE
    gg = (mean(g * g) - mean_g**2).clamp_min(0) + RIDGE
    uu = (mean(u * u) - mean_u**2).clamp_min(0)
    return (gg * pu * pu - 2 * pg * pu * gu + pp * gu * gu) / (pp * gg - pg * pg).clamp_min(RIDGE**2), uu
