"""NIfTI-1 and NIfTI-2 files, read by their contents: what the header announces is verified before a voxel is believed.

Gzip checksums, sizes and types are checked; a wrong magic number, a wrong file name, an unusable pixdim beside a good
sform or a scaling of 0 or NaN (none, by the standard) do no harm. The frame is the sform's, else the qform's; where a
file has neither, it is ITK's for such files: the axes along L, P, S from the origin, spaced by pixdim.
"""

from __future__ import annotations

import gzip
import math
import pathlib
import struct
from typing import BinaryIO, cast

import nibabel
import numpy as np
import torch

from medmi.frames import flip_affine
from medmi.grid import Grid
from medmi.image import AnyImage, Image, to_float32
from medmi.io.files import MOST_DEFLATED, PathLike, existing_file, one_line
from medmi.io.volumes import choose_volume
from medmi.validation import InputError

VECTOR_INTENT = 1007
COLOURS = {128: 3, 2304: 4}
HEADERS = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}


def read_nifti(path: PathLike, volume: int | None = None) -> Image:
    """A NIfTI image as float32 ``(C, *spatial)`` in RAS mm.

    RGB voxels become three channels (an alpha value is dropped), complex ones their magnitude, vector images (intent
    1007) one channel a component. A one-slice volume stays 3D.

    Raises:
        InputError: not NIfTI, damaged, truncated, no usable frame, or several volumes and none chosen.
    """
    file = existing_file(path)
    with one_line(file, "NIfTI"):
        header, shape, stored = read_stored(file)
        channels_last = arrange(file, channels_of(stored, header, shape), int(header["intent_code"]), volume)
        affine = affine_of(file, header, channels_last.shape[:-1])
        voxels, affine = flat_where_planar(file, channels_last, affine)
    return Image(torch.from_numpy(np.ascontiguousarray(np.moveaxis(voxels, -1, 0))), affine, str(path))


def read_stored(file: pathlib.Path) -> tuple[nibabel.Nifti1Header, tuple[int, ...], np.ndarray]:
    """Header, shape, and values in the file's order, scaled, as precise as stored, ``(count, 1 or colours)``."""
    header, header_size = read_header(file)
    shape = checked_shape(file, header)
    data = voxel_file(file, header)
    start = max(int(header["vox_offset"]), header_size + 4 if data == file else 0)
    return header, shape, scaled(file, read_voxels(data, header, math.prod(shape), start), header)


def open_stream(file: pathlib.Path) -> BinaryIO:
    """The file's bytes, gzip or not whatever the name says; reading gzip to the end verifies its checksum."""
    stream = file.open("rb")
    if stream.read(2) == b"\x1f\x8b":
        stream.close()
        return gzip.open(file, "rb")  # type: ignore[return-value]
    stream.seek(0)
    return stream


def read_header(file: pathlib.Path) -> tuple[nibabel.Nifti1Header, int]:
    """Header and its size, believed where its size field or its magic number is right."""
    with open_stream(file) as stream:
        block = stream.read(540)
    if len(block) < 348:
        raise InputError(f"{file}: is not NIfTI, or its header is truncated ({len(block)} bytes)")
    size, order = header_kind(block)
    if not size or len(block) < size:
        raise InputError(f"{file}: is not NIfTI: neither its header size nor its magic number is right")
    return HEADERS[size](block[:size], endianness=order, check=False), size


def header_kind(block: bytes) -> tuple[int, str]:
    """Size of the header (348, 540, or 0 where it is none) and its byte order, ``<`` or ``>``."""
    for order in "<>":
        size = struct.unpack(order + "i", block[:4])[0]
        if size in HEADERS:
            return size, order
    if block[344:348] in (b"n+1\0", b"ni1\0"):
        return 348, "<" if 1 <= struct.unpack("<h", block[40:42])[0] <= 7 else ">"
    return 0, "<"


def checked_shape(file: pathlib.Path, header: nibabel.Nifti1Header) -> tuple[int, ...]:
    """The announced shape, with axes of one voxel beyond the third dropped."""
    rank = int(header["dim"][0])
    if not 2 <= rank <= 7:
        raise InputError(f"{file}: header announces {rank} dimensions; an image has 2 to 7")
    shape = tuple(int(n) for n in header["dim"][1 : 1 + rank])
    if min(shape) < 1:
        raise InputError(f"{file}: header announces the size {shape}; every axis needs one voxel at least")
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def voxel_file(file: pathlib.Path, header: nibabel.Nifti1Header) -> pathlib.Path:
    """Where the voxels are: the file itself, or the .img beside a .hdr."""
    if not file.name.lower().endswith((".hdr", ".hdr.gz")):
        return file
    if not bytes(header["magic"]).startswith(b"ni"):
        raise InputError(f"{file}: is Analyze 7.5, which does not say how the image lies; convert it to NIfTI")
    return existing_file(file.with_name(file.name.replace(".hdr", ".img")))


def read_voxels(file: pathlib.Path, header: nibabel.Nifti1Header, count: int, start: int) -> np.ndarray:
    """The ``count`` stored values, ``(count, *record)``; nothing is allocated that the file cannot hold."""
    code = int(header["datatype"])
    kinds = cast("dict[int, np.dtype]", nibabel.nifti1.data_type_codes.dtype)
    if code not in kinds or not kinds[code].itemsize:
        raise InputError(f"{file}: holds voxels of the unknown type {code}")
    scalar = COLOURS.get(code)
    dtype = (np.dtype(np.uint8) if scalar else kinds[code]).newbyteorder(header.endianness)
    values = count * (scalar or 1)
    needed = values * dtype.itemsize
    with open_stream(file) as stream:
        held = file.stat().st_size * (MOST_DEFLATED if isinstance(stream, gzip.GzipFile) else 1)
        if start + needed > held:
            announced = f"{needed} bytes of voxels from byte {start}"
            raise InputError(f"{file}: header announces {announced}; the file cannot hold them")
        stream.seek(start)
        block = stream.read(needed)
        if len(block) < needed:
            raise InputError(f"{file}: is truncated: header announces {needed} bytes of voxels, {len(block)} are there")
        while isinstance(stream, gzip.GzipFile) and stream.read(1 << 20):
            pass
    return np.frombuffer(block, dtype).reshape(count, -1)


