"""The objective in torch's operators, for devices that the compiled loops do not run on: same points, same scores, autograd's gradients.

Poses come and scores leave as arrays, so that whatever climbs an objective climbs this one alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medmi.registration.levels import Volume
from medmi.registration.objective import Array, Objective, Scores, merit_of
from medmi.registration.terms_torch import TensorSamples

# Points of all poses in one call: what autograd keeps of them, some hundred float64 each, still fits a small device.
BATCH = 2**19
# Where a point goes that the pose sends nowhere: far outside every image.
NOWHERE = 1e9


@dataclass(frozen=True)
class TensorVolume:
    """The moving volume on the device: ``voxels (C, X, Y, Z)`` and ``mask (1, X, Y, Z)``, both float32; None where all voxels count."""

    voxels: Tensor
    mask: Tensor | None


def tensor_volume(volume: Volume, device: torch.device) -> TensorVolume:
    """A volume on the device."""
    with torch.inference_mode(False):
        mask = torch.from_numpy(volume.mask).to(device).float()[None] if volume.mask.size else None
        return TensorVolume(torch.from_numpy(volume.voxels).to(device), mask)


@dataclass(frozen=True)
class TorchObjective:
    """Twin of :class:`medmi.registration.objective.Objective` on a device.

    Attributes:
        twin: that runs on the processor.
        moving: its moving volume on the device.
        samples, at, rim: of the twin, on the device; ``at`` are its points ``(4, N)`` float64 with a row of ones.
    """

    twin: Objective
    moving: TensorVolume
    samples: TensorSamples
    at: Tensor
    rim: Tensor

    @property
    def points(self) -> Array:
        """``(3, N)`` float32, fixed world mm minus the centre."""
        return self.twin.points

    def __call__(self, poses: Array, gradient: bool = True) -> Scores:
        """Evaluate poses ``(B, 4, 4)``."""
        size = max(1, BATCH // self.points.shape[1])
        parts = [self._evaluate(poses[k : k + size], gradient) for k in range(0, len(poses), size)]
        return Scores(*(np.concatenate([part[k] for part in parts]) for k in range(5)))

    def lost(self, pose: Array) -> float:
        """As :meth:`medmi.registration.objective.Objective.lost`."""
        return self.twin.lost(pose)

    def _evaluate(self, poses: Array, gradient: bool) -> tuple[Array, ...]:
        # Evaluation loops switch gradients off, and poses climb inside one all the same.
        kind = self.at.device.type
        with torch.inference_mode(False), torch.set_grad_enabled(gradient), torch.autocast(kind, enabled=False):
            matrices = torch.from_numpy(self.twin.to_index @ poses).to(self.at.device)
            rows = self._scores(matrices.requires_grad_(gradient))
            slopes = torch.autograd.grad(rows[2].sum(), matrices)[0] if gradient else torch.zeros_like(matrices)
        similarity, left, value = rows.detach().cpu().numpy()
        merit = merit_of(self.twin.term.information(similarity, self.twin.samples), left, poses)
        return similarity, left, merit, value, self.twin.to_index.T @ slopes.cpu().numpy()

    def _scores(self, matrices: Tensor) -> Tensor:
        """Similarity, overlap and value at ``matrices (B, 4, 4)`` from points to moving index, ``(3, B)``."""
        moved, weights = sampled(self.moving, matrices, self.at)
        background = (moved < self.rim[:, None, None]).all(0)
        missing = ((1 - weights) * background).mean(-1, dtype=torch.float64)
        weights = torch.where(weights == 1, weights, weights * background)
        left = weights.mean(-1, dtype=torch.float64) * self.twin.share
        similarity = self.twin.term.on_tensors(moved, weights, self.samples)
        excess = similarity - self.twin.term.unrelated(self.twin.samples)
        return torch.stack([similarity, left, excess * (1 - missing)])


def torch_objective(twin: Objective, moving: TensorVolume) -> TorchObjective:
    """The twin of an objective where ``moving``, its moving volume, is."""
    device = moving.voxels.device

    def there(array: Array) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    with torch.inference_mode(False):
        own = twin.samples
        samples = TensorSamples(there(own.fixed), there(own.positions), there(own.low), there(own.scale), own.bins)
        at = there(np.concatenate([twin.points, np.ones_like(twin.points[:1])], dtype=np.float64))
        return TorchObjective(twin, moving, samples, at, there(twin.rim))


def sampled(volume: TensorVolume, matrices: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Trilinear values ``(C, B, N)`` where ``matrices (B, 4, 4)`` send ``points (4, N)``, and weights ``(B, N)``.

    As :func:`medmi.registration.kernels_cpu.sample`: beyond the lattice the value is that of its rim, and the weight falls from 1 to 0
    within a voxel; it is 0 where the mask, interpolated, is under a half.
    """
    ends = matrices @ points
    index = (ends[:, :3] / ends[:, 3:]).float().nan_to_num(NOWHERE, NOWHERE, -NOWHERE)
    size = torch.tensor(volume.voxels.shape[1:], dtype=index.dtype, device=index.device)[:, None]
    inside = index.clamp(torch.zeros_like(size), size - 1)
    cell = inside.detach().floor().minimum((size - 2).clamp_min(0))
    weights = (1 - (index - inside).abs()).clamp_min(0)
    weights = weights[:, 0] * weights[:, 1] * weights[:, 2]
    values = interpolated(volume.voxels, cell.long(), inside - cell)
    if volume.mask is not None:
        with torch.no_grad():
            counts = interpolated(volume.mask, cell.long(), inside - cell)[0] >= 0.5
        weights = weights * counts
    return values, weights


def interpolated(voxels: Tensor, cells: Tensor, fractions: Tensor) -> Tensor:
    """Values ``(C, B, N)`` of ``voxels (C, X, Y, Z)`` at ``fractions (B, 3, N)`` of a voxel on from ``cells (B, 3, N)``."""
    channels, *shape = voxels.shape
    strides = [shape[1] * shape[2], shape[2], 1]
    first = sum(cells[:, axis] * stride for axis, stride in enumerate(strides))
    # An axis of one voxel has no neighbour.
    steps = torch.tensor([s if n > 1 else 0 for s, n in zip(strides, shape)], device=cells.device)
    corners = torch.cartesian_prod(*[torch.arange(2, device=cells.device)] * 3) @ steps
    found = voxels.reshape(channels, -1)[:, first + corners[:, None, None]]
    for axis in range(3):
        low, high = found.unflatten(1, (2, -1)).unbind(1)
        found = low + fractions[:, axis] * (high - low)
    return found[:, 0]
