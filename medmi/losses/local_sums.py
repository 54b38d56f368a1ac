"""Sums that dense similarity terms are made of: over all voxels in a fixed order, and over windows cut to image and
mask.

Words: *inside* is the mask as numbers, one in and zero out, ``(B, C, *spatial)``; a *window* is the neighbourhood of
a voxel, of which only the part in the image and in the mask counts, so that a mask acts as a crop does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import cast

import torch
from monai.networks.layers import separable_filtering

from medmi.validation import InputError, choose

FLAT = 1e-24
"""Variance, relative to the mean square, below which an image is constant: far under float32's rounding, far above
float64's.
"""


def fixed_order_sum(values: torch.Tensor) -> torch.Tensor:
    """Sum over all but the first two axes, ``(B, C)``, in an order that does not depend on the number of threads."""
    values = values.flatten(2)
    while values.shape[-1] > 1:
        length = min(4096, values.shape[-1])
        values = torch.nn.functional.pad(values, (0, -values.shape[-1] % length))
        values = values.unflatten(-1, (-1, length)).sum(-1)
    return values.squeeze(-1)


class _Everywhere(torch.autograd.Function):
    """Autograd's own derivative of what is repeated is a sum whose order goes by the number of threads."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, values: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        return values.reshape(*values.shape, *[1] * (len(shape) - 2)).expand(shape)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return fixed_order_sum(gradient.double()).to(gradient), None


def everywhere(values: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """``values (B, C)`` at every voxel of ``shape (B, C, *spatial)``."""
    return cast(torch.Tensor, _Everywhere.apply(values, shape))


def standardised(image: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """The image with mean 0 and variance 1 inside, 0 outside; all 0 where it is constant. float64, so that no sum
    loses digits.
    """
    image, inside = image.double() * inside, inside.double()
    count = fixed_order_sum(inside)
    centred = (image - everywhere(fixed_order_sum(image) / count, image.shape)) * inside
    variance = fixed_order_sum(centred * centred) / count
    varies = variance > FLAT * fixed_order_sum(image * image) / count
    scale = torch.where(varies, torch.where(varies, variance, 1.0).rsqrt(), 0.0)
    return centred * everywhere(scale, image.shape)


def window_sum(values: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Sum of ``(B, C, *spatial)`` over the window around each voxel, weighted by the separable kernel; nothing lies
    beyond the image.
    """
    return separable_filtering(values, [kernel.to(values)] * (values.ndim - 2), mode="zeros")


def _triangle(size: int) -> torch.Tensor:
    return 1 - (torch.arange(size, dtype=torch.float64) - size // 2).abs() / (size // 2 + 1)


def _gaussian(size: int) -> torch.Tensor:
    return torch.exp(-0.5 * ((torch.arange(size, dtype=torch.float64) - size // 2) * 3 / size) ** 2)


KERNELS: Mapping[str, Callable[[int], torch.Tensor]] = MappingProxyType(
    {
        "rectangular": lambda size: torch.ones(size, dtype=torch.float64),
        "triangular": _triangle,
        "gaussian": _gaussian,
    }
)


def window_kernel(kernel_type: str, kernel_size: int) -> torch.Tensor:
    """Weights of a window along one axis, ``(kernel_size,)`` float64; names and shapes are MONAI's.

    Raises:
        InputError: the name is unknown or the size is not an odd whole number of 3 or more.
    """
    row = choose(kernel_type, KERNELS, "kernel_type")
    if not isinstance(kernel_size, int) or kernel_size < 3 or kernel_size % 2 == 0:
        raise InputError(f"kernel_size: {kernel_size!r} cannot be used; give an odd whole number of 3 or more")
    return row(kernel_size)
