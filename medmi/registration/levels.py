"""Pyramid levels of a problem, lifted to 3D arrays with their axes along the world's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from nibabel.orientations import inv_ornt_aff, io_orientation

from medmi.grid import Grid
from medmi.registration import drawing_cpu, histogram_cpu, kernels_cpu
from medmi.registration.companding import companding
from medmi.registration.problem import Side
from medmi.spatial.pyramid import shrink, shrink_factors

Array = np.ndarray
RANGE_PERCENTILES = (0.5, 99.9)
RANGE_VOXELS = 60_000
CURVE_VOXELS = 20_000
NO_MASK, NO_PAIRS = np.zeros((0, 0, 0), np.uint8), np.zeros((0, 0, 0))


@dataclass(frozen=True)
class Volume:
    """One image at one level, lifted to 3D.

    Attributes:
        voxels: ``(C, X, Y, Z)`` float32, contiguous; Z = 1 in 2D.
        mask: ``(X, Y, Z)`` uint8, or empty where all voxels count.
        to_world: ``(4, 4)`` index to world.
        low, high: ``(C,)`` robust range of the values that count.
        threads: how many share what is made of it; the results do not depend on it.
    """

    voxels: Array
    mask: Array
    to_world: Array
    low: Array
    high: Array
    threads: int = 1

    @cached_property
    def pairs(self) -> Array:
        """The voxels as points are looked up in them."""
        return kernels_cpu.paired(self.voxels, self.threads)

    @cached_property
    def mask_pairs(self) -> Array:
        """The mask likewise, or empty."""
        return kernels_cpu.paired(self.mask) if self.mask.size else NO_PAIRS

    @property
    def extent(self) -> float:
        """Volume of the voxels that count, mm^3, of a plane times 1 mm."""
        count = int(self.mask.sum()) if self.mask.size else self.voxels[0].size
        return count * abs(float(np.linalg.det(self.to_world[:3, :3])))

    @cached_property
    def moments(self) -> tuple[Array, Array]:
        """Means and variances ``(C,)`` of all voxels, float64."""
        rows = self.voxels.reshape(len(self.voxels), -1)
        return rows.mean(1, dtype=np.float64), rows.var(1, dtype=np.float64)

    @cached_property
    def companded(self) -> Array:
        """The voxels along the curve of :mod:`~medmi.registration.companding`, from 0 to 1, ``(C, X, Y, Z)`` float32."""
        seen, out = subsample(counted(self.voxels, self.mask), CURVE_VOXELS), np.empty_like(self.voxels)
        for row, some, low, high, placed in zip(self.voxels, seen, self.low, self.high, out):
            curve = companding((some - low) / (high - low)).astype(np.float32)
            histogram_cpu.compand(row, low, high, curve, placed, self.threads)
        return out

    @cached_property
    def steepness(self) -> Array:
        """Steps of the companded voxels to their neighbours, summed over axes and channels, ``(X, Y, Z)`` float32; 0 outside the mask."""
        out = np.empty(self.voxels.shape[1:], np.float32)
        out.fill(0)  # of NumPy's zeroed arrays every page costs a fault; its large empty ones come in huge pages
        for channel in self.companded:
            drawing_cpu.steepen(channel, out, self.threads)
        return out * self.mask if self.mask.size else out


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


def pyramid(side: Side, spacings: list[float], threads: int = 1) -> list[Volume]:
    """The side at each spacing (mm, from coarse to fine); each level is averaged from the finer one."""
    side = _canonical(side)
    image, grid, mask = side.image, side.grid, side.mask
    volumes = []
    for spacing in reversed(spacings):
        image, grid, mask = _shrunk(image, grid, mask, spacing)
        volumes.append(_volume(image, grid, mask, threads))
    return volumes[::-1]


def _canonical(side: Side) -> Side:
    """The side with its axes in the world's order and direction, as far as exchanging and turning them round can bring them.

    However a file stores an image, the same blocks are averaged then and the same points drawn.
    """
    axes = io_orientation(side.grid.affine.numpy())
    order = [int(k) for k in np.argsort(axes[:, 0])]
    turned = [place for place, k in enumerate(order) if axes[k, 1] < 0]

    def brought(image: torch.Tensor) -> torch.Tensor:
        lead = image.ndim - len(order)
        moved = image.permute(*range(lead), *(lead + k for k in order))
        if not turned:
            return moved
        # NumPy's large arrays come in huge pages, torch's cost a fault for each small one.
        return torch.from_numpy(np.array(np.flip(moved.numpy(), tuple(lead + k for k in turned)), order="K"))

    image, mask = brought(side.image), None if side.mask is None else brought(side.mask)
    affine = side.grid.affine.numpy() @ inv_ornt_aff(axes, side.grid.shape)
    return Side(image, Grid(image.shape[1:], torch.from_numpy(affine)), mask)


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


def _volume(image: torch.Tensor, grid: Grid, mask: torch.Tensor | None, threads: int) -> Volume:
    flat = grid.spatial_dims == 2
    voxels = np.ascontiguousarray((image.unsqueeze(-1) if flat else image).numpy())
    inside = (
        NO_MASK
        if mask is None
        else np.ascontiguousarray((mask.unsqueeze(-1) if flat else mask).numpy().astype(np.uint8))
    )
    low, high = robust_range(voxels, inside)
    return Volume(voxels, inside, lift(grid.affine), low, high, threads)


def counted(voxels: Array, mask: Array) -> Array:
    """The values ``(C, N)`` inside the mask, if any."""
    rows = voxels.reshape(len(voxels), -1)
    return rows[:, mask.ravel() > 0] if mask.size else rows


def subsample(rows: Array, most: int) -> Array:
    """Evenly spaced columns of ``rows (C, N)``, fewer than twice as many as asked."""
    return rows[:, :: max(1, rows.shape[1] // most)]


def percentiles(rows: Array, percents: Sequence[float]) -> Array:
    """NumPy's percentiles ``(P, C)`` of finite ``rows (C, N)``, float64: whole vectors sort in a fifth of the time of its selection."""
    ordered, places = np.sort(rows, axis=1), np.array(percents) / 100 * (rows.shape[1] - 1)
    below = places.astype(int)
    low, high = ordered[:, below], ordered[:, np.minimum(below + 1, rows.shape[1] - 1)]
    return (low + (places - below) * (high - low)).T


def robust_range(voxels: Array, mask: Array) -> tuple[Array, Array]:
    """Percentiles ``(C,)`` of a regular subsample inside the mask; the full range where they coincide."""
    rows = counted(voxels, mask)
    low, high = percentiles(subsample(rows, RANGE_VOXELS), RANGE_PERCENTILES)
    empty = low >= high
    if empty.any():
        low, high = np.where(empty, rows.min(1), low), np.where(empty, rows.max(1), high)
    return low.astype(np.float32), np.where(high > low, high, low + 1).astype(np.float32)
