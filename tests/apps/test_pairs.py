"""The table of pairs: what is refused, in one line that names row and column, with nothing written."""

from __future__ import annotations

import pathlib

import pytest

from medmi.apps.pairs import Pair, read_pairs
from medmi.validation import InputError
from tests.oracles.command_line import files, run

HEADER = "id,fixed,moving"
ROW = "a,f.nii,m.nii"
WITH_START = "id,fixed,moving,initial"
REFUSED = {
    "nothing": ("", ["is empty"]),
    "only blank lines": ("\n\n", ["row 1", "no column id"]),
    "no header": (f"{ROW}\n", ["row 1, column 1", "unknown name 'a'"]),
    "another separator": ("id;fixed;moving\n", ["row 1, column 1", "id;fixed;moving"]),
    "a column missing": ("id,fixed\na,f.nii\n", ["row 1", "no column moving"]),
    "a column misspelt": ("id,fixed,movng\n", ["row 1, column 3", "did you mean 'moving'?"]),
    "a column twice": ("id,fixed,moving,fixed\n", ["row 1, column fixed", "twice"]),
    "no pair": (f"{HEADER}\n\n", ["no row below its header"]),
    "a cell too many": (f"{HEADER}\n{ROW}\n{ROW},x\n", ["row 3", "4 cells, the header 3"]),
    "a cell too few": (f"{HEADER}\n\na,f.nii\n", ["row 3", "2 cells, the header 3"]),
    "no id": (f"{HEADER}\n ,f.nii,m.nii\n", ["row 2, column id", "is empty"]),
    "no fixed image": (f"{HEADER}\na,,m.nii\n", ["row 2, column fixed", "is empty"]),
    "no moving image": (f"{HEADER}\n{ROW}\nb,f.nii,\n", ["row 3, column moving", "is empty"]),
    "an id above": (f"{HEADER}\n..,f.nii,m.nii\n", ["row 2, column id", "path or a hidden name"]),
    "an id that is a path": (f"{HEADER}\n../../etc,f.nii,m.nii\n", ["row 2, column id", "path or a hidden name"]),
    "an absolute id": (f"{HEADER}\n/tmp/x,f.nii,m.nii\n", ["row 2, column id", "path or a hidden name"]),
    "an id of Windows": (f"{HEADER}\nC:\\x,f.nii,m.nii\n", ["row 2, column id", "path or a hidden name"]),
    "a hidden id": (f"{HEADER}\n.ssh,f.nii,m.nii\n", ["row 2, column id", "hidden name"]),
    "an endless id": (f"{HEADER}\n{'a' * 101},f.nii,m.nii\n", ["row 2, column id", "100 bytes"]),
    "an id with a bell": (f"{HEADER}\na\ab,f.nii,m.nii\n", ["row 2, column id", "cannot be shown"]),
    "an id with a line break": (f'{HEADER}\n"a\nb",f.nii,m.nii\n', ["row 2, column id", "cannot be shown"]),
    "the summary's name": (f"{HEADER}\nSummary.csv,f.nii,m.nii\n", ["row 2, column id", "cannot name a folder"]),
    "a device's name": (f"{HEADER}\nNUL,f.nii,m.nii\n", ["row 2, column id", "cannot name a folder"]),
    "an id twice": (f"{HEADER}\n{ROW}\nb,f.nii,m.nii\n{ROW}\n", ["row 4, column id", "same folder as row 2"]),
    "ids alike in one case": (f"{HEADER}\n{ROW}\nA,f.nii,m.nii\n", ["row 3, column id", "same folder as row 2"]),
    "ids alike as folders": (f"{HEADER}\na:b,f,m\na b,f,m\n", ["row 3, column id", "same folder as row 2"]),
    "ids alike but for accents' code": (f"{HEADER}\nö,f,m\no\u0308,f,m\n", ["row 3, column id", "same folder"]),
    "an unknown start": (f"{WITH_START}\n{ROW},moment\n", ["row 2, column initial", "did you mean 'moments'?"]),
    "a path with a bell": (f"{HEADER}\na,f\a.nii,m.nii\n", ["row 2, column fixed", "cannot be shown"]),
    "an open quote": (f'{HEADER}\na,"f.nii,m.nii\n', ["table of pairs", "unexpected end"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(tmp_path, case):
    text, words = REFUSED[case]
    path = tmp_path / "pairs.csv"
    path.write_text(text, encoding="utf-8")
    outcome = run("batch", path, "-o", tmp_path / "out")
    assert outcome.is_refusal("pairs.csv", *words), outcome
    assert files(tmp_path) == ["pairs.csv"]


@pytest.mark.parametrize("raw", [b"id,fixed,moving\n\xff\xfe,a,b\n", "id,fixed,moving".encode("utf-16"), b"\0" * 50])
def test_bytes_that_are_no_text(tmp_path, raw):
    path = tmp_path / "pairs.csv"
    path.write_bytes(raw)
    assert run("batch", path, "-o", tmp_path / "out").is_refusal("pairs.csv")


def test_a_file_too_large_is_not_read(tmp_path):
    path = tmp_path / "pairs.csv"
    with path.open("wb") as stream:
        stream.truncate(2**32)
    with pytest.raises(InputError, match="at most 67108864"):
        read_pairs(path)


OPTIONS = {
    "no workers": (["--workers", "0"], ["--workers", "got 0"]),
    "workers that are no number": (["--workers", "many"], ["--workers"]),
    "workers and a scheduler": (["--workers", "2", "--scheduler", "tcp://x:1"], ["--workers", "not both"]),
    "no threads": (["--threads", "0"], ["--threads", "got 0"]),
    "unknown family": (["--transform", "rigd"], ["transform", "did you mean 'rigid'?"]),
    "unknown similarity": (["--similarity", "mutal"], ["similarity", "'mutal'"]),
    "unknown preset": (["--preset", "quick"], ["preset", "'quick'"]),
    "unknown start": (["--initial", "moment"], ["initial", "did you mean 'moments'?"]),
    "start that is missing": (["--initial", "none.tfm"], ["none.tfm", "no such file"]),
    "unknown device": (["--device", "toaster"], ["device", "toaster"]),
    "negative seed": (["--seed", "-1"], ["seed", "-1"]),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options_are_refused_once_and_not_pair_by_pair(tmp_path, monkeypatch, case):
    arguments, words = OPTIONS[case]
    monkeypatch.chdir(tmp_path)
    pathlib.Path("pairs.csv").write_text(f"{HEADER}\n{ROW}\n")
    assert run("batch", "pairs.csv", "-o", "out", *arguments).is_refusal(*words)
    assert files(tmp_path) == ["pairs.csv"]


def test_no_table_and_no_place(tmp_path):
    assert run("batch", tmp_path / "none.csv", "-o", tmp_path / "out").is_refusal("none.csv", "no such file")
    path = tmp_path / "pairs.csv"
    path.write_text(f"{HEADER}\n{ROW}\n")
    assert run("batch", path).is_refusal("--out")
    for out in (path, path / "below"):
        assert run("batch", path, "-o", out).is_refusal("cannot be written")


def test_paths_start_from_the_table(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text(f"moving,id,fixed,initial\nsub/m.nii#3,a,{tmp_path}/f#CT,auto\nm.nii,b,f.nii,t.tfm\n")
    first, second = read_pairs(path)
    assert first == Pair("a", tmp_path / "f#CT", tmp_path / "sub" / "m.nii#3", initial="auto")
    assert second.initial == str(tmp_path / "t.tfm")
