"""Where poses put the voxels of the fixed grid in the moving one, and what a value of those places says about the pose."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch

from medmi.registration.levels import Array
from medmi.threads import one_thread


@dataclass(frozen=True)
class Placement:
    """Voxels of the fixed grid in ``grid_sample``'s coordinates of the moving one: -1 to 1, its last axis first.

    With ``h = (i, j, k, 1)`` the index of a voxel (``k = 0`` in 2D) a coordinate is ``u_a = (r_a . h) / (r_w . h)``; the
    rows r are those of ``scale @ to_index @ pose @ to_world``, and ``r_w`` is the last. Sums of one term for each axis
    make the fields ``r . h``, and as many sums over axes their derivatives.

    Attributes:
        to_world: ``(4, 4)`` fixed index to the world of poses.
        to_index: ``(4, 4)`` the world where poses lead to moving index.
        shape, moving_shape: of the two grids, ``(D,)``.
        device: where the coordinates are computed.
    """

    to_world: Array
    to_index: Array
    shape: tuple[int, ...]
    moving_shape: tuple[int, ...]
    device: torch.device

    def unit(self, pose: Array) -> torch.Tensor:
        """Coordinates ``(1, *shape, D)`` float32 of all voxels by a pose ``(4, 4)``."""
        *fields, weight = (self._field(row) for row in self._scaled() @ pose @ self.to_world)
        return torch.stack([(field / weight).float() for field in fields], -1).unsqueeze(0)

    def pulled_back(self, pose: Array, unit: torch.Tensor, by_unit: torch.Tensor) -> Array:
        """The derivative ``(4, 4)`` by the pose of a value whose derivative by its coordinates is ``by_unit``."""
        scaled = self._scaled()
        weight = self._field((scaled @ pose @ self.to_world)[-1])
        by_fields = [by_one / weight for by_one in by_unit[0].double().unbind(-1)]
        by_weight = -torch.stack([by_one * at for by_one, at in zip(by_fields, unit[0].unbind(-1), strict=True)]).sum(0)
        by_rows = np.stack([self._moments(field) for field in (*by_fields, by_weight)])
        return scaled.T @ by_rows @ self.to_world.T

    def _scaled(self) -> Array:
        """``(D + 1, 4)``: world where poses lead to unit coordinates, last axis first, and their weight."""
        dims = len(self.shape)
        scale = np.zeros((dims + 1, 4))
        scale[:, 3] = [-1] * dims + [1]
        for row, axis in enumerate(reversed(range(dims))):
            scale[row, axis] = 2 / max(self.moving_shape[axis] - 1, 1)
        return scale @ self.to_index

    def _axes(self) -> list[torch.Tensor]:
        """The index along each axis, ``(n, 1, ...)`` so that together they span the grid."""
        dims = len(self.shape)
        return [
            torch.arange(n, dtype=torch.float64, device=self.device).reshape(-1, *[1] * (dims - 1 - axis))
            for axis, n in enumerate(self.shape)
        ]

    def _field(self, row: Array) -> torch.Tensor:
        """``row . h`` at each voxel."""
        terms = [step * axis for step, axis in zip(row[:3].tolist(), self._axes(), strict=False)]
        return functools.reduce(torch.add, terms, torch.tensor(float(row[3]), dtype=torch.float64, device=self.device))

    def _moments(self, field: torch.Tensor) -> Array:
        """Sums over all voxels of the field times ``h``, ``(4,)``."""
        every = range(field.ndim)
        found = np.zeros(4)
        with one_thread():  # the order of torch's sums goes by the number of threads
            for k, axis in enumerate(self._axes()):
                found[k] = float((field.sum([other for other in every if other != k]) * axis.flatten()).sum())
            found[3] = float(field.sum())
        return found
