"""Agreement of edges: how parallel the gradients of the two images are. It is a second witness beside mutual information.

Mutual information knows which values go together and not where; with few points in view some pair of values always goes together.
Edges know where and no values.
"""

from __future__ import annotations

import numpy as np

from medmi.registration import kernels_cpu
from medmi.registration.levels import Array, Volume
from medmi.registration.objective import Objective, smaller_volume

TINY = 1e-12


def edge_agreement(fixed: Volume, objective: Objective, poses: Array, centre: Array) -> Array:
    """Mean over the objective's points of the squared cosine between gradients, ``(B,)``, from 0 to 1 (parallel and steep everywhere).

    ``(n_F . n_M)^2`` of the normalised gradients ``n = g / sqrt(|g|^2 + e^2)`` (Haber & Modersitzki, 2006), where ``e`` is the mean of
    ``|g|`` over the points in view, of the moving image at the first of the poses. The gradient of several channels is their sum's. As in
    the merit, a point outside the moving image adds nothing and a pose that shrinks the fixed image adds less.

    Args:
        fixed: the volume that the objective's points were drawn from.
        objective: whose points and moving volume are taken.
        poses: ``(B, 4, 4)`` centred fixed world to moving world.
        centre: ``(3,)`` fixed world mm, the solver's centre.
    """
    to_index = np.linalg.inv(fixed.to_world)
    to_index[:3, 3] += to_index[:3, :3] @ centre
    ahead, everywhere = _slopes(fixed, to_index, objective.points)
    normals = _normalised(ahead, _mean_length(ahead, everywhere))
    usual, agreed = None, np.empty(len(poses))
    for k, matrix in enumerate(objective.to_index @ poses):
        slopes, weights = _slopes(objective.moving, matrix, objective.points)
        usual = _mean_length(slopes, weights) if usual is None else usual
        cosines = (normals * _normalised(slopes, usual)).sum(0)
        agreed[k] = np.mean(np.square(cosines) * weights, dtype=np.float64)
    return agreed * smaller_volume(poses)


def _slopes(volume: Volume, matrix: Array, points: Array) -> tuple[Array, Array]:
    """Gradients ``(3, N)`` by the points of the volume seen through ``matrix (4, 4)``, points to index; and its weights ``(N,)``."""
    rows, count = len(volume.voxels) + 1, points.shape[1]
    values, slopes = np.empty((rows, 1, count), np.float32), np.empty((rows, 1, 3, count), np.float32)
    kernels_cpu.sample(volume.pairs, volume.mask_pairs, np.ascontiguousarray(matrix[None]), points, values, slopes)
    by_index = slopes[:-1, 0].sum(0)
    # The quotient rule, for a matrix whose last row is not 0 0 0 1.
    single = matrix.astype(np.float32)
    homogeneous = single[:, :3] @ points + single[:, 3:]
    along = (homogeneous[:3] * by_index).sum(0) / homogeneous[3]
    return (single[:3, :3].T @ by_index - single[3, :3, None] * along) / homogeneous[3], values[-1, 0]


def _mean_length(slopes: Array, weights: Array) -> float:
    lengths = np.sqrt(np.square(slopes).sum(0))
    return float((lengths * weights).sum(dtype=np.float64) / max(float(weights.sum(dtype=np.float64)), TINY))


def _normalised(slopes: Array, usual: float) -> Array:
    return slopes / np.sqrt(np.square(slopes).sum(0) + max(usual, TINY) ** 2)
