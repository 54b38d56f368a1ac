"""Pyramid levels of a problem, lifted to 3D arrays, and the points that are drawn from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from medmi.grid import Grid
from medmi.registration import kernels_cpu
from medmi.registration.problem import Side
from medmi.spatial.pyramid import shrink, shrink_factors

Array = np.ndarray
RANGE_PERCENTILES = (0.5, 99.9)
RANGE_VOXELS = 60_000
NO_MASK = np.zeros((0, 0, 0), np.uint8)


@dataclass(frozen=True)
class Volume:
    """One image at one level, lifted to 3D.

    Attributes:
        voxels: ``(C, X, Y, Z)`` float32, contiguous; Z = 1 in 2D.
        mask: ``(X, Y, Z)`` uint8, or empty where all voxels count.
        to_world: ``(4, 4)`` index to world.
        low, high: ``(C,)`` robust range of the values that count.
    """

    voxels: Array
    mask: Array
    to_world: Array
    low: Array
    high: Array

    @cached_property
    def moments(self) -> tuple[Array, Array]:
        """Means and variances ``(C,)`` of all voxels, float64."""
        rows = self.voxels.reshape(len(self.voxels), -1)
        return rows.mean(1, dtype=np.float64), rows.var(1, dtype=np.float64)


def lift(matrix: torch.Tensor) -> Array:
    """A ``(d + 1, d + 1)`` matrix as 4x4: in 2D the third axis maps to itself."""
    if matrix.shape[-1] == 4:
        return matrix.double().numpy()
    out = np.eye(4)
    keep = [0, 1, 3]
    out[np.ix_(keep, keep)] = matrix.double().numpy()
    return out


def lower(matrix: Array, spatial_dims: int) -> torch.Tensor:
    """Inverse of :func:`lift`."""
    keep = [0, 1, 3] if spatial_dims == 2 else [0, 1, 2, 3]
    return torch.from_numpy(np.ascontiguousarray(matrix[np.ix_(keep, keep)]))


def pyramid(side: Side, spacings: list[float]) -> list[Volume]:
    """The side at each spacing (mm, from coarse to fine); each level is averaged from the finer one."""
    image, grid, mask = side.image, side.grid, side.mask
    volumes = []
    for spacing in reversed(spacings):
        image, grid, mask = _shrunk(image, grid, mask, spacing)
        volumes.append(_volume(image, grid, mask))
    return volumes[::-1]


def _shrunk(
    image: torch.Tensor, grid: Grid, mask: torch.Tensor | None, spacing: float
) -> tuple[torch.Tensor, Grid, torch.Tensor | None]:
    factors = shrink_factors(grid, spacing)
    if max(factors) == 1:
        return image, grid, mask
    if mask is None:
        return *shrink(image, grid, factors), None
    # Blocks at the rim of the mask average the voxels inside it alone.
    share, _ = shrink(mask.float().unsqueeze(0), grid, factors)
    total, small = shrink(image * mask, grid, factors)
    kept = share[0] > 0.5
    return total / share.clamp_min(1e-6), small, kept if bool(kept.any()) else share[0] > 0


def _volume(image: torch.Tensor, grid: Grid, mask: torch.Tensor | None) -> Volume:
    flat = grid.spatial_dims == 2
    voxels = np.ascontiguousarray((image.unsqueeze(-1) if flat else image).numpy())
    inside = (
        NO_MASK
        if mask is None
        else np.ascontiguousarray((mask.unsqueeze(-1) if flat else mask).numpy().astype(np.uint8))
    )
    low, high = robust_range(voxels, inside)
    return Volume(voxels, inside, lift(grid.affine), low, high)


def robust_range(voxels: Array, mask: Array) -> tuple[Array, Array]:
    """Percentiles ``(C,)`` of a regular subsample inside the mask; the full range where they coincide."""
    rows = voxels.reshape(len(voxels), -1)
    if mask.size:
        rows = rows[:, mask.ravel() > 0]
    seen = rows[:, :: max(1, rows.shape[1] // RANGE_VOXELS)]
    low, high = np.percentile(seen, RANGE_PERCENTILES, axis=1)
    empty = low >= high
    low, high = np.where(empty, rows.min(1), low), np.where(empty, rows.max(1), high)
    return low.astype(np.float32), np.where(high > low, high, low + 1).astype(np.float32)


@dataclass(frozen=True)
class Drawn:
    """Points of the fixed image: ``points (N, 3)`` world mm, ``values (N, C)``."""

    points: Array
    values: Array


FOREGROUND = 0.4


def draw(volume: Volume, count: int, rng: np.random.Generator, foreground: float = FOREGROUND) -> Drawn:
    """Draw points of a fixed level: stratified along memory, jittered within a voxel.

    A share ``foreground`` of them goes by gradient magnitude, capped at its own 80th percentile; the rest is spread evenly, so that flat
    regions keep theirs.
    """
    return draw_from(volume, chances(volume, foreground), count, rng)


def draw_from(volume: Volume, cumulative: Array, count: int, rng: np.random.Generator) -> Drawn:
    """:func:`draw` with the :func:`chances` at hand, for one who draws often."""
    heights = (np.arange(count) + rng.random(count)) * (cumulative[-1] / count)
    index = np.empty((count, 3), np.float32)
    kernels_cpu.pick(cumulative, heights, rng.random((count, 3)) - 0.5, volume.voxels.shape[1:], index)
    values = np.empty((1, count, len(volume.voxels)), np.float32)
    inside = np.empty((1, count), np.uint8)
    kernels_cpu.sample(
        volume.voxels, NO_MASK, np.eye(4)[None], index, values, np.empty((0, 0, 0, 0), np.float32), inside
    )
    world = index.astype(np.float64) @ volume.to_world[:3, :3].T + volume.to_world[:3, 3]
    return Drawn(world, values[0])


def chances(volume: Volume, foreground: float) -> Array:
    """Cumulative chance of each voxel to be drawn, ``(X Y Z,)`` float64, in the order of memory."""
    return np.cumsum(_weights(volume, foreground), dtype=np.float64)


def _weights(volume: Volume, foreground: float) -> Array:
    steepness = np.zeros(volume.voxels.shape[1:], np.float32)
    scale = 1 / (volume.high - volume.low)
    for channel, low, high, s in zip(volume.voxels, volume.low, volume.high, scale):
        clipped = np.clip(channel, low, high)
        for axis, size in enumerate(clipped.shape):
            if size > 1:
                step = np.abs(np.diff(clipped, axis=axis)) * s
                head, tail = [slice(None)] * 3, [slice(None)] * 3
                head[axis], tail[axis] = slice(0, -1), slice(1, None)
                steepness[tuple(head)] += step
                steepness[tuple(tail)] += step
    weights = steepness.ravel()
    if volume.mask.size:
        weights = weights * volume.mask.ravel()
    seen = weights[weights > 0]
    if len(seen) == 0:
        return np.ones_like(weights) if not volume.mask.size else volume.mask.ravel().astype(np.float32)
    weights = np.minimum(weights, np.percentile(seen[:: max(1, len(seen) // RANGE_VOXELS)], 80))
    kept = np.ones_like(weights) if not volume.mask.size else volume.mask.ravel().astype(np.float32)
    return weights / weights.sum() * foreground + kept / kept.sum() * (1 - foreground)
