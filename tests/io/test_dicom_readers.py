"""medmi's column of the table that ``examples/benchmarks/dicom_readers.py`` prints: no error, or one clear refusal."""

from __future__ import annotations

import importlib.util
import pathlib
import sys
from types import ModuleType

import numpy as np
import pytest

from medmi.validation import InputError


def load(name: str, path: pathlib.Path) -> ModuleType:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where its dataclass looks for it
    spec.loader.exec_module(module)
    return module


SCRIPT = pathlib.Path(__file__).parents[2] / "examples" / "benchmarks" / "dicom_readers.py"
TABLE = load("dicom_readers", SCRIPT)


@pytest.mark.parametrize("case", TABLE.CASES)
def test_every_row(tmp_path, case):
    truth = TABLE.write(tmp_path, case)
    read = TABLE.READERS["medmi"]
    if case in TABLE.REFUSED:
        with pytest.raises(InputError, match=TABLE.REFUSED[case]) as refused:
            read(tmp_path)
        assert "\n" not in str(refused.value)
        return
    values, affine = read(tmp_path)
    assert truth.error(values, affine) < 1e-4
    left_out = len(truth.places) - values.size
    assert left_out == (143 if case == "series + localizer" else 0)


def test_the_measure_sees_an_error(tmp_path):
    truth = TABLE.write(tmp_path, "oblique")
    values, affine = TABLE.READERS["medmi"](tmp_path)
    shifted = affine.copy()
    shifted[0, 3] += 0.5
    assert truth.error(values, shifted) == pytest.approx(0.5, abs=1e-4)
    assert truth.error(values[:, :, ::-1], affine) == pytest.approx(12.5, abs=1e-4)
    assert truth.error(values - 5000, affine) == np.inf


def test_the_script_prints_a_row_for_every_case(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--readers", "medmi", "SimpleITK"])
    TABLE.main()
    said = capsys.readouterr().out
    assert said.count("  medmi ") == said.count("  SimpleITK ") == len(TABLE.CASES)
    assert "medmi" in said.splitlines()[0] and "pydicom" in said.splitlines()[0]
