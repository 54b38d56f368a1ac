"""The objective of a loss on the whole fixed grid: for terms that need neighbourhoods, and for any MONAI-style loss object."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from medmi import losses
from medmi.registration.ascent import LEAST_OVERLAP
from medmi.registration.levels import Array, Volume
from medmi.registration.objective import Scores
from medmi.registration.workers import CPU
from medmi.threads import one_thread

# Losses of the whole grid by the name of their similarity; ``lmi`` compares intensities of one mapping, the others any two modalities.
DENSE_TERMS: dict[str, Callable[[], nn.Module]] = {
    "lmi": lambda: losses.LinearizedMutualInformationLoss(exact=True),
    "lncc": lambda: losses.LocalNormalizedCrossCorrelationLoss(),
    "mind": lambda: losses.ModalityIndependentDescriptorLoss(),
    "lc2": lambda: losses.CorrelationOfLinearCombinationLoss(kernel_size=5),
    "lc2_wide": lambda: losses.CorrelationOfLinearCombinationLoss(kernel_size=25),
}


@dataclass(frozen=True)
class DenseObjective:
    """A loss between the fixed volume and the moving one resampled on its grid; similarity is minus the loss.

    Attributes:
        loss: ``loss(moved, fixed)`` or ``loss(moved, fixed, mask=inside)`` on ``(1, C, *spatial)``.
        fixed: ``(1, C, *spatial)``, scaled to [0, 1] over its robust range.
        inside: ``(1, 1, *spatial)`` float, the fixed mask.
        moving, moving_inside: likewise, on the moving grid.
        to_world: ``(4, 4)`` fixed index to fixed world minus the centre.
        to_index: ``(4, 4)`` moving world to moving index.
        points: ``(3, n)`` centred world points that tell poses apart.
    """

    loss: nn.Module
    fixed: torch.Tensor
    inside: torch.Tensor
    moving: torch.Tensor
    moving_inside: torch.Tensor
    to_world: Array
    to_index: Array
    points: Array

    def __call__(self, poses: Array, gradient: bool = True) -> Scores:
        """Evaluate poses ``(B, 4, 4)`` one by one."""
        rows = [self._evaluate(pose, gradient) for pose in poses]
        similarity, overlap, slopes = (np.array([row[k] for row in rows]) for k in range(3))
        return Scores(similarity, overlap, similarity, similarity, slopes)

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.fixed.device

    def _evaluate(self, pose: Array, gradient: bool) -> tuple[float, float, Array]:
        matrix = torch.from_numpy(pose).to(self.device).requires_grad_(gradient)
        with torch.set_grad_enabled(gradient):
            placed = self._unit_coordinates(matrix)
            unit = placed.detach().requires_grad_(gradient)
            moved = functional.grid_sample(self.moving, unit, padding_mode="border", align_corners=True)
        with torch.no_grad():
            within = (unit.abs() <= 1).all(-1).unsqueeze(1)
            seen = functional.grid_sample(self.moving_inside, unit, mode="nearest", align_corners=True) > 0
            mask = (within & seen).float() * self.inside
        overlap = float(mask.sum() / self.inside.sum())
        if overlap < LEAST_OVERLAP / 2:
            return -np.inf, overlap, np.zeros((4, 4))
        with torch.set_grad_enabled(gradient):
            value = self._value(moved, mask)
        slope = _pulled_back(value, unit, placed, matrix) if gradient else np.zeros((4, 4))
        return -value.item(), overlap, -slope

    def _value(self, moved: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if "mask" in inspect.signature(self.loss.forward).parameters:
            return self.loss(moved, self.fixed, mask=mask)
        # A loss without masks sees equal images where nothing can be compared.
        return self.loss(torch.where(mask > 0, moved, self.fixed), self.fixed)

    def _unit_coordinates(self, pose: torch.Tensor) -> torch.Tensor:
        dims = self.fixed.ndim - 2
        axes = [torch.arange(n, dtype=torch.float64, device=self.device) for n in self.fixed.shape[2:]]
        index = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
        index = functional.pad(index, (0, 3 - dims))
        to_index, to_world = (torch.from_numpy(m).to(self.device) for m in (self.to_index, self.to_world))
        matrix = to_index @ pose @ to_world
        at = index @ matrix[:3, :3].T + matrix[:3, 3]
        at = at / (index @ matrix[3, :3] + matrix[3, 3]).unsqueeze(-1)
        size = torch.tensor(self.moving.shape[2:], dtype=torch.float64, device=self.device)
        return (2 * at[..., :dims] / (size - 1).clamp_min(1) - 1).flip(-1).float().unsqueeze(0)


def _pulled_back(value: torch.Tensor, unit: torch.Tensor, placed: torch.Tensor, matrix: torch.Tensor) -> Array:
    """The derivative of a value of points at ``unit`` by the ``matrix (4, 4)`` that placed them there."""
    (by_unit,) = torch.autograd.grad(value, unit)
    # The sums over all points are products of matrices, whose order goes by the number of threads.
    with one_thread():
        (by_matrix,) = torch.autograd.grad(placed, matrix, by_unit)
    return by_matrix.cpu().numpy()


def make_dense_objective(
    loss: nn.Module, volumes: tuple[Volume, Volume], centre: Array, spatial_dims: int, device: torch.device = CPU
) -> DenseObjective:
    """The objective of a loss on the volumes of one level, computed on a device where the loss already is."""
    fixed, moving = volumes
    shift = np.eye(4)
    shift[:3, 3] = -centre
    to_world = shift @ fixed.to_world
    corners = np.stack(
        np.meshgrid(*[np.linspace(0, n - 1, 5) for n in fixed.voxels.shape[1:]], indexing="ij"), -1
    ).reshape(-1, 3)
    images = [part(volume, spatial_dims).to(device) for volume in volumes for part in (_image, _mask)]
    return DenseObjective(
        loss,
        images[0],
        images[1],
        images[2],
        images[3],
        to_world,
        np.linalg.inv(moving.to_world),
        (corners @ to_world[:3, :3].T + to_world[:3, 3]).T,
    )


def _image(volume: Volume, spatial_dims: int) -> torch.Tensor:
    scaled = (volume.voxels - volume.low[:, None, None, None]) / (volume.high - volume.low)[:, None, None, None]
    image = torch.from_numpy(np.clip(scaled, 0, 1))
    return (image[..., 0] if spatial_dims == 2 else image).unsqueeze(0)


def _mask(volume: Volume, spatial_dims: int) -> torch.Tensor:
    mask = volume.mask if volume.mask.size else np.ones(volume.voxels.shape[1:], np.uint8)
    return torch.from_numpy(mask[..., 0] if spatial_dims == 2 else mask).float()[None, None]
