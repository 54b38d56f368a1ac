"""Images to SimpleITK and back: the flip between RAS and LPS and between the two axis orders.

A SimpleITK image is indexed (i, j, k) and lies in LPS; its NumPy array is (k, j, i, component). An image here is
(C, i, j, k), RAS.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk
import torch

from medmi import frames
from medmi.grid import Grid
from medmi.image import AnyImage, Image, to_float32
from medmi.validation import InputError

if TYPE_CHECKING:
    from monai.data import MetaTensor

WRITABLE = {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float32, torch.float64}


def affine_of(image: sitk.Image) -> torch.Tensor:
    """Index -> world (RAS) of a 2D or 3D SimpleITK image, ``(d + 1, d + 1)``, float64."""
    d = image.GetDimension()
    affine = torch.eye(d + 1, dtype=torch.float64)
    direction = torch.tensor(image.GetDirection(), dtype=torch.float64).reshape(d, d)
    affine[:d, :d] = direction * torch.tensor(image.GetSpacing(), dtype=torch.float64)
    affine[:d, d] = torch.tensor(image.GetOrigin(), dtype=torch.float64)
    return frames.flip_affine(affine)


def from_sitk(image: sitk.Image) -> MetaTensor:
    """A SimpleITK image, scalar or vector, as float32 MetaTensor ``(C, *spatial)`` in RAS mm (a permuted view).

    Complex voxels become their magnitude.

    Raises:
        InputError: the image is neither 2D nor 3D.

    >>> from_sitk(sitk.Image([3, 4, 5], sitk.sitkUInt8)).shape
    torch.Size([1, 3, 4, 5])
    """
    return image_of(image).metatensor()


def image_of(image: sitk.Image) -> Image:
    """:func:`from_sitk`, as an :class:`~medmi.image.Image`."""
    d = image.GetDimension()
    if d not in (2, 3):
        raise InputError(f"image: is {d}D; give a 2D or 3D one, such as one volume of a series")
    array = sitk.GetArrayViewFromImage(image)
    if np.iscomplexobj(array):
        array = np.abs(array)
    voxels = torch.from_numpy(to_float32(array))
    if image.GetNumberOfComponentsPerPixel() == 1:
        voxels = voxels[..., None]
    return Image(voxels.permute(d, *reversed(range(d))), affine_of(image))


def to_sitk(image: AnyImage) -> sitk.Image:
    """An image ``(C, *spatial)`` in RAS mm as SimpleITK image of one voxel type; channels become components.

    A sheared affine is kept: its direction columns are unit vectors that are not orthogonal. Types that ITK lacks
    become float32, bool becomes uint8.

    >>> to_sitk(Image(torch.zeros(1, 3, 4), torch.diag(torch.tensor([2.0, 1.0, 1.0])))).GetSpacing()
    (2.0, 1.0)
    """
    grid = Grid.of(image)
    d = grid.spatial_dims
    voxels = image.as_tensor().detach().cpu()
    if voxels.dtype == torch.bool:
        voxels = voxels.to(torch.uint8)
    elif voxels.dtype not in WRITABLE:
        voxels = voxels.float()
    channels = len(voxels)
    ordered = voxels.permute(*reversed(range(1, d + 1)), 0)
    array = np.ascontiguousarray(ordered.numpy())
    result = sitk.GetImageFromArray(array if channels > 1 else array[..., 0], isVector=channels > 1)
    affine = frames.flip_affine(grid.affine)
    spacing = grid.spacing
    result.SetSpacing(spacing.tolist())
    result.SetOrigin(affine[:d, d].tolist())
    result.SetDirection((affine[:d, :d] / spacing).flatten().tolist())
    return result


@contextmanager
def quiet_itk() -> Iterator[None]:
    """Without ITK's warnings on stderr: what is wrong with a file is said by the error that refuses it."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
