"""Register and ApplyTransform: registration and resampling as MONAI transforms of images."""

from __future__ import annotations

import pathlib
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform
from monai.utils import ImageMetaKey, TransformBackends

from medmi.grid import Grid
from medmi.image import Image
from medmi.registration import RegistrationResult, register
from medmi.registration.inputs import ImageLike, TransformLike, as_image
from medmi.spatial import LinearTransform, SpatialTransform
from medmi.spatial.resample import INTERPOLATIONS
from medmi.transforms.record import brought_back, carried, recorded
from medmi.transforms.stored import to_tensor, to_transform
from medmi.validation import InputError, choose

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["ApplyTransform", "Register", "RegistrationFailedError"]

STATUS_KEY = "registration_status"


class RegistrationFailedError(RuntimeError):
    """A registration ended with the status ``failed: ...``: no transform was found that could be trusted."""


class Register(InvertibleTransform):
    """Align a moving image with a fixed one.

    Estimating needs voxels, so this is not lazy. There is no randomness: the same pair gives the same bits in any
    process or thread.

    Args:
        transform: ``translation``, ``rigid``, ``similarity``, ``affine``, ...; see :func:`medmi.register`.
        similarity: ``mi``, ``nmi``, ...; see :func:`medmi.register`. None: the preset's, ``mi`` without one.
        initial: ``auto`` (search), ``geometry``, ``moments``, ``identity``, a transform or the path of one.
        preset: a name, or a YAML file; see :func:`medmi.register`.
        seed: of the points that are drawn.
        on_failure: ``raise`` a :class:`RegistrationFailedError`, or ``identity``: warn and leave the image where its
            header says it lies. Either way the status is in the moved image's ``meta["registration_status"]``.
        device: where poses are compared; see :func:`medmi.register`. The moved image is where the moving one is.

    >>> grid = Grid((24, 20), torch.eye(3))
    >>> blob = torch.exp(-(grid.points() - torch.tensor([11.0, 9.0])).square().sum(-1) / 20)
    >>> image = MetaTensor(blob.float()[None], affine=torch.eye(3))
    >>> moved, matrix = Register("translation", "ssd", initial="identity")(image, image)
    >>> moved.shape, matrix.shape
    (torch.Size([1, 24, 20]), torch.Size([3, 3]))
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012

    def __init__(
        self,
        transform: str | Sequence[str] = "rigid",
        similarity: str | None = None,
        initial: str | pathlib.Path | SpatialTransform | sitk.Transform = "auto",
        preset: str | pathlib.Path | None = None,
        seed: int = 0,
        on_failure: str = "raise",
        device: str | torch.device | None = None,
    ) -> None:
        self.transform = transform
        self.similarity = similarity
        self.initial = initial
        self.preset = preset
        self.seed = seed
        self.device = device
        self.on_failure = choose(on_failure, ON_FAILURE, "on_failure")

    def __call__(  # type: ignore[override]
        self,
        fixed: ImageLike,
        moving: ImageLike,
        fixed_mask: ImageLike | None = None,
        moving_mask: ImageLike | None = None,
    ) -> tuple[MetaTensor, torch.Tensor]:
        """Register one pair; neither image is altered.

        Args:
            fixed: reference: MetaTensor ``(C, *spatial)``, path or SimpleITK image.
            moving: image to be aligned.
            fixed_mask: on the fixed grid; points are drawn where it is not 0.
            moving_mask: on the moving grid; the moving image counts where it is not 0.

        Returns:
            The moved image, float32 ``(C, *fixed)`` on the fixed grid with the moving image's history and file name,
            and the transform from fixed to moving world points (RAS+ mm): a float64 matrix ``(d + 1, d + 1)``, or
            displacements in mm as MetaTensor ``(d, *fixed)`` where the transform is not linear.

        Raises:
            InputError: an image, mask or option cannot be used.
            RegistrationFailedError: the registration failed and ``on_failure`` is ``raise``.
        """
        reference, image = _metatensor(fixed, "fixed"), _metatensor(moving, "moving")
        found = self._found(*map(_on_cpu, (reference, image, fixed_mask, moving_mask)))
        transform = found.transform
        if found.failed:
            transform = self.on_failure(found, image)
        moved = carried(image, transform, reference)
        moved.meta[STATUS_KEY] = found.status
        return recorded(self, moved, image, transform, "linear"), to_tensor(transform, found.fixed_grid)

    def _found(self, fixed: MetaTensor, moving: MetaTensor, fixed_mask: Any, moving_mask: Any) -> RegistrationResult:
        return register(
            fixed,
            moving,
            transform=self.transform,
            similarity=self.similarity,
            fixed_mask=fixed_mask,
            moving_mask=moving_mask,
            initial=self.initial,
            preset=self.preset,
            device=self.device,
            seed=self.seed,
        )

    def inverse(self, data: MetaTensor) -> MetaTensor:
        """The moved image, or one with its history such as a prediction made on it, on the moving grid.

        Raises:
            InputError: the last operation recorded on the image is not this one.
        """
        return brought_back(self, data)


def raise_failure(result: RegistrationResult, moving: MetaTensor) -> SpatialTransform:
    """Stop the pipeline at this pair."""
    raise RegistrationFailedError(
        f"Register: {_told(result, moving)}; pass on_failure='identity' to go on with such pairs as their headers lie"
    )


def identity_with_warning(result: RegistrationResult, moving: MetaTensor) -> SpatialTransform:
    """Leave the image where its header says it lies."""
    warnings.warn(f"Register: {_told(result, moving)}; kept where its header says it lies", stacklevel=3)
    return LinearTransform(torch.eye(moving.ndim, dtype=torch.float64), "translation")


def _metatensor(image: ImageLike, role: str) -> MetaTensor:
    found = as_image(image, role)
    return found.metatensor() if isinstance(found, Image) else found


def _told(result: RegistrationResult, moving: MetaTensor) -> str:
    name = moving.meta.get(ImageMetaKey.FILENAME_OR_OBJ)
    return f"{result.status} ({name})" if name else result.status


ON_FAILURE = {"raise": raise_failure, "identity": identity_with_warning}


class ApplyTransform(InvertibleTransform):
    """Carry an image through a known transform onto a reference's grid, and back.

    Args:
        interpolation: ``linear``, ``nearest`` (labels: the image's own type is kept) or ``bspline`` (cubic).
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012

    def __init__(self, interpolation: str = "linear") -> None:
        choose(interpolation, INTERPOLATIONS, "interpolation")
        self.interpolation = interpolation

    def __call__(  # type: ignore[override]
        self, image: ImageLike, transform: TransformLike | torch.Tensor, reference: ImageLike
    ) -> MetaTensor:
        """Resample one image.

        Args:
            image: MetaTensor ``(C, *spatial)``, path or SimpleITK image, on the moving side.
            transform: fixed world to moving world: matrix ``(d + 1, d + 1)`` in RAS+ mm, displacements in mm as
                MetaTensor ``(d, *spatial)``, a medmi or SimpleITK transform, or the path of a transform file.
            reference: image whose grid the result takes.

        Returns:
            MetaTensor ``(C, *reference)``, zero outside the image; float32, but the image's type for ``nearest``.

        Raises:
            InputError: anything that cannot be read, or dimensions that differ.
        """
        moving, fixed = _metatensor(image, "image"), _metatensor(reference, "reference")
        found = to_transform(transform, "transform", Grid.of(fixed), Grid.of(moving))
        sizes = {"image": moving.ndim - 1, "transform": found.spatial_dims, "reference": fixed.ndim - 1}
        if len(set(sizes.values())) > 1:
            told = ", ".join(f"{role} is {d}D" for role, d in sizes.items())
            raise InputError(f"ApplyTransform: dimensions differ: {told}")
        out = carried(moving, found, fixed, self.interpolation)
        return recorded(self, out, moving, found, self.interpolation)

    def inverse(self, data: MetaTensor) -> MetaTensor:
        """The image, or one with its history, on the grid it came from, through the inverse transform.

        Raises:
            InputError: the last operation recorded on the image is not this one, or the transform has no inverse, as
                where a displacement field folds.
        """
        return brought_back(self, data)


def _on_cpu(image: Any) -> Any:
    """The image where the solver works; ``MetaTensor.cpu`` would drop the affine where MONAI tracks no metadata."""
    elsewhere = isinstance(image, MetaTensor) and not image.is_cpu
    return MetaTensor(image.as_tensor().cpu(), affine=image.affine) if elsewhere else image
