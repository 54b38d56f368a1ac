"""A scene of Gaussian blobs in closed form, seen by two images on unlike oblique grids with a known map between them.

Nothing is resampled: a voxel's value is the scene's at its world point, so neither interpolation nor the transform code of medmi can
share an error with the truth. Truths are RAS matrices ``(d + 1, d + 1)``, fixed to moving, made with SciPy.
"""

from __future__ import annotations

import pathlib

import numpy as np
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from scipy.linalg import expm

from medmi.grid import Grid
from tests.oracles.grids import itk_image, oblique_grid

SHAPES = {2: ((52, 41), (44, 47)), 3: ((44, 34, 23), (37, 41, 21))}
CONTRASTS = {"same": lambda v: v, "other": lambda v: np.cos(2.5 * v) - 0.3 * v}
TURNS = {2: [(0, 1)], 3: [(0, 1), (0, 2), (1, 2)]}


def scene(points: np.ndarray, seed: int = 0, blobs: int = 14) -> np.ndarray:
    """Intensity at world points ``(..., d)``: a sum of blobs, 2 to 6 mm wide, within 17 mm of the origin."""
    rng = np.random.default_rng(seed)
    d = points.shape[-1]
    total = np.zeros(points.shape[:-1])
    for _ in range(blobs):
        way = rng.normal(size=d)
        middle = way / np.linalg.norm(way) * rng.uniform(2, 17)
        width, height = rng.uniform(2, 6), rng.uniform(0.3, 1.0)
        total += height * np.exp(-((points - middle) ** 2).sum(-1) / (2 * width**2))
    return total


def grids(spatial_dims: int) -> tuple[Grid, Grid]:
    """The fixed and the moving grid."""
    first, second = SHAPES[spatial_dims]
    return oblique_grid(first, 0), oblique_grid(second, 1)


def truth(family: str, spatial_dims: int) -> np.ndarray:
    """A map of the family that moves the scene by some mm and about 10 degrees."""
    d = spatial_dims
    generator = np.zeros((d + 1, d + 1))
    if family != "translation":
        for k, (i, j) in enumerate(TURNS[d]):
            generator[i, j], generator[j, i] = -0.17 + 0.05 * k, 0.17 - 0.05 * k
    if family in ("similarity", "affine"):
        generator[range(d), range(d)] = 0.07
    if family == "affine":
        generator[0, 1] += 0.05
        generator[0, 0] -= 0.04
    if family == "homography":
        generator[d, :d] = [0.002, -0.003]
    matrix = expm(generator)
    shift = np.eye(d + 1)
    shift[:d, d] = [2.5, -3.0, 1.5][:d]
    return shift @ matrix


def moved_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """``M [x; 1]`` divided by its last entry."""
    ends = points @ matrix[:, :-1].T + matrix[:, -1]
    return ends[..., :-1] / ends[..., -1:]


def image(values: np.ndarray, grid: Grid) -> MetaTensor:
    """Values ``(*shape)`` or ``(C, *shape)`` as a float32 MetaTensor ``(C, *shape)``."""
    voxels = torch.from_numpy(np.asarray(values, np.float32))
    return MetaTensor(voxels if voxels.ndim > grid.spatial_dims else voxels[None], affine=grid.affine.clone())


def pair(matrix: np.ndarray, contrast: str = "other", seed: int = 0) -> tuple[MetaTensor, MetaTensor]:
    """A fixed and a moving image of one scene that ``matrix`` maps onto each other."""
    fixed, moving = grids(len(matrix) - 1)
    seen = scene(moved_points(np.linalg.inv(matrix), moving.points().numpy()), seed)
    return image(scene(fixed.points().numpy(), seed), fixed), image(CONTRASTS[contrast](seen), moving)


def colours(matrix: np.ndarray, seeds: tuple[int, ...] = (0, 1, 2)) -> tuple[MetaTensor, MetaTensor]:
    """The pair with a scene of its own in each channel; contrasts differ."""
    pairs = [pair(matrix, seed=seed) for seed in seeds]
    fixed, moving = (
        MetaTensor(torch.cat([p[k].as_tensor() for p in pairs]), affine=pairs[0][k].affine) for k in (0, 1)
    )
    return fixed, moving


def error(found: torch.Tensor, matrix: np.ndarray) -> float:
    """Largest distance in mm between where both RAS matrices send the points of the fixed grid within 17 mm of the origin."""
    points = grids(len(matrix) - 1)[0].points().numpy().reshape(-1, len(matrix) - 1)
    points = points[np.linalg.norm(points, axis=-1) < 17]
    return float(np.linalg.norm(moved_points(found.numpy(), points) - moved_points(matrix, points), axis=-1).max())


def as_itk(image: MetaTensor) -> sitk.Image:
    """The first channel as SimpleITK sees it."""
    return itk_image(image.as_tensor()[0], Grid.of(image))


def write_pair(folder: pathlib.Path, matrix: np.ndarray, suffix: str = ".nii.gz") -> tuple[pathlib.Path, pathlib.Path]:
    """The pair as files written by SimpleITK: fixed and moving."""
    paths = folder / f"fixed{suffix}", folder / f"moving{suffix}"
    for path, made in zip(paths, pair(matrix)):
        sitk.WriteImage(as_itk(made), str(path))
    return paths
