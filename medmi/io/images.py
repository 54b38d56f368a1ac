"""Images in and out: any file or DICOM folder to a MetaTensor (float32, RAS mm), and back to NIfTI, MHA or NRRD."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from medmi.image import AnyImage, Image
from medmi.io.files import PathLike, existing_file, replacing
from medmi.validation import InputError

if TYPE_CHECKING:
    from monai.data import MetaTensor

Reader = Callable[[pathlib.Path, int | None], Image]
# The module and the function that read files of a suffix; each module brings libraries of its own, which take time to import.
NIFTI, METAIMAGE = ("nifti", "read_nifti"), ("itk_files", "read_metaimage")
NRRD, PICTURE = ("itk_files", "read_nrrd"), ("itk_files", "read_picture")
DICOM = ("dicom", "read_dicom_file")
READERS = {
    ".nii": NIFTI,
    ".nii.gz": NIFTI,
    ".hdr": NIFTI,
    ".mha": METAIMAGE,
    ".mhd": METAIMAGE,
    ".nrrd": NRRD,
    ".nhdr": NRRD,
    ".png": PICTURE,
    ".jpg": PICTURE,
    ".jpeg": PICTURE,
    ".tif": PICTURE,
    ".tiff": PICTURE,
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
    return load_image(path, series, volume).metatensor()


def load_image(path: PathLike, series: str | None = None, volume: int | None = None) -> Image:
    """:func:`read_image`, as an :class:`~medmi.image.Image`."""
    path, series, volume = with_choices(pathlib.Path(path), series, volume)
    if path.is_dir():
        from medmi.io.dicom import read_dicom

        return read_dicom(path, series, volume)
    file = existing_file(path)
    place = READERS.get(image_suffix(file)) or place_by_content(file)
    if place is None:
        known = ", ".join(READERS)
        raise InputError(f"{file}: is no image medmi reads; give {known}, a DICOM file or a folder of them")
    if place != DICOM and series is not None:
        raise InputError(f"series: {file} is not DICOM and has no series {series!r}; leave series out")
    module, name = place
    reader: Reader = getattr(import_module(f"medmi.io.{module}"), name)
    return reader(file, volume)


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


def place_by_content(file: pathlib.Path) -> tuple[str, str] | None:
    """Where the reader is for a file whose name says nothing."""
    with file.open("rb") as stream:
        start = stream.read(352)
    if start[128:132] == b"DICM" or image_suffix(file) in DICOM_SUFFIXES:
        return DICOM
    if start[344:348] in (b"n+1\0", b"n+2\0") or start[4:8] == b"n+2\0":
        return NIFTI
    return None


def write_image(image: AnyImage, path: PathLike) -> None:
    """Write an image ``(C, *spatial)`` (RAS mm) to ``.nii``, ``.nii.gz``, ``.mha`` or ``.nrrd``, wholly or not.

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


def write_with_itk(image: AnyImage, path: pathlib.Path) -> None:
    """MHA or NRRD, compressed."""
    import SimpleITK as sitk

    from medmi.io.itk import to_sitk

    sitk.WriteImage(to_sitk(image), str(path), useCompression=True)


def write_with_nibabel(image: AnyImage, path: pathlib.Path) -> None:
    """NIfTI."""
    from medmi.io.nifti import write_nifti

    write_nifti(image, path)


WRITERS: dict[str, Callable[[AnyImage, pathlib.Path], None]] = {
    ".nii": write_with_nibabel,
    ".nii.gz": write_with_nibabel,
    ".mha": write_with_itk,
    ".nrrd": write_with_itk,
}
