"""Result folders are whole or absent; JSON holds only what JSON knows."""

from __future__ import annotations

import json
import math
import os
import pathlib

import pytest

from medmi import InputError
from medmi.apps.output import as_json, result_folder
from tests.oracles.command_line import files


def test_files_appear_together_at_the_end(tmp_path):
    target = tmp_path / "out"
    with result_folder(target) as work:
        (work / "result.json").write_text("new")
        (work / "moved.nii.gz").write_text("new")
        assert work.parent == tmp_path and not target.exists()
    assert files(tmp_path) == ["out"] and files(target) == ["moved.nii.gz", "result.json"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_what_was_there(tmp_path, error):
    target = tmp_path / "out"
    target.mkdir()
    (target / "result.json").write_text("earlier")
    with pytest.raises(error), result_folder(target) as work:
        (work / "result.json").write_text("new")
        raise error
    assert files(target) == ["result.json"] and (target / "result.json").read_text() == "earlier"


def test_results_of_an_earlier_run_go_and_other_files_stay(tmp_path):
    for name in ("transform.tfm", "transform.h5", "moved.nii.gz", "report.html", "notes.txt"):
        (tmp_path / name).write_text("earlier")
    with result_folder(tmp_path) as work:
        (work / "result.json").write_text("new")
    assert files(tmp_path) == ["notes.txt", "result.json"]


def test_where_the_result_is_the_rest_is_too(tmp_path, monkeypatch):
    """In a folder that exists, an interruption between two files leaves none that looks whole."""
    target = tmp_path / "out"
    target.mkdir()
    for name in ("result.json", "transform.tfm"):
        (target / name).write_text("earlier")
    real, moved = os.replace, []

    def interrupted(source, place):
        real(source, place)
        moved.append(pathlib.Path(place).name)
        if moved[-1] == "transform.tfm":
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), result_folder(target) as work:
        for name in ("moved.nii.gz", "result.json", "transform.tfm"):
            (work / name).write_text("new")
    assert moved == ["moved.nii.gz", "transform.tfm"] and "result.json" not in files(target)


def test_a_new_folder_has_the_permissions_of_any_other(tmp_path):
    (tmp_path / "other").mkdir()
    with result_folder(tmp_path / "out") as work:
        (work / "result.json").write_text("new")
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_folders_are_made_as_deep_as_asked(tmp_path):
    with result_folder(tmp_path / "a" / "b" / "c") as work:
        (work / "result.json").write_text("new")
    assert files(tmp_path / "a" / "b" / "c") == ["result.json"]


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for target in (tmp_path / "file" / "below", tmp_path / "file"):
        with pytest.raises(InputError, match=r"cannot be written .*; choose a folder"), result_folder(target) as work:
            (work / "result.json").write_text("new")
    assert files(tmp_path) == ["file"]


def test_numbers_that_json_cannot_hold_become_null():
    value = {"a": math.nan, "b": [1.5, math.inf, {"c": -math.inf}], "d": (1, "text", None, True)}
    expected = {"a": None, "b": [1.5, None, {"c": None}], "d": [1, "text", None, True]}
    assert json.loads(as_json(value), parse_constant=pytest.fail) == expected
