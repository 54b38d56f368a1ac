"""A compiled loop that resamples through one matrix: no lattice of points is ever made.

2D images are lifted to one slice, so that one loop serves 2D and 3D, linear and projective maps.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from medmi.grid import Grid
from medmi.spatial.compiled import compiled

Array = np.ndarray


def resample_through_matrix(image: torch.Tensor, matrix: torch.Tensor, fixed_grid: Grid) -> torch.Tensor:
    """Trilinear values of ``image (C, *moving)`` where ``matrix`` (fixed index to moving index) sends the voxels of the fixed grid.

    Returns:
        float32 ``(C, *fixed_grid.shape)``; zero more than half a voxel outside, the nearest voxel's value at the rim.
    """
    flat = fixed_grid.spatial_dims == 2
    lifted = np.eye(4)
    keep = [0, 1, 3] if flat else [0, 1, 2, 3]
    lifted[np.ix_(keep, keep)] = matrix.numpy()
    voxels = np.ascontiguousarray((image.unsqueeze(-1) if flat else image).numpy())
    out = np.empty((len(voxels), *fixed_grid.shape, *[1] * flat), np.float32)
    threads = min(torch.get_num_threads(), len(out[0]))
    bounds = np.linspace(0, out.shape[1], threads + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda k: resample_rows(voxels, lifted, bounds[k], bounds[k + 1], out), range(threads)))
    return torch.from_numpy(out[..., 0] if flat else out)


@compiled
def resample_rows(volume: Array, matrix: Array, start: int, stop: int, out: Array) -> None:
    """Fill rows ``start`` to ``stop`` of ``out (C, X', Y', Z')`` from ``volume (C, X, Y, Z)``.

    Coordinates are float64, so that they are right to a small part of a voxel in large images too.
    """
    channels, nx, ny, nz = volume.shape
    m = matrix
    for i in range(start, stop):
        for j in range(out.shape[2]):
            for k in range(out.shape[3]):
                u = m[0, 0] * i + m[0, 1] * j + m[0, 2] * k + m[0, 3]
                v = m[1, 0] * i + m[1, 1] * j + m[1, 2] * k + m[1, 3]
                w = m[2, 0] * i + m[2, 1] * j + m[2, 2] * k + m[2, 3]
                h = m[3, 0] * i + m[3, 1] * j + m[3, 2] * k + m[3, 3]
                if h != 1.0:
                    u, v, w = u / h, v / h, w / h
                within = (u >= -0.5) and (v >= -0.5) and (w >= -0.5)
                if not (within and (u < nx - 0.5) and (v < ny - 0.5) and (w < nz - 0.5)):
                    for c in range(channels):
                        out[c, i, j, k] = 0.0
                    continue
                u, v, w = min(max(u, 0.0), nx - 1.0), min(max(v, 0.0), ny - 1.0), min(max(w, 0.0), nz - 1.0)
                x, y, z = int(u), int(v), int(w)
                fu, fv, fw = np.float32(u - x), np.float32(v - y), np.float32(w - z)
                # At the last voxel of an axis the upper neighbour is the voxel itself.
                a, b, d = min(x + 1, nx - 1), min(y + 1, ny - 1), min(z + 1, nz - 1)
                for c in range(channels):
                    s = volume[c]
                    v00 = s[x, y, z] + fw * (s[x, y, d] - s[x, y, z])
                    v01 = s[x, b, z] + fw * (s[x, b, d] - s[x, b, z])
                    v10 = s[a, y, z] + fw * (s[a, y, d] - s[a, y, z])
                    v11 = s[a, b, z] + fw * (s[a, b, d] - s[a, b, z])
                    v0 = v00 + fv * (v01 - v00)
                    v1 = v10 + fv * (v11 - v10)
                    out[c, i, j, k] = v0 + fu * (v1 - v0)
