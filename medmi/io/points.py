"""Landmarks in and out of files: tables of coordinates and 3D Slicer's markups, to RAS mm."""

from __future__ import annotations

import csv
import json
import pathlib
from collections.abc import Callable
from dataclasses import dataclass

import torch

from medmi.frames import flip_points
from medmi.io.files import PathLike, existing_file, one_line
from medmi.validation import InputError, choose

AXES = ("x", "y", "z")


LABEL_COLUMNS = ("", "id", "label", "index", "name")


@dataclass(frozen=True)
class Landmarks:
    """Points ``(L, d)`` in RAS mm, float64, and a label each; None where the file carries none."""

    points: torch.Tensor
    labels: list[str] | None


def read_points(path: PathLike, frame: str = "ras") -> Landmarks:
    """Landmarks of a file.

    Args:
        path: ``.csv`` with columns x, y and, in 3D, z, and labels in a column called id, label, index, name or nothing;
            Slicer's ``.fcsv`` or ``.mrk.json``, which name their own frame.
        frame: ``ras`` or ``lps``: of the table's coordinates. SimpleITK's physical points are LPS.

    Raises:
        InputError: no such file, unknown suffix or frame, or a table without numbers under x and y.
    """
    file = existing_file(path)
    choose(frame, dict.fromkeys(("ras", "lps")), "frame")
    suffix = ".mrk.json" if file.name.lower().endswith(".mrk.json") else file.suffix.lower()
    reader = choose(suffix, READERS, f"{file}: suffix of a landmark file")
    with one_line(file, "a landmark file"):
        rows, labels, own_frame = reader(file)
        points = torch.tensor(rows, dtype=torch.float64)
    if points.ndim != 2 or not len(points) or not bool(torch.isfinite(points).all()):
        raise InputError(f"{file}: holds no landmarks; give rows of numbers under x, y and, in 3D, z")
    return Landmarks(flip_points(points) if (own_frame or frame) == "lps" else points, labels)


def paired(first: Landmarks, second: Landmarks) -> tuple[torch.Tensor, torch.Tensor]:
    """The points ``(L, d)`` that both sets have: by label where both carry distinct ones, else in order.

    Raises:
        InputError: unlike dimensions, no common label, or unlike numbers of points without labels.
    """
    if first.points.shape[1] != second.points.shape[1]:
        raise InputError(f"landmarks: one file is {first.points.shape[1]}D, the other {second.points.shape[1]}D")
    tables = [dict(zip(s.labels or (), s.points)) for s in (first, second)]
    if all(len(table) == len(s.points) for table, s in zip(tables, (first, second))):
        common = [label for label in tables[0] if label in tables[1]]
        if not common:
            raise InputError("landmarks: the two files have no label in common; name the same point alike")
        return torch.stack([tables[0][c] for c in common]), torch.stack([tables[1][c] for c in common])
    if len(first.points) != len(second.points):
        raise InputError(
            f"landmarks: {len(first.points)} against {len(second.points)} and no labels to pair them by; give equal numbers"
        )
    return first.points, second.points


Rows = tuple[list[list[float]], list[str] | None, str | None]


def _table(file: pathlib.Path) -> Rows:
    with file.open(newline="", encoding="utf-8-sig") as stream:
        rows = [row for row in csv.reader(stream) if any(cell.strip() for cell in row)]
    header = [name.strip().lower() for name in rows[0]] if rows else []
    columns = [header.index(axis) for axis in AXES if axis in header]
    if len(columns) < 2:
        raise InputError(f"{file}: its first line names no columns x and y; it reads {','.join(header)[:60]!r}")
    names = [k for k, name in enumerate(header) if name in LABEL_COLUMNS]
    labels = [row[names[0]].strip() for row in rows[1:]] if names else None
    return [[float(row[c]) for c in columns] for row in rows[1:]], labels, None


def _slicer_table(file: pathlib.Path) -> Rows:
    lines = file.read_text(encoding="utf-8").splitlines()
    system = next(
        (line.split("=")[1].strip().lower() for line in lines if line.startswith("# CoordinateSystem")), "ras"
    )
    rows = [line.split(",") for line in lines if line.strip() and not line.startswith("#")]
    labels = [row[11] for row in rows] if all(len(row) > 11 for row in rows) else None
    return [[float(v) for v in row[1:4]] for row in rows], labels, "lps" if system in ("lps", "1") else "ras"


def _slicer_markups(file: pathlib.Path) -> Rows:
    markups = json.loads(file.read_text(encoding="utf-8"))["markups"][0]
    points = markups["controlPoints"]
    labels = [str(point.get("label", "")) for point in points]
    return [point["position"] for point in points], labels, str(markups.get("coordinateSystem", "LPS")).lower()


READERS: dict[str, Callable[[pathlib.Path], Rows]] = {
    ".csv": _table,
    ".fcsv": _slicer_table,
    ".mrk.json": _slicer_markups,
}
