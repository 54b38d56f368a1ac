"""Sources: images of many patients on one grid, centred, so that training can stack and pose them.

Words: a *source* is an image on the *source grid*, whose origin is the middle of the patient's fixed image; its *box*
is the part of the grid that the image really covers; beyond it the edge voxels go on. The *scaled* intensity runs
from 0 to 1 between the 0.5 and 99.5 percentiles.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from monai.data import MetaTensor
from torch import Tensor

from medmi.grid import Grid
from medmi.simulation.noise import gaussian_blur
from medmi.simulation.tissue import relative_range
from medmi.spatial.replicate import resample_replicated
from medmi.validation import InputError

__all__ = ["Source", "block_means", "centred_grid", "scaled", "slices_of", "source_of"]

BLUR = 0.4
LEAST_SPREAD = 0.05


@dataclass(frozen=True)
class Source:
    """Aligned scaled images of one patient on the source grid.

    Attributes:
        fixed: ``(*source)`` float32.
        moving: the other modality, ``(*source)``; None where it is to be simulated.
        low, high: the box's first voxel along each axis, and one beyond its last.
    """

    fixed: Tensor
    moving: Tensor | None
    low: tuple[int, ...]
    high: tuple[int, ...]

    def pair(self) -> tuple[Tensor, Tensor]:
        """Both images.

        Raises:
            InputError: the moving one is missing.
        """
        if self.moving is None:
            raise InputError("source: has no moving image; give one or simulate it")
        return self.fixed, self.moving


def centred_grid(shape: tuple[int, ...], spacing: float) -> Grid:
    """Isotropic voxels along the world axes, with the world's origin in the middle.

    >>> centred_grid((4, 5), 2.0).centre.tolist()
    [0.0, 0.0]
    """
    affine = torch.eye(len(shape) + 1, dtype=torch.float64) * spacing
    affine[-1, -1] = 1
    affine[:-1, -1] = -spacing * (torch.tensor(shape, dtype=torch.float64) - 1) / 2
    return Grid(shape, affine)


def scaled(voxels: Tensor) -> Tensor:
    """Values ``(*spatial)`` mapped to 0..1 between the 0.5 and 99.5 percentiles, and cut off there."""
    low, high = relative_range(voxels)
    return ((voxels.float() - low) / (high - low)).clamp(0, 1)


def source_of(fixed: MetaTensor, moving: MetaTensor | None, grid: Grid) -> Source:
    """A patient's images on the source grid.

    Args:
        fixed: ``(1, *spatial)``.
        moving: ``(1, *spatial)`` on a grid of its own in the same world; None where it is to be simulated.
        grid: the source grid; its origin is laid on the middle of the fixed image.

    Raises:
        InputError: several channels, values that are not finite, or a dimension other than the grid's.
    """
    own = checked_grid(fixed, "fixed", grid)
    shift = torch.eye(grid.spatial_dims + 1, dtype=torch.float64)
    shift[:-1, -1] = own.centre
    other = None if moving is None else _on_grid(moving, checked_grid(moving, "moving", grid), shift, grid)
    half = (own.corners - own.centre).abs().amax(0) + own.affine[:-1, :-1].abs().sum(1) / 2
    ends = torch.stack([grid.world_to_index(-half), grid.world_to_index(half)])
    size = torch.tensor(grid.shape)
    low = ends[0].ceil().long().clamp(torch.zeros_like(size), size - 1)
    high = (ends[1].floor().long() + 1).minimum(size).maximum(low + 1)
    return Source(_on_grid(fixed, own, shift, grid), other, tuple(low.tolist()), tuple(high.tolist()))


def slices_of(source: Source) -> list[Source]:
    """The 2D sources of a 3D one, along its last axis within the box, but for those that show next to nothing."""
    found = []
    for place in range(source.low[-1], source.high[-1]):
        fixed = source.fixed[..., place]
        if float(fixed.std()) < LEAST_SPREAD:
            continue
        moving = None if source.moving is None else source.moving[..., place]
        found.append(Source(fixed, moving, source.low[:-1], source.high[:-1]))
    return found


def block_means(image: Tensor, size: int) -> Tensor:
    """Means ``(*spatial / size)`` over blocks of an image ``(*spatial)``.

    >>> block_means(torch.arange(8.0).reshape(2, 4), 2).tolist()
    [[2.5, 4.5]]
    """
    for axis in range(image.ndim):
        image = image.unflatten(axis, (-1, size)).mean(axis + 1)
    return image


def checked_grid(image: MetaTensor, role: str, grid: Grid) -> Grid:
    """The image's own grid, or an error where it cannot be a source on ``grid``."""
    if image.shape[0] != 1 or image.ndim - 1 != grid.spatial_dims:
        raise InputError(f"{role}: shape {tuple(image.shape)} came; (1, *spatial) in {grid.spatial_dims}D is asked")
    if not bool(torch.isfinite(image.as_tensor()).all()):
        raise InputError(f"{role}: holds values that are not finite; replace them first")
    return Grid.of(image)


def _on_grid(image: MetaTensor, own: Grid, shift: Tensor, grid: Grid) -> Tensor:
    """Scaled, smoothed where the grid is coarser, and resampled once."""
    voxels = scaled(image.as_tensor().detach().cpu()[0])
    sigmas = [BLUR * ratio if ratio > 1.2 else 0.0 for ratio in _ratios(own, grid)]
    smooth = gaussian_blur(voxels, sigmas)
    return resample_replicated(smooth[None, None], own, shift[None], grid)[0, 0].contiguous()


def _ratios(own: Grid, grid: Grid) -> list[float]:
    """How many voxels of an image one step of the grid spans, along each of the image's axes."""
    steps = own.inverse[:-1, :-1] @ grid.affine[:-1, :-1]
    return steps.abs().amax(1).tolist()
