"""The problem: two images, their grids and masks, checked once and brought to the form that the solver works on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from medmi.grid import Grid
from medmi.image import AnyImage
from medmi.simulation.noise import gaussian_blur
from medmi.spatial.pyramid import memory_order
from medmi.validation import InputError

# ITU-R BT.601: what an RGB image weighs as grey where only one of the two images has colour.
LUMINANCE = (0.299, 0.587, 0.114)
# Far from the mask nothing is left to average.
LEAST_MASS = 1e-6


@dataclass(frozen=True)
class Side:
    """One image of the pair.

    Attributes:
        image: ``(C, *spatial)`` float32, finite: voxels that were not are 0 and lie outside ``mask``.
        grid: where its voxels are.
        mask: bool ``(*spatial)`` of the voxels that count, or None for all.
    """

    image: torch.Tensor
    grid: Grid
    mask: torch.Tensor | None

    @property
    def voxel(self) -> float:
        """Geometric mean of the spacing, mm."""
        return float(self.grid.spacing.log().mean().exp())


@dataclass(frozen=True)
class Problem:
    """A fixed and a moving side of equal dimension and channel count."""

    fixed: Side
    moving: Side

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return self.fixed.grid.spatial_dims

    def smoothed(self, sigma: float) -> Problem:
        """The problem with a Gaussian of ``sigma`` voxels over the moving image; what its mask leaves out is not mixed in."""
        return replace(self, moving=_smoothed(self.moving, sigma)) if sigma else self


def _smoothed(side: Side, sigma: float) -> Side:
    sigmas = [sigma] * side.grid.spatial_dims
    inside = torch.ones(side.image.shape[1:]) if side.mask is None else side.mask.float()
    mass = gaussian_blur(inside, sigmas).clamp_min(LEAST_MASS)
    return replace(side, image=torch.stack([gaussian_blur(channel * inside, sigmas) / mass for channel in side.image]))


def pose_problem(
    fixed: AnyImage, moving: AnyImage, fixed_mask: AnyImage | None = None, moving_mask: AnyImage | None = None
) -> Problem:
    """Check a pair of images ``(C, *spatial)`` and make a :class:`Problem` of it.

    Raises:
        InputError: 2D against 3D, a one-voxel axis, a constant image or one without finite voxels, a mask that is empty or lies on
            another grid.
    """
    first, second = _side(fixed, fixed_mask, "fixed"), _side(moving, moving_mask, "moving")
    if first.grid.spatial_dims != second.grid.spatial_dims:
        raise InputError(
            f"fixed is {first.grid.spatial_dims}D {first.grid.shape} but moving {second.grid.spatial_dims}D {second.grid.shape}; "
            "both must be 2D or both 3D: extract a slice or choose another file"
        )
    if len(first.image) != len(second.image):
        first, second = (Side(_grey(s.image), s.grid, s.mask) for s in (first, second))
    return Problem(first, second)


def _side(image: AnyImage, mask: AnyImage | None, role: str) -> Side:
    grid = Grid.of(image)
    if min(grid.shape) < 2:
        raise InputError(
            f"{role}: shape {grid.shape} has an axis of one voxel, which no motion can be found along; pass a 2D image or a volume"
        )
    voxels = image.as_tensor().detach().to("cpu", torch.float32)
    inside = None if mask is None else _mask(mask, grid, role)
    low, high = (float(v) for v in torch.aminmax(voxels.permute(memory_order(voxels))))
    if low - low != 0 or high - high != 0:  # NaN or infinity somewhere
        finite = torch.isfinite(voxels)
        voxels = torch.where(finite, voxels, torch.zeros(()))
        inside = finite.all(0) if inside is None else inside & finite.all(0)
        if not bool(inside.any()):
            raise InputError(
                f"{role}: no voxel is finite{'' if mask is None else ' inside its mask'}; the image is broken"
            )
    seen = voxels if inside is None else voxels[:, inside]
    if float(seen.min()) == float(seen.max()) if inside is not None else low == high:
        where = " inside its mask" if mask is not None else ""
        raise InputError(
            f"{role}: every voxel{where} is {float(seen.flatten()[0]):g}; a constant image cannot be aligned"
        )
    return Side(voxels, grid, inside)


def _mask(mask: AnyImage, grid: Grid, role: str) -> torch.Tensor:
    own = Grid.of(mask)
    if not own.same_as(grid):
        raise InputError(
            f"{role}_mask: its grid {own.shape} is not that of the {role} image {grid.shape}; resample the mask onto the image"
        )
    inside = mask.as_tensor().detach().cpu().nan_to_num(0).ne(0).any(0)
    if not bool(inside.any()):
        raise InputError(f"{role}_mask: it is empty; give a mask with voxels inside or none")
    return inside


def _grey(image: torch.Tensor) -> torch.Tensor:
    weights = torch.tensor(LUMINANCE) if len(image) == 3 else torch.full((len(image),), 1 / len(image))
    return torch.einsum("c,c...->...", weights, image).unsqueeze(0) if len(image) > 1 else image
