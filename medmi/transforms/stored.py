"""Spatial transforms as tensors, which is what a pipeline's items can hold.

Words: a *stored* transform is a float64 matrix ``(d + 1, d + 1)`` for a linear transform and a MetaTensor
``(d, *spatial)`` of displacements in mm along the world axes (RAS+) for any other; both collate, travel between
processes and load with ``weights_only=True``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.utils import SpaceKeys

from medmi.grid import Grid
from medmi.registration.inputs import as_transform
from medmi.spatial import Chain, DisplacementFieldTransform, LinearTransform, SpatialTransform


def to_tensor(transform: SpatialTransform, fixed_grid: Grid) -> torch.Tensor:
    """A transform as stored: its matrix, or its displacements.

    Args:
        transform: fixed world to moving world, RAS+ mm.
        fixed_grid: where displacements are sampled, exact at its voxel centres; a field keeps its own grid.

    >>> shift = LinearTransform.from_parameters(torch.tensor([1.0, 2.0]), "translation")
    >>> to_tensor(shift, Grid((4, 3), torch.eye(3))).tolist()
    [[1.0, 0.0, 1.0], [0.0, 1.0, 2.0], [0.0, 0.0, 1.0]]
    """
    if isinstance(transform, LinearTransform):
        return transform.matrix.detach().cpu().clone()
    if not isinstance(transform, DisplacementFieldTransform):
        transform = DisplacementFieldTransform.sampled(transform, fixed_grid)
    field = transform.displacement.detach().cpu().movedim(-1, 0).contiguous()
    return MetaTensor(field, affine=transform.grid.affine.clone(), meta={"space": SpaceKeys.RAS})


def to_transform(value: Any, role: str, fixed_grid: Grid, moving_grid: Grid) -> SpatialTransform:
    """Anything that stands for a spatial transform: stored, a medmi or SimpleITK transform, or a file's path.

    Args:
        value: the transform, fixed world to moving world.
        role: the argument's name, for the message.
        fixed_grid: grid of the fixed image; some files mean nothing without both grids.
        moving_grid: grid of the moving image.

    Raises:
        InputError: none of these, or a file that cannot be read.
    """
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    if isinstance(value, MetaTensor) and value.ndim > 2:
        return _field(value)
    if isinstance(value, torch.Tensor):
        return _linear(value.detach().cpu())
    return as_transform(value, role, fixed_grid, moving_grid)


def to_plain(transform: SpatialTransform, fixed_grid: Grid) -> list[Any]:
    """A transform for the record of an operation: its parts in the chain's order, matrices as nested lists.

    A part that is neither is sampled on the fixed grid as the parts before it map that grid, so that the shift of a
    linear part does not carry it off its samples.
    """
    parts: list[Any] = []
    grid = fixed_grid
    for part in reversed(list(transform) if isinstance(transform, Chain) else [transform]):
        stored = to_tensor(part, grid)
        if isinstance(part, LinearTransform):
            grid = grid if part.family == "homography" else Grid(grid.shape, stored @ grid.affine)
            parts.append(stored.tolist())
        else:
            parts.append(stored)
    return parts[::-1]


def from_plain(parts: list[Any]) -> list[SpatialTransform]:
    """The parts of the chain that :func:`to_plain` stored."""
    return [
        _linear(torch.tensor(part, dtype=torch.float64)) if isinstance(part, list) else _field(part) for part in parts
    ]


def _field(displacements: MetaTensor) -> DisplacementFieldTransform:
    return DisplacementFieldTransform(Grid.of(displacements), displacements.as_tensor().detach().cpu().movedim(0, -1))


def _linear(matrix: torch.Tensor) -> LinearTransform:
    """A matrix with its family told from its last row."""
    matrix = torch.as_tensor(matrix).as_subclass(torch.Tensor).double()
    projective = matrix.ndim == 2 and bool((matrix[-1, :-1] != 0).any() | (matrix[-1, -1] != 1))
    return LinearTransform(matrix, "homography" if projective else "affine")
