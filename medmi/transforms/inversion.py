"""The inverse of a stored transform where an image needs it: at the voxel centres of the grid it came from.

An inverse field on the field's own grid seldom exists, for displacements do not vanish at its border; asked for point
by point, only points without a preimage lack one. :func:`medmi.spatial.preimage.preimage` refuses those, as it must for
a contour; for an image they are points outside.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from medmi.grid import Grid
from medmi.spatial import DisplacementFieldTransform, LinearTransform, SpatialTransform, chain
from medmi.validation import InputError

MOST_STEPS = 100
TOLERANCE_MM = 1e-3


def inverse_on(parts: Iterable[SpatialTransform], grid: Grid) -> SpatialTransform:
    """The inverse of ``chain(parts)``, exact at the voxel centres of ``grid``.

    Args:
        parts: linear transforms and displacement fields, applied from the last to the first.
        grid: of the points that the chain maps to.

    Raises:
        InputError: a field folds or is too steep to be inverted.
    """
    parts = list(parts)
    if all(isinstance(part, LinearTransform) for part in parts):
        return chain(parts).inverse()
    start = points = grid.points()
    for part in parts:
        points = (
            field_preimages(part, points)
            if isinstance(part, DisplacementFieldTransform)
            else part.inverse().points(points)
        )
    return DisplacementFieldTransform(grid, points - start)


def field_preimages(field: DisplacementFieldTransform, targets: torch.Tensor) -> torch.Tensor:
    """The points x with ``x + u(x) = y`` for points y ``(*any, d)``, to 1e-3 mm, by fixed-point iteration.

    On the way u goes on beyond the grid as it is at the border. A point with no preimage inside the grid is its own
    where it lies outside, since u is zero there, and stays outside the grid where it lies inside.

    Raises:
        InputError: the iteration does not converge.
    """
    grid, size = field.grid, torch.tensor(field.grid.shape, dtype=torch.float64)
    found = targets.clone()
    for _ in range(MOST_STEPS):
        nearest = grid.index_to_world(grid.world_to_index(found).clamp(torch.zeros_like(size), size - 1))
        step = targets - found - (field.points(nearest) - nearest)
        found = found + step
        if float(step.abs().max()) < TOLERANCE_MM:
            return torch.where(_inside(found, grid, size) | _inside(targets, grid, size), found, targets)
    raise InputError("inverse: the displacement field folds or is too steep, so that it has no inverse")


def _inside(points: torch.Tensor, grid: Grid, size: torch.Tensor) -> torch.Tensor:
    index = grid.world_to_index(points)
    return ((index >= -0.5) & (index <= size - 0.5)).all(-1, keepdim=True)
