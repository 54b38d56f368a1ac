"""RAS and LPS: the two patient frames, and the flip F between them.

medmi works in RAS+ millimetres (``MetaTensor.affine``); ITK, DICOM and Slicer's transform files are LPS+. F = diag(-1, -1, 1)
is its own inverse, so each function below serves both directions. In 2D the world is the first two axes, F = diag(-1, -1).
"""

from __future__ import annotations

import torch


def flip(spatial_dims: int) -> torch.Tensor:
    """Homogeneous F, shape ``(d + 1, d + 1)``, float64.

    >>> flip(2).diagonal().tolist()
    [-1.0, -1.0, 1.0]
    """
    signs = torch.ones(spatial_dims + 1, dtype=torch.float64)
    signs[:2] = -1
    return torch.diag(signs)


def flip_affine(affine: torch.Tensor) -> torch.Tensor:
    """An index -> world affine ``(d + 1, d + 1)`` with its world axes flipped: ``F A``."""
    return flip(affine.shape[-1] - 1) @ affine.double()


def flip_matrix(matrix: torch.Tensor) -> torch.Tensor:
    """A world -> world matrix ``(d + 1, d + 1)`` in the other frame: ``F M F``."""
    f = flip(matrix.shape[-1] - 1)
    return f @ matrix.double() @ f


def flip_points(points: torch.Tensor) -> torch.Tensor:
    """Points or displacement vectors ``(..., d)`` in the other frame."""
    signs = torch.ones(points.shape[-1], dtype=points.dtype, device=points.device)
    signs[:2] = -1
    return points * signs
