"""From surfaces to voxels: a grid walked in blocks, layers laid over one another, a smooth gain."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import torch

from medmi.grid import Grid
from medmi.simulation.anatomy import TISSUES, Layer
from medmi.simulation.shapes import Box, Points, Waves

BLOCK = 32
AXIAL_PLANE_MM = 8.0
GAIN_WAVELENGTHS_MM = (180.0, 320.0)


def blocks(grid: Grid) -> Iterator[tuple[tuple[slice, ...], Points]]:
    """The grid cut into blocks small enough for a processor's cache: where each lies, and its world points.

    A 2D grid lies in the axial plane z = ``AXIAL_PLANE_MM``.
    """
    for corner in itertools.product(*(range(0, size, BLOCK) for size in grid.shape)):
        block = tuple(slice(start, min(start + BLOCK, size)) for start, size in zip(corner, grid.shape, strict=True))
        yield block, block_points(grid, block)


def block_points(grid: Grid, block: tuple[slice, ...]) -> Points:
    """World coordinates of a block's voxel centres, float32, summed axis by axis."""
    dims = grid.spatial_dims
    x, y = (world_coordinate(grid, block, world) for world in range(2))
    return (x, y, world_coordinate(grid, block, 2) if dims == 3 else torch.full_like(x, AXIAL_PLANE_MM))


def world_coordinate(grid: Grid, block: tuple[slice, ...], world: int) -> torch.Tensor:
    """One world coordinate of a block's voxel centres."""
    total = grid.affine[world, -1].float()
    for axis, extent in enumerate(block):
        along = torch.arange(extent.start, extent.stop, dtype=torch.float64) * grid.affine[world, axis]
        total = total + along.float().reshape([-1 if a == axis else 1 for a in range(len(block))])
    return total


def enclosing_box(points: Points, margin: float) -> Box:
    """Lowest and highest of each coordinate, ``margin`` mm further out."""
    return tuple((float(p.min()) - margin, float(p.max()) + margin) for p in points)


def paint(layers: Iterable[Layer], canvas: torch.Tensor, values: torch.Tensor, edge: float) -> None:
    """Lay each layer's value over the canvas, in place.

    Args:
        layers: tissue and distance in mm, outermost first.
        canvas: ``(...)`` float32, as the points of the layers.
        values: one a tissue, in the order of ``TISSUES``.
        edge: mm over which a surface fades from 0 to 1, half on either side; 0 for a step.
    """
    for tissue, distance in layers:
        weight = (distance < 0).float() if edge == 0 else distance.div(-edge).add_(0.5).clamp_(0, 1)
        canvas.lerp_(values[TISSUES.index(tissue)], weight)


def multiply_gain(image: torch.Tensor, grid: Grid, bias: float, generator: torch.Generator) -> None:
    """Multiply by ``exp(bias * h)`` in place; h is a random smooth field of world points between -1 and 1."""
    field = Waves.random(3, GAIN_WAVELENGTHS_MM, generator)
    if bias == 0:
        return
    largest = sum(field.amplitudes)
    for block, points in blocks(grid):
        image[block] *= torch.exp(field.value(points) * (bias / largest))
