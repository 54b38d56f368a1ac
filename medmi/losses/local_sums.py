"""Sums that dense similarity terms are made of: over all voxels in a fixed order, and over windows cut to image and
mask.

Words: *inside* is the mask as numbers, one in and zero out, ``(B, C, *spatial)``; a *window* is the neighbourhood of
a voxel, of which only the part in the image and in the mask counts, so that a mask acts as a crop does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, cast

import torch

from medmi.validation import InputError, choose

FLAT = 1e-24
"""Variance, relative to the mean square, below which an image is constant: far under float32's rounding, far above
float64's.
"""


STRETCH = 4096
"""Values that one thread sums: few enough for torch to leave them together."""


class _FixedOrderSum(torch.autograd.Function):
    """Autograd itself would copy what the derivative repeats."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        ctx.shape = values.shape
        values = values.flatten(2)
        while values.shape[-1] > 1:
            length = min(STRETCH, values.shape[-1])
            whole = values.shape[-1] // length * length
            parts = [values[..., :whole].unflatten(-1, (-1, length)).sum(-1)]
            if whole < values.shape[-1]:
                parts.append(values[..., whole:].sum(-1, keepdim=True))
            values = torch.cat(parts, -1)
        return values.squeeze(-1)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return everywhere(gradient, ctx.shape)


class _Everywhere(torch.autograd.Function):
    """Autograd's own derivative of what is repeated is a sum whose order goes by the number of threads."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        return values.reshape(*values.shape, *[1] * (len(shape) - 2)).expand(shape)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return fixed_order_sum(gradient.double()).to(gradient), None


def fixed_order_sum(values: torch.Tensor) -> torch.Tensor:
    """Sum over all but the first two axes, ``(B, C)``, in an order that does not depend on the number of threads."""
    return cast(torch.Tensor, _FixedOrderSum.apply(values))


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


class _WindowSum(torch.autograd.Function):
    """Shifted copies added up, axis by axis; a kernel that is the same from both ends is its own adjoint."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(kernel)
        middle, *sides = kernel[kernel.numel() // 2 :].tolist()
        for axis in range(2, values.ndim):
            summed = values * middle
            for shift, weight in enumerate(sides[: values.shape[axis] - 1], start=1):
                kept = values.shape[axis] - shift
                for to, of in ((0, shift), (shift, 0)):
                    summed.narrow(axis, to, kept).add_(values.narrow(axis, of, kept), alpha=weight)
            values = summed
        return values

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return window_sum(gradient, *ctx.saved_tensors), None


def window_sum(values: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Sum of ``(B, C, *spatial)`` over the window around each voxel, weighted by the separable kernel, which is the
    same from both ends; nothing lies beyond the image.
    """
    return cast(torch.Tensor, _WindowSum.apply(values, kernel))


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
