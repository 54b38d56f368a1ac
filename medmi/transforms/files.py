"""Images and transforms between a pipeline's items and files."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection, PathLike
from monai.data import FolderLayout, MetaTensor
from monai.transforms import MapTransform
from monai.utils import ImageMetaKey

from medmi.grid import Grid
from medmi.io import read_image, write_transform
from medmi.transforms.stored import to_transform
from medmi.validation import InputError, choose

__all__ = [
    "LoadImagePairD",
    "LoadImagePairDict",
    "LoadImagePaird",
    "SaveTransformD",
    "SaveTransformDict",
    "SaveTransformd",
]

# Formats whose matrices mean nothing without the moving image's grid are left to medmi.io.write_transform.
SUFFIXES = dict.fromkeys((".tfm", ".txt", ".h5", ".hdf5", ".mat", ".nii", ".nii.gz"))


class LoadImagePaird(MapTransform):
    """Read the images of an item with :func:`medmi.io.read_image`, checked and in one frame.

    Every image becomes a MetaTensor ``(C, *spatial)``, float32, its affine in RAS+ mm (3x3 in 2D): no reader needs to
    be named and no channel axis added. Of the metadata only name, space, affine and shape are kept.

    Args:
        keys: paths: a NIfTI, MetaImage, NRRD, PNG, JPEG, TIFF or DICOM file, or a DICOM folder. ``FOLDER#MR`` means the
            series MR of a folder, ``PATH#3`` volume 3 of a file. Masks may be among them.
        allow_missing_keys: whether keys that an item lacks are passed over.
    """

    def __init__(self, keys: KeysCollection = ("fixed", "moving"), allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item with images in place of paths.

        Raises:
            InputError: a file cannot be read, or the images are not all 2D or all 3D.
        """
        d = dict(data)
        read = {key: with_original_frame(read_image(d[key])) for key in self.key_iterator(d)}
        if len({image.ndim for image in read.values()}) > 1:
            told = ", ".join(f"{key} is {image.ndim - 1}D {tuple(image.shape[1:])}" for key, image in read.items())
            raise InputError(f"LoadImagePaird: dimensions differ: {told}; extract a slice or choose another file")
        return d | read


def with_original_frame(image: MetaTensor) -> MetaTensor:
    """The image with what MONAI's savers ask for to undo changes of orientation and spacing."""
    image.meta["original_affine"] = image.affine.clone()
    image.meta["spatial_shape"] = torch.tensor(image.shape[1:])
    return image


class SaveTransformd(MapTransform):
    """Write the transforms of an item to files that SimpleITK, ITK-SNAP and 3D Slicer read.

    Names are those that MONAI's ``SaveImaged`` gives: ``output_dir/moving/moving_transform.tfm`` for a moving image
    ``moving.nii.gz``. The same name is overwritten.

    Args:
        keys: stored transforms as :class:`Registerd` leaves them, or medmi or SimpleITK transforms.
        output_dir: made where it does not exist.
        moved_key: image on the fixed grid that bears the moving image's file name, as :class:`Registerd` makes it.
        output_ext: ``.tfm .txt .h5 .hdf5 .mat`` (ITK) or ``.nii .nii.gz`` (a displacement field on the fixed grid).
            Displacements and homographies need ``.h5`` or a field.
        output_postfix: put after the name.
        separate_folder: whether each item gets a folder of its own.
        data_root_dir: folder below which the files' own folders are kept.
        allow_missing_keys: whether keys that an item lacks are passed over.

    Raises:
        InputError: an unknown suffix.
    """

    def __init__(
        self,
        keys: KeysCollection = "transform",
        output_dir: PathLike = "./",
        moved_key: Hashable = "moved",
        output_ext: str = ".tfm",
        output_postfix: str = "transform",
        separate_folder: bool = True,
        data_root_dir: PathLike = "",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        choose(output_ext, SUFFIXES, "output_ext")
        self.moved_key = moved_key
        self.layout = FolderLayout(output_dir, output_postfix, output_ext, separate_folder, True, data_root_dir)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item as it came.

        Raises:
            InputError: the moved image has no file name, or the file cannot be written or cannot hold the transform.
        """
        d = dict(data)
        for key in self.key_iterator(d):
            moved = d[self.moved_key]
            name = getattr(moved, "meta", {}).get(ImageMetaKey.FILENAME_OR_OBJ)
            if not name:
                raise InputError(f"SaveTransformd: {self.moved_key!r} has no file name; set meta['filename_or_obj']")
            grid = Grid.of(moved)
            write_transform(to_transform(d[key], str(key), grid, grid), self.layout.filename(subject=name), grid)
        return d


LoadImagePairD = LoadImagePairDict = LoadImagePaird
SaveTransformD = SaveTransformDict = SaveTransformd
