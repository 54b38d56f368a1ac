"""Grids that hide no mistake, and the same geometry as SimpleITK sees it, built with NumPy alone."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
import torch
from scipy.spatial.transform import Rotation

from medmi.grid import Grid

SHAPES = {2: (19, 23), 3: (19, 23, 29)}


def direction(spatial_dims: int, seed: int = 0) -> np.ndarray:
    """An oblique orthonormal matrix ``(d, d)``; odd seeds give a left-handed one."""
    rng = np.random.default_rng(seed)
    turn = Rotation.from_rotvec(rng.uniform(-0.6, 0.6, 3)).as_matrix()
    if spatial_dims == 2:
        angle = rng.uniform(0.2, 0.6)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn[:, 0] *= -1 if seed % 2 else 1
    return turn


def oblique_grid(shape: tuple[int, ...], seed: int = 0) -> Grid:
    """Oblique, anisotropic (about 0.8, 1.1, 1.9 mm) and with its middle some mm away from the origin of the world."""
    d = len(shape)
    rng = np.random.default_rng(seed + 100)
    spacing = np.array([0.8, 1.1, 1.9])[:d] * rng.uniform(0.9, 1.1, d)
    linear = direction(d, seed) * spacing
    middle = rng.uniform(-4, 4, d)
    affine = np.eye(d + 1)
    affine[:d, :d] = linear
    affine[:d, d] = middle - linear @ ((np.array(shape) - 1) / 2)
    return Grid(shape, torch.from_numpy(affine))


def itk_image(values: np.ndarray | torch.Tensor, grid: Grid) -> sitk.Image:
    """The SimpleITK image of an array ``(*grid.shape)``: RAS to LPS, spacing and direction taken apart."""
    d = grid.spatial_dims
    image = sitk.GetImageFromArray(np.ascontiguousarray(np.asarray(values).T))
    lps = np.diag([-1.0, -1.0, 1.0][:d]) @ grid.affine[:d].numpy()
    spacing = np.linalg.norm(lps[:, :d], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:, d].tolist())
    image.SetDirection((lps[:, :d] / spacing).ravel().tolist())
    return image


def array_of(image: sitk.Image) -> np.ndarray:
    """The voxels of a scalar SimpleITK image in tensor-axis order."""
    return sitk.GetArrayFromImage(image).T
