"""DICOM Spatial Registration and Deformable Spatial Registration objects out (PS3.3 C.20.2 and C.20.3), in LPS.

The Registered frame is the fixed one. A matrix in such an object maps moving to fixed points, so it is inv(T); the
deformable kind maps fixed to moving points, ``T(x) = M_post (M_pre x + delta(x))`` (Equation C.20.3-1), with delta on
a right-handed orthogonal grid of fixed points.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import DeformableSpatialRegistrationStorage, SpatialRegistrationStorage

from medmi.frames import flip_affine, flip_matrix, flip_points
from medmi.grid import Grid
from medmi.io.dicom_objects import code_item, decimal_strings, instance_references, new_object, refer_to, save
from medmi.io.dicom_sources import SeriesLike, SourceSeries, check_one_patient, quiet, source_series
from medmi.io.files import PathLike
from medmi.spatial import Chain, DisplacementFieldTransform, LinearTransform, SpatialTransform, chain
from medmi.validation import InputError

MATRIX_TYPES = {"translation": "RIGID", "rigid": "RIGID", "similarity": "RIGID_SCALE", "affine": "AFFINE"}
MOST_BYTES = 2**32 - 2
SLAB_VOXELS = 2**19


def write_spatial_registration(
    transform: SpatialTransform, fixed_series_folder: SeriesLike, moving_series_folder: SeriesLike, path: PathLike
) -> None:
    """Write a 3D transform as DICOM registration object of the fixed series' patient and study.

    Linear transforms become a Spatial Registration with the matrix inv(T). All others become a Deformable Spatial
    Registration: matrices before and after a deformation stay matrices; the deformation is exact, to float32, on its
    own grid where that is orthogonal, else at the voxel centres of the fixed series.

    Args:
        transform: fixed world points to moving world points, RAS mm.
        fixed_series_folder: the fixed image's DICOM folder or file; ``FOLDER#MR`` chooses a series.
        moving_series_folder: the moving image's.
        path: file to write.

    Raises:
        InputError: a transform that DICOM cannot hold (2D), a series that cannot be referred to, series of two
            patients, or the file cannot be written.
    """
    if transform.spatial_dims != 3:
        raise InputError(f"transform: is {transform.spatial_dims}D; DICOM registrations are 3D")
    fixed, moving = source_series(fixed_series_folder), source_series(moving_series_folder)
    check_one_patient(fixed, moving)
    with quiet():
        save(registration_object(transform, fixed, moving), path)


def registration_object(transform: SpatialTransform, fixed: SourceSeries, moving: SourceSeries) -> Dataset:
    """The object of the kind that holds the transform."""
    whole = chain([transform])
    if isinstance(whole, LinearTransform):
        new = new_object(fixed, SpatialRegistrationStorage, "REG", "Registration")
        matrices = [(fixed, identity()), (moving, whole.inverse())]
        new.RegistrationSequence = [matrix_item(source, matrix) for source, matrix in matrices]
    else:
        new = new_object(fixed, DeformableSpatialRegistrationStorage, "REG", "Deformable registration")
        still, moved = deformable_item(fixed), deformable_item(moving)
        fill_deformation(moved, whole, fixed.grid)
        new.DeformableRegistrationSequence = [still, moved]
    new.Laterality, new.FrameOfReferenceUID = None, fixed.frame_of_reference
    new.PositionReferenceIndicator = fixed.first.get("PositionReferenceIndicator")
    new.ContentLabel, new.ContentDescription, new.ContentCreatorName = "REGISTRATION", "Moving to fixed", None
    refer_to(new, [fixed, moving])
    return new


def identity() -> LinearTransform:
    """The 3D map that moves nothing."""
    return LinearTransform(torch.eye(4, dtype=torch.float64), "translation")


def matrix_item(source: SourceSeries, matrix: LinearTransform) -> Dataset:
    """One item of the Registration Sequence: the source's images and the matrix from them to the fixed frame."""
    registration, item = Dataset(), Dataset()
    registration.RegistrationTypeCodeSequence = [code_item(codes.DCM.ImageContentBasedAlignment)]
    registration.MatrixSequence = [matrix_of(matrix)]
    item.FrameOfReferenceUID = source.frame_of_reference
    item.ReferencedImageSequence = instance_references(source.headers)
    item.MatrixRegistrationSequence = [registration]
    return item


def matrix_of(transform: LinearTransform) -> Dataset:
    """A matrix and its type, row by row, LPS."""
    item = Dataset()
    item.FrameOfReferenceTransformationMatrixType = MATRIX_TYPES[transform.family]
    lps = flip_matrix(transform.matrix.detach().cpu())
    item.FrameOfReferenceTransformationMatrix = decimal_strings(lps.flatten().tolist())
    return item


