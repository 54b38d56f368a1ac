"""``medmi info``: what a file or folder holds, in rows without patient data."""

from __future__ import annotations

import pathlib
from dataclasses import asdict
from typing import Any

import torch

from medmi.grid import Grid
from medmi.io import list_series, read_spatial_registration, read_transform
from medmi.io.images import image_suffix, load_image
from medmi.io.transforms import READERS as TRANSFORM_READERS
from medmi.registration.presets import PRESETS
from medmi.spatial import Chain, LinearTransform, SpatialTransform
from medmi.validation import InputError

Row = dict[str, Any]
IMAGES_FIRST = (".nii", ".nii.gz")


def describe(path: pathlib.Path) -> list[Row]:
    """One row a series of a folder, or one for an image or a part of a transform."""
    if path.is_dir():
        return [series_row(s) for s in list_series(path)]
    suffix = image_suffix(path)
    if suffix == ".dcm" and not is_registration(path):
        return [image_row(path)]
    if suffix in TRANSFORM_READERS and suffix not in IMAGES_FIRST:
        found = read_transform(path)
        return [transform_row(part) for part in (found if isinstance(found, Chain) else [found])]
    return [image_row(path)]


def is_registration(path: pathlib.Path) -> bool:
    """Whether a DICOM file holds a registration object rather than an image."""
    try:
        read_spatial_registration(path)
    except InputError:
        return False
    return True


def series_row(series: Any) -> Row:
    """Number, modality, description, size and UID of a DICOM series."""
    return {
        "series": series.number or "-",
        "modality": series.modality,
        "description": series.description,
        "size": "x".join(str(n) for n in series.size),
        "uid": series.uid,
    }


def image_row(path: pathlib.Path) -> Row:
    """Channels, shape, spacing, orientation and range of an image."""
    image = load_image(path)
    grid = Grid.of(image)
    voxels = image.as_tensor()
    finite = voxels[torch.isfinite(voxels)]
    return {
        "kind": "image",
        "channels": len(voxels),
        "shape": "x".join(str(s) for s in grid.shape),
        "spacing_mm": " x ".join(f"{s:.4g}" for s in grid.spacing.tolist()),
        "orientation": orientation(grid),
        "range": f"{finite.min():g} to {finite.max():g}" if finite.numel() else "no finite voxel",
        "not_finite": int(voxels.numel() - finite.numel()),
    }


def orientation(grid: Grid) -> str:
    """The patient direction that each tensor axis runs nearest to, such as ``RAS``.

    >>> orientation(Grid((4, 4, 4), torch.diag(torch.tensor([-2.0, 1.0, 1.0, 1.0]))))
    'LAS'
    """
    letters = ("LR", "PA", "IS")
    axes = grid.affine[:-1, :-1] / grid.spacing
    nearest = axes.abs().argmax(0).tolist()
    return "".join(letters[world][int(axes[world, axis] > 0)] for axis, world in enumerate(nearest))


def transform_row(transform: SpatialTransform) -> Row:
    """Kind, dimension and, of a linear one, the RAS matrix."""
    row: Row = {"kind": type(transform).__name__, "dimension": transform.spatial_dims}
    if isinstance(transform, LinearTransform):
        row |= {"family": transform.family, "matrix_ras": transform.matrix.tolist()}
    return row


def describe_presets() -> list[Row]:
    """One row a preset."""
    return [
        {"preset": name, "similarity": row.similarity} | {k: str(v) for k, v in asdict(row.plan).items()}
        for name, row in PRESETS.items()
    ]


def table(rows: list[Row]) -> None:
    """Print the rows as a table."""
    from rich.console import Console
    from rich.table import Table

    grid = Table(*rows[0]) if rows else Table("nothing")
    for row in rows:
        grid.add_row(*(str(v) for v in row.values()))
    Console().print(grid)
