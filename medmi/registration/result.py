"""The result of a registration: the transform and all that was learnt on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from monai.data import MetaTensor

from medmi.grid import Grid
from medmi.spatial import SpatialTransform, resample


@dataclass(frozen=True, eq=False)
class RegistrationResult:
    """What :func:`medmi.register` returns.

    Attributes:
        transform: fixed world points to moving world points, RAS+ mm.
        status: ``converged``, ``max_iterations`` or ``failed: why``.
        similarity: of the last level at the result, in the term's own unit (nat for ``mi``); higher is better.
        history: one row an evaluation of the objective: level, similarity, overlap.
        seconds: that the registration took, reading of files excluded.
        overlap: share of the fixed image's points that fall inside the moving image, 0 to 1.
        fixed_grid: the grid of the fixed image.
        confidence: None: nothing is calibrated yet that could tell a probability of success.
    """

    transform: SpatialTransform
    status: str
    similarity: float
    history: list[dict[str, float]] = field(repr=False)
    seconds: float
    overlap: float
    fixed_grid: Grid
    _moving: MetaTensor = field(repr=False)
    confidence: float | None = None
    expected_error_mm: float | None = None

    @property
    def failed(self) -> bool:
        """Whether the status is ``failed: ...``."""
        return self.status.startswith("failed")

    @cached_property
    def moved(self) -> MetaTensor:
        """The moving image on the fixed grid, ``(C, *fixed)`` float32, zero outside; computed when first asked for."""
        return moved_image(self._moving, self.transform, self.fixed_grid)


def moved_image(
    moving: MetaTensor, transform: SpatialTransform, fixed_grid: Grid, interpolation: str = "linear"
) -> MetaTensor:
    """Resample ``moving (C, *spatial)`` on the fixed grid; voxels that are not finite count as outside, so as 0."""
    voxels = torch.nan_to_num(moving.as_tensor().detach().float(), nan=0.0, posinf=0.0, neginf=0.0)
    out = resample(voxels, Grid.of(moving), transform, fixed_grid, interpolation)
    return MetaTensor(out, affine=fixed_grid.affine.clone())
