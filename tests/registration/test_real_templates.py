"""Real brain templates of three contrasts, apart by known rigid motions up to 30 degrees and 30 mm."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import SimpleITK as sitk

from medmi import register
from tests.oracles.misalignment import foreground_points, mean_error, read, turned

# Mean error over the head in mm; the templates agree with each other within half of it.
LIMITS = {"spm12_avg152T2": 1.0, "spm12_avg152PD": 1.0, "clinical_scct_CT": 2.2}
# Every combination of a small, a middling and the largest turn with the largest shift comes up within 3 seeds.
FAST, ALL = range(3), range(20)


@pytest.fixture(scope="module")
def t1(data: pathlib.Path) -> sitk.Image:
    return read(data / "templates-mni" / "spm12_avg152T1.nii.gz")


def check(fixed: sitk.Image, data: pathlib.Path, name: str, seed: int) -> None:
    degrees, mm = (
        [(30, 30), (17, 30), (30, 11)][seed] if seed in FAST else np.random.default_rng(seed).uniform(0, 30, 2)
    )
    moving, motion = turned(read(data / "templates-mni" / f"{name}.nii.gz"), degrees, mm, seed)
    result = register(fixed, moving)
    assert mean_error(result.transform.to_sitk(), motion, foreground_points(fixed)) < LIMITS[name]


@pytest.mark.parametrize("seed", FAST)
@pytest.mark.parametrize("name", LIMITS)
def test_onto_t1(t1, data, name, seed):
    check(t1, data, name, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", ALL)
@pytest.mark.parametrize("name", LIMITS)
def test_onto_t1_from_twenty_poses(t1, data, name, seed):
    check(t1, data, name, seed)


@pytest.mark.parametrize("family", ["similarity", "affine"])
def test_a_scaled_template(t1, data, family):
    moving, motion = turned(read(data / "templates-mni" / "spm12_avg152T2.nii.gz"), 20, 20, 1)
    scale, corner = 1.2, np.array(moving.GetOrigin())
    moving.SetSpacing([scale * s for s in moving.GetSpacing()])
    result = register(t1, moving, transform=family)

    def truth(points: np.ndarray) -> np.ndarray:
        return corner + scale * (motion(points) - corner)

    assert mean_error(result.transform.to_sitk(), truth, foreground_points(t1)) < 1.2
