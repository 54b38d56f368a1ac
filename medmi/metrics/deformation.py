"""Deformation quality: volume change and folding of a displacement field, and whether two maps undo each other.

Words: a displacement is ``T(x) - x`` in mm along the world's axes; its *Jacobian determinant* is the factor by which T
changes a small volume at x, 1 for a rigid map, 0 or less where T folds space.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from monai.utils import MetricReduction

from medmi.grid import Grid
from medmi.metrics.base import CumulativeMetric
from medmi.metrics.landmarks import STATISTICS as ERROR_STATISTICS
from medmi.spatial.field import DisplacementFieldTransform
from medmi.validation import InputError, choose

Points = Callable[[torch.Tensor], torch.Tensor]

# Each takes determinants (B, N) to (B,).
STATISTICS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "folding": lambda determinants: (determinants <= 0).double().mean(1),
    "min": lambda determinants: determinants.amin(1),
    "max": lambda determinants: determinants.amax(1),
    "mean": lambda determinants: determinants.mean(1),
    "log_std": lambda determinants: determinants.clamp_min(1e-9).log().std(1),
}


def compute_jacobian_determinant(displacement: torch.Tensor, affine: torch.Tensor) -> torch.Tensor:
    """``det(dT/dx)`` of ``T(x) = x + u(x)`` at every voxel, in the world: on oblique and anisotropic grids too.

    With A the linear part of the affine and D the derivative of u along the tensor axes (central differences,
    one-sided at the ends), the chain rule gives ``det(I + D A^-1) = det(A + D) / det A``. Exact where u is linear.

    Args:
        displacement: u ``(B, d, *spatial)`` in mm, world axes; float32, float64, or half, which is widened to float32.
        affine: index to world, ``(d + 1, d + 1)`` for all samples or ``(B, d + 1, d + 1)``.

    Returns:
        ``(B, 1, *spatial)``: 1 keeps volume, 2 doubles it, 0 or less folds. Differentiable.

    Raises:
        InputError: shapes that do not fit, an axis of one voxel, values that are not finite, or a singular affine.

    >>> x = Grid((4, 5), torch.diag(torch.tensor([2.0, 3.0, 1.0]))).points().movedim(-1, 0)[None]
    >>> compute_jacobian_determinant(0.5 * x, torch.diag(torch.tensor([2.0, 3.0, 1.0]))).unique().tolist()
    [2.25]
    """
    d = displacement.ndim - 2
    if d not in (2, 3) or displacement.shape[1] != d or min(displacement.shape[2:]) < 2:
        shape = tuple(displacement.shape)
        raise InputError(
            f"displacement: shape {shape}; (B, d, *spatial) is asked, d = 2 or 3, axes of two voxels or more"
        )
    if not bool(displacement.isfinite().all()):
        raise InputError(
            "displacement: values that are not finite; mend the field, its determinant has no meaning there"
        )
    u = displacement.as_subclass(torch.Tensor)
    u = u.to(torch.promote_types(u.dtype, torch.float32))
    linear = _linear_parts(affine, len(u), d).to(u.device)
    steps = torch.gradient(u, dim=list(range(2, d + 2)))
    columns = [step + linear[:, :, k].reshape(-1, d, *[1] * d).to(u.dtype) for k, step in enumerate(steps)]
    volume = torch.linalg.det(linear).reshape(-1, *[1] * d).to(u.dtype)
    return (_determinant(columns) / volume).unsqueeze(1)


def _linear_parts(affine: torch.Tensor, batch: int, d: int) -> torch.Tensor:
    """Checked linear parts ``(B, d, d)``, float64."""
    affine = torch.as_tensor(affine, dtype=torch.float64).as_subclass(torch.Tensor)
    if affine.shape[-2:] != (d + 1, d + 1) or affine.shape[:-2] not in ((), (batch,)):
        raise InputError(f"affine: shape {tuple(affine.shape)}; {(d + 1, d + 1)} or {(batch, d + 1, d + 1)} is asked")
    linear = affine[..., :-1, :-1].expand(batch, d, d)
    if not bool((torch.linalg.det(linear).abs() > 0).all()):
        raise InputError("affine: singular or not finite; give the grid's matrix from index to world")
    return linear


def _determinant(columns: list[torch.Tensor]) -> torch.Tensor:
    """Leibniz' sum over permutations, of d columns ``(B, d, *spatial)``."""
    total = torch.zeros_like(columns[0][:, 0])
    for order in itertools.permutations(range(len(columns))):
        inversions = sum(a > b for a, b in itertools.combinations(order, 2))
        product = torch.stack([column[:, row] for column, row in zip(columns, order)]).prod(0)
        total = total + (-1) ** inversions * product
    return total