def scaled(file: pathlib.Path, raw: np.ndarray, header: nibabel.Nifti1Header) -> np.ndarray:
    """Stored values with the header's slope and intercept; a slope of 0 or NaN means none, and colours have none."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if int(header["datatype"]) in COLOURS or not np.isfinite(slope) or slope == 0 or (slope, intercept) == (1, 0):
        return raw
    if not np.isfinite(intercept):
        raise InputError(f"{file}: header announces the intercept {intercept} beside a slope of {slope}")
    return raw.astype(np.complex128 if np.iscomplexobj(raw) else np.float64) * slope + intercept


def channels_of(stored: np.ndarray, header: nibabel.Nifti1Header, shape: tuple[int, ...]) -> np.ndarray:
    """Values in the file's order as float32 ``(*shape, channels)``; complex ones as magnitude, alpha dropped."""
    values = np.abs(stored) if np.iscomplexobj(stored) else stored
    channels = to_float32(values[:, :3])
    if channels.shape[1] == 1:
        return channels.reshape(*shape, 1, order="F")
    return np.stack([c.reshape(shape, order="F") for c in channels.T], -1)


def arrange(file: pathlib.Path, voxels: np.ndarray, intent: int, volume: int | None) -> np.ndarray:
    """``(*shape, C)`` with at most three spatial axes: a vector axis becomes channels, one of many volumes is chosen.

    A vector image of one slice is a 2D one: it is how 2D vector images are stored.
    """
    shape = voxels.shape[:-1]
    if len(shape) == 5 and shape[3] == 1 and intent == VECTOR_INTENT and voxels.shape[-1] == 1:
        return voxels[:, :, 0, 0, :, 0] if shape[2] == 1 else voxels[:, :, :, 0, :, 0]
    if len(shape) <= 3:
        choose_volume(file, 1, volume)
        return voxels
    count = math.prod(shape[3:])
    index = choose_volume(file, count, volume, f"{len(shape)}D of size {shape}")
    return voxels.reshape(*shape[:3], count, voxels.shape[-1], order="F")[..., index, :]


def affine_of(file: pathlib.Path, header: nibabel.Nifti1Header, shape: tuple[int, ...]) -> torch.Tensor:
    """Index -> world (RAS), ``(4, 4)``: sform, else qform, else ITK's frame for files without either."""
    if header["sform_code"] > 0:
        affine = torch.as_tensor(header.get_sform().astype(np.float64))
    elif header["qform_code"] > 0:
        affine = torch.as_tensor(header.get_qform().astype(np.float64))
    else:
        spacing = np.abs(header["pixdim"][1:4].astype(np.float64))
        affine = flip_affine(torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64)))
    try:
        return Grid((*shape, 1)[:3], affine).affine
    except InputError as error:
        raise InputError(f"{file}: {str(error).removeprefix('Grid: ')}") from error


def flat_where_planar(file: pathlib.Path, voxels: np.ndarray, affine: torch.Tensor) -> tuple[np.ndarray, torch.Tensor]:
    """A 2D image ``(i, j, C)`` whose axes lie in the world's first two keeps two; one that is tilted is a 3D slice."""
    if voxels.ndim > 3:
        return voxels, affine
    if bool((affine[2, :2].abs() <= 1e-6 * affine[:3, :2].norm(dim=0)).all()):
        keep = [0, 1, 3]
        return voxels, affine[keep][:, keep]
    return voxels[:, :, None], affine


def write_nifti(image: AnyImage, path: pathlib.Path) -> None:
    """An image ``(C, *spatial)`` as NIfTI-1; the affine is the sform, and the qform too where it has no shear."""
    grid = Grid.of(image)
    d = grid.spatial_dims
    array = storable(image.as_tensor().detach().cpu()).numpy()
    array = np.moveaxis(array, 0, -1)
    if array.shape[-1] == 1:
        array = array[..., 0]
    else:
        array = array.reshape(*array.shape[:-1], *(1,) * (4 - d), array.shape[-1])
    affine = np.eye(4)
    affine[np.ix_([*range(d), 3], [*range(d), 3])] = grid.affine.numpy()
    nifti = nibabel.Nifti1Image(array, affine)
    nifti.header.set_xyzt_units("mm")
    if image.shape[0] > 1:
        nifti.header["intent_code"] = VECTOR_INTENT
    columns = grid.affine[:d, :d] / grid.spacing
    orthogonal = torch.allclose(columns.T @ columns, torch.eye(d, dtype=torch.float64), atol=1e-6)
    nifti.set_sform(affine, 1)
    nifti.set_qform(affine if orthogonal else None, 1 if orthogonal else 0)
    nibabel.save(nifti, path)


def storable(voxels: torch.Tensor) -> torch.Tensor:
    """The nearest type that NIfTI readers at large accept."""
    if voxels.dtype == torch.bool:
        return voxels.to(torch.uint8)
    if voxels.dtype == torch.int64:
        return voxels.to(torch.int32) if voxels.numel() == 0 or int(voxels.abs().max()) < 2**31 else voxels.double()
    return voxels.float() if voxels.dtype in (torch.float16, torch.bfloat16) else voxels
