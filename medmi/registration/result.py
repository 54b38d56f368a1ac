"""The result of a registration: the transform and all that was learnt on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from medmi.grid import Grid
from medmi.image import AnyImage, Image
from medmi.registration.confidence import Judgement, judge
from medmi.registration.evidence import Evidence, errors_of
from medmi.registration.levels import lower
from medmi.spatial import LinearTransform, SpatialTransform, resample
from medmi.validation import InputError

if TYPE_CHECKING:
    from monai.data import MetaTensor


@dataclass(frozen=True, eq=False)
class Alternative:
    """Another optimum of a registration.

    Attributes:
        transform: fixed world points to moving world points, RAS+ mm.
        probability: that it is the right one.
        distance_mm: mean distance over the foreground between where it and the result send a point.
    """

    transform: LinearTransform
    probability: float
    distance_mm: float


@dataclass(frozen=True, eq=False)
class RegistrationResult:
    """What :func:`medmi.register` returns.

    ``moved``, ``confidence``, ``expected_error_mm``, ``alternatives`` and ``error_map`` are computed when first asked for; the judgement
    that the last four share takes about as long as the registration. A *loss on the whole grid* (``lmi``, ``lncc``, ``mind``, ``lc2``
    or an object) is not judged, because the judgement is by mutual information, which need not see what a loss sees.

    Attributes:
        transform: fixed world points to moving world points, RAS+ mm.
        status: ``converged``, ``max_iterations`` or ``failed: why``.
        similarity: of the last level at the result, in the term's own unit (nat for ``mi``); higher is better.
        history: one row an evaluation of the objective: level, similarity, overlap.
        seconds: that the registration took, reading of files excluded.
        overlap: share of the fixed image's points that fall inside the moving image, 0 to 1.
        fixed_grid: the grid of the fixed image.
    """

    transform: SpatialTransform
    status: str
    similarity: float
    history: list[dict[str, float]] = field(repr=False)
    seconds: float
    overlap: float
    fixed_grid: Grid
    _moving: AnyImage = field(repr=False)
    _evidence: Evidence | None = field(repr=False)

    @property
    def failed(self) -> bool:
        """Whether the status is ``failed: ...``."""
        return self.status.startswith("failed")

    @cached_property
    def moved(self) -> MetaTensor:
        """The moving image on the fixed grid, ``(C, *fixed)`` float32, zero outside; computed when first asked for."""
        return self.moved_image.metatensor()

    @cached_property
    def moved_image(self) -> Image:
        """``moved`` as an :class:`~medmi.image.Image`, for those who do without MONAI; both share their voxels."""
        return moved_image(self._moving, self.transform, self.fixed_grid)

    @property
    def confidence(self) -> float | None:
        """Probability, 0 to 1, that the mean error over the foreground (Otsu) of the fixed image is under ``error_limit_mm``.

        Calibrated on real patients with known motions; 0 where the registration failed, None for a loss on the whole grid.
        """
        if self.failed and self._evidence is not None:
            return 0.0
        return None if self._judgement is None else self._judgement.confidence

    @property
    def error_limit_mm(self) -> float | None:
        """Mean error up to which a registration counts as right: 2 mm, or twice the geometric mean of the fixed spacing."""
        return None if self._evidence is None else self._evidence.limit_mm

    @property
    def expected_error_mm(self) -> float | None:
        """Expected mean error in mm over the foreground; None where the registration failed or ``confidence`` is None."""
        return None if self._judgement is None else self._judgement.expected_error_mm

    @property
    def alternatives(self) -> tuple[Alternative, ...]:
        """Other distinct optima, the more probable first; with ``confidence`` their probabilities sum to at most 1."""
        if self._judgement is None or self._evidence is None:
            return ()
        rivals, dims = self._judgement.rivals, self._evidence.spatial_dims
        shift = np.eye(4)
        shift[:3, 3] = -self._evidence.centre
        return tuple(
            Alternative(_transform(pose @ shift, dims, self._family), float(probability), float(away))
            for pose, probability, away in zip(rivals.poses, rivals.probabilities, rivals.distances)
        )

    def error_map(self) -> MetaTensor:
        """Expected error of every voxel's position, ``(1, *fixed)`` float32 in mm on the fixed grid.

        The covariance of the pose carried to each voxel, to first order: the root mean square of how far the voxel's image lies
        from its true place. Its mean over the foreground is ``expected_error_mm``.

        Raises:
            InputError: the registration failed, or its similarity is a loss on the whole grid.
        """
        judgement, evidence = self._judgement, self._evidence
        if judgement is None or evidence is None:
            raise InputError("error_map: there is none of a registration that failed or used a loss on the whole grid")
        slabs = []
        for first in range(self.fixed_grid.shape[0]):
            points = np.zeros((int(np.prod(self.fixed_grid.shape[1:])), 3))
            points[:, : evidence.spatial_dims] = _slab(self.fixed_grid, first).numpy()
            slabs.append(errors_of(points - evidence.centre, evidence.pose, evidence.basis, judgement.covariance))
        voxels = np.stack(slabs).reshape(1, *self.fixed_grid.shape).astype(np.float32)
        return Image(torch.from_numpy(voxels), self.fixed_grid.affine.clone()).metatensor()

    @cached_property
    def _judgement(self) -> Judgement | None:
        return None if self._evidence is None or self.failed else judge(self._evidence)

    @property
    def _family(self) -> str:
        return self.transform.family if isinstance(self.transform, LinearTransform) else "affine"


def _transform(matrix: np.ndarray, spatial_dims: int, family: str) -> LinearTransform:
    lowered = lower(matrix, spatial_dims)
    return LinearTransform(lowered / lowered[-1, -1], family)


def _slab(grid: Grid, first: int) -> torch.Tensor:
    """World points ``(N, d)`` of the voxels whose first index is ``first``, in memory order."""
    axes = [torch.arange(size, dtype=torch.float64) for size in grid.shape[1:]]
    return grid.index_to_world(torch.cartesian_prod(torch.tensor([float(first)], dtype=torch.float64), *axes))


def moved_image(
    moving: AnyImage, transform: SpatialTransform, fixed_grid: Grid, interpolation: str = "linear"
) -> Image:
    """Resample ``moving (C, *spatial)`` on the fixed grid; voxels that are not finite count as outside, so as 0."""
    voxels = torch.nan_to_num(moving.as_tensor().detach().float(), nan=0.0, posinf=0.0, neginf=0.0)
    out = resample(voxels, Grid.of(moving), transform, fixed_grid, interpolation)
    return Image(out, fixed_grid.affine.clone())