def compute_inverse_consistency(forward: Points, backward: Points, points: torch.Tensor) -> torch.Tensor:
    """``|backward(forward(x)) - x|`` in mm, from 0 (the maps undo each other) upwards.

    Args:
        forward: fixed world points ``(..., d)`` to moving ones, such as ``transform.points``.
        backward: moving world points to fixed ones.
        points: fixed world points x ``(..., d)``, mm.

    Returns:
        float64 ``(...)``.

    >>> compute_inverse_consistency(lambda x: x + 5, lambda x: x - 4, torch.zeros(1, 2)).round(decimals=4).tolist()
    [1.4142]
    """
    x = points.double()
    return (backward(forward(x)).double() - x).norm(dim=-1)


class JacobianDeterminantMetric(CumulativeMetric):
    """One statistic of the Jacobian determinant of each displacement field.

    ``metric(y_pred, y)`` takes displacements ``(B, d, *spatial)`` in mm and the affines ``(B, d + 1, d + 1)`` of
    their grid.

    Args:
        statistic: ``folding``, the fraction of voxels with a determinant of 0 or less, from 0 (a diffeomorphism at this
            resolution) to 1; ``min``, ``max`` and ``mean``, 1 for a rigid map; ``log_std``, the standard deviation of
            its logarithm (floored at 1e-9), 0 for uniform scaling.
        reduction: over samples, see :class:`~medmi.metrics.base.CumulativeMetric`.
        get_not_nans: whether ``aggregate`` also gives how many samples counted.

    Raises:
        InputError: unknown statistic or reduction; when called, as :func:`compute_jacobian_determinant`.
    """

    def __init__(
        self,
        statistic: str = "folding",
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(reduction, get_not_nans)
        self.statistic = choose(statistic, STATISTICS, "statistic")

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:  # type: ignore[override]
        """Statistic of each sample, ``(B, 1)``."""
        if y is None:
            raise InputError("y: no affine came; give the displacement's grid, (B, d + 1, d + 1)")
        return self.statistic(compute_jacobian_determinant(y_pred, y).flatten(1)).unsqueeze(1)


class InverseConsistencyMetric(CumulativeMetric):
    """How far backward displacements are from undoing forward ones, in mm: one statistic over a sample's fixed voxels.

    ``metric(y_pred, y)`` takes forward displacements ``(B, d, *fixed)`` and backward ones ``(B, d, *moving)``, both
    in mm. Voxels that the forward map takes out of the moving grid are left out, for there the backward field says
    nothing.

    Args:
        fixed_grid: where the forward displacements are.
        moving_grid: where the backward displacements are; between voxels they are interpolated linearly.
        statistic: ``mean``, ``median``, ``p95``, ``max`` or ``rms`` over voxels; 0 is exact, there is no upper end.
        reduction: over samples, see :class:`~medmi.metrics.base.CumulativeMetric`.
        get_not_nans: whether ``aggregate`` also gives how many samples counted.

    Raises:
        InputError: unknown statistic or reduction, grids of unlike dimension; when called, fields of another shape.
    """

    def __init__(
        self,
        fixed_grid: Grid,
        moving_grid: Grid,
        statistic: str = "mean",
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(reduction, get_not_nans)
        if fixed_grid.spatial_dims != moving_grid.spatial_dims:
            raise InputError(
                f"grids: {fixed_grid.spatial_dims}D and {moving_grid.spatial_dims}D; one dimension is asked"
            )
        self.statistic = choose(statistic, ERROR_STATISTICS, "statistic")
        self.fixed_grid = fixed_grid
        self.moving_grid = moving_grid

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:  # type: ignore[override]
        """Statistic of each sample, ``(B, 1)``, mm."""
        if y is None or len(y) != len(y_pred):
            raise InputError("y: backward displacements (B, d, *moving) are asked, one for each forward field")
        return torch.stack([self._sample(there, back) for there, back in zip(y_pred, y)])

    def _sample(self, there: torch.Tensor, back: torch.Tensor) -> torch.Tensor:
        forward, backward = (
            DisplacementFieldTransform(grid, field.as_subclass(torch.Tensor).movedim(0, -1))
            for grid, field in ((self.fixed_grid, there), (self.moving_grid, back))
        )
        points = self.fixed_grid.points().to(there.device)
        errors = compute_inverse_consistency(forward.points, backward.points, points)
        known = self.moving_grid.contains(forward.points(points))
        return self.statistic(torch.where(known, errors, torch.nan).reshape(1, -1))
