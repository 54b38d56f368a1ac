"""Transform files in and out: ITK and Slicer (.tfm .txt .h5 .mat), displacement fields (.nii .nii.gz), FSL, AFNI and
FreeSurfer matrices.

Every file comes out as a map from fixed world points to moving world points in RAS mm, whatever its own convention; see
:mod:`medmi.io.matrix_files` and :mod:`medmi.io.field_files` for theirs.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable

from medmi.grid import Grid
from medmi.io.dicom_registration_reader import read_spatial_registration
from medmi.io.field_files import read_field, write_field
from medmi.io.files import PathLike, existing_file, one_line, replacing
from medmi.io.images import image_suffix
from medmi.io.itk_transforms import is_itk_mat, read_itk_binary, read_itk_hdf, read_itk_text, write_itk
from medmi.io.matrix_files import Grids, read_afni, read_fsl, read_lta, write_afni, write_fsl, write_lta
from medmi.spatial import SpatialTransform
from medmi.validation import InputError, suggestion

Reader = Callable[[pathlib.Path, Grids], SpatialTransform]
Writer = Callable[[SpatialTransform, pathlib.Path, Grids], None]


def read_mat(file: pathlib.Path, grids: Grids) -> SpatialTransform:
    """ITK's binary .mat or FSL's text of the same name, told apart by their contents."""
    return read_itk_binary(file, grids) if is_itk_mat(file) else read_fsl(file, grids)


def read_registration_object(file: pathlib.Path, grids: Grids) -> SpatialTransform:
    """A DICOM (Deformable) Spatial Registration object."""
    return read_spatial_registration(file)


READERS: dict[str, Reader] = {
    ".tfm": read_itk_text,
    ".txt": read_itk_text,
    ".h5": read_itk_hdf,
    ".hdf5": read_itk_hdf,
    ".mat": read_mat,
    ".nii.gz": read_field,
    ".nii": read_field,
    ".fsl": read_fsl,
    ".lta": read_lta,
    ".1d": read_afni,
    ".afni": read_afni,
    ".dcm": read_registration_object,
}
WRITERS: dict[str, Writer] = {
    ".tfm": write_itk,
    ".txt": write_itk,
    ".h5": write_itk,
    ".hdf5": write_itk,
    ".mat": write_itk,
    ".nii.gz": write_field,
    ".nii": write_field,
    ".fsl": write_fsl,
    ".lta": write_lta,
    ".1d": write_afni,
    ".afni": write_afni,
}


def read_transform(path: PathLike, fixed_grid: Grid | None = None, moving_grid: Grid | None = None) -> SpatialTransform:
    """A transform file as map from fixed to moving world points (RAS mm).

    Args:
        path: ITK ``.tfm .txt .h5 .mat``, displacement field ``.nii .nii.gz`` (intent 1007: LPS vectors, as ITK and
            ANTs write; 1006: RAS vectors), FSL ``.mat .fsl``, FreeSurfer ``.lta``, AFNI ``.1D .afni``,
            DICOM registration ``.dcm``.
        fixed_grid: grid of the fixed image; FSL's matrices mean nothing without both grids.
        moving_grid: grid of the moving image.

    Raises:
        InputError: no such file, unknown suffix, not a transform, damaged, or grids are missing.
    """
    file = pathlib.Path(path)
    reader = READERS.get(image_suffix(file))
    if reader is None:
        existing_file(file)
        raise unknown_suffix(file, "read", READERS)
    existing_file(file)
    with one_line(file, "a transform"):
        return reader(file, Grids(fixed_grid, moving_grid))


def write_transform(
    transform: SpatialTransform, path: PathLike, fixed_grid: Grid | None = None, moving_grid: Grid | None = None
) -> None:
    """Write a map from fixed to moving world points in the convention of the file's suffix, whole or not at all.

    Args:
        transform: any spatial transform; FSL, AFNI and FreeSurfer files hold linear ones only.
        path: as for :func:`read_transform`; ``.mat`` is ITK's, ``.fsl`` FSL's.
        fixed_grid: where a displacement field is sampled; FSL and FreeSurfer files need it too.
        moving_grid: FSL and FreeSurfer files need it.

    Raises:
        InputError: unknown suffix, a transform or missing grids that the format cannot hold, or the file cannot be
            written there.
    """
    target = pathlib.Path(path)
    suffix = image_suffix(target)
    writer = WRITERS.get(suffix)
    if writer is None:
        raise unknown_suffix(target, "written", WRITERS)
    with replacing(target, suffix) as temporary:
        writer(transform, temporary, Grids(fixed_grid, moving_grid))


def unknown_suffix(file: pathlib.Path, verb: str, table: dict[str, Reader] | dict[str, Writer]) -> InputError:
    """The error for a name whose suffix says nothing, with the nearest one that does."""
    hint = suggestion(file.suffix.lower(), table)
    return InputError(
        f"{file}: transforms with the suffix {file.suffix!r} cannot be {verb}{hint} Known: {', '.join(table)}"
    )
