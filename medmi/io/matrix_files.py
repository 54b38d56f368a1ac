"""Linear transforms as FSL, AFNI and FreeSurfer write them, to and from T, the RAS matrix from fixed to moving world.

* FSL (FLIRT): from moving to fixed, between each image's own mm: voxel index times spacing, the first axis reversed
  where the affine's determinant is positive. It says nothing without both grids.
* AFNI (``.aff12.1D``): T in LPS, its first three rows in one line. AFNI straightens oblique grids on the quiet, so
  oblique grids are refused.
* FreeSurfer (``.lta``): from source (moving) to destination (fixed), between RAS points (type 1) or voxel indices
  (type 0).
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import torch

from medmi.frames import flip_matrix
from medmi.grid import Grid
from medmi.spatial import LinearTransform, SpatialTransform
from medmi.validation import InputError

LARGEST_TEXT = 1 << 20
UNFINISHED = "ends in the middle of a line; it is truncated (or end it with a newline)"
RAS_TO_RAS, VOXEL_TO_VOXEL = 1, 0
LTA_GEOMETRY = ("volume", "voxelsize", "xras", "yras", "zras", "cras")


class Grids(NamedTuple):
    """Grids of the fixed and the moving image, where the caller knows them."""

    fixed: Grid | None = None
    moving: Grid | None = None

    def both(self, what: str) -> tuple[Grid, Grid]:
        """Both of them, 3D, or an InputError."""
        if self.fixed is None or self.moving is None:
            raise InputError(f"fixed_grid, moving_grid: {what} needs the grids of both images; pass them")
        if (self.fixed.spatial_dims, self.moving.spatial_dims) != (3, 3):
            raise InputError(f"fixed_grid, moving_grid: {what} is 3D, the grids are not")
        return self.fixed, self.moving


def text_of(file: pathlib.Path) -> str:
    """The file as text, without its comments."""
    if file.stat().st_size > LARGEST_TEXT:
        raise InputError(f"{file}: is too large for a matrix")
    try:
        text = file.read_bytes().decode("ascii")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: is no text, and no transform in a binary format that is known") from error
    if not text.endswith("\n"):
        raise InputError(f"{file}: {UNFINISHED}")
    return "\n".join(line.split("#")[0] for line in text.splitlines())


def numbers_of(file: pathlib.Path, text: str, count: int) -> torch.Tensor:
    """That many numbers, and nothing else."""
    try:
        values = [float(word) for word in text.split()]
    except ValueError as error:
        raise InputError(f"{file}: is no transform: {count} numbers are expected") from error
    if len(values) != count:
        raise InputError(f"{file}: holds {len(values)} numbers where {count} are expected")
    return torch.tensor(values, dtype=torch.float64)


def matrix_of(file: pathlib.Path, values: torch.Tensor) -> torch.Tensor:
    """Twelve or sixteen numbers as an affine 4x4 matrix."""
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[: len(values) // 4] = values.reshape(-1, 4)
    if not torch.equal(matrix[3], torch.eye(4, dtype=torch.float64)[3]) or not bool(torch.isfinite(matrix).all()):
        raise InputError(f"{file}: is no affine matrix: it is not finite or its last row is not 0 0 0 1")
    if float(torch.linalg.det(matrix).abs()) < 1e-12:
        raise InputError(f"{file}: holds a singular matrix")
    return matrix


def linear(transform: SpatialTransform, what: str) -> torch.Tensor:
    """T of a 3D linear transform."""
    if not isinstance(transform, LinearTransform) or transform.spatial_dims != 3:
        raise InputError(f"transform: {what} holds 3D linear transforms only; write .h5 or a .nii.gz field instead")
    return transform.matrix.detach().cpu()


def rows_of(matrix: torch.Tensor) -> Iterator[str]:
    """Each row in one line, to the last digit."""
    return (" ".join(f"{v:.17g}" for v in row) for row in matrix.tolist())


def fsl_frame(grid: Grid) -> torch.Tensor:
    """World (RAS) to FSL's mm of an image, 4x4."""
    frame = torch.diag(torch.cat([grid.spacing, torch.ones(1, dtype=torch.float64)]))
    if float(torch.linalg.det(grid.affine)) > 0:
        frame[0, 0] *= -1
        frame[0, 3] = (grid.shape[0] - 1) * grid.spacing[0]
    return frame @ grid.inverse


def read_fsl(file: pathlib.Path, grids: Grids) -> SpatialTransform:
    """FLIRT's matrix."""
    matrix = matrix_of(file, numbers_of(file, text_of(file), 16))
    fixed, moving = grids.both(f"{file}: an FSL matrix")
    world = torch.linalg.inv(fsl_frame(moving)) @ torch.linalg.inv(matrix) @ fsl_frame(fixed)
    return LinearTransform(world, "affine")


def write_fsl(transform: SpatialTransform, path: pathlib.Path, grids: Grids) -> None:
    """FLIRT's matrix."""
    matrix = linear(transform, "an FSL matrix")
    fixed, moving = grids.both("an FSL matrix")
    fsl = fsl_frame(fixed) @ torch.linalg.inv(matrix) @ torch.linalg.inv(fsl_frame(moving))
    path.write_text("\n".join(rows_of(fsl)) + "\n", encoding="ascii")


