"""Image: voxels and where they lie, as medmi computes on them; MONAI's MetaTensor is what its users pass and get."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

if TYPE_CHECKING:
    from monai.data import MetaTensor

AnyImage: TypeAlias = "Image | MetaTensor"


@dataclass(frozen=True, eq=False)
class Image:
    """Voxels with their affine, under the names that a MetaTensor has for them.

    MONAI takes a second and 200 MiB to import, which a registration from files to files can do without.

    Attributes:
        voxels: ``(C, *spatial)``.
        affine: ``(d + 1, d + 1)`` float64, index to world (RAS mm).
        name: the file it came from, or nothing.

    >>> image = Image(torch.zeros(1, 3, 4), torch.eye(3, dtype=torch.float64))
    >>> image.shape, image.metatensor().affine.shape
    (torch.Size([1, 3, 4]), torch.Size([3, 3]))
    """

    voxels: torch.Tensor
    affine: torch.Tensor
    name: str = ""

    @property
    def shape(self) -> torch.Size:
        """``(C, *spatial)``."""
        return self.voxels.shape

    @property
    def ndim(self) -> int:
        """One more than the spatial dimensions."""
        return self.voxels.ndim

    def __len__(self) -> int:
        return len(self.voxels)

    def as_tensor(self) -> torch.Tensor:
        """The voxels."""
        return self.voxels

    def metatensor(self) -> MetaTensor:
        """The same voxels, not copied, as MONAI's MetaTensor; its metadata are affine, name and space."""
        from monai.data import MetaTensor
        from monai.utils import SpaceKeys

        named = {"filename_or_obj": self.name} if self.name else {}
        return MetaTensor(self.voxels, affine=self.affine.double(), meta={"space": SpaceKeys.RAS, **named})


def to_float32(array: np.ndarray) -> np.ndarray:
    """A float32 copy; values beyond float32's range become infinite without a warning."""
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(np.float32)
