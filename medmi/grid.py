"""Grid: where the voxels of an image are; the only owner of coordinate conversion.

Words: *index* is the continuous voxel index in tensor-axis order, voxel centres at integers; *world* is RAS+ mm; *unit* is the
[-1, 1] coordinate of ``torch.nn.functional.grid_sample`` with ``align_corners=True``, in its own reversed axis order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from medmi.image import AnyImage
from medmi.validation import InputError


@dataclass(frozen=True, eq=False)
class Grid:
    """Shape and affine (index -> world) of a regular, possibly oblique or sheared lattice of voxels.

    Args:
        shape: voxels along each tensor axis, two or three of them.
        affine: ``(d + 1, d + 1)`` matrix from index to world, kept as float64. For ``d = 2`` a 4x4 matrix is accepted and reduced
            to the first two axes.

    Raises:
        InputError: the shape is not 2D or 3D, has an empty axis, or the affine is not finite and invertible.

    >>> g = Grid((4, 3), [[2.0, 0, 10], [0, 1, 20], [0, 0, 1]])
    >>> g.index_to_world(torch.tensor([1.0, 2.0])).tolist()
    [12.0, 22.0]
    """

    shape: tuple[int, ...]
    affine: torch.Tensor
    inverse: torch.Tensor = field(init=False, repr=False)

    def __init__(self, shape: Sequence[int], affine: torch.Tensor | Sequence[Sequence[float]]) -> None:
        shape = tuple(int(s) for s in shape)
        if len(shape) not in (2, 3) or min(shape) < 1:
            raise InputError(f"Grid: shape {shape} is not that of a 2D or 3D image")
        matrix = square_affine(torch.as_tensor(affine, dtype=torch.float64).detach().cpu().clone(), len(shape))
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", matrix)
        object.__setattr__(self, "inverse", torch.linalg.inv(matrix))

    @classmethod
    def of(cls, image: AnyImage) -> Grid:
        """The grid of an image ``(C, *spatial)``."""
        return cls(image.shape[1:], torch.as_tensor(image.affine))

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return len(self.shape)

    @property
    def spacing(self) -> torch.Tensor:
        """Distance in mm between neighbours along each tensor axis, ``(d,)``."""
        return self.affine[:-1, :-1].norm(dim=0)

    @property
    def centre(self) -> torch.Tensor:
        """World point in the middle of the lattice, ``(d,)``."""
        return self.index_to_world((torch.tensor(self.shape, dtype=torch.float64) - 1) / 2)

    @property
    def corners(self) -> torch.Tensor:
        """World points of the outermost voxel centres, ``(2 ** d, d)``."""
        ends = [torch.tensor([0.0, s - 1.0], dtype=torch.float64) for s in self.shape]
        return self.index_to_world(torch.cartesian_prod(*ends))

    def index_to_world(self, index: torch.Tensor) -> torch.Tensor:
        """Continuous indices ``(..., d)`` to world mm ``(..., d)``."""
        return apply_affine(self.affine, index)

    def world_to_index(self, points: torch.Tensor) -> torch.Tensor:
        """World mm ``(..., d)`` to continuous indices ``(..., d)``."""
        return apply_affine(self.inverse, points)

    def index_to_unit(self, index: torch.Tensor) -> torch.Tensor:
        """Continuous indices to ``grid_sample``'s [-1, 1], axes reversed; a one-voxel axis maps to 0."""
        size = torch.tensor(self.shape, dtype=index.dtype, device=index.device)
        return torch.where(size > 1, 2 * index / (size - 1).clamp_min(1) - 1, index * 2).flip(-1)

    def unit_to_index(self, unit: torch.Tensor) -> torch.Tensor:
        """Inverse of :meth:`index_to_unit`."""
        size = torch.tensor(self.shape, dtype=unit.dtype, device=unit.device)
        back = unit.flip(-1)
        return torch.where(size > 1, (back + 1) * (size - 1) / 2, back / 2)

    def points(self) -> torch.Tensor:
        """World points of all voxel centres, ``(*shape, d)``, float64."""
        axes = [torch.arange(s, dtype=torch.float64) for s in self.shape]
        return self.index_to_world(torch.stack(torch.meshgrid(*axes, indexing="ij"), -1))

    def contains(self, points: torch.Tensor) -> torch.Tensor:
        """Which world points ``(..., d)`` lie between the outermost voxel centres, bool ``(...)``."""
        index = self.world_to_index(points)
        size = torch.tensor(self.shape, dtype=index.dtype, device=index.device)
        return ((index >= 0) & (index <= size - 1)).all(-1)

    def same_as(self, other: Grid, tolerance: float = 1e-3) -> bool:
        """Whether both have one shape and no voxel centre further apart than ``tolerance`` mm."""
        return self.shape == other.shape and bool((self.corners - other.corners).norm(dim=-1).max() <= tolerance)


def square_affine(affine: torch.Tensor, spatial_dims: int) -> torch.Tensor:
    """The affine as ``(d + 1, d + 1)``: a 4x4 one of a 2D image loses its third axis; a bad one raises InputError."""
    if spatial_dims == 2 and affine.shape == (4, 4):
        affine = affine[[0, 1, 3]][:, [0, 1, 3]]
    n = spatial_dims + 1
    if affine.shape != (n, n):
        raise InputError(f"Grid: affine has shape {tuple(affine.shape)}; {(n, n)} is asked for {spatial_dims}D")
    linear = affine[:-1, :-1]
    if not bool(torch.isfinite(affine).all()):
        raise InputError("Grid: affine holds values that are not finite; mend the image's header")
    scale = linear.norm(dim=0)
    if bool((scale == 0).any()) or abs(float(torch.linalg.det(linear / scale))) < 1e-6:
        raise InputError("Grid: affine is singular, its axes do not span space; mend the image's header")
    return affine


def apply_affine(matrix: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """``M x + t`` for points ``(..., d)``, in the wider of the two precisions."""
    dtype = torch.promote_types(matrix.dtype, points.dtype)
    m = matrix.to(device=points.device, dtype=dtype)
    return points.to(dtype) @ m[:-1, :-1].mT + m[:-1, -1]
