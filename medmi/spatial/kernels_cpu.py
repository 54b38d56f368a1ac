"""A compiled loop that resamples through one matrix: no lattice of points is ever made.

2D images are lifted to one slice, so that one loop serves 2D and 3D, linear and projective maps.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from medmi.grid import Grid
from medmi.native import loops

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
        list(pool.map(lambda k: loops.resample_rows(voxels, lifted, bounds[k], bounds[k + 1], out), range(threads)))
    return torch.from_numpy(out[..., 0] if flat else out)
