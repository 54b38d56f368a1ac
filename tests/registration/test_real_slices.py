"""2D slices of one brain under published shifts, turns and scales, with and without turned direction cosines."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest
import SimpleITK as sitk

from medmi import register
from tests.oracles.misalignment import foreground_points, mapped

PIXELS = 0.5
PD, T1 = "BrainProtonDensitySliceBorder20", "BrainT1SliceBorder20"
SHIFTED, TURNED, SCALED = (f"BrainProtonDensitySlice{end}" for end in ("Shifted13x17y", "R10X13Y17", "R10X13Y17S12"))
# Fixed, moving, family; all fixed slices lie on one lattice, so one truth in pixels holds for PD and T1, turned or not.
CASES = [
    *[(f"{fixed}.png", f"{SHIFTED}.png", "rigid") for fixed in (PD, T1)],
    *[(f"{fixed}.png", f"{TURNED}.png", "rigid") for fixed in (PD, T1)],
    *[(f"{fixed}.png", f"{SCALED}.png", family) for fixed in (PD, T1) for family in ("similarity", "affine")],
    *[(f"{fixed}DirectionPlus30.mhd", f"{SHIFTED}DirectionPlus30.mhd", "rigid") for fixed in (PD, T1)],
    *[(f"{fixed}DirectionPlus30.mhd", f"{TURNED}.png", "rigid") for fixed in (PD, T1)],
    (f"{PD}.mhd", f"{SHIFTED}.mhd", "rigid"),
    (f"{PD}.mhd", f"{SHIFTED}DirectionPlus30.mhd", "rigid"),
]


def grey(path: pathlib.Path) -> sitk.Image:
    image = sitk.ReadImage(str(path))
    if image.GetNumberOfComponentsPerPixel() > 1:
        image = sitk.VectorIndexSelectionCast(image, 0)
    return sitk.Cast(image, sitk.sitkFloat32)


def true_pixels(folder: pathlib.Path, moving: str, pixels: np.ndarray) -> np.ndarray:
    """Where the published transform about its centre sends pixels ``(N, 2)``."""
    table = json.loads((folder / "GROUND_TRUTH.json").read_text())
    name = moving.split(".")[0].removesuffix("DirectionPlus30")
    row = table[f"{PD} -> {name}"]
    angle, centre = np.deg2rad(row["deg"]), np.array(table["center"], float)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * row.get("scale", 1.0)
    return (pixels - centre) @ turn.T + centre + row["t"]


def pixels_of(image: sitk.Image, points: np.ndarray) -> np.ndarray:
    return np.array([image.TransformPhysicalPointToContinuousIndex(p) for p in points.tolist()])


def pixel_error(folder: pathlib.Path, case: tuple[str, str, str], similarity: str = "mi", seed: int = 0) -> float:
    """Largest error in pixels over the head."""
    fixed, moving = grey(folder / case[0]), grey(folder / case[1])
    result = register(folder / case[0], folder / case[1], transform=case[2], similarity=similarity, seed=seed)
    points = foreground_points(fixed)
    found = pixels_of(moving, mapped(result.transform.to_sitk(), points))
    return float(np.linalg.norm(found - true_pixels(folder, case[1], pixels_of(fixed, points)), axis=1).max())


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_known_transforms(data, case):
    assert pixel_error(data / "2d-known-transforms", case) < PIXELS


@pytest.mark.slow
@pytest.mark.parametrize("similarity", ["mi", "nmi"])
@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_known_transforms_with_other_draws(data, case, similarity):
    errors = [pixel_error(data / "2d-known-transforms", case, similarity, seed) for seed in range(1, 6)]
    assert max(errors) < PIXELS, errors
