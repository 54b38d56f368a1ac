"""A small pair of two contrasts of one anatomy with known motion, in memory or as files, and oracles by SimpleITK."""

from __future__ import annotations

import pathlib

import nibabel
import numpy as np
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from scipy.spatial.transform import Rotation

from medmi.grid import Grid
from tests.oracles.grids import itk_image, oblique_grid

FIXED_SHAPE = {2: (37, 43), 3: (31, 37, 23)}
MOVING_SHAPE = {2: (41, 33), 3: (29, 33, 27)}
OPTIONS = {"transform": "rigid", "preset": "fast", "initial": "identity", "seed": 5}


def motion(spatial_dims: int) -> torch.Tensor:
    """A rigid matrix, fixed world to moving world: 0.1 rad and some mm."""
    matrix = np.eye(spatial_dims + 1)
    turn = Rotation.from_rotvec([0.04, -0.05, 0.08]).as_matrix()
    matrix[:-1, :-1] = turn if spatial_dims == 3 else Rotation.from_rotvec([0, 0, 0.1]).as_matrix()[:2, :2]
    matrix[:-1, -1] = [1.5, -2.0, 1.0][:spatial_dims]
    return torch.from_numpy(matrix)


def anatomy(points: torch.Tensor) -> torch.Tensor:
    """A few unlike blobs about the origin of the world, 0 to about 1."""
    d = points.shape[-1]
    rng = np.random.default_rng(2)
    total = torch.zeros(points.shape[:-1], dtype=torch.float64)
    for _ in range(9):
        centre, width = torch.from_numpy(rng.uniform(-11, 11, 3)[:d]), rng.uniform(2.5, 5)
        total += rng.uniform(0.3, 0.9) * torch.exp(-(points - centre).square().sum(-1) / (2 * width**2))
    return total


def pair(spatial_dims: int = 3, seed: int = 0) -> tuple[MetaTensor, MetaTensor]:
    """Fixed and moving ``(1, *spatial)`` of unlike grids; moving has another contrast and has moved."""
    fixed, moving = oblique_grid(FIXED_SHAPE[spatial_dims], seed), oblique_grid(MOVING_SHAPE[spatial_dims], seed + 1)
    there = torch.linalg.inv(motion(spatial_dims))
    points = moving.points() @ there[:-1, :-1].T + there[:-1, -1]
    first, second = anatomy(fixed.points()), (anatomy(points) * 4).cos() * 300
    return tuple(
        MetaTensor(voxels.float()[None], affine=grid.affine, meta={"filename_or_obj": f"/somewhere/{name}.nii.gz"})
        for voxels, grid, name in ((first, fixed, "T1"), (second, moving, "T2"))
    )


def labels(image: MetaTensor, dtype: torch.dtype = torch.uint8) -> MetaTensor:
    """Three labels by intensity."""
    values = image.as_tensor()
    return MetaTensor(((values > values.mean()).to(dtype) + (values > values.quantile(0.8))) * 3, affine=image.affine)


def files(folder: pathlib.Path, count: int = 1) -> list[dict[str, str]]:
    """Pairs of NIfTI files, each in a folder of its own."""
    items = []
    for number in range(count):
        (folder / f"p{number}").mkdir(parents=True)
        item = {}
        for key, image in zip(("fixed", "moving"), pair(3, 2 * number)):
            item[key] = str(folder / f"p{number}" / f"{key}.nii.gz")
            nibabel.save(nibabel.Nifti1Image(image[0].numpy(), image.affine.numpy()), item[key])
        items.append(item)
    return items


def itk_affine(matrix: torch.Tensor) -> sitk.Transform:
    """A RAS matrix as SimpleITK transform, the frames exchanged with NumPy."""
    d = len(matrix) - 1
    flip = np.diag([-1.0, -1.0, 1.0, 1.0][: d + 1])
    lps = flip @ matrix.numpy() @ flip
    transform = sitk.AffineTransform(d)
    transform.SetMatrix(lps[:-1, :-1].ravel().tolist())
    transform.SetTranslation(lps[:-1, -1].tolist())
    return transform


def itk_resampled(
    image: MetaTensor, transform: sitk.Transform, reference: MetaTensor, how: int = sitk.sitkLinear
) -> torch.Tensor:
    """``SimpleITK.Resample`` of channel 0, ``(*reference)``."""
    moving, fixed = (itk_image(i[0].numpy().astype(np.float32), Grid.of(i)) for i in (image, reference))
    return torch.from_numpy(sitk.GetArrayFromImage(sitk.Resample(moving, fixed, transform, how, 0.0)).T.copy())


def share_equal(first: torch.Tensor, second: torch.Tensor, tolerance: float) -> float:
    """Share of voxels that agree; edges of the moving image may differ by rounding."""
    return float(((first.double() - second.double()).abs() <= tolerance).double().mean())


def motion_error(matrix: torch.Tensor, spatial_dims: int) -> float:
    """Largest distance in mm between a matrix and the truth over the anatomy."""
    ends = torch.cartesian_prod(*[torch.tensor([-10.0, 10.0], dtype=torch.float64)] * spatial_dims)
    wrong = matrix - motion(spatial_dims)
    return float((ends @ wrong[:-1, :-1].T + wrong[:-1, -1]).norm(dim=-1).max())
