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
    # A permuted view (as readers of x-fastest files give) is pooled in the order of its memory: no copy of the whole image.
    order = sorted(range(len(factors)), key=lambda k: -image.stride(k + 1))
    stored = image.permute(0, *[k + 1 for k in order])
    pooled = pool(stored.contiguous(), [factors[k] for k in order])
    small = pooled.permute(0, *[order.index(k) + 1 for k in range(len(factors))])
    block = torch.tensor(factors, dtype=torch.float64)
    step = torch.diag(torch.cat([block, torch.ones(1, dtype=torch.float64)]))
    step[:-1, -1] = (block - 1) / 2
    return small, Grid(small.shape[1:], grid.affine @ step)
