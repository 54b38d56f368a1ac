"""Registerd and ApplyTransformd: the transforms of :mod:`medmi.transforms.array` on a pipeline's items."""

from __future__ import annotations

import pathlib
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from monai.config import KeysCollection
from monai.transforms import InvertibleTransform, MapTransform
from monai.utils import ensure_tuple, ensure_tuple_rep

from medmi.registration.inputs import TransformLike
from medmi.spatial import SpatialTransform
from medmi.transforms.array import ApplyTransform, Register
from medmi.validation import InputError

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = [
    "ApplyTransformD",
    "ApplyTransformDict",
    "ApplyTransformd",
    "RegisterD",
    "RegisterDict",
    "Registerd",
]


class Registerd(MapTransform, InvertibleTransform):
    """Register the pair of an item; writes the moved image and the transform under keys of their own.

    ``fixed`` and ``moving`` stay as they are. The inverse brings ``moved``, or with MONAI's ``Invertd(...,
    orig_keys="moved")`` whatever was predicted on it, to the moving grid as this transform saw it. Where earlier
    transforms changed the moving image and a prediction must go back to its file's grid, let ``moved_key`` be the
    moving key: the moved image then takes the moving one's place, and the inverse runs through its whole history.

    Args:
        keys: the fixed and the moving image, ``(C, *spatial)`` MetaTensors.
        transform: see :class:`Register`, as for the options below.
        similarity: the similarity term.
        moved_key: where the moved image is stored; the moving key replaces that image.
        transform_key: where the transform from fixed to moving world points (RAS+ mm) is stored: a float64 matrix,
            4x4 (3x3 in 2D), or displacements in mm as MetaTensor ``(d, *fixed)`` where it is not linear.
        mask_keys: of the fixed and of the moving mask; either may be None.
        initial: start of the search.
        preset: size of the solver, and the similarity where none is named.
        seed: of the points that are drawn.
        on_failure: ``raise`` or ``identity``.
        device: where poses are compared.
        allow_missing_keys: whether items without both images pass untouched.

    Raises:
        InputError: not two keys or not two mask keys, or a result that would overwrite an image.
    """

    backend = Register.backend

    def __init__(
        self,
        keys: KeysCollection = ("fixed", "moving"),
        transform: str | Sequence[str] = "rigid",
        similarity: str | None = None,
        moved_key: str = "moved",
        transform_key: str = "transform",
        mask_keys: Sequence[Hashable | None] | None = None,
        initial: str | pathlib.Path | SpatialTransform | sitk.Transform = "auto",
        preset: str | pathlib.Path | None = None,
        seed: int = 0,
        on_failure: str = "raise",
        device: str | torch.device | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.moved_key, self.transform_key = moved_key, transform_key
        self.mask_keys = (None, None) if mask_keys is None else ensure_tuple(mask_keys)
        self._check_keys()
        self.registration = Register(transform, similarity, initial, preset, seed, on_failure, device)

    def _check_keys(self) -> None:
        if len(self.keys) != 2 or self.keys[0] == self.keys[1]:
            raise InputError(f"keys: got {self.keys}; the keys of a fixed and of a moving image are asked")
        if len(self.mask_keys) != 2:
            raise InputError(f"mask_keys: got {self.mask_keys}; a fixed and a moving one are asked, None for no mask")
        if self.moved_key in (self.keys[0], *self.mask_keys):
            raise InputError(f"moved_key: {self.moved_key!r} is already the key of the fixed image or of a mask")
        if self.transform_key in (*self.keys, *self.mask_keys, self.moved_key):
            raise InputError(f"transform_key: {self.transform_key!r} is already the key of an image")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item with the moved image and the transform added."""
        d = dict(data)
        pair = [d[key] for key in self.key_iterator(d)]
        if len(pair) == 2:
            masks = [None if key is None else d[key] for key in self.mask_keys]
            d[self.moved_key], d[self.transform_key] = self.registration(*pair, *masks)
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item with ``moved`` on the moving grid."""
        d = dict(data)
        if self.moved_key in d:
            d[self.moved_key] = self.registration.inverse(d[self.moved_key])
        elif not self.allow_missing_keys:
            raise KeyError(f"Registerd: the item has no {self.moved_key!r} to bring back")
        return d


class ApplyTransformd(MapTransform, InvertibleTransform):
    """Carry images of an item through one spatial transform onto a reference's grid, in place of the originals.

    Images, labels and masks of the moving side follow the moving image this way::

        Compose([Registerd(), ApplyTransformd("moving_label", interpolation="nearest")])

    Args:
        keys: what is carried, ``(C, *spatial)`` MetaTensors.
        transform: one transform for all items, of any kind that :class:`ApplyTransform` takes; None takes each item's
            own.
        transform_key: where an item holds its transform, of any of those kinds.
        reference_key: image whose grid the results take.
        interpolation: ``linear``, ``nearest`` or ``bspline``, one for all keys or one a key.
        allow_missing_keys: whether keys that an item lacks are passed over.

    Raises:
        InputError: an unknown interpolation, or not one a key.
    """

    backend = ApplyTransform.backend

    def __init__(
        self,
        keys: KeysCollection,
        transform: TransformLike | torch.Tensor | None = None,
        transform_key: Hashable = "transform",
        reference_key: Hashable = "fixed",
        interpolation: str | Sequence[str] = "linear",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = transform
        self.transform_key, self.reference_key = transform_key, reference_key
        count = len(self.keys)
        if not isinstance(interpolation, str) and len(interpolation) != count:
            raise InputError(f"interpolation: got {len(interpolation)} for {count} keys; give one a key or one for all")
        self.carriers = [ApplyTransform(name) for name in ensure_tuple_rep(interpolation, count)]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item with its images on the reference's grid."""
        d = dict(data)
        for key, carrier in self.key_iterator(d, self.carriers):
            transform = d[self.transform_key] if self.transform is None else self.transform
            d[key] = carrier(d[key], transform, d[self.reference_key])
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item with its images on the grids they came from."""
        d = dict(data)
        for key, carrier in self.key_iterator(d, self.carriers):
            d[key] = carrier.inverse(d[key])
        return d


RegisterD = RegisterDict = Registerd
ApplyTransformD = ApplyTransformDict = ApplyTransformd
