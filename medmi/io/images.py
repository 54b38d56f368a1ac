"""Images in and out: any file or DICOM folder to a MetaTensor (float32, RAS mm), and back to NIfTI, MHA or NRRD."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable

import SimpleITK as sitk
from monai.data import MetaTensor

from medmi.io.dicom import read_dicom
from medmi.io.files import PathLike, existing_file, replacing
from medmi.io.itk import from_sitk, to_sitk
from medmi.io.itk_files import read_metaimage, read_nrrd, read_picture
from medmi.io.nifti import read_nifti, write_nifti
from medmi.validation import InputError

__all__ = ["from_sitk", "read_image", "to_sitk", "write_image"]

Reader = Callable[[pathlib.Path, int | None], MetaTensor]
READERS: dict[str, Reader] = {
    ".nii": read_nifti,
    ".nii.gz": read_nifti,
    ".hdr": read_nifti,
    ".mha": read_metaimage,
    ".mhd": read_metaimage,
    ".nrrd": read_nrrd,
    ".nhdr": read_nrrd,
    ".png": read_picture,
    ".jpg": read_picture,
    ".jpeg": read_picture,
    ".tif": read_picture,
    ".tiff": read_picture,
}
DICOM_SUFFIXES = (".dcm", ".ima", ".dicom", "")
CHOICE = re.compile(r"^(.+)#([^#/]+)$")


def read_image(path: PathLike, series: str | None = None, volume: int | None = None) -> MetaTensor:
    """An image file, a DICOM file or a folder that holds a DICOM series.

    Args:
        path: NIfTI, MetaImage, NRRD, PNG, JPEG, TIFF or DICOM file, or a folder of DICOM files. ``PATH#3`` means
            volume 3 of a file, ``FOLDER#MR`` the series MR of a folder, ``FOLDER#MR#3`` both.
        series: of several series in a folder, the one whose UID, end of UID, number, description or modality this is.
        volume: of a file of several volumes (4D, film), the one of this number, from 0.

    Returns:
        MetaTensor ``(C, *spatial)``, contiguous float32; affine index -> world (RAS mm) float64, 4x4 in 3D and 3x3 in
        2D. Its metadata are the path and the space only.

    Raises:
        InputError: no such file, not an image, damaged, without a usable frame, or a choice of series or volume is
            needed.
    """
    path, series, volume = with_choices(pathlib.Path(path), series, volume)
    if path.is_dir():
        return read_dicom(path, series, volume)
    file = existing_file(path)
    reader = READERS.get(image_suffix(file)) or reader_by_content(file)
    if reader is None:
        known = ", ".join(READERS)
        raise InputError(f"{file}: is no image medmi reads; give {known}, a DICOM file or a folder of them")
    if reader is not read_dicom_file and series is not None:
        raise InputError(f"series: {file} is not DICOM and has no series {series!r}; leave series out")
    return reader(file, volume)


def read_dicom_file(file: pathlib.Path, volume: int | None) -> MetaTensor:
    """One DICOM file on its own."""
    return read_dicom(file, None, volume)


def with_choices(
    path: pathlib.Path, series: str | None, volume: int | None
) -> tuple[pathlib.Path, str | None, int | None]:
    """Take ``#3`` and ``#MR`` off a path that does not exist as it stands."""
    while not path.exists() and (match := CHOICE.match(str(path))):
        path = pathlib.Path(match[1])
        if match[2].isdigit() and volume is None and not (path.is_dir() and series is None):
            volume = int(match[2])
        elif series is None:
            series = match[2]
    return path, series, volume


def image_suffix(path: pathlib.Path) -> str:
    """The suffix in lower case, ``.nii.gz`` whole.

    >>> image_suffix(pathlib.Path("a.b/T1.NII.GZ"))
    '.nii.gz'
    """
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else pathlib.Path(name).suffix


def reader_by_content(file: pathlib.Path) -> Reader | None:
    """The reader for a file whose name says nothing."""
    with file.open("rb") as stream:
        start = stream.read(352)
    if start[128:132] == b"DICM" or image_suffix(file) in DICOM_SUFFIXES:
        return read_dicom_file
    if start[344:348] in (b"n+1\0", b"n+2\0") or start[4:8] == b"n+2\0":
        return read_nifti
    return None


def write_image(image: MetaTensor, path: PathLike) -> None:
    """Write a MetaTensor ``(C, *spatial)`` (RAS mm) to ``.nii``, ``.nii.gz``, ``.mha`` or ``.nrrd``, wholly or not.

    A 2D image is written as 2D, in the plane z = 0. Several channels become a vector image. No metadata beyond the
    affine are written.

    Raises:
        InputError: unknown suffix, or the file cannot be written there.
    """
    target = pathlib.Path(path)
    writer = WRITERS.get(image_suffix(target))
    if writer is None:
        raise InputError(f"{target}: images are written to {', '.join(WRITERS)}; give one of these names")
    with replacing(target, image_suffix(target)) as temporary:
        writer(image, temporary)


def write_with_itk(image: MetaTensor, path: pathlib.Path) -> None:
    """MHA or NRRD, compressed."""
    sitk.WriteImage(to_sitk(image), str(path), useCompression=True)


WRITERS: dict[str, Callable[[MetaTensor, pathlib.Path], None]] = {
    ".nii": write_nifti,
    ".nii.gz": write_nifti,
    ".mha": write_with_itk,
    ".nrrd": write_with_itk,
}
