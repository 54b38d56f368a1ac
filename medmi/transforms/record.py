"""What a pipeline must know of an image that was carried onto another grid, to bring it back.

Words: an image is *carried* when it is resampled on a reference's grid through a transform; the *record* is the entry
that this leaves in the image's ``applied_operations``, numbers and tensors only.
"""

from __future__ import annotations

from typing import Any

import torch
from monai.data import MetaTensor, get_track_meta
from monai.transforms import InvertibleTransform
from monai.utils import ImageMetaKey, SpaceKeys, TraceKeys

from medmi.grid import Grid
from medmi.registration.result import moved_image
from medmi.spatial import SpatialTransform
from medmi.transforms.inversion import inverse_on
from medmi.transforms.stored import from_plain, to_plain
from medmi.validation import InputError, choose

# MONAI's Invertd exchanges the recorded mode where it is one of MONAI's own names.
MODES = {"linear": "bilinear", "nearest": "nearest", "bspline": "bicubic"}
INTERPOLATION_OF_MODE = {mode: name for name, mode in MODES.items()}
LARGEST_INTEGER = 2**24


def carried(
    image: MetaTensor, transform: SpatialTransform, reference: MetaTensor, interpolation: str = "linear"
) -> MetaTensor:
    """An image ``(C, *spatial)`` resampled on the reference's grid.

    Its metadata are those a saver needs to treat it as it treats the reference, with the image's own file name and
    history of operations; nothing else of either image's metadata is taken over.
    """
    voxels = resampled(image, transform, Grid.of(reference), interpolation)
    meta: dict[str, Any] = {
        "space": SpaceKeys.RAS,
        "original_affine": torch.as_tensor(reference.meta.get("original_affine", reference.affine)).clone(),
        "spatial_shape": torch.as_tensor(reference.meta.get("spatial_shape", reference.shape[1:])),
    }
    if image.meta.get(ImageMetaKey.FILENAME_OR_OBJ):
        meta[ImageMetaKey.FILENAME_OR_OBJ] = image.meta[ImageMetaKey.FILENAME_OR_OBJ]
    history = list(image.applied_operations)
    return MetaTensor(voxels, affine=reference.affine.clone(), meta=meta, applied_operations=history)


def resampled(image: MetaTensor, transform: SpatialTransform, grid: Grid, interpolation: str) -> torch.Tensor:
    """Voxels on the grid: float32, or the image's own type where labels are carried (``nearest``)."""
    if interpolation == "nearest" and image.dtype in (torch.int32, torch.int64):
        largest = int(image.as_tensor().abs().max())
        if largest > LARGEST_INTEGER:
            raise InputError(
                f"image: holds the label {largest}, and labels are exact up to {LARGEST_INTEGER}; renumber"
            )
    voxels = moved_image(image, transform, grid, interpolation).as_tensor()
    return voxels.to(image.dtype) if interpolation == "nearest" else voxels


def recorded(
    operation: InvertibleTransform,
    image: MetaTensor,
    source: MetaTensor,
    transform: SpatialTransform,
    interpolation: str,
) -> MetaTensor:
    """The carried image with the record of how it came from ``source``, or without one where MONAI traces nothing."""
    if not (operation.tracing and get_track_meta()):
        return image if get_track_meta() else image.as_tensor()  # type: ignore[return-value]
    shape = list(source.shape[1:])
    extra = {
        "transform": to_plain(transform, Grid.of(image)),
        "mode": MODES[interpolation],
        "affine": source.affine.tolist(),
        "shape": shape,
        "original_affine": torch.as_tensor(source.meta.get("original_affine", source.affine)).tolist(),
        "spatial_shape": torch.as_tensor(source.meta.get("spatial_shape", shape)).tolist(),
    }
    image = operation.push_transform(image, orig_size=tuple(shape), extra_info=extra)
    # No id: an object's identity means nothing in another process, MONAI's "none" would match any transform, and both
    # its enum keys and the "none" that a PersistentDataset puts in place of ids do not load with weights_only=True.
    record = {str(key): value for key, value in image.applied_operations[-1].items() if key != TraceKeys.ID}
    image.applied_operations[-1] = record
    return image


def brought_back(operation: InvertibleTransform, image: MetaTensor) -> MetaTensor:
    """An image that ``operation`` carried, or one with its history, on the grid it came from.

    Raises:
        InputError: the last operation recorded on the image is another one, or the transform has no inverse.
    """
    name, history = type(operation).__name__, list(getattr(image, "applied_operations", []))
    last: dict[str, Any] = history.pop() if history else {TraceKeys.CLASS_NAME: "none"}
    if last[TraceKeys.CLASS_NAME] != name:
        raise InputError(
            f"inverse: the last operation recorded on the image is {last[TraceKeys.CLASS_NAME]}, not {name}; "
            "invert later operations first, and keep tracing and metadata switched on"
        )
    extra = last[TraceKeys.EXTRA_INFO]
    interpolation = choose(extra["mode"], INTERPOLATION_OF_MODE, "inverse: mode")
    affine = torch.tensor(extra["affine"], dtype=torch.float64)
    grid = Grid(extra["shape"], affine)
    voxels = resampled(image, inverse_on(from_plain(extra["transform"]), grid), grid, interpolation)
    own = {
        "affine": affine,
        "original_affine": torch.tensor(extra["original_affine"], dtype=torch.float64),
        "spatial_shape": torch.tensor(extra["spatial_shape"]),
    }
    return MetaTensor(voxels, meta={**image.meta, **own}, applied_operations=history)