def refuse_oblique(grids: Grids) -> None:
    """AFNI's matrices hold for grids along the world's axes only."""
    for name, grid in zip(Grids._fields, grids):
        if grid is not None and int((grid.affine[:3, :3].abs() > 1e-4 * grid.spacing).sum()) > 3:
            raise InputError(f"{name}_grid: is oblique; AFNI's matrices hold for straight grids only")


def read_afni(file: pathlib.Path, grids: Grids) -> SpatialTransform:
    """One line of 12 numbers."""
    refuse_oblique(grids)
    return LinearTransform(flip_matrix(matrix_of(file, numbers_of(file, text_of(file), 12))), "affine")


def write_afni(transform: SpatialTransform, path: pathlib.Path, grids: Grids) -> None:
    """One line of 12 numbers."""
    refuse_oblique(grids)
    matrix = flip_matrix(linear(transform, "an AFNI matrix"))
    header = "# 3dvolreg matrices (DICOM-to-DICOM, row-by-row):\n"
    path.write_text(header + " ".join(rows_of(matrix[:3])) + "\n", encoding="ascii")


def read_lta(file: pathlib.Path, grids: Grids) -> SpatialTransform:
    """FreeSurfer's linear transform array, of one transform."""
    lines = [line.strip() for line in text_of(file).splitlines() if line.strip()]
    fields = dict(line.split("=", 1) for line in lines if "=" in line and "volume info" not in line)
    named = {key.strip(): value.strip() for key, value in fields.items()}
    if named.get("nxforms") != "1" or "1 4 4" not in lines:
        raise InputError(f"{file}: is no FreeSurfer transform, or one of several matrices; one is asked")
    start = lines.index("1 4 4") + 1
    matrix = matrix_of(file, numbers_of(file, " ".join(lines[start : start + 4]), 16))
    kind = int(named.get("type", "-1"))
    if kind not in (RAS_TO_RAS, VOXEL_TO_VOXEL):
        raise InputError(f"{file}: is of type {kind}; type 0 (voxel to voxel) or 1 (RAS to RAS) is asked")
    source, destination = (lta_volume(file, lines, side) for side in ("src", "dst"))
    if kind == VOXEL_TO_VOXEL:
        matrix = lta_affine(file, destination) @ matrix @ torch.linalg.inv(lta_affine(file, source))
    return LinearTransform(torch.linalg.inv(matrix), "affine")


def lta_volume(file: pathlib.Path, lines: list[str], side: str) -> dict[str, str]:
    """The rows that describe the source or destination volume, by name."""
    title = f"{side} volume info"
    block = lines[lines.index(title) + 1 :][: 2 + len(LTA_GEOMETRY)] if title in lines else []
    named = {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in block)}
    if not {"valid", *LTA_GEOMETRY} <= named.keys():
        raise InputError(f"{file}: its {title!r} is missing or incomplete; the file is truncated")
    return named


def lta_affine(file: pathlib.Path, volume: dict[str, str]) -> torch.Tensor:
    """Index -> world (RAS) of a volume, 4x4."""
    if volume["valid"] != "1":
        raise InputError(f"{file}: describes a volume that is not valid, which its voxel matrix needs")
    row = {key: numbers_of(file, volume[key], 3) for key in LTA_GEOMETRY}
    affine = torch.eye(4, dtype=torch.float64)
    affine[:3, :3] = torch.stack([row["xras"], row["yras"], row["zras"]], 1) * row["voxelsize"]
    affine[:3, 3] = row["cras"] - affine[:3, :3] @ (row["volume"] / 2)
    return matrix_of(file, affine.flatten())


def write_lta(transform: SpatialTransform, path: pathlib.Path, grids: Grids) -> None:
    """RAS to RAS, source the moving and destination the fixed image."""
    matrix = linear(transform, "an LTA file")
    fixed, moving = grids.both("an LTA file")
    head = ["type      = 1", "nxforms   = 1", "mean      = 0.0000 0.0000 0.0000", "sigma     = 1.0000", "1 4 4"]
    body = [*rows_of(torch.linalg.inv(matrix))]
    lines = [*head, *body, "src volume info", *lta_lines(moving), "dst volume info", *lta_lines(fixed)]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def lta_lines(grid: Grid) -> list[str]:
    """A grid as FreeSurfer's volume geometry, whose centre is index ``shape / 2``."""
    size = torch.tensor(grid.shape, dtype=torch.float64)
    directions = grid.affine[:3, :3] / grid.spacing
    rows = [*rows_of(torch.stack([grid.spacing, *directions.T, grid.index_to_world(size / 2)]))]
    return [
        "valid = 1  # volume info valid",
        "filename = ",
        f"volume = {' '.join(str(n) for n in grid.shape)}",
        *(f"{name} = {row}" for name, row in zip(LTA_GEOMETRY[1:], rows)),
    ]
