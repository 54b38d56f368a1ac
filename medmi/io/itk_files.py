"""MHA, MHD, NRRD, PNG, JPEG and TIFF through SimpleITK, after their sizes and checksums have been verified.

ITK reads some damaged files without a word (a MetaImage whose zlib checksum is wrong, a TIFF cut after some of its
pages, half a JPEG), so what a file announces is compared with what it holds first.
"""

from __future__ import annotations

import math
import pathlib
import re
import warnings
import zlib

import numpy as np
import PIL.Image
import SimpleITK as sitk
import torch

from medmi.frames import flip
from medmi.image import Image, to_float32
from medmi.io.files import MOST_DEFLATED, PathLike, existing_file, one_line
from medmi.io.itk import image_of, quiet_itk
from medmi.io.volumes import choose_volume
from medmi.validation import InputError

FIELD = re.compile(rb"^\s*([\w ]+?)\s*(?:=|:=?)\s*(.*?)\s*$")
MOST_COLOURS = 4


def read_metaimage(path: PathLike, volume: int | None = None) -> Image:
    """MHA or MHD; a sequence of frames (``Kinds = domain domain list``) asks which one."""
    file = existing_file(path)
    with one_line(file, "MetaImage"):
        fields, start = text_header(file, b"elementdatafile")
        name = fields.get("elementdatafile", "")
        data = file if name.upper() == "LOCAL" else beside(file, name)
        if data and fields.get("compresseddata", "").lower() == "true":
            check_zlib(data, start if data == file else 0)
    frames = fields.get("kinds", "").lower().split()[-1:] == ["list"]
    return read_with_itk(file, volume, "MetaImage", data, sequence=frames)


def read_nrrd(path: PathLike, volume: int | None = None) -> Image:
    """NRRD with its data inside or in a file beside it."""
    file = existing_file(path)
    with one_line(file, "NRRD"):
        fields, _ = text_header(file, b"")
        name = fields.get("data file", fields.get("datafile", ""))
        data = beside(file, name) if name else file
    return read_with_itk(file, volume, "NRRD", data)


def read_picture(path: PathLike, volume: int | None = None) -> Image:
    """PNG, JPEG or TIFF, grey or colour, with SimpleITK's frame; an alpha channel is dropped, pages are slices."""
    file = existing_file(path)
    with one_line(file, "a picture"), warnings.catch_warnings():
        warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
        if image_of_pages(file):
            warnings.simplefilter("error", UserWarning)  # how Pillow says that a page's description ends early
        with PIL.Image.open(file) as picture:
            for page in range(getattr(picture, "n_frames", 1)):
                picture.seek(page)
                picture.load()
            mode = picture.mode
            grey = np.asarray(picture.getchannel("L")) if mode == "LA" else None
    if mode == "CMYK":
        raise InputError(f"{file}: is a picture in printing inks (CMYK); save it as RGB or grey")
    if grey is not None:  # SimpleITK knows no 8-bit image of two components
        return Image(torch.from_numpy(to_float32(grey.T))[None], flip(2), str(path))
    image = read_with_itk(file, volume, "a picture", file)
    return Image(image.as_tensor()[:3], image.affine, str(path)) if image.shape[0] == MOST_COLOURS else image


def image_of_pages(file: pathlib.Path) -> bool:
    """Whether the name is that of a TIFF file."""
    return file.suffix.lower() in (".tif", ".tiff")


def read_with_itk(
    file: pathlib.Path, volume: int | None, what: str, data: pathlib.Path | None, sequence: bool = False
) -> Image:
    """Any file SimpleITK reads, one volume of it, once its announced size has been found plausible."""
    with one_line(file, what), quiet_itk():
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(file))
        reader.ReadImageInformation()
        size = reader.GetSize()
        check_size(file, reader, data)
        d = 2 if sequence and len(size) == 3 else min(len(size), 3)
        components = reader.GetNumberOfComponents()
        apart = components if components > MOST_COLOURS else 1
        index = choose_volume(file, math.prod(size[d:]) * apart, volume, f"{len(size)}D of size {size}")
        image = one_volume(reader.Execute(), d, index // apart)
        if apart > 1:
            image = sitk.VectorIndexSelectionCast(image, index % apart)
        result = image_of(image)
    return Image(result.as_tensor().contiguous(), result.affine, str(file))


def one_volume(image: sitk.Image, spatial_dims: int, index: int) -> sitk.Image:
    """The volume of that number among those along the axes beyond ``spatial_dims`` (first axis fastest)."""
    size = list(image.GetSize())
    if len(size) == spatial_dims:
        return image
    start = [0] * spatial_dims
    for n in size[spatial_dims:]:
        start.append(index % n)
        index //= n
    return sitk.Extract(image, size[:spatial_dims] + [0] * (len(size) - spatial_dims), start)


def check_size(file: pathlib.Path, reader: sitk.ImageFileReader, data: pathlib.Path | None) -> None:
    """Refuse a header that announces more voxels than the file could hold, a byte each, before they are allocated."""
    needed = math.prod(reader.GetSize()) * reader.GetNumberOfComponents()
    held = (data or file).stat().st_size
    if data and needed > held * MOST_DEFLATED:
        raise InputError(f"{file}: header announces {needed} bytes of voxels; {held} bytes cannot hold them")


def text_header(file: pathlib.Path, last: bytes) -> tuple[dict[str, str], int]:
    """Fields of a text header by lower-case name, and where it ends: behind the field ``last``, or an empty line."""
    fields: dict[str, str] = {}
    with file.open("rb") as stream:
        for line in iter(lambda: stream.readline(1 << 16), b""):
            match = FIELD.match(line.rstrip(b"\r\n"))
            if match:
                fields[match[1].decode("latin-1").lower()] = match[2].decode("latin-1")
            if (last and match and match[1].lower() == last) or (not last and not line.strip()):
                return fields, stream.tell()
    return fields, file.stat().st_size


def beside(file: pathlib.Path, name: str) -> pathlib.Path | None:
    """The data file that a header names, or None for a list or pattern of several, which ITK resolves."""
    if not name:
        raise InputError(f"{file}: its header names no voxel data; it is truncated or no image")
    if name.upper().startswith("LIST") or "%" in name:
        return None
    return existing_file(file.parent / name)


def check_zlib(data: pathlib.Path, start: int) -> None:
    """Decompress to the end, keeping nothing: zlib verifies the checksum."""
    engine = zlib.decompressobj()
    with data.open("rb") as stream:
        stream.seek(start)
        for block in iter(lambda: stream.read(1 << 18), b""):
            while block and not engine.eof:
                engine.decompress(block, 1 << 22)
                block = engine.unconsumed_tail
    if not engine.eof:
        raise InputError(f"{data}: is truncated: its compressed voxels end early")
