"""The pairs that ``peers.py`` runs on, how they are misaligned, and how an error is measured; NumPy, SciPy and SimpleITK alone.

Words: a *motion* is a rigid map of the moving image's world: so many degrees about a random axis through the middle of its
grid, and so many mm along a random way. *Turning* an image writes the motion into its header and leaves its voxels. Where
both images shared a frame before, the motion is the true map from fixed to moving points. Points are ITK's: LPS mm.
"""

from __future__ import annotations

import pathlib
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

Array = np.ndarray
MOTIONS = {
    "10": (10, 10),
    "20": (20, 20),
    "30": (30, 30),
    "45": (45, 40),
    "60": (60, 60),
    "90": (90, 40),
    "180": (180, 40),
}
MARGIN_MM = 15.0
MOST_POINTS = 2000


@dataclass(frozen=True)
class Pair:
    """Two images of one frame.

    Attributes:
        fixed, moving: files below the folder of real images.
        limit_mm: mean error that counts as success: what the headers are known to agree within, and a voxel or two.
        region: mask file around whose box errors are measured; None for the fixed image's foreground.
    """

    fixed: str
    moving: str
    limit_mm: float
    region: str | None = None


def template(fixed: str, moving: str, limit_mm: float) -> Pair:
    return Pair(f"templates-mni/{fixed}.nii.gz", f"templates-mni/{moving}.nii.gz", limit_mm)


def patient(number: str, moving: str, limit_mm: float) -> Pair:
    folder = f"ct-mr-pet/STS_{number}"
    return Pair(f"{folder}/CT_image.nii.gz", f"{folder}/{moving}_image.nii.gz", limit_mm, f"{folder}/CT_mask.nii.gz")


PAIRS = {
    "T1-T2": template("spm12_avg152T1", "spm12_avg152T2", 1.0),
    "T1-PD": template("spm12_avg152T1", "spm12_avg152PD", 1.0),
    "T1-CT": template("spm12_avg152T1", "clinical_scct_CT", 2.2),
    "T1-PET": template("spm12_T1", "spm12_PET", 5.0),
    "STS_035 CT-T1": patient("035", "MR_T1", 3.3),
    "STS_035 CT-PET": patient("035", "PET", 5.6),
    "STS_048 CT-T1": patient("048", "MR_T1", 3.5),
    "STS_048 CT-PET": patient("048", "PET", 2.9),
    "spine T1-T2": Pair("spine-t1-t2/t1w.nii.gz", "spine-t1-t2/t2.nii.gz", 3.0, "spine-t1-t2/t1w_seg-manual.nii.gz"),
    "oblique": Pair("oblique/someones_anatomy.nii.gz", "oblique/someones_epi.nii.gz", 4.0),
}


@dataclass(frozen=True)
class Loaded:
    """A pair in memory: its images, and the points ``(N, 3)`` of the fixed one where errors are measured."""

    fixed: sitk.Image
    moving: sitk.Image
    points: Array


def load(pair: Pair, folder: pathlib.Path, spacing: float | None) -> Loaded:
    """Read a pair; where a spacing in mm is given, resample both images to it by linear interpolation."""
    fixed, moving = (sitk.ReadImage(str(folder / name), sitk.sitkFloat32) for name in (pair.fixed, pair.moving))
    points = foreground(fixed) if pair.region is None else box(sitk.ReadImage(str(folder / pair.region)))
    if spacing is not None:
        fixed, moving = resampled(fixed, spacing), resampled(moving, spacing)
    return Loaded(fixed, moving, points)


def resampled(image: sitk.Image, spacing: float) -> sitk.Image:
    """The image on a grid of that spacing with the same first voxel and directions."""
    size = [int((n - 1) * s / spacing) + 1 for n, s in zip(image.GetSize(), image.GetSpacing())]
    steps = [spacing] * image.GetDimension()
    return sitk.Resample(
        image,
        size,
        sitk.Transform(),
        sitk.sitkLinear,
        image.GetOrigin(),
        steps,
        image.GetDirection(),
        0.0,
        sitk.sitkFloat32,
    )


def motion(image: sitk.Image, name: str, seed: int) -> Array:
    """``(4, 4)``, a row of ``MOTIONS`` about the middle of the image; the seed draws its axis and its way."""
    degrees, mm = MOTIONS[name]
    axis, way = np.random.default_rng([degrees, seed]).normal(size=(2, 3))
    middle = np.array(image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()]))
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(degrees * axis / np.linalg.norm(axis), degrees=True).as_matrix()
    matrix[:3, 3] = middle + mm * way / np.linalg.norm(way) - matrix[:3, :3] @ middle
    return matrix


def turn(image: sitk.Image, matrix: Array) -> sitk.Image:
    """The image with its header carried along by a rigid ``(4, 4)``."""
    out = sitk.Image(image)
    out.SetOrigin((matrix[:3, :3] @ image.GetOrigin() + matrix[:3, 3]).tolist())
    out.SetDirection((matrix[:3, :3] @ np.reshape(image.GetDirection(), (3, 3))).ravel().tolist())
    return out


def errors(found: Array, truth: Array, points: Array) -> Array:
    """Distances in mm between where two ``(4, 4)`` maps send the points."""
    difference = found - truth
    return np.linalg.norm(points @ difference[:3, :3].T + difference[:3, 3], axis=1)


def foreground(image: sitk.Image) -> Array:
    """Points of voxels brighter than Otsu's threshold."""
    return points_of(image, sitk.GetArrayFromImage(sitk.OtsuThreshold(image, 0, 1)) > 0)


def box(mask: sitk.Image) -> Array:
    """Points of voxels in the box around a mask, wider by a margin on every side."""
    inside = sitk.GetArrayFromImage(mask) > 0
    margin = np.ceil(MARGIN_MM / np.array(mask.GetSpacing()[::-1])).astype(int)
    ends = [(int(i.min()), int(i.max())) for i in np.nonzero(inside)]
    wide = np.zeros_like(inside)
    wide[tuple(slice(max(0, low - m), high + m + 1) for (low, high), m in zip(ends, margin))] = True
    return points_of(mask, wide)


def points_of(image: sitk.Image, inside: Array) -> Array:
    """Points of at most 2000 voxels drawn from those inside, ``(N, 3)``; the array's axes are reversed, as SimpleITK's are."""
    index = np.argwhere(inside)[:, ::-1]
    index = np.random.default_rng(0).permutation(index)[:MOST_POINTS]
    linear = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    return index @ linear.T + image.GetOrigin()
