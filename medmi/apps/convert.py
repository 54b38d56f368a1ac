"""``medmi convert``: a transform file from one convention to another."""

from __future__ import annotations

import pathlib

from medmi.grid import Grid
from medmi.io import read_transform, write_transform
from medmi.io.images import load_image


def convert_file(
    source: pathlib.Path, out: pathlib.Path, fixed: pathlib.Path | None, moving: pathlib.Path | None
) -> None:
    """Read ``source`` and write ``out``; the grids of the images are passed to formats that mean nothing without them."""
    grids = [None if path is None else Grid.of(load_image(path)) for path in (fixed, moving)]
    write_transform(read_transform(source, *grids), out, *grids)
