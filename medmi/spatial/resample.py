"""Resampling of a moving image on a fixed grid through a transform."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import numpy as np
import scipy
import torch
from torch.nn import functional

from medmi.grid import Grid, apply_affine
from medmi.spatial.base import SpatialTransform
from medmi.spatial.kernels_cpu import resample_through_matrix
from medmi.spatial.linear import LinearTransform, apply_projective
from medmi.validation import choose

SLAB_POINTS = 2**16

Sampler = Callable[[torch.Tensor, Grid], torch.Tensor]


def resample(
    image: torch.Tensor, moving_grid: Grid, transform: SpatialTransform, fixed_grid: Grid, interpolation: str = "linear"
) -> torch.Tensor:
    """The moving image at ``T(x)`` for every voxel centre x of the fixed grid, as ``SimpleITK.Resample`` gives it.

    Args:
        image: moving image ``(C, *moving_grid.shape)``.
        moving_grid: its grid.
        transform: fixed world to moving world, mm.
        fixed_grid: where the result lies.
        interpolation: ``linear``, ``nearest`` or ``bspline`` (cubic).

    Returns:
        float32 ``(C, *fixed_grid.shape)``; zero where T(x) is more than half a voxel outside the moving grid.
    """
    make_sampler = choose(interpolation, INTERPOLATIONS, "interpolation")
    if interpolation == "linear" and isinstance(transform, LinearTransform) and _plain(image, transform.matrix):
        matrix = moving_grid.inverse @ transform.matrix.detach() @ fixed_grid.affine
        return resample_through_matrix(image.detach().float(), matrix, fixed_grid)
    sampler = make_sampler(image.float())
    size = torch.tensor(moving_grid.shape, dtype=torch.float64, device=image.device)
    shape = (image.shape[0], fixed_grid.shape[0], _rest(fixed_grid))
    out = torch.empty(shape, dtype=torch.float32, device=image.device)
    for rows, index in _slabs(transform, fixed_grid, moving_grid, image.device):
        inside = ((index >= -0.5) & (index < size - 0.5)).all(-1)
        values = sampler(index.clamp(torch.full_like(size, -0.5), size - 0.5).nan_to_num(0), moving_grid)
        # Filled, not multiplied: NaN times zero is NaN.
        out[:, rows] = values.masked_fill(~inside, 0).reshape(image.shape[0], -1, out.shape[2])
    return out.reshape(-1, *fixed_grid.shape)


def _plain(*tensors: torch.Tensor) -> bool:
    """Whether all lie in main memory and none asks for a gradient."""
    asked = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    return not asked and all(tensor.device.type == "cpu" for tensor in tensors)


def _rest(grid: Grid) -> int:
    return int(np.prod(grid.shape[1:]))


def _slabs(
    transform: SpatialTransform, fixed_grid: Grid, moving_grid: Grid, device: torch.device
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Moving indices ``(points, d)`` for some rows of the fixed grid at a time: memory stays flat."""
    rest = [torch.arange(s, dtype=torch.float64, device=device) for s in fixed_grid.shape[1:]]
    rows = max(1, SLAB_POINTS // _rest(fixed_grid))
    to_index = _index_map(transform, fixed_grid, moving_grid)
    for start in range(0, fixed_grid.shape[0], rows):
        stop = min(start + rows, fixed_grid.shape[0])
        first = torch.arange(start, stop, dtype=torch.float64, device=device)
        lattice = torch.stack(torch.meshgrid(first, *rest, indexing="ij"), -1).reshape(-1, fixed_grid.spatial_dims)
        yield slice(start, stop), to_index(lattice)


def _index_map(
    transform: SpatialTransform, fixed_grid: Grid, moving_grid: Grid
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Fixed index to moving index; the three matrices of a linear transform are multiplied once."""
    if isinstance(transform, LinearTransform):
        matrix = moving_grid.inverse @ transform.matrix.cpu() @ fixed_grid.affine
        apply = apply_projective if transform.family == "homography" else apply_affine
        return lambda index: apply(matrix, index)
    return lambda index: moving_grid.world_to_index(transform.points(fixed_grid.index_to_world(index)))


def _linear_sampler(image: torch.Tensor) -> Sampler:
    def sample(index: torch.Tensor, grid: Grid) -> torch.Tensor:
        d = grid.spatial_dims
        unit = grid.index_to_unit(index).float().reshape(1, -1, *[1] * (d - 1), d)
        values = functional.grid_sample(
            image.unsqueeze(0), unit, mode="bilinear", padding_mode="border", align_corners=True
        )
        return values.reshape(image.shape[0], -1)

    return sample


def _nearest_sampler(image: torch.Tensor) -> Sampler:
    flat = image.reshape(image.shape[0], -1)

    def sample(index: torch.Tensor, grid: Grid) -> torch.Tensor:
        # Half-way points go up, as in ITK; grid_sample rounds them to even.
        voxel = (index + 0.5).floor().long()
        at = voxel[:, 0].clamp(0, grid.shape[0] - 1)
        for axis, size in enumerate(grid.shape[1:], 1):
            at = at * size + voxel[:, axis].clamp(0, size - 1)
        return flat[:, at]

    return sample


def _spline_sampler(image: torch.Tensor) -> Sampler:
    coefficients = [scipy.ndimage.spline_filter(channel.cpu().numpy(), order=3, mode="mirror") for channel in image]

    def sample(index: torch.Tensor, grid: Grid) -> torch.Tensor:
        at = index.T.cpu().numpy()
        values = [scipy.ndimage.map_coordinates(c, at, order=3, mode="mirror", prefilter=False) for c in coefficients]
        return torch.from_numpy(np.stack(values)).to(image)

    return sample


INTERPOLATIONS: Mapping[str, Callable[[torch.Tensor], Sampler]] = MappingProxyType(
    {"linear": _linear_sampler, "nearest": _nearest_sampler, "bspline": _spline_sampler}
)
"""From an image ``(C, *spatial)`` to values ``(C, n)`` at indices ``(n, d)`` not more than half a voxel outside."""
