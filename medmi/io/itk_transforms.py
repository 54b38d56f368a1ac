"""ITK's transform files, as SimpleITK, ANTs and Slicer write them (LPS): text, HDF5 and MATLAB 4 binary.

ITK reads some damaged files without a word: of a list of transforms the first alone, of a number cut short its first
digits, of a binary matrix whatever size it announces. Those are refused first.
"""

from __future__ import annotations

import pathlib
import struct
import subprocess
import sys

import numpy as np
import SimpleITK as sitk

from medmi.io.itk import quiet_itk
from medmi.io.matrix_files import UNFINISHED, Grids
from medmi.spatial import Chain, ItkTransform, SpatialTransform, from_sitk
from medmi.validation import InputError

TEXT_MARK = b"#Insight Transform File"
HDF_MARK = b"\x89HDF\r\n\x1a\n"
MAT_HEADER = struct.Struct("<5i")
MAT_BYTES = {
    0: 8,
    10: 4,
    20: 4,
}  # MATLAB 4 type number (little-endian, full matrix) -> bytes a value: double, single, int32

REHEARSAL = """
import sys
path, most, sys.path[:] = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
except ImportError:
    pass
import SimpleITK
SimpleITK.ReadTransform(path)
"""
REHEARSAL_BYTES, REHEARSAL_RATIO, REHEARSAL_SECONDS = 1 << 30, 64, 120


def read_itk_text(file: pathlib.Path, grids: Grids) -> SpatialTransform:
    """ITK's text format; grids play no part."""
    text = file.read_bytes()
    if not text.startswith(TEXT_MARK):
        raise InputError(f"{file}: is no ITK transform: it does not begin with {TEXT_MARK.decode()!r}")
    if not text.endswith(b"\n"):
        raise InputError(f"{file}: {UNFINISHED}")
    kinds = [line.split(b":", 1)[1].strip() for line in text.splitlines() if line.startswith(b"Transform:")]
    if len(kinds) > 1 and not kinds[0].startswith(b"CompositeTransform"):
        raise InputError(f"{file}: holds a list of {len(kinds)} transforms, not one; split it")
    return itk_transform(file)


def read_itk_hdf(file: pathlib.Path, grids: Grids) -> SpatialTransform:
    """ITK's HDF5 format; grids play no part."""
    with file.open("rb") as stream:
        if stream.read(len(HDF_MARK)) != HDF_MARK:
            raise InputError(f"{file}: is no HDF5 file")
    rehearse(file)
    return itk_transform(file)


def rehearse(file: pathlib.Path) -> None:
    """Let another process read the file first: over a damaged one HDF5 may crash, hang or ask for all memory."""
    most = REHEARSAL_BYTES + REHEARSAL_RATIO * file.stat().st_size
    command = [sys.executable, "-c", REHEARSAL, str(file), str(most), *sys.path]
    try:
        done = subprocess.run(command, capture_output=True, timeout=REHEARSAL_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{file}: is damaged: reading it does not end") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise InputError(
            f"{file}: is damaged: {said[-1][:200] if said and done.returncode > 0 else 'HDF5 crashes over it'}"
        )


def read_itk_binary(file: pathlib.Path, grids: Grids) -> SpatialTransform:
    """ITK's MATLAB 4 format; grids play no part."""
    return itk_transform(file)


def itk_transform(file: pathlib.Path) -> SpatialTransform:
    """What SimpleITK reads, once its parameters are found finite."""
    with quiet_itk():
        transform = from_sitk(sitk.ReadTransform(str(file)))
    for part in transform if isinstance(transform, Chain) else [transform]:
        if isinstance(part, ItkTransform) and not np.isfinite(part.transform.GetParameters()).all():
            raise InputError(f"{file}: holds parameters that are not finite")
    return transform


def is_itk_mat(file: pathlib.Path) -> bool:
    """Whether the file is a chain of MATLAB 4 matrices that fill it to the last byte."""
    size = file.stat().st_size
    place = 0
    with file.open("rb") as stream:
        while place < size:
            stream.seek(place)
            block = stream.read(MAT_HEADER.size)
            if len(block) < MAT_HEADER.size:
                return False
            kind, rows, columns, imaginary, name = MAT_HEADER.unpack(block)
            if kind not in MAT_BYTES or min(rows, columns, name) < 0 or imaginary:
                return False
            place += MAT_HEADER.size + name + rows * columns * MAT_BYTES[kind]
    return place == size


def write_itk(transform: SpatialTransform, path: pathlib.Path, grids: Grids) -> None:
    """In the format of the suffix; maps that ITK holds as a field alone are sampled on the fixed grid."""
    sitk.WriteTransform(transform.to_sitk(grids.fixed), str(path))
