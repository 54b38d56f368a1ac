"""DICOM Spatial Registration and Deformable Spatial Registration objects in, as maps from fixed to moving points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pydicom
import torch
from pydicom.dataset import Dataset
from pydicom.uid import DeformableSpatialRegistrationStorage, SpatialRegistrationStorage

from medmi.frames import flip_affine, flip_matrix, flip_points
from medmi.grid import Grid
from medmi.io.dicom_sources import quiet
from medmi.io.files import PathLike, existing_file, one_line
from medmi.spatial import DisplacementFieldTransform, LinearTransform, SpatialTransform, chain
from medmi.validation import InputError

EXACT = 1e-10  # what 16 characters a number leave of an orthonormal matrix's products


def read_spatial_registration(path: PathLike) -> SpatialTransform:
    """A DICOM registration object as map from fixed (the Registered frame) to moving world points, RAS mm.

    Outside the grid of a deformable registration, and where the object says that it is undefined, the deformation is
    zero, as in SimpleITK. Objects that list the fixed images beside the moving ones (with the identity) are understood.

    Raises:
        InputError: no such file, not such an object, damaged, or it registers more than one series to the fixed frame.
    """
    file = existing_file(path)
    with one_line(file, "a DICOM registration"), quiet():
        dataset = pydicom.dcmread(file)
        reader = READERS.get(str(dataset.get("SOPClassUID", "")))
        if reader is None:
            raise InputError(f"{file}: is no DICOM Spatial Registration object")
        return reader(dataset)


def read_matrices(dataset: Dataset) -> SpatialTransform:
    """The inverse of the matrix, which maps moving to fixed points (Equation C.20.2-1)."""
    to_fixed = [matrix_from(item.MatrixRegistrationSequence[0]) for item in dataset.RegistrationSequence]
    return the_moving_one([(matrix.inverse(), is_identity(matrix)) for matrix in to_fixed])


def read_deformation(dataset: Dataset) -> SpatialTransform:
    """``T(x) = M_post (M_pre x + delta(x))`` (Equation C.20.3-1)."""
    found = []
    for item in dataset.DeformableRegistrationSequence:
        pre = end_matrix(item, "PreDeformationMatrixRegistrationSequence")
        post = end_matrix(item, "PostDeformationMatrixRegistrationSequence")
        grids = item.get("DeformableRegistrationGridSequence") or []
        fields = [field_from(grid, pre, float_type(dataset)) for grid in grids]
        parts = [t for t in (*post, *fields, *pre) if not (isinstance(t, LinearTransform) and is_identity(t))]
        found.append((chain(parts or [IDENTITY]), not parts))
    return the_moving_one(found)


READERS = {
    str(SpatialRegistrationStorage): read_matrices,
    str(DeformableSpatialRegistrationStorage): read_deformation,
}
IDENTITY = LinearTransform(torch.eye(4, dtype=torch.float64), "translation")


def the_moving_one(found: Sequence[tuple[SpatialTransform, bool]]) -> SpatialTransform:
    """Of transforms and whether each is the identity, the one of the moving series."""
    if not found:
        raise InputError("registers nothing: it has no items")
    moving = [transform for transform, still in found if not still] or [found[-1][0]]
    if len(moving) > 1:
        raise InputError(f"registers {len(moving)} series to the fixed frame, not one; split it")
    return moving[0]


def matrix_from(registration: Dataset) -> LinearTransform:
    """The product of an item's matrices in their order (Equation C.20.2-2), of the smallest family that holds it."""
    product = torch.eye(4, dtype=torch.float64)
    for item in registration.MatrixSequence:
        product = product @ matrix_values(item)
    return LinearTransform(product, family_of(product))


def end_matrix(item: Dataset, sequence: str) -> list[LinearTransform]:
    """The matrix before or after a deformation, if there is one."""
    matrices = [matrix_values(entry) for entry in item.get(sequence) or []]
    return [LinearTransform(matrix, family_of(matrix)) for matrix in matrices]


def matrix_values(item: Dataset) -> torch.Tensor:
    """The 16 numbers of a Frame of Reference Transformation Matrix as RAS matrix ``(4, 4)``."""
    values = [float(v) for v in item.FrameOfReferenceTransformationMatrix]
    if len(values) != 16 or values[12:] != [0, 0, 0, 1]:
        raise InputError(
            f"its matrix has {len(values)} numbers, the last {values[-4:]}; 16, the last 0, 0, 0, 1, are asked"
        )
    return flip_matrix(torch.tensor(values, dtype=torch.float64).reshape(4, 4))


def family_of(matrix: torch.Tensor) -> str:
    """The smallest family that a matrix ``(4, 4)`` belongs to, to the digits that a file keeps."""
    linear = matrix[:3, :3]
    square = linear.T @ linear
    scale = square.diagonal().mean()
    if float(torch.linalg.det(linear)) <= 0 or float(
        (square - scale * torch.eye(3, dtype=torch.float64)).abs().max()
    ) > EXACT * float(scale):
        return "affine"
    if abs(float(scale) - 1) > EXACT:
        return "similarity"
    return "translation" if bool((linear == torch.eye(3)).all()) else "rigid"


def is_identity(transform: LinearTransform) -> bool:
    """Whether it moves nothing."""
    return bool((transform.matrix == torch.eye(4)).all())


def float_type(dataset: Dataset) -> str:
    """NumPy's name for the file's 32-bit floats."""
    return "<f4" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">f4"


def field_from(item: Dataset, pre: Sequence[LinearTransform], dtype: str) -> DisplacementFieldTransform:
    """The vectors of a grid of fixed points, as field over the points that ``pre`` makes of them."""
    shape = tuple(int(n) for n in item.GridDimensions)
    data = item.VectorGridData
    if len(shape) != 3 or min(shape) < 1 or len(data) != 12 * shape[0] * shape[1] * shape[2]:
        raise InputError(f"its grid of {shape} vectors of 12 bytes does not agree with its {len(data)} bytes of data")
    grid = Grid(shape, flip_affine(grid_affine(item)))
    for matrix in pre:
        grid = Grid(shape, matrix.matrix @ grid.affine)
    vectors = torch.from_numpy(np.frombuffer(data, dtype).astype(np.float64).reshape(*shape[::-1], 3))
    undefined = vectors.isnan().all(-1, keepdim=True)
    return DisplacementFieldTransform(grid, flip_points(torch.where(undefined, 0.0, vectors)).permute(2, 1, 0, 3))


def grid_affine(item: Dataset) -> torch.Tensor:
    """Index -> LPS of a deformation grid, ``(4, 4)``."""
    directions = torch.tensor([float(v) for v in item.ImageOrientationPatient], dtype=torch.float64).reshape(2, 3)
    if float((directions @ directions.T - torch.eye(2)).abs().max()) > 1e-3:
        raise InputError("its grid's directions are not two orthogonal unit vectors")
    normal = torch.linalg.cross(directions[0], directions[1])
    resolution = torch.tensor([float(v) for v in item.GridResolution], dtype=torch.float64)
    affine = torch.eye(4, dtype=torch.float64)
    affine[:3, :3] = torch.stack([*directions, normal], 1) * resolution
    affine[:3, 3] = torch.tensor([float(v) for v in item.ImagePositionPatient], dtype=torch.float64)
    return affine
