"""Resampling of batches at poses, with the edge voxels going on outside: what training pairs and networks see.

Words: a *source* is an image ``(B, C, *source)`` on a grid of its own; a *pose* is a world matrix from the seen grid
to the source's.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from medmi.grid import Grid
from medmi.validation import InputError

__all__ = ["resample_replicated"]


def resample_replicated(source: Tensor, source_grid: Grid, poses: Tensor, grid: Grid) -> Tensor:
    """The sources at ``pose(x)`` for every voxel centre x of a grid, by linear interpolation.

    Outside the source its edge voxels go on, so that no rim of zeros tells a pose.

    Args:
        source: ``(B, C, *source_grid.shape)``, any floating type.
        source_grid: where the sources lie.
        poses: ``(B, d + 1, d + 1)``, grid world to source world; applied with projective division.
        grid: where the result lies.

    Returns:
        ``(B, C, *grid.shape)`` float32; differentiable in sources and poses. The matrices are multiplied in float64.

    Raises:
        InputError: shapes that do not fit the grids or each other.

    >>> grid = Grid((2, 3), torch.eye(3))
    >>> shift = torch.eye(3)[None].clone()
    >>> shift[0, 1, 2] = 1.5
    >>> resample_replicated(torch.tensor([[[[0.0, 1.0, 2.0]] * 2]]), grid, shift, grid)[0, 0, 0].tolist()
    [1.5, 2.0, 2.0]
    """
    d = grid.spatial_dims
    if source.ndim != d + 2 or tuple(source.shape[2:]) != source_grid.shape:
        raise InputError(f"source: shape {tuple(source.shape)} came; (B, C, *{source_grid.shape}) is asked by its grid")
    if tuple(poses.shape) != (len(source), d + 1, d + 1):
        raise InputError(f"poses: shape {tuple(poses.shape)} came; {(len(source), d + 1, d + 1)} is asked")
    device = source.device
    to_index = source_grid.inverse.to(device) @ poses.to(device).double() @ grid.affine.to(device)
    axes = [torch.arange(size, dtype=torch.float64, device=device) for size in grid.shape]
    lattice = torch.stack([*torch.meshgrid(*axes, indexing="ij"), torch.ones(grid.shape, device=device)], -1)
    seen = lattice.reshape(-1, d + 1).to(to_index) @ to_index.mT
    index = (seen[..., :-1] / seen[..., -1:]).reshape(len(source), *grid.shape, d)
    unit = source_grid.index_to_unit(index).float()
    return functional.grid_sample(source.float(), unit, mode="bilinear", padding_mode="border", align_corners=True)
