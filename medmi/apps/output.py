"""What commands print and write: result folders that are whole or absent, JSON, result tables."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

from medmi.io.files import current_umask
from medmi.validation import InputError

LAST = "result.json"
RESULT_FILES = (
    LAST,
    "transform.tfm",
    "transform.h5",
    "moved.nii.gz",
    "report.html",
    "comparison.png",
    "dicom",
)


@contextlib.contextmanager
def result_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A temporary folder whose files move to ``path`` when the block ends without error; results of an earlier run go.

    A new folder appears in one step. In one that exists, ``result.json`` goes first and comes last: where it is, the
    rest is there too.

    Raises:
        InputError: the folder cannot be made or written.
    """
    parent = path if path.is_dir() else path.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        work = pathlib.Path(tempfile.mkdtemp(prefix=".medmi-", dir=parent))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); choose a folder you may write to with -o"
        ) from error
    try:
        yield work
        _move_in(work, path)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _move_in(work: pathlib.Path, path: pathlib.Path) -> None:
    try:
        if not path.exists():
            work.chmod(0o777 & ~current_umask())
            os.replace(work, path)
            return
        remove_results(path)
        for file in sorted(work.iterdir(), key=lambda f: (f.name == LAST, f.name)):
            os.replace(file, path / file.name)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); choose a folder you may write to with -o"
        ) from error


def remove_results(path: pathlib.Path) -> None:
    """Take away what an earlier run left in a result folder; other files stay."""
    for name in RESULT_FILES:
        _remove(path / name)


def _remove(old: pathlib.Path) -> None:
    if old.is_dir():
        shutil.rmtree(old)
    old.unlink(missing_ok=True)


def as_json(value: dict[str, Any]) -> str:
    """The value as JSON text; numbers that JSON cannot hold become null."""
    return json.dumps(_finite(value), indent=2)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and value - value != 0 else value
