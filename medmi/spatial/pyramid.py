"""Pyramids: images shrunk by block averaging to a spacing in mm, each axis by its own factor."""

from __future__ import annotations

import torch
from torch.nn import functional

from medmi.grid import Grid


def shrink_factors(grid: Grid, spacing: float, least: int = 8) -> tuple[int, ...]:
    """Voxels to average along each axis so that the step comes nearest ``spacing`` mm, at least ``least`` voxels being left.

    >>> shrink_factors(Grid((64, 64, 20), torch.diag(torch.tensor([1.0, 1.0, 4.0, 1.0]))), 4.0)
    (4, 4, 1)
    """
    wanted = [round(spacing / float(s)) for s in grid.spacing]
    return tuple(max(1, min(w, size // least)) for w, size in zip(wanted, grid.shape))


def shrink(image: torch.Tensor, grid: Grid, factors: tuple[int, ...]) -> tuple[torch.Tensor, Grid]:
    """Means of blocks of ``factors`` voxels; what does not fill a block at the far end is left out.

    Args:
        image: ``(C, *spatial)``, floating point.
        grid: its grid.
        factors: block size along each axis.

    Returns:
        The smaller image and the grid of its block centres.
    """
    if all(f == 1 for f in factors):
        return image, grid
    pool = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}[len(factors)]
    order = memory_order(image)
    pooled = pool(image.permute(order).contiguous(), [factors[k - 1] for k in order[1:]])
    small = pooled.permute([order.index(k) for k in range(len(order))])
    block = torch.tensor(factors, dtype=torch.float64)
    step = torch.diag(torch.cat([block, torch.ones(1, dtype=torch.float64)]))
    step[:-1, -1] = (block - 1) / 2
    return small, Grid(small.shape[1:], grid.affine @ step)


def memory_order(image: torch.Tensor) -> list[int]:
    """Axes of ``(C, *spatial)``, the channel first and then as memory holds them.

    Readers of x-fastest files give permuted views: permuted back, they can be worked on without a copy of the whole image.

    >>> memory_order(torch.zeros(1, 4, 3, 2).permute(0, 3, 2, 1))
    [0, 3, 2, 1]
    """
    strides = image.stride()
    return [0, *sorted(range(1, image.ndim), key=lambda k: -strides[k])]
