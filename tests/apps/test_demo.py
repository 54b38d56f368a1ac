"""``medmi demo``: a known misalignment, found; the errors it prints are those of the files it writes."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from medmi.apps.demo import head_points
from medmi.simulation.phantom import demo_pair
from tests.oracles.command_line import files, run
from tests.oracles.misalignment import mapped
from tests.oracles.scene import moved_points

LPS = torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_demo_finds_the_known_motion(tmp_path, seed):
    outcome = run("demo", "-o", tmp_path / "demo", "--seed", seed, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert {"transform.tfm", "moved.nii.gz", "comparison.png", "report.html"} <= set(files(tmp_path / "demo"))
    summary = outcome.json
    assert summary["error_before_mm"] > 20 and summary["error_after_mm"] < 1
    fixed, _, truth = demo_pair(seed)
    points = head_points(fixed)
    found = mapped(sitk.ReadTransform(str(tmp_path / "demo" / "transform.tfm")), (points * LPS).numpy()) * LPS.numpy()
    error = np.linalg.norm(found - moved_points(truth.numpy(), points.numpy()), axis=-1).mean()
    assert error == pytest.approx(summary["error_after_mm"], abs=1e-6)


def test_the_points_lie_in_the_head():
    fixed, _, _ = demo_pair(0)
    points = head_points(fixed, every=16)
    assert len(points) > 100 and points.shape[-1] == 3
    assert float(points.norm(dim=-1).max()) < 150


@pytest.mark.slow
def test_the_line_it_prints(tmp_path):
    outcome = run("demo", "-o", tmp_path / "demo")
    assert outcome.out.startswith("mean error ") and outcome.out.count("\n") == 1
    assert "comparison.png" in outcome.out and (tmp_path / "demo" / "comparison.png").exists()
