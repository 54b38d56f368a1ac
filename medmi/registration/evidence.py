"""What the solver leaves behind for judging its answer, and the two tools of every judgement: the foreground and distances over it.

A *pose* is a 4x4 matrix from centred fixed world (mm minus the solver's centre) to moving world, as in the objective. The
*foreground* are the voxels of the fixed image above Otsu's threshold; a *distance* of two poses is the mean distance in mm between
where they send it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from medmi.registration.levels import Array, Volume
from medmi.registration.otsu import otsu_threshold
from medmi.registration.terms import Term

FOREGROUND_POINTS = 600


@dataclass(frozen=True)
class Evidence:
    """What a judgement of a registration starts from.

    Attributes:
        levels: fixed and moving volume of each pyramid level, coarse to fine.
        centre: ``(3,)`` fixed world mm, the solver's centre.
        pose: ``(4, 4)`` that the solver ended with.
        basis: ``(t, 4, 4)`` generators of the family, a unit of which moves the far corner of the fixed grid by 1 mm.
        term: mutual information as the family climbs it.
        scales: sizes of the moving image against the fixed one that the family can take up.
        spatial_dims: 2 or 3.
        spacing: geometric mean of the fixed grid's spacing, mm.
        seed: of the registration.
    """

    levels: list[tuple[Volume, Volume]]
    centre: Array
    pose: Array
    basis: Array
    term: Term
    scales: tuple[float, ...]
    spatial_dims: int
    spacing: float
    seed: int

    @property
    def limit_mm(self) -> float:
        """The mean error over the foreground up to which a registration counts as right: 2 mm or twice the spacing."""
        return max(2.0, 2 * self.spacing)

    @cached_property
    def foreground(self) -> Array:
        """Centred world points ``(N, 3)`` of the foreground, at most ``FOREGROUND_POINTS``, spread evenly in memory order."""
        return foreground_points(self.levels[-1][0]) - self.centre


def foreground_points(volume: Volume, most: int = FOREGROUND_POINTS) -> Array:
    """World points ``(N, 3)`` of at most ``most`` voxels of the mask above Otsu's threshold; channels are averaged."""
    grey = volume.voxels.mean(0).ravel()
    kept = np.flatnonzero(volume.mask.ravel()) if volume.mask.size else np.arange(len(grey))
    bright = kept[grey[kept] > otsu_threshold(grey[kept])]
    chosen = bright[:: max(1, -(-len(bright) // most))]
    index = np.stack(np.unravel_index(chosen, volume.voxels.shape[1:]), -1)
    return index @ volume.to_world[:3, :3].T + volume.to_world[:3, 3]


def images_of(poses: Array, points: Array) -> Array:
    """Where poses ``(B, 4, 4)`` send points ``(N, 3)``: ``(B, N, 3)``."""
    ahead = np.einsum("bij,nj->bni", poses[:, :, :3], points) + poses[:, None, :, 3]
    return ahead[..., :3] / ahead[..., 3:]


def distances(poses: Array, other: Array, points: Array) -> Array:
    """Mean distance in mm ``(B,)`` between where ``poses (B, 4, 4)`` and ``other (4, 4)`` send the points."""
    apart = images_of(poses, points) - images_of(other[None], points)
    return np.linalg.norm(apart, axis=-1).mean(1)


def share_in_view(evidence: Evidence) -> float:
    """The share, 0 to 1, of the foreground that lies in the other image's field at the pose, of the image that has less of it there."""
    fixed, moving = evidence.levels[-1]
    there = images_of(evidence.pose[None], evidence.foreground)[0]
    back = images_of(np.linalg.inv(evidence.pose)[None], foreground_points(moving))[0] + evidence.centre
    return min(_inside(there, moving), _inside(back, fixed))


def _inside(points: Array, volume: Volume) -> float:
    """The share of world points ``(N, 3)`` in the volume's voxels."""
    index = images_of(np.linalg.inv(volume.to_world)[None], points)[0]
    return float(((index >= -0.5) & (index <= np.array(volume.voxels.shape[1:]) - 0.5)).all(1).mean())


def derivatives_of(points: Array, pose: Array, basis: Array) -> Array:
    """Derivatives ``(N, t, 3)`` in mm a unit of where ``pose exp(sum_i s_i G_i)`` sends centred points ``(N, 3)``, at s = 0."""
    motion = np.concatenate([pose[None], pose @ basis])
    speed = np.einsum("tij,nj->nti", motion[:, :, :3], points) + motion[:, :, 3]
    here, ahead = speed[:, :1], speed[:, 1:]
    return (ahead[..., :3] - here[..., :3] / here[..., 3:] * ahead[..., 3:]) / here[..., 3:]


def errors_of(points: Array, pose: Array, basis: Array, covariance: Array) -> Array:
    """Root mean square error in mm ``(N,)`` of where an uncertain pose sends centred points ``(N, 3)``, to first order.

    With J(x) the derivative of the image of x by the tangent coordinates, ``sqrt(trace(J(x) covariance J(x)^T))``.
    """
    values, vectors = np.linalg.eigh(covariance)
    axes = np.einsum("tk,tij->kij", vectors * np.sqrt(np.maximum(values, 0)), basis)
    return np.sqrt(np.square(derivatives_of(points, pose, axes)).sum((1, 2)))
