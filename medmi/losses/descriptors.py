"""Modality-independent neighbourhood descriptors: what an image looks like around a voxel, compared across
modalities.

Words: the *context* of a voxel are pairs of places near it; a pair's *distance* is the mean squared difference
between the patches around its two places.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from monai.utils import LossReduction

from medmi.losses.base import DenseLoss
from medmi.losses.local_sums import everywhere, fixed_order_sum, window_sum
from medmi.validation import InputError

Offset = tuple[int, ...]
TINY = 1e-30


def context_pairs(spatial_dims: int, dilation: int) -> list[tuple[Offset, Offset]]:
    """Pairs of the voxel's neighbours along the axes that do not lie opposite one another: 4 in 2D, 12 in 3D.

    In 1D there are none, and the pairs are those of the voxel with each of its two neighbours.

    >>> context_pairs(1, 2)
    [((0,), (-2,)), ((0,), (2,))]
    """
    around = [
        tuple(sign * dilation if a == axis else 0 for a in range(spatial_dims))
        for axis in range(spatial_dims)
        for sign in (-1, 1)
    ]
    if spatial_dims == 1:
        return [((0,), place) for place in around]
    return [(a, b) for a, b in combinations(around, 2) if any(p != -q for p, q in zip(a, b))]


def shifted(values: torch.Tensor, offset: Sequence[int]) -> torch.Tensor:
    """``values[x + offset]`` at every voxel x of ``(B, C, *spatial)``; zero where that lies beyond the image."""
    widths = [width for step in reversed(offset) for width in (max(-step, 0), max(step, 0))]
    padded = torch.nn.functional.pad(values, widths)
    for axis, (step, size) in enumerate(zip(offset, values.shape[2:]), start=2):
        padded = padded.narrow(axis, max(step, 0), size)
    return padded


def self_similarity_context(image: torch.Tensor, inside: torch.Tensor, radius: int, dilation: int) -> torch.Tensor:
    """Descriptors ``(pairs, B, C, *spatial)`` in (0, 1]: ``exp(-(D_k - min_k D_k) / V)``, V being the mean of that
    over the pairs.

    V is kept within a thousandth and a thousand times of its mean over the voxels inside. Only differences between
    two voxels inside count in a patch.

    Args:
        image: ``(B, C, *spatial)``, zero outside.
        inside: one where voxels count and zero elsewhere.
        radius: of the patches, voxels.
        dilation: distance of the neighbours from the voxel, voxels.
    """
    kernel = torch.ones(2 * radius + 1)
    distances = []
    for a, b in context_pairs(image.ndim - 2, dilation):
        both = shifted(inside, a) * shifted(inside, b)
        squared = (shifted(image, a) - shifted(image, b)).square() * both
        distances.append(window_sum(squared, kernel) / window_sum(both, kernel).clamp_min(0.5))
    distance = torch.stack(distances)
    distance = distance - distance.amin(0)
    spread = distance.mean(0)
    usual = fixed_order_sum((spread * inside).double()) / fixed_order_sum(inside.double())
    usual = everywhere(usual.to(spread), spread.shape)
    spread = torch.minimum(torch.maximum(spread, usual / 1000), usual * 1000).clamp_min(TINY)
    return torch.exp(-distance / spread)


class ModalityIndependentDescriptorLoss(DenseLoss):
    """Mean squared difference of the images' self-similarity contexts (MIND-SSC): from 0 (equal, up to gain and
    offset) to under 1.

    Heinrich et al. 2013. Each image is described by what resembles what around a voxel, which modalities share where
    intensities are not: edges and texture are compared, in each channel by itself. Patches and contexts end at the
    border and at the mask, where the published code repeats the border's voxels. In 1D the context is the voxel and
    its two neighbours.

    Args:
        radius: of the patches, voxels, 1 or more.
        dilation: distance of the neighbours from the voxel, voxels, 1 or more.
        reduction: ``"mean"``, ``"sum"`` or ``"none"`` (one value for each sample and channel, ``(B, C)``).

    Raises:
        InputError: an option cannot be used.
    """

    def __init__(self, radius: int = 2, dilation: int = 2, reduction: LossReduction | str = LossReduction.MEAN) -> None:
        super().__init__(reduction)
        for name, value in (("radius", radius), ("dilation", dilation)):
            if not isinstance(value, int) or value < 1:
                raise InputError(f"{name}: {value!r} cannot be used; give a whole number of 1 or more voxels")
        self.radius = radius
        self.dilation = dilation

    def measure(self, pred: torch.Tensor, target: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """Mean squared difference of descriptors inside."""
        first = self_similarity_context(pred, inside, self.radius, self.dilation)
        second = self_similarity_context(target, inside, self.radius, self.dilation)
        difference = (first - second).square().mean(0) * inside
        return fixed_order_sum(difference.double()) / fixed_order_sum(inside.double())
