"""Pixels of DICOM frames as real values: decompressed, scaled frame by frame, colour as RGB.

pydicom decodes; where it has no decoder for a compression, SimpleITK's GDCM does for grey images. Compressed frames
that lack their end mark are refused: some decoders fill them up in silence.
"""

from __future__ import annotations

import pathlib
import warnings

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels import apply_color_lut, apply_modality_lut, get_decoder
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGExtended12Bit,
    RLELossless,
)

from medmi.image import to_float32
from medmi.io.dicom_frames import Frame
from medmi.io.files import MOST_DEFLATED
from medmi.validation import InputError

MOST_BELIEVED = 1 << 28
PLUGINS = "pip install pyjpegls pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"


def read_frames(path: pathlib.Path, frames: list[Frame]) -> list[np.ndarray]:
    """Real values of some frames of one file, each ``(rows, columns, channels)`` float32.

    Raises:
        InputError: no pixels, too few of them, or a compression that no installed decoder knows.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, about harmless departures from the standard
        dataset = pydicom.dcmread(path, force=True)
        pixels, scaled = decode(dataset, path)
        count = int(dataset.get("NumberOfFrames") or 1)
        by_frame = pixels.reshape(count, *frames[0].shape, -1)
        if scaled:
            return [to_float32(by_frame[f.number]) for f in frames]
        if dataset.get("ModalityLUTSequence"):
            by_frame = apply_modality_lut(by_frame, dataset)
            return [to_float32(by_frame[f.number]) for f in frames]
        return [rescaled(by_frame[f.number], f.rescale) for f in frames]


def rescaled(stored: np.ndarray, rescale: tuple[float, float]) -> np.ndarray:
    """Slope times stored value plus intercept, in float64, as float32."""
    slope, intercept = rescale
    if (slope, intercept) == (1.0, 0.0):
        return to_float32(stored)
    return to_float32(stored.astype(np.float64) * slope + intercept)


def decode(dataset: Dataset, path: pathlib.Path) -> tuple[np.ndarray, bool]:
    """Stored values of all frames, and whether they are scaled to real values already."""
    if not any(keyword in dataset for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise InputError(f"{path}: holds no pixels; it is truncated or no image")
    syntax = transfer_syntax(dataset)
    if syntax.is_compressed and not syntax.is_deflated:
        check_compressed(dataset, path, syntax)
        if not can_decode(syntax, dataset):
            return gdcm_pixels(dataset, path, syntax), True
    stored = dataset.pixel_array
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        stored = apply_color_lut(stored, dataset)
    return stored, False


def transfer_syntax(dataset: Dataset) -> UID:
    """The file's transfer syntax, supplied from how it was parsed where the file has lost it."""
    meta = getattr(dataset, "file_meta", None)
    if meta is not None and "TransferSyntaxUID" in meta:
        return meta.TransferSyntaxUID
    implicit, little = dataset.original_encoding
    syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    dataset.ensure_file_meta()
    dataset.file_meta.TransferSyntaxUID = syntax
    return syntax


def check_compressed(dataset: Dataset, path: pathlib.Path, syntax: UID) -> None:
    """Refuse compressed frames that are missing, cut short, or cannot be as large as the header says."""
    count = int(dataset.get("NumberOfFrames") or 1)
    samples = int(dataset.Rows) * int(dataset.Columns) * int(dataset.SamplesPerPixel) * count
    needed = samples * (int(dataset.BitsAllocated) // 8 or 1)
    if needed > max(MOST_BELIEVED, MOST_DEFLATED * len(dataset.PixelData)):
        held = len(dataset.PixelData)
        raise InputError(f"{path}: header announces {needed} bytes of pixels; {held} bytes cannot hold them")
    encoded = list(generate_frames(dataset.PixelData, number_of_frames=count))
    if len(encoded) != count:
        raise InputError(f"{path}: is truncated: header announces {count} frames, {len(encoded)} are there")
    if syntax != RLELossless:
        for number, frame in enumerate(encoded):
            if not frame.rstrip(b"\0").endswith(b"\xff\xd9"):
                raise InputError(f"{path}: is truncated: frame {number} of {count} has no end mark")


def can_decode(syntax: UID, dataset: Dataset) -> bool:
    """Whether pydicom has a decoder; Pillow's reads no more than 8 bits of a JPEG."""
    try:
        plugins = set(get_decoder(syntax).available_plugins)
    except NotImplementedError:
        return False
    deep = syntax == JPEGExtended12Bit and int(dataset.BitsAllocated) > 8
    return bool(plugins - {"pillow"} if deep else plugins)


def gdcm_pixels(dataset: Dataset, path: pathlib.Path, syntax: UID) -> np.ndarray:
    """Real values of all frames by SimpleITK's GDCM, ``(frames, rows, columns)``.

    GDCM scales every frame alike, so several frames with a scaling of their own are left to pydicom's plugins.
    """
    if int(dataset.SamplesPerPixel) > 1 or int(dataset.get("NumberOfFrames") or 1) > 1:
        raise InputError(f"{path}: is compressed as {syntax.name}, for which no decoder is installed; {PLUGINS}")
    import SimpleITK as sitk

    from medmi.io.itk import quiet_itk

    with quiet_itk():
        return sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="GDCMImageIO"))
