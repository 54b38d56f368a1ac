"""The example runs as its docstring says, on a pair of its own making."""

from __future__ import annotations

import pathlib
import runpy
import sys

import SimpleITK as sitk

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "monai_pipeline.py"


def test_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "-o", str(tmp_path)])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    said = capsys.readouterr().out
    assert "workers find the same bits: True" in said
    assert "prediction on the moving grid: (1, 64, 40, 70) as (1, 64, 40, 70)" in said
    written = sitk.ReadTransform(str(tmp_path / "moving" / "moving_transform.tfm"))
    # The pair was made with a turn of 0.2 rad about z and a shift of (6, -4, 3) mm in RAS.
    for found, made in zip(written.TransformPoint((0.0, 0.0, 0.0)), (-6.0, 4.0, 3.0)):
        assert abs(found - made) < 0.5
    assert (tmp_path / "labels" / "labels_moved.nii.gz").exists()
