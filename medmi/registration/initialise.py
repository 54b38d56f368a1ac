"""Where to start: candidate poses over the whole rotation group, and the named starts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.spatial.transform import Rotation

from medmi.registration.levels import Array, Volume

# Irrational numbers of the super-Fibonacci spiral (Alexa, CVPR 2022, Eq. 9): low-discrepancy sampling of the rotation group.
PHI, PSI = 2**0.5, 1.533751168755204288118041
MARKS = 100


@lru_cache
def rotations(count: int, spatial_dims: int) -> Array:
    """``(count, 3, 3)`` rotations, read-only, spread evenly over the group, the identity first; in 2D about the third axis."""
    if spatial_dims == 2:
        return frozen(Rotation.from_euler("z", 2 * np.pi * np.arange(count)[:, None] / count))
    s = np.arange(count) + 0.5
    inner, outer = np.sqrt(s / count), np.sqrt(1 - s / count)
    a, b = 2 * np.pi * s / PHI, 2 * np.pi * s / PSI
    quaternions = np.stack([inner * np.sin(a), inner * np.cos(a), outer * np.sin(b), outer * np.cos(b)], 1)
    spread = Rotation.from_quat(quaternions)
    return frozen(spread * spread[0].inv())


def frozen(turns: Rotation) -> Array:
    """Their matrices ``(n, 3, 3)``, read-only: they are kept from call to call."""
    matrices = turns.as_matrix()
    matrices.flags.writeable = False
    return matrices


def local_rotations(degrees: tuple[float, ...], spatial_dims: int) -> Array:
    """The identity and turns by plus and minus each angle about each axis, ``(n, 3, 3)``."""
    axes = np.eye(3)[2:] if spatial_dims == 2 else np.eye(3)
    turns = [sign * np.deg2rad(d) * axis for d in degrees for axis in axes for sign in (-1, 1)]
    return Rotation.from_rotvec(np.array([np.zeros(3), *turns])).as_matrix()


def centre_of_grid(volume: Volume) -> Array:
    """World point in the middle of the volume, ``(3,)``."""
    middle = (np.array(volume.voxels.shape[1:]) - 1) / 2
    return volume.to_world[:3, :3] @ middle + volume.to_world[:3, 3]


def centre_of_mass(volume: Volume) -> Array:
    """World centre of the intensities above the low end of their range, ``(3,)``."""
    weight = np.clip(
        (volume.voxels - volume.low[:, None, None, None]) / (volume.high - volume.low)[:, None, None, None], 0, 1
    ).sum(0)
    if volume.mask.size:
        weight = weight * volume.mask
    total = weight.sum(dtype=np.float64)
    if total <= 0:
        return centre_of_grid(volume)
    index = [
        np.tensordot(weight.sum(axis=tuple(o for o in range(3) if o != k), dtype=np.float64), np.arange(n), 1) / total
        for k, n in enumerate(weight.shape)
    ]
    return volume.to_world[:3, :3] @ np.array(index) + volume.to_world[:3, 3]


def anchored(turns: Array, fixed_anchor: Array, moving_anchor: Array, centre: Array) -> Array:
    """Poses ``(n, 4, 4)`` (from centred fixed world) that turn about ``fixed_anchor`` and carry it to ``moving_anchor``."""
    poses = np.tile(np.eye(4), (len(turns), 1, 1))
    poses[:, :3, :3] = turns
    poses[:, :3, 3] = moving_anchor - turns @ (fixed_anchor - centre)
    return poses


def shifted(poses: Array, distance: float, spatial_dims: int) -> Array:
    """The poses and their copies moved by plus and minus ``distance`` mm along each axis."""
    shifts = [np.zeros(3), *[sign * distance * axis for axis in np.eye(3)[:spatial_dims] for sign in (-1, 1)]]
    moved = np.concatenate([poses] * len(shifts))
    moved[:, :3, 3] += np.repeat(shifts, len(poses), axis=0)
    return moved


STARTS = {
    "identity": lambda fixed, moving: (np.zeros(3), np.zeros(3)),
    "geometry": lambda fixed, moving: (centre_of_grid(fixed), centre_of_grid(moving)),
    "moments": lambda fixed, moving: (centre_of_mass(fixed), centre_of_mass(moving)),
}


@dataclass(frozen=True)
class Search:
    """How wide to look: rotations over the whole group (none: translations only), sizes of the moving image, dimension."""

    rotations: int
    scales: tuple[float, ...]
    spatial_dims: int


def candidates(volumes: tuple[Volume, Volume], given: Array, centre: Array, search: Search) -> Array:
    """Poses ``(B, 4, 4)`` to score before the first level; the ``given`` one comes first.

    Around the given pose: small turns and shifts. Over the whole rotation group: turns about the centres of the grids and of mass,
    at each scale.
    """
    fixed, moving = volumes
    dims = search.spatial_dims
    reach = 0.15 * float(np.linalg.norm(fixed.to_world[:3, :3] @ np.array(fixed.voxels.shape[1:])))
    near = local_rotations((10, 20, 40), dims) if search.rotations else np.eye(3)[None]
    here = np.tile(given, (len(near), 1, 1))
    here[:, :3, :3] = given[:3, :3] @ near
    scaled = np.concatenate(
        [_turns(search, scale) @ np.diag([scale] * dims + [1.0] * (3 - dims)) for scale in search.scales]
    )
    spread = [anchored(scaled, *STARTS[name](fixed, moving), centre) for name in ("geometry", "moments")]
    around = [shifted(s[:1], reach, dims) for s in spread]
    return np.concatenate([shifted(here, reach / 2, dims), *spread, *around])


def _turns(search: Search, scale: float) -> Array:
    """Rotations ``(n, 3, 3)`` at a scale: half as many at another than the images' own."""
    if not search.rotations:
        return np.eye(3)[None]
    count = search.rotations if scale == 1 else search.rotations // 2
    return rotations(count if search.spatial_dims == 3 else max(24, count // 12), search.spatial_dims)


def marks(points: Array) -> Array:
    """About a hundred ``(n, 3)`` from all over ``points (3, N)``, which tell poses apart."""
    return points[:, :: max(1, points.shape[1] // MARKS)].T


def distinct(poses: Array, merits: Array, points: Array, count: int, apart: float) -> list[int]:
    """Indices of the best ``count`` poses of which no two agree within ``apart`` mm (root mean square) over ``points (n, 3)``."""
    homogeneous = np.append(points, np.ones((len(points), 1)), 1)
    # |D x|^2 over the points is the trace of D M D^T with their second moments M = R R^T.
    values, vectors = np.linalg.eigh(homogeneous.T @ homogeneous / len(points))
    root = vectors * np.sqrt(np.maximum(values, 0))
    images = (poses[:, :3] @ root).reshape(len(poses), 12)
    kept: list[int] = []
    for k in np.argsort(-merits, kind="stable"):
        if not kept or np.square(images[kept] - images[k]).sum(1).min() >= apart**2:
            kept.append(int(k))
        if len(kept) == count:
            break
    return kept