def deformable_item(source: SourceSeries) -> Dataset:
    """One item of the Deformable Registration Sequence: the source's images, no deformation yet."""
    item = Dataset()
    item.SourceFrameOfReferenceUID = source.frame_of_reference
    item.ReferencedImageSequence = instance_references(source.headers)
    item.RegistrationTypeCodeSequence = [code_item(codes.DCM.ImageContentBasedAlignment)]
    return item


def fill_deformation(item: Dataset, transform: SpatialTransform, fixed_grid: Grid) -> None:
    """Matrices and grid of ``T = post o middle o pre``: delta(x) = middle(pre x) - pre x."""
    post, middle, pre = split(transform)
    grid = deformation_grid(middle, pre, fixed_grid)
    if pre is not None:
        item.PreDeformationMatrixRegistrationSequence = [matrix_of(pre)]
    if post is not None:
        item.PostDeformationMatrixRegistrationSequence = [matrix_of(post)]
    size = 12 * grid.shape[0] * grid.shape[1] * grid.shape[2]
    if size > MOST_BYTES:
        raise InputError(f"transform: its field of {grid.shape} voxels is beyond the 4 GiB a DICOM attribute can hold")
    lps = flip_affine(grid.affine)
    vectors = Dataset()
    vectors.ImagePositionPatient = decimal_strings(lps[:3, 3].tolist())
    vectors.ImageOrientationPatient = decimal_strings((lps[:3, :2] / grid.spacing[:2]).T.flatten().tolist())
    vectors.GridDimensions = list(grid.shape)
    vectors.GridResolution = grid.spacing.tolist()
    vectors.VectorGridData = b"".join(deltas(middle, pre, grid))
    item.DeformableRegistrationGridSequence = [vectors]


def split(transform: SpatialTransform) -> tuple[LinearTransform | None, SpatialTransform, LinearTransform | None]:
    """``post, middle, pre`` of a transform that is not linear: matrices at its two ends, the rest between them."""
    parts = list(transform) if isinstance(transform, Chain) else [transform]
    first, last = parts[0], parts[-1]
    post = first if isinstance(first, LinearTransform) else None
    pre = last if isinstance(last, LinearTransform) else None
    return post, chain(parts[post is not None : len(parts) - (pre is not None)]), pre


def deformation_grid(middle: SpatialTransform, pre: LinearTransform | None, fixed_grid: Grid) -> Grid:
    """Grid of fixed points on which delta is given: a field's own, seen before ``pre``, else the fixed series'."""
    grid = fixed_grid
    if isinstance(middle, DisplacementFieldTransform):
        back = torch.eye(4, dtype=torch.float64) if pre is None else pre.inverse_matrix.cpu()
        grid = Grid(middle.grid.shape, back @ middle.grid.affine)
    directions = grid.affine[:3, :3] / grid.spacing
    if float((directions.T @ directions - torch.eye(3)).abs().max()) > 1e-6:
        return orthogonal_cover(grid)
    return right_handed(grid)


def right_handed(grid: Grid) -> Grid:
    """The same voxels with the order of the last axis reversed where the axes are a left hand's."""
    if float(torch.linalg.det(grid.affine[:3, :3])) > 0:
        return grid
    turned = torch.diag(torch.tensor([1.0, 1.0, -1.0, 1.0], dtype=torch.float64))
    turned[2, 3] = grid.shape[2] - 1
    return Grid(grid.shape, grid.affine @ turned)


def orthogonal_cover(grid: Grid) -> Grid:
    """An orthogonal grid about a sheared one: its first two axes' plane, steps no longer than its own."""
    axes, triangle = torch.linalg.qr(grid.affine[:3, :3])
    steps = triangle.diagonal().abs()
    axes = axes * triangle.diagonal().sign()
    axes[:, 2] = torch.linalg.cross(axes[:, 0], axes[:, 1])
    at = grid.corners @ axes
    low = at.min(0).values
    affine = torch.eye(4, dtype=torch.float64)
    affine[:3, :3], affine[:3, 3] = axes * steps, axes @ low
    counts = ((at.max(0).values - low) / steps - 1e-6).ceil().long() + 1
    return Grid(counts.tolist(), affine)


def deltas(middle: SpatialTransform, pre: LinearTransform | None, grid: Grid) -> Iterator[bytes]:
    """Vectors of the grid as little-endian float32 LPS triples, first axis fastest, some slices at a time."""
    columns, rows, slices = (torch.arange(n, dtype=torch.float64) for n in grid.shape)
    for some in slices.split(max(1, SLAB_VOXELS // (len(columns) * len(rows)))):
        index = torch.stack(torch.meshgrid(some, rows, columns, indexing="ij")[::-1], -1)
        points = grid.index_to_world(index)
        start = points if pre is None else pre.points(points)
        with torch.no_grad():
            vectors = flip_points(middle.points(start) - start)
        yield vectors.cpu().numpy().astype("<f4").tobytes()
