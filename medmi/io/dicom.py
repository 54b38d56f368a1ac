"""DICOM images in: a file, or a series of a folder, as one image with the frame its slice positions say."""

from __future__ import annotations

import pathlib
from collections import defaultdict

import numpy as np
import torch

from medmi.image import Image
from medmi.io.dicom_frames import Frame
from medmi.io.dicom_pixels import read_frames
from medmi.io.dicom_series import Series, choose_series, find_series
from medmi.io.dicom_stack import Volume, volume_of, volumes_of
from medmi.io.files import PathLike, one_line
from medmi.io.volumes import choose_volume
from medmi.validation import InputError


def list_series(path: PathLike) -> list[Series]:
    """The image series of a folder and the folders below it, by number.

    Raises:
        InputError: no such folder, or no DICOM image in it.
    """
    folder = pathlib.Path(path)
    if not folder.exists():
        raise InputError(f"{folder}: no such file or folder")
    return find_series(folder)


def read_dicom(path: PathLike, series: str | None = None, volume: int | None = None) -> Image:
    """One volume (or flat picture) of a DICOM file or of a series in a folder, float32 ``(C, *spatial)``, RAS mm.

    Slices are ordered by position along their normal. Values are real ones (slope and intercept of each slice). A
    gantry tilt is a shear of the affine. Colour (RGB, YBR, palette) gives three channels. Pictures without a place in
    the patient are 2D, spaced by the ultrasound region's calibration or the pixel spacing, the first pixel at the
    origin as SimpleITK has it.

    Args:
        path: DICOM file, or folder searched with those below it.
        series: which series of the folder; see :func:`medmi.io.dicom_series.choose_series`.
        volume: which volume where the series has several (time points, echoes, stacks, frames of a film).

    Raises:
        InputError: nothing there, a choice is needed, slices are missing, doubled or of mixed orientation, or pixels
            cannot be decoded.
    """
    folder = pathlib.Path(path)
    chosen = choose_series(folder, find_series(folder), series)
    candidates = volumes_of(folder, chosen.frames)
    index = choose_volume(folder, len(candidates), volume, kinds(candidates))
    with one_line(folder, "DICOM"):
        ordered = volume_of(folder, candidates[index])
        voxels = read_voxels(ordered)
    return Image(voxels, ordered.affine, str(path))


def read_dicom_file(file: pathlib.Path, volume: int | None) -> Image:
    """One DICOM file on its own."""
    return read_dicom(file, None, volume)


def kinds(volumes: list[list[Frame]]) -> str:
    """What several volumes of one series are, for the message that asks for one."""
    if all(frames[0].place is None for frames in volumes):
        return "a film (frames without a place)"
    sizes = ", ".join(f"{k}: {f[0].shape[1]}x{f[0].shape[0]}x{len(f)}" for k, f in enumerate(volumes[:8]))
    if len({(f[0].place and f[0].place.orientation, f[0].shape, f[0].stack) for f in volumes}) > 1:
        return f"a series of mixed orientations or stacks ({sizes}{', ...' if len(volumes) > 8 else ''})"
    return "a series that visits its slices repeatedly"


def read_voxels(volume: Volume) -> torch.Tensor:
    """All slices, ``(C, columns, rows, slices)``, or ``(C, columns, rows)`` of a flat picture, contiguous."""
    by_file: dict[pathlib.Path, list[int]] = defaultdict(list)
    for k, frame in enumerate(volume.frames):
        by_file[frame.path].append(k)
    slices: dict[int, np.ndarray] = {}
    for path, members in by_file.items():
        with one_line(path, "DICOM"):
            slices |= zip(members, read_frames(path, [volume.frames[k] for k in members]))
    shapes = {picture.shape for picture in slices.values()}
    if len(shapes) > 1:
        raise InputError(f"{volume.frames[0].path.parent}: slices have unlike shapes: {sorted(shapes)}")
    whole = torch.empty((*shapes.pop()[::-1], len(slices)), dtype=torch.float32)
    for k in range(len(volume.frames)):
        whole[..., k] = torch.from_numpy(slices.pop(k)).permute(2, 1, 0)
    return whole[..., 0].contiguous() if len(volume.affine) == 3 else whole
