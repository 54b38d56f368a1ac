"""The modern variant of the registration networks: a tenth of the parameters, images of any size, the same interface.

Words: a *stage* is a residual block of two convolutions that halves every axis; *cells* are the parts of each axis
over which the last stage is averaged before it is flattened.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn

from medmi.networks.registration import HIDDEN, PairGenerator, PairScorer, check_spatial, checked_size
from medmi.validation import InputError

__all__ = ["ModernRegistrationDiscriminator", "ModernRegistrationGenerator"]

WIDTHS = (16, 32, 64, 128)
CELLS = 4
SLOPE = 0.2


class ModernRegistrationGenerator(PairGenerator):
    """Strided residual stages with instance norm, then averages over a coarse grid of cells and two linear layers.

    Args:
        spatial_dims: 2 or 3.
        image_size: voxels along each axis that images must have; None: any, more than ``2 ** len(widths)``.
        transform: family of the transform.
        widths: channels after the stem (one strided convolution) and after each stage.
        cells: parts of each axis that are told apart: 1 is global pooling, 4 keeps where things are, which
            translations need.

    Raises:
        InputError: another dimension or family, images too small, a count under 1.

    >>> network = ModernRegistrationGenerator(2)
    >>> [network(torch.rand(1, 1, n, 40), torch.rand(1, 1, n, 40)).shape[1] for n in (32, 57)]
    [3, 3]
    """

    def __init__(
        self,
        spatial_dims: int,
        image_size: int | Sequence[int] | None = None,
        transform: str = "rigid",
        widths: Sequence[int] = WIDTHS,
        cells: int = CELLS,
    ) -> None:
        super().__init__(_Strided(spatial_dims, image_size, widths, cells, True), spatial_dims, transform)


class ModernRegistrationDiscriminator(PairScorer):
    """The layers of :class:`ModernRegistrationGenerator` without norm, which would couple a critic's gradient penalty.

    Args:
        spatial_dims: 2 or 3.
        image_size: voxels along each axis that images must have; None: any, more than ``2 ** len(widths)``.
        widths: channels after the stem and after each stage.
        cells: parts of each axis that are told apart; 1 is global pooling.
        sigmoid: as for :class:`medmi.networks.registration.RegistrationDiscriminator`.

    Raises:
        InputError: another dimension, images too small, a count under 1.
    """

    def __init__(
        self,
        spatial_dims: int,
        image_size: int | Sequence[int] | None = None,
        widths: Sequence[int] = WIDTHS,
        cells: int = CELLS,
        sigmoid: bool = False,
    ) -> None:
        super().__init__(_Strided(spatial_dims, image_size, widths, cells, False), sigmoid)


class _Strided(nn.Module):
    """``(B, 2, *spatial)`` to ``(B, HIDDEN)``."""

    def __init__(
        self,
        spatial_dims: int,
        image_size: int | Sequence[int] | None,
        widths: Sequence[int],
        cells: int,
        instance_norm: bool,
    ) -> None:
        super().__init__()
        # A size of 1 for each axis is never used: it has the dimension checked where any size goes.
        size = checked_size(spatial_dims, 1 if image_size is None else image_size)
        for name, count in (("widths", min(widths, default=0)), ("cells", cells)):
            if count < 1:
                raise InputError(f"{name}: {count!r} came; at least 1 is asked")
        # One voxel is left of less, which instance norm cannot take.
        self.spatial_dims, self.cells, self.least = spatial_dims, cells, 2 ** len(widths) + 1
        self.image_size = None if image_size is None else size
        if self.image_size is not None:
            self._check_least(self.image_size)
        stem = Conv[Conv.CONV, spatial_dims](2, widths[0], 3, stride=2, padding=1)
        stages = [_Stage(spatial_dims, a, b, instance_norm) for a, b in pairwise(widths)]
        self.layers = nn.Sequential(stem, nn.LeakyReLU(SLOPE), *stages)
        self.linear = nn.Linear(widths[-1] * cells**spatial_dims, HIDDEN)

    def forward(self, pair: Tensor) -> Tensor:
        if pair.ndim != self.spatial_dims + 2:
            raise InputError(f"fixed, moving: {pair.ndim - 2}D images came; this network is {self.spatial_dims}D")
        if self.image_size is not None:
            check_spatial(pair, self.image_size)
        self._check_least(pair.shape[2:])
        x = cell_means(self.layers(pair), self.cells)
        return nn.functional.leaky_relu(self.linear(x.flatten(1)), SLOPE)

    def _check_least(self, size: Sequence[int]) -> None:
        if min(size) < self.least:
            raise InputError(f"image_size: {tuple(size)} came; at least {self.least} voxels along each axis are asked")


class _Stage(nn.Module):
    """Two convolutions, the first strided, added to a strided one of kernel 1."""

    def __init__(self, spatial_dims: int, before: int, after: int, instance_norm: bool) -> None:
        super().__init__()
        convolution = Conv[Conv.CONV, spatial_dims]

        def norm() -> nn.Module:
            return Norm[Norm.INSTANCE, spatial_dims](after, affine=True) if instance_norm else nn.Identity()

        self.residual = nn.Sequential(
            convolution(before, after, 3, stride=2, padding=1),
            norm(),
            nn.LeakyReLU(SLOPE),
            convolution(after, after, 3, padding=1),
            norm(),
        )
        self.shortcut = convolution(before, after, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.leaky_relu(self.residual(x) + self.shortcut(x), SLOPE)


def cell_means(x: Tensor, cells: int) -> Tensor:
    """Means over ``cells`` parts of each spatial axis, ``(B, C, cells, ...)``, as adaptive average pooling takes them.

    Products with averaging matrices, because the gradient of PyTorch's pooling adds up in no fixed order on a GPU.
    """
    for axis in range(2, x.ndim):
        size = x.shape[axis]
        place = torch.arange(size, device=x.device)
        start = torch.arange(cells, device=x.device) * size // cells
        stop = ((torch.arange(cells, device=x.device) + 1) * size + cells - 1) // cells
        inside = ((place >= start[:, None]) & (place < stop[:, None])).to(x.dtype)
        average = inside / inside.sum(1, keepdim=True)
        x = (x.movedim(axis, -1) @ average.T).movedim(-1, axis)
    return x
