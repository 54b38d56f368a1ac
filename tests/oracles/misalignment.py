"""Known misalignments of real images, and errors in mm, with SimpleITK, NumPy and SciPy alone.

*Turning* an image moves its header, not its voxels, by a rigid P (old point -> new point); where fixed and moving shared a frame before,
P is then the true map from fixed to moving. Points are ITK's (LPS mm), rows of ``(N, d)`` arrays.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import numpy as np
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

Map = Callable[[np.ndarray], np.ndarray]
BOX_MARGIN_MM = 15.0


def read(path: pathlib.Path) -> sitk.Image:
    """A file as a float32 image, scalar where it was."""
    image = sitk.ReadImage(str(path))
    return sitk.Cast(image, sitk.sitkFloat32) if image.GetNumberOfComponentsPerPixel() == 1 else image


def rotation(degrees: float, spatial_dims: int, rng: np.random.Generator) -> np.ndarray:
    """A rotation ``(d, d)`` by that angle about a random axis; in 2D of random sign."""
    if spatial_dims == 2:
        return Rotation.from_euler("z", rng.choice([-1, 1]) * degrees, degrees=True).as_matrix()[:2, :2]
    axis = rng.normal(size=3)
    return Rotation.from_rotvec(degrees * axis / np.linalg.norm(axis), degrees=True).as_matrix()


def turned(image: sitk.Image, degrees: float, mm: float, seed: int) -> tuple[sitk.Image, Map]:
    """The image with its header turned about its middle and shifted, and that motion as a map of points."""
    rng = np.random.default_rng(seed)
    d = image.GetDimension()
    turn, way = rotation(degrees, d, rng), rng.normal(size=d)
    middle = middle_of(image)
    end = middle + mm * way / np.linalg.norm(way)

    def motion(points: np.ndarray) -> np.ndarray:
        return (np.asarray(points) - middle) @ turn.T + end

    out = sitk.Image(image)
    out.SetOrigin(motion(np.array(image.GetOrigin())).tolist())
    out.SetDirection((turn @ np.array(image.GetDirection()).reshape(d, d)).ravel().tolist())
    return out, motion


def middle_of(image: sitk.Image) -> np.ndarray:
    return np.array(image.TransformContinuousIndexToPhysicalPoint([(size - 1) / 2 for size in image.GetSize()]))


def enlarged(image: sitk.Image, factor: float) -> tuple[sitk.Image, Map]:
    """The image with its header made so much larger about its middle, and that as a map of points."""
    middle = middle_of(image)

    def growth(points: np.ndarray) -> np.ndarray:
        return middle + factor * (np.asarray(points) - middle)

    out = sitk.Image(image)
    out.SetOrigin(growth(np.array(image.GetOrigin())).tolist())
    out.SetSpacing((factor * np.array(image.GetSpacing())).tolist())
    return out, growth


def voxel_points(image: sitk.Image, index: np.ndarray) -> np.ndarray:
    """Points of voxels ``(N, d)`` given in ITK's index order."""
    d = image.GetDimension()
    linear = np.array(image.GetDirection()).reshape(d, d) * np.array(image.GetSpacing())
    return np.asarray(index) @ linear.T + np.array(image.GetOrigin())


def _thinned(index: np.ndarray, most: int = 2000) -> np.ndarray:
    return index[np.random.default_rng(0).permutation(len(index))[:most]]


def foreground_points(image: sitk.Image) -> np.ndarray:
    """Points of at most 2000 voxels brighter than Otsu's threshold."""
    bright = sitk.GetArrayFromImage(sitk.OtsuThreshold(image, 0, 1)).T
    return voxel_points(image, _thinned(np.argwhere(bright > 0)))


def box_points(mask: sitk.Image) -> np.ndarray:
    """Points of at most 2000 voxels of the box around a mask, 15 mm wider on every side."""
    inside = np.argwhere(sitk.GetArrayFromImage(mask).T > 0)
    margin = np.ceil(BOX_MARGIN_MM / np.array(mask.GetSpacing())).astype(int)
    low = np.maximum(inside.min(0) - margin, 0)
    high = np.minimum(inside.max(0) + margin + 1, mask.GetSize())
    return voxel_points(mask, _thinned(np.argwhere(np.ones(high - low, bool)) + low))


def mapped(transform: sitk.Transform, points: np.ndarray) -> np.ndarray:
    """Where an ITK transform sends points."""
    return np.array([transform.TransformPoint(p) for p in np.asarray(points).tolist()])


def mean_error(transform: sitk.Transform, truth: Map, points: np.ndarray) -> float:
    """Mean distance in mm between where the transform and the truth send the points."""
    return float(np.linalg.norm(mapped(transform, points) - truth(points), axis=1).mean())
