"""Spatial transformer: moving images resampled on a grid of its own, differentiable in the images and in the transform.

Words: T maps fixed world points to moving world points, in mm; the *kernel* says how voxels around a point are weighed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from medmi.grid import Grid
from medmi.validation import InputError, choose

TAPS_AT_ONCE = 2**20


@dataclass(frozen=True)
class Gaussian:
    """Width of the Gaussian kernel in voxels: standard deviation, and where it is cut off in standard deviations."""

    sigma: float = 0.8
    cutoff: float = 4.0

    @property
    def reach(self) -> float:
        """Half of the kernel's extent in voxels."""
        return self.sigma * self.cutoff

    @property
    def taps(self) -> int:
        """The most voxels along an axis that it may touch."""
        return math.ceil(2 * self.reach) + 1


Kernel = Callable[[torch.Tensor, torch.Tensor, Grid, Gaussian], torch.Tensor]


class SpatialTransformer(nn.Module):
    """Resamples moving images on the fixed grid, ``out(x) = moving(T(x))``, as ``SimpleITK.Resample`` does.

    Geometry is float64 throughout, voxels keep their own precision; autocast lowers neither.

    Args:
        fixed_grid: where the result lies.
        moving_grid: where the moving images lie; any other shape, spacing, direction and origin of the same dimension.
        kernel: ``nearest`` (halves go up), ``linear``, or ``gaussian``: voxels weighed by the integral of a Gaussian
            over each, ``w_k ~ prod_a [erf((k_a + 1/2 - i_a) / (sqrt 2 sigma)) - erf((k_a - 1/2 - i_a) / (sqrt 2
            sigma))]`` within the cut-off, normalised to sum to 1 (ITK's ``sitkGaussian`` at the default width).
        gaussian: width of the Gaussian kernel; the others ignore it.

    Raises:
        InputError: unknown kernel, grids of unlike dimension, or a width that is not positive.

    >>> fixed, moving = Grid((4, 5), torch.eye(3)), Grid((6, 7), torch.diag(torch.tensor([0.5, 0.5, 1.0])))
    >>> image = moving.points()[..., 0].reshape(1, 1, 6, 7)
    >>> shift = torch.eye(3)[None]
    >>> shift[0, 0, 2] = 0.25
    >>> SpatialTransformer(fixed, moving)(image, shift)[0, 0, :3, 0].float().tolist()
    [0.25, 1.25, 2.25]
    """

    def __init__(
        self, fixed_grid: Grid, moving_grid: Grid, kernel: str = "linear", gaussian: Gaussian | None = None
    ) -> None:
        super().__init__()
        self.kernel = choose(kernel, KERNELS, "kernel")
        self.gaussian = gaussian or Gaussian()
        self.fixed_grid, self.moving_grid = fixed_grid, moving_grid
        if fixed_grid.spatial_dims != moving_grid.spatial_dims:
            raise InputError(
                f"grids: {fixed_grid.spatial_dims}D and {moving_grid.spatial_dims}D; one dimension is asked"
            )
        if not (self.gaussian.sigma > 0 and self.gaussian.cutoff > 0):
            raise InputError(f"gaussian: {self.gaussian}; a positive width and cut-off are asked")

    def forward(self, image: torch.Tensor, transform: torch.Tensor) -> torch.Tensor:
        """Moving images on the fixed grid.

        Args:
            image: ``(B, C, *moving)``; float32 and float64 stay, other types become float32.
            transform: T as world matrices ``(B, d + 1, d + 1)``, applied with projective division, so that
                homographies are exact; or as displacements ``T(x) - x`` in mm, world axes, ``(B, d, *fixed)``.

        Returns:
            ``(B, C, *fixed)``, zero where T(x) lies more than half a voxel outside the moving grid, the value at the
            rim where it lies less. Differentiable in image and (``linear`` and ``gaussian``) in transform.

        Raises:
            InputError: shapes that do not fit the grids or each other.
        """
        self._check(image, transform)
        image = image.as_subclass(torch.Tensor)
        image = image if image.dtype == torch.float64 else image.float()
        index, inside = self._moving_index(transform.as_subclass(torch.Tensor).double())
        with torch.autocast(image.device.type, enabled=False):
            values = self.kernel(image, torch.where(inside, index, 0.0), self.moving_grid, self.gaussian)
        return torch.where(inside, values, 0.0)

    def _moving_index(self, transform: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Moving indices ``(B, d, *fixed)`` of the fixed voxels, and which lie inside ``(B, 1, *fixed)``."""
        d = self.fixed_grid.spatial_dims
        to_world, to_index = (m.to(transform.device) for m in (self.fixed_grid.affine, self.moving_grid.inverse))
        if transform.ndim == 3:
            index, finite = _mapped_lattice(to_index @ transform @ to_world, self.fixed_grid)
        else:
            index, finite = _mapped_lattice((to_index @ to_world)[None], self.fixed_grid)
            index = index + torch.einsum("ij,bj...->bi...", to_index[:-1, :-1], transform)
        size = torch.tensor(self.moving_grid.shape, dtype=torch.float64, device=index.device).view(-1, *[1] * d)
        inside = ((index >= -0.5) & (index < size - 0.5)).all(1, keepdim=True)
        return index, inside & finite

    def _check(self, image: torch.Tensor, transform: torch.Tensor) -> None:
        d = self.fixed_grid.spatial_dims
        if image.ndim != d + 2 or tuple(image.shape[2:]) != self.moving_grid.shape:
            wanted = f"(B, C, {', '.join(map(str, self.moving_grid.shape))})"
            raise InputError(f"image: shape {tuple(image.shape)}; {wanted} on the moving grid is asked")
        batch = len(image)
        if tuple(transform.shape) not in ((batch, d + 1, d + 1), (batch, d, *self.fixed_grid.shape)):
            raise InputError(
                f"transform: shape {tuple(transform.shape)}; matrices {(batch, d + 1, d + 1)} or displacements "
                f"{(batch, d, *self.fixed_grid.shape)} on the fixed grid are asked"
            )


def _mapped_lattice(matrix: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, torch.Tensor]:
    """Index matrices ``(B, d + 1, d + 1)`` applied to all voxels: indices ``(B, d, *shape)``, and which are finite."""
    d = grid.spatial_dims
    mapped = matrix[..., -1].reshape(*matrix.shape[:2], *[1] * d)
    for axis, size in enumerate(grid.shape):
        steps = torch.arange(size, dtype=matrix.dtype, device=matrix.device)
        column = matrix[..., axis, None] * steps
        mapped = mapped + column.reshape(*matrix.shape[:2], *[size if a == axis else 1 for a in range(d)])
    divisor = mapped[:, -1:]
    finite = divisor.abs() > 1e-12
    return mapped[:, :-1] / torch.where(finite, divisor, 1.0), finite


def _interpolated(image: torch.Tensor, index: torch.Tensor, grid: Grid, mode: str) -> torch.Tensor:
    unit = grid.index_to_unit(index.movedim(1, -1)).to(image.dtype)
    return functional.grid_sample(image, unit, mode=mode, padding_mode="border", align_corners=True)


def _nearest(image: torch.Tensor, index: torch.Tensor, grid: Grid, gaussian: Gaussian) -> torch.Tensor:
    return _interpolated(image, (index.detach() + 0.5).floor(), grid, "nearest")


def _linear(image: torch.Tensor, index: torch.Tensor, grid: Grid, gaussian: Gaussian) -> torch.Tensor:
    return _interpolated(image, index, grid, "bilinear")


def _gaussian(image: torch.Tensor, index: torch.Tensor, grid: Grid, gaussian: Gaussian) -> torch.Tensor:
    """Weighted means, some points at a time; the weights are computed again in the backward pass, not kept."""
    chunk = max(1, TAPS_AT_ONCE // gaussian.taps**grid.spatial_dims)
    samples = []
    for channels, points in zip(image.flatten(2), index.flatten(2)):
        parts = [
            checkpoint(_weighted_mean, channels, part, grid.shape, gaussian, use_reentrant=False)
            for part in points.split(chunk, dim=1)
        ]
        samples.append(torch.cat(parts, 1))
    return torch.stack(samples).reshape(*image.shape[:2], *index.shape[2:])


def _weighted_mean(
    channels: torch.Tensor, points: torch.Tensor, shape: tuple[int, ...], gaussian: Gaussian
) -> torch.Tensor:
    """Kernel means ``(C, N)`` of voxels ``(C, prod(shape))`` around indices ``(d, N)``."""
    place = torch.zeros(points.shape[1], 1, dtype=torch.long, device=points.device)
    weight = torch.ones(points.shape[1], 1, dtype=channels.dtype, device=points.device)
    for centre, size in zip(points, shape):
        taps, weights = _axis_weights(centre, size, gaussian)
        place = (place[:, :, None] * size + taps[:, None]).flatten(1)
        weight = (weight[:, :, None] * weights[:, None].to(channels.dtype)).flatten(1)
    values = channels.index_select(1, place.flatten()).reshape(len(channels), *place.shape)
    return (values * weight).sum(-1)


def _axis_weights(centre: torch.Tensor, size: int, gaussian: Gaussian) -> tuple[torch.Tensor, torch.Tensor]:
    """Voxels ``(N, taps)`` around indices ``(N,)`` of one axis and weights, 0 beyond cut-off and rim, of sum 1."""
    middle = centre.detach() + 0.5
    steps = torch.arange(gaussian.taps, dtype=centre.dtype, device=centre.device)
    taps = (middle - gaussian.reach).floor()[:, None] + steps
    kept = (taps >= 0) & (taps < size) & (taps < (middle + gaussian.reach).ceil()[:, None])
    edge = (taps - centre[:, None] - 0.5) / (math.sqrt(2) * gaussian.sigma)
    weights = torch.erf(edge + 1 / (math.sqrt(2) * gaussian.sigma)) - torch.erf(edge)
    weights = torch.where(kept, weights, 0.0)
    return taps.clamp(0, size - 1).long(), weights / weights.sum(1, keepdim=True)


KERNELS: dict[str, Kernel] = {"nearest": _nearest, "linear": _linear, "gaussian": _gaussian}
