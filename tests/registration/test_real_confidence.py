"""The confidence on real patients: right results are trusted, another patient's scan and far starts without a search are not."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medmi import register
from tests.oracles.misalignment import foreground_points, mean_error, read, turned


def test_a_good_pair_is_trusted_and_another_patients_scan_is_not(data):
    fixed = read(data / "ct-mr-pet" / "STS_048" / "CT_image.nii.gz")
    right, _ = turned(read(data / "ct-mr-pet" / "STS_048" / "MR_T1_image.nii.gz"), 20, 20, 0)
    wrong, _ = turned(read(data / "ct-mr-pet" / "STS_014" / "MR_T1_image.nii.gz"), 20, 20, 0)
    good, bad = register(fixed, right), register(fixed, wrong)
    assert good.confidence > 0.6 > 0.1 > bad.confidence
    assert good.expected_error_mm < 6 < 12 < bad.expected_error_mm


def test_templates_are_trusted(data):
    folder = data / "templates-mni"
    moving, motion = turned(read(folder / "spm12_avg152T2.nii.gz"), 45, 40, 1)
    result = register(read(folder / "spm12_avg152T1.nii.gz"), moving)
    points = foreground_points(read(folder / "spm12_avg152T1.nii.gz"))
    assert result.confidence > 0.9
    assert result.expected_error_mm < 1.5
    assert mean_error(result.transform.to_sitk(), motion, points) < result.error_limit_mm


@pytest.mark.slow
def test_confidence_tells_right_from_wrong_over_many_starts(data):
    """From the headers, without a search: near starts succeed, far ones fail."""
    truth, confidence = [], []
    for patient in ("STS_035", "STS_042", "STS_048"):
        folder = data / "ct-mr-pet" / patient
        fixed, moving = read(folder / "CT_image.nii.gz"), read(folder / "MR_T1_image.nii.gz")
        for seed in range(8):
            turn = (5, 10, 30, 60)[seed % 4]
            away, motion = turned(moving, turn, turn, seed)
            result = register(fixed, away, initial="identity", seed=seed)
            right = mean_error(result.transform.to_sitk(), motion, foreground_points(fixed)) < result.error_limit_mm
            truth.append(right)
            confidence.append(result.confidence)
    assert 3 < np.sum(truth) < 21
    assert roc_auc_score(truth, confidence) > 0.95
