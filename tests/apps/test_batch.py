"""``medmi batch``: results as of single runs, the summary, resuming, failing pairs, options, every kind of worker."""

from __future__ import annotations

import csv
import json
import os
import pathlib
import shutil

import nibabel
import numpy as np
import pytest
import torch

from medmi.apps import batch
from medmi.io import read_transform, write_transform
from medmi.spatial import LinearTransform
from tests.io.registering import STUDY, fixed_series, moving_series
from tests.oracles.command_line import files, run
from tests.oracles.scene import error, truth, write_pair

WRITTEN = ["comparison.png", "moved.nii.gz", "report.html", "result.json", "transform.tfm"]
QUICK = ("--preset", "fast")


@pytest.fixture
def pairs(tmp_path) -> pathlib.Path:
    """Two pairs with their table, whose paths are relative to it, in the folder ``in``."""
    folder = tmp_path / "in"
    lines = ["id,fixed,moving"]
    for name, family in (("first", "rigid"), ("second", "translation")):
        (folder / name).mkdir(parents=True)
        write_pair(folder / name, truth(family, 3))
        lines.append(f"{name},{name}/fixed.nii.gz,{name}/moving.nii.gz")
    return table(folder, *lines)


def table(folder: pathlib.Path, *lines: str) -> pathlib.Path:
    path = folder / "pairs.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def summary(out: pathlib.Path) -> list[dict[str, str]]:
    with (out / "summary.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def matrix(folder: pathlib.Path) -> torch.Tensor:
    return read_transform(folder / "transform.tfm").matrix


def result(folder: pathlib.Path) -> dict[str, object]:
    return json.loads((folder / "result.json").read_text())


def test_each_pair_gets_what_register_writes_and_a_row(pairs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path.parent)
    out = tmp_path / "out"
    done = run("batch", pairs, "-o", out, *QUICK)
    assert (done.code, done.err) == (0, "")
    assert done.out == f"2 pairs, 0 failed, 0 finished before: results in {out}\n"
    assert files(out) == ["first", "second", "summary.csv"]
    rows = summary(out)
    assert [row["id"] for row in rows] == ["first", "second"]
    assert list(rows[0]) == ["id", "status", "similarity", "confidence", "seconds", "message"]
    for row, family in zip(rows, ("rigid", "translation")):
        folder = out / row["id"]
        assert files(folder) == WRITTEN
        assert error(matrix(folder), truth(family, 3)) < 0.5
        assert row["status"] == result(folder)["status"] and row["message"] == ""
        assert float(row["similarity"]) == result(folder)["similarity"]
        assert float(row["seconds"]) == result(folder)["seconds"]
    single = pairs.parent / "first" / "fixed.nii.gz", pairs.parent / "first" / "moving.nii.gz"
    assert run("register", *single, "-o", tmp_path / "single", *QUICK).code == 0
    assert torch.equal(matrix(tmp_path / "single"), matrix(out / "first"))
    moved = [nibabel.load(folder / "moved.nii.gz").get_fdata() for folder in (tmp_path / "single", out / "first")]
    assert np.array_equal(*moved)


def test_json(pairs, tmp_path):
    done = run("batch", pairs, "-o", tmp_path / "out", *QUICK, "--json")
    assert done.json["pairs"] == 2 and done.json["failed"] == done.json["finished_before"] == 0
    assert [row["id"] for row in done.json["rows"]] == ["first", "second"]
    told = result(tmp_path / "out" / "first")
    assert done.json["rows"][0]["confidence"] == told.get("confidence")
    assert summary(tmp_path / "out")[0]["confidence"] == str(told.get("confidence", ""))


def test_every_option_reaches_the_solver(pairs, tmp_path):
    order = ["--transform", "translation,rigid", "--similarity", "nmi", "--initial", "geometry", "--seed", 5]
    asked = [*order, *QUICK, "--device", "cpu", "--threads", 2]
    assert run("batch", pairs, "-o", tmp_path / "out", *asked).code == 0
    single = pairs.parent / "second" / "fixed.nii.gz", pairs.parent / "second" / "moving.nii.gz"
    assert run("register", *single, "-o", tmp_path / "single", *asked).code == 0
    assert torch.equal(matrix(tmp_path / "single"), matrix(tmp_path / "out" / "second"))
    told = result(tmp_path / "out" / "second")
    assert (told["transform"], told["similarity_term"], told["initial"], told["seed"]) == (
        *("translation,rigid", "nmi", "geometry"),
        5,
    )


def test_dicom_results_of_each_pair(tmp_path):
    for name in ("ct", "mr"):
        (fixed_series if name == "ct" else moving_series)(tmp_path / name, STUDY)
    path = table(tmp_path, "id,fixed,moving", "a,ct,mr#moving", "b,ct#CT,ct")
    asked = ["--dicom-out", "--initial", "geometry", "--transform", "translation"]
    assert run("batch", path, "-o", tmp_path / "out", *asked, *QUICK).code in (0, 3)
    registered = [row["id"] for row in summary(tmp_path / "out") if row["status"] != "failed"]
    assert "b" in registered
    for name in registered:
        assert files(tmp_path / "out" / name / "dicom") == ["moved", "registration.dcm"]


def test_masks_and_starts_by_row(pairs, tmp_path):
    folder = pairs.parent / "first"
    start = LinearTransform(torch.from_numpy(truth("rigid", 3)), "rigid")
    write_transform(start, folder / "start.tfm")
    images = "first/fixed.nii.gz,first/moving.nii.gz"
    lines = [
        f"a,{images},first/fixed.nii.gz,first/moving.nii.gz,identity",
        f"b,{images},,,first/start.tfm",
        f"c,{images},,,",
    ]
    path = table(pairs.parent, "ID, fixed,moving,fixed_mask,moving_mask,initial", *lines)
    assert run("batch", path, "-o", tmp_path / "out", *QUICK, "--initial", "moments").code == 0
    assert [result(tmp_path / "out" / name)["initial"] for name in "abc"] == ["identity", "file", "moments"]
    masked = ["--fixed-mask", folder / "fixed.nii.gz", "--moving-mask", folder / "moving.nii.gz"]
    single = folder / "fixed.nii.gz", folder / "moving.nii.gz"
    run("register", *single, "-o", tmp_path / "single", *QUICK, *masked, "--initial", "identity")
    assert torch.equal(matrix(tmp_path / "single"), matrix(tmp_path / "out" / "a"))
    assert not torch.equal(matrix(tmp_path / "out" / "c"), matrix(tmp_path / "out" / "a"))


def test_a_failing_pair_stops_no_other(pairs, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("n.nii", "m.nii"):
        nibabel.save(nibabel.Nifti1Image(rng.random((40, 30, 26), np.float32), np.eye(4)), pairs.parent / name)
    shift = torch.tensor([37.5, 0, 0], dtype=torch.float64)
    write_transform(LinearTransform.from_parameters(shift, "translation"), pairs.parent / "rim.tfm")
    (pairs.parent / "text.nii").write_text("not an image")
    images = "second/fixed.nii.gz,second/moving.nii.gz"
    rows = ["none,Doe^John/ct.nii,n.nii,", "text,n.nii,text.nii,", "noise,n.nii,m.nii,rim.tfm", f"good,{images},"]
    path = table(pairs.parent, "id,fixed,moving,initial", *rows)
    done = run("batch", path, "-o", tmp_path / "out", *QUICK)
    assert (done.code, done.err) == (3, "")
    assert "4 pairs, 3 failed" in done.out
    told = summary(tmp_path / "out")
    assert [row["status"] for row in told] == ["failed"] * 3 + [told[3]["status"]]
    assert told[3]["status"] != "failed"
    assert told[0]["message"] == "fixed: no such file or folder"
    assert told[1]["message"].startswith("moving: is not NIfTI")
    assert told[2]["message"] and told[2]["similarity"]
    assert files(tmp_path / "out") == ["good", "noise", "summary.csv"]
    assert files(tmp_path / "out" / "noise") == ["comparison.png", "report.html", "result.json"]


def test_an_unexpected_error_is_a_row_too(pairs, tmp_path, monkeypatch):
    def broken(*_: object) -> None:
        raise ZeroDivisionError(f"in {pairs.parent}/first/fixed.nii.gz")

    monkeypatch.setattr(batch, "register_files", broken)
    assert run("batch", pairs, "-o", tmp_path / "out").code == 3
    assert summary(tmp_path / "out")[0]["message"] == "unexpected ZeroDivisionError: in fixed"


def counted(monkeypatch) -> list[str]:
    """Names of the pairs that are really registered, as it happens."""
    seen: list[str] = []
    real = batch.register_files

    def register(fixed, moving, folder, *rest):
        seen.append(folder.name)
        return real(fixed, moving, folder, *rest)

    monkeypatch.setattr(batch, "register_files", register)
    return seen


def test_resuming_passes_over_what_is_finished_and_unchanged(pairs, tmp_path, monkeypatch):
    seen, out = counted(monkeypatch), tmp_path / "out"
    command = ["batch", pairs, "-o", out, *QUICK]
    assert run(*command).code == 0
    before = summary(out)
    again = run(*command)
    assert (again.code, seen) == (0, ["first", "second"])
    assert "2 finished before" in again.out
    for row, old in zip(summary(out), before):
        assert row == old | {"message": "finished in an earlier run"}
    assert run(*command, "--threads", 2).code == 0 and len(seen) == 2
    moved = tmp_path / "elsewhere"
    shutil.copytree(pairs.parent, moved)
    assert run("batch", moved / "pairs.csv", *command[2:]).code == 0 and len(seen) == 2
    assert run(*command, "--seed", 1).code == 0 and seen[2:] == ["first", "second"]
    assert run(*command, "--seed", 1, "--no-resume").code == 0 and seen[4:] == ["first", "second"]


def test_a_changed_input_and_an_unfinished_folder_are_done_again(pairs, tmp_path, monkeypatch):
    out = tmp_path / "out"
    command = ["batch", pairs, "-o", out, *QUICK]
    run(*command)
    seen = counted(monkeypatch)
    write_pair(pairs.parent / "first", truth("translation", 3))
    run(*command)
    assert seen == ["first"] and error(matrix(out / "first"), truth("translation", 3)) < 0.5
    (out / "second" / "result.json").unlink()
    run(*command)
    assert seen == ["first", "second"]
    (out / "first" / "result.json").write_text('{"status": 3}')
    (out / "second" / "result.json").write_text("[half wri")
    run(*command)
    assert sorted(seen[2:]) == ["first", "second"]


def test_what_an_earlier_run_left_of_a_pair_that_now_fails_is_gone(pairs, tmp_path):
    out = tmp_path / "out"
    run("batch", pairs, "-o", out, *QUICK)
    (out / "first" / "notes.txt").write_text("mine")
    (pairs.parent / "first" / "moving.nii.gz").unlink()
    done = run("batch", pairs, "-o", out, *QUICK, "--json")
    assert done.code == 3 and done.json["failed"] == done.json["finished_before"] == 1
    assert files(out / "first") == ["notes.txt"]
    write_pair(pairs.parent / "first", truth("rigid", 3))
    assert run("batch", pairs, "-o", out, *QUICK).code == 0  # a failed pair is tried again
    assert files(out / "first") == sorted([*WRITTEN, "notes.txt"])


def test_the_summary_grows_with_each_pair_and_is_never_half_there(pairs, tmp_path, monkeypatch):
    out, seen = tmp_path / "out", []
    real = batch.row_of

    def watched(job):
        seen.append([row["id"] for row in summary(out)])
        return real(job)

    monkeypatch.setattr(batch, "row_of", watched)
    run("batch", pairs, "-o", out, *QUICK)
    assert seen == [[], ["first"]]
    assert [name for name in files(out) if name.startswith(".")] == []


def test_ids_become_folder_names(pairs, tmp_path):
    images = "second/fixed.nii.gz,second/moving.nii.gz"
    path = table(pairs.parent, "id,fixed,moving", f"P 7: löft,{images}", f'"a,b",{images}')
    assert run("batch", path, "-o", tmp_path / "out", *QUICK).code == 0
    assert files(tmp_path / "out") == ["P_7__löft", "a_b", "summary.csv"]
    assert [row["id"] for row in summary(tmp_path / "out")] == ["P 7: löft", "a,b"]


def test_a_table_saved_by_a_spreadsheet(pairs, tmp_path):
    text = pairs.read_text().replace("\n", "\r\n").replace("second,", "\r\n\r\nsecond,")
    pairs.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert run("batch", pairs, "-o", tmp_path / "out", *QUICK).code == 0


def test_progress_goes_from_none_to_all(pairs, tmp_path):
    told: list[float] = []
    order = batch.Order(preset="fast")
    batch.run_batch(pairs, tmp_path / "out", order, batch.Crew(), True, told.append)
    assert told == [0.5, 1.0]
    batch.run_batch(pairs, tmp_path / "out", order, batch.Crew(), True, told.append)
    assert os.listdir(tmp_path / "out") and told == [0.5, 1.0]
