"""Dense displacement fields, and maps known only to SimpleITK."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from medmi.frames import flip_affine, flip_points
from medmi.grid import Grid
from medmi.spatial.base import SpatialTransform
from medmi.validation import InputError

if TYPE_CHECKING:
    import SimpleITK as sitk


class DisplacementFieldTransform(SpatialTransform):
    """``T(x) = x + u(x)`` with u interpolated linearly between the voxels of a grid and zero outside it, as in SimpleITK.

    Args:
        grid: where the displacements are.
        displacement: ``(*grid.shape, d)`` in mm, world axes (RAS+), float64.
    """

    def __init__(self, grid: Grid, displacement: torch.Tensor) -> None:
        super().__init__()
        wanted = (*grid.shape, grid.spatial_dims)
        if tuple(displacement.shape) != wanted:
            came = tuple(displacement.shape)
            raise InputError(f"DisplacementFieldTransform: displacement has shape {came}; {wanted} is asked")
        if not bool(torch.isfinite(displacement).all()):
            raise InputError("DisplacementFieldTransform: displacement holds values that are not finite")
        self.grid = grid
        self.register_buffer("displacement", displacement.double())
        self.displacement: torch.Tensor

    @classmethod
    def sampled(cls, transform: SpatialTransform, grid: Grid) -> DisplacementFieldTransform:
        """Any transform as a field, exact at the voxel centres of ``grid``."""
        points = grid.points()
        return cls(grid, transform.points(points) - points)

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return self.grid.spatial_dims

    def points(self, x: torch.Tensor) -> torch.Tensor:
        """Moving world points of fixed world points ``(..., d)``, in mm."""
        d = self.spatial_dims
        index = self.grid.world_to_index(x.double())
        size = torch.tensor(self.grid.shape, dtype=torch.float64, device=x.device)
        inside = ((index >= -0.5) & (index <= size - 0.5)).all(-1, keepdim=True)
        unit = self.grid.index_to_unit(index).reshape(1, -1, *[1] * (d - 1), d)
        field = self.displacement.movedim(-1, 0).unsqueeze(0)
        u = functional.grid_sample(field, unit, mode="bilinear", padding_mode="border", align_corners=True)
        return x + u.reshape(d, -1).T.reshape(x.shape) * inside

    def inverse(self) -> SpatialTransform:
        """The inverse field on the same grid, by fixed-point iteration to 1e-3 mm.

        Raises:
            InputError: the iteration does not converge, as where the field folds.
        """
        points = self.grid.points()
        back = torch.zeros_like(self.displacement)
        for _ in range(200):
            step = points - self.points(points + back)
            back = back + step
            if float(step.abs().max()) < 1e-3:
                return DisplacementFieldTransform(self.grid, back)
        raise InputError("inverse: the displacement field folds or leaves its grid: no inverse field exists on it")

    def folded(self, other: SpatialTransform) -> SpatialTransform | None:
        """None: fields are kept apart in a chain, so that nothing is interpolated twice."""
        return None

    def to_sitk(self, grid: Grid | None = None) -> sitk.Transform:
        """A ``sitk.DisplacementFieldTransform`` in LPS, on the same grid, sheared or not."""
        import SimpleITK as sitk

        d = self.spatial_dims
        vectors = flip_points(self.displacement.cpu()).permute(*reversed(range(d)), d).contiguous()
        image = sitk.GetImageFromArray(vectors.numpy(), isVector=True)
        lps = flip_affine(self.grid.affine)
        spacing = self.grid.spacing
        image.SetSpacing(spacing.tolist())
        image.SetOrigin(lps[:-1, -1].tolist())
        image.SetDirection((lps[:-1, :-1] / spacing).flatten().tolist())
        return sitk.DisplacementFieldTransform(sitk.Cast(image, sitk.sitkVectorFloat64))


class ItkTransform(SpatialTransform):
    """A transform that SimpleITK alone evaluates (B-splines from a file, say): exact, point by point, not differentiable."""

    def __init__(self, transform: sitk.Transform) -> None:
        super().__init__()
        self.transform = transform

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return self.transform.GetDimension()

    def points(self, x: torch.Tensor) -> torch.Tensor:
        """Moving world points of fixed world points ``(..., d)``, in mm."""
        lps = flip_points(x.double()).reshape(-1, self.spatial_dims).tolist()
        mapped = np.array([self.transform.TransformPoint(p) for p in lps])
        return flip_points(torch.from_numpy(mapped)).reshape(x.shape).to(x.device)

    def inverse(self) -> SpatialTransform:
        """ITK's own inverse.

        Raises:
            InputError: ITK knows none.
        """
        try:
            return ItkTransform(self.transform.GetInverse())
        except RuntimeError as error:
            raise InputError(
                f"inverse: ITK has none for {self.transform.GetName()}; sample it as a field first"
            ) from error

    def folded(self, other: SpatialTransform) -> SpatialTransform | None:
        """None: nothing is known of its inside."""
        return None

    def to_sitk(self, grid: Grid | None = None) -> sitk.Transform:
        """The SimpleITK transform itself."""
        return self.transform
