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
from medmi.registration.placement import Placement
from medmi.registration.workers import CPU

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
        placement: from the fixed grid to the moving one.
        points: ``(3, n)`` centred world points that tell poses apart.
    """

    loss: nn.Module
    fixed: torch.Tensor
    inside: torch.Tensor
    moving: torch.Tensor
    moving_inside: torch.Tensor
    placement: Placement
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
        unit = self.placement.unit(pose).requires_grad_(gradient)
        with torch.set_grad_enabled(gradient):
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
        if not gradient:
            return -value.item(), overlap, np.zeros((4, 4))
        (by_unit,) = torch.autograd.grad(value, unit)
        return -value.item(), overlap, -self.placement.pulled_back(pose, unit.detach(), by_unit)

    def _value(self, moved: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if "mask" in inspect.signature(self.loss.forward).parameters:
            return self.loss(moved, self.fixed, mask=mask)
        # A loss without masks sees equal images where nothing can be compared.
        return self.loss(torch.where(mask > 0, moved, self.fixed), self.fixed)


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
    shapes = [tuple(image.shape[2:]) for image in (images[0], images[2])]
    return DenseObjective(
        loss,
        images[0],
        images[1],
        images[2],
        images[3],
        Placement(to_world, np.linalg.inv(moving.to_world), shapes[0], shapes[1], device),
        (corners @ to_world[:3, :3].T + to_world[:3, 3]).T,
    )


def _image(volume: Volume, spatial_dims: int) -> torch.Tensor:
    scaled = (volume.voxels - volume.low[:, None, None, None]) / (volume.high - volume.low)[:, None, None, None]
    image = torch.from_numpy(np.clip(scaled, 0, 1))
    return (image[..., 0] if spatial_dims == 2 else image).unsqueeze(0)


def _mask(volume: Volume, spatial_dims: int) -> torch.Tensor:
    mask = volume.mask if volume.mask.size else np.ones(volume.voxels.shape[1:], np.uint8)
    return torch.from_numpy(mask[..., 0] if spatial_dims == 2 else mask).float()[None, None]
