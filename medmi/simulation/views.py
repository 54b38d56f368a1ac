"""Views: how a training sample looks at its source image, by turns, shifts, flips, strains and foreground sampling.

Words: a view maps the world of the network's grid to the source's world, in mm; the *foreground* is the voxels
brighter than the image's mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from medmi.grid import Grid
from medmi.spatial.generators import generators
from medmi.spatial.linear import about, linear_matrix
from medmi.validation import InputError

__all__ = ["Share", "Views"]


@dataclass(frozen=True)
class Share:
    """One rank's samples of a batch: draws are made for all ranks, so that their number changes no sample.

    >>> Share(1, 2).kept(torch.arange(6)).tolist(), Share(1, 2).total(3)
    ([1, 3, 5], 6)
    """

    rank: int = 0
    ranks: int = 1

    def total(self, count: int) -> int:
        """Samples of all ranks where each has ``count``."""
        return count * self.ranks

    def kept(self, draws: Tensor) -> Tensor:
        """This rank's rows."""
        return draws[self.rank :: self.ranks]


WHOLE = Share()


@dataclass(frozen=True)
class Views:
    """Random rigid views, each with mirror images and strains where asked.

    A strain makes other patients of one: both images of a pair are stretched alike, so that what brings them together
    stays a motion of the asked family.

    A view brings the middle of the network's grid to the source's middle, moved by ``foreground`` of the way to a
    random foreground voxel and by up to ``mm`` along each axis.

    Attributes:
        degrees: the largest rotation, uniform.
        mm: the largest shift along each axis, uniform.
        foreground: share of the way to a random foreground voxel, 0 to 1.
        flips: whether each axis is mirrored half of the time.
        strain: the largest strain: log-scale, stretches and shears are uniform within the ball of this radius.

    Raises:
        InputError: a negative or non-finite number, or a share above 1.
    """

    degrees: float = 0.0
    mm: float = 0.0
    foreground: float = 0.0
    flips: bool = False
    strain: float = 0.0

    def __post_init__(self) -> None:
        for name in ("degrees", "mm", "foreground", "strain"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0) or (name == "foreground" and value > 1):
                raise InputError(f"{name}: {value!r} came; a finite number from 0, for foreground to 1, is asked")

    def drawn(
        self, fixed: Tensor, source_grid: Grid, grid: Grid, generator: torch.Generator, share: Share = WHOLE
    ) -> Tensor:
        """Views ``(B, d + 1, d + 1)`` float64 of images ``(B, C, *source)``, drawn on the CPU."""
        d = grid.spatial_dims
        if fixed.ndim != d + 2 or tuple(fixed.shape[2:]) != source_grid.shape:
            raise InputError(
                f"fixed: shape {tuple(fixed.shape)} came; (B, C, *{source_grid.shape}) is asked by its grid"
            )
        count = share.total(len(fixed))
        place = torch.rand(count, generator=generator, dtype=torch.float64)
        shift = self.mm * (2 * torch.rand(count, d, generator=generator, dtype=torch.float64) - 1)
        signs = 2.0 * torch.randint(2, (count, d), generator=generator) - 1
        turn = share.kept(_turns(math.radians(self.degrees), count, d, generator))
        if self.flips:
            turn[:, :-1, :-1] *= share.kept(signs)[:, None]
        if self.strain:
            turn = turn @ share.kept(_strains(self.strain, count, d, generator))
        middle = source_grid.centre + share.kept(shift)
        if self.foreground:
            there = _foreground_points(fixed, source_grid, share.kept(place))
            middle += self.foreground * (there - source_grid.centre)
        turn[:, :-1, -1] = middle
        return turn @ about(-grid.centre)


def _turns(largest: float, count: int, d: int, generator: torch.Generator) -> Tensor:
    """Rotations ``(B, d + 1, d + 1)`` about random axes by angles uniform up to the largest, in rad."""
    basis = generators("rigid", d)
    parameters = torch.zeros(count, len(basis), dtype=torch.float64)
    axis = torch.randn(count, len(basis) - d, generator=generator, dtype=torch.float64)
    angle = largest * torch.rand(count, 1, generator=generator, dtype=torch.float64)
    parameters[:, d:] = torch.nn.functional.normalize(axis, dim=1) * angle
    return linear_matrix(parameters, "rigid", d)


def _strains(largest: float, count: int, d: int, generator: torch.Generator) -> Tensor:
    """Matrices ``(B, d + 1, d + 1)`` that stretch and shear about the origin, uniform within a ball of parameters."""
    rigid = len(generators("rigid", d))
    parameters = torch.zeros(count, len(generators("affine", d)), dtype=torch.float64)
    free = parameters.shape[1] - rigid
    direction = torch.randn(count, free, generator=generator, dtype=torch.float64)
    length = largest * torch.rand(count, 1, generator=generator, dtype=torch.float64).pow(1 / free)
    parameters[:, rigid:] = torch.nn.functional.normalize(direction, dim=1) * length
    return linear_matrix(parameters, "affine", d)


def _foreground_points(images: Tensor, grid: Grid, place: Tensor) -> Tensor:
    """World points ``(B, d)`` of the foreground voxels that lie a share ``place`` of the way through all of them."""
    flat = images.detach().cpu().float().mean(1).flatten(1)
    # Where no voxel is brighter than the mean, all are taken.
    bright = (flat > flat.mean(1, keepdim=True)) | (flat.amax(1) == flat.amin(1))[:, None]
    rank = bright.cumsum(1)
    wanted = (place * rank[:, -1]).floor().long()[:, None] + 1
    index = torch.stack(torch.unravel_index(torch.searchsorted(rank, wanted)[:, 0], grid.shape), -1)
    return grid.index_to_world(index.double())
