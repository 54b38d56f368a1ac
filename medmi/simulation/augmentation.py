"""Augmentation of training images: contrast, intensity curve, bias field, noise and speckle, drawn anew for every image.

Words: an image's *range* is its greatest minus its least value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from medmi.simulation.noise import RAYLEIGH_MEAN, rayleigh
from medmi.validation import InputError

__all__ = ["Augmentation"]

KNOTS = 3
# Pieces of an intensity curve.
PIECES = 6
SPECKLE_VOXELS = 0.7


@dataclass(frozen=True)
class Augmentation:
    """The largest changes; each image draws its own strength, uniform from 0 (gamma: either way). 0 leaves one out.

    Attributes:
        gamma: natural logarithm of the exponent on the image scaled to [0, 1].
        bias: natural logarithm of the largest gain of a smooth multiplicative field.
        noise: deviation of Gaussian noise, relative to the range.
        speckle: share of Rayleigh speckle, at most 1.
        curve: share of the range, at most 1, by which the corners of a piecewise linear intensity curve move up or down; its lowest one
            stays. Curves need not rise: from about 0.5 on they make other modalities of an image.

    Raises:
        InputError: a negative or non-finite number, or a share above 1.

    >>> image = torch.rand(2, 1, 8, 8)
    >>> torch.equal(Augmentation(0, 0, 0, 0)(image, torch.Generator()), image)
    True
    """

    gamma: float = 0.3
    bias: float = 0.2
    noise: float = 0.03
    speckle: float = 0.0
    curve: float = 0.0

    def __post_init__(self) -> None:
        for row in fields(self):
            value = getattr(self, row.name)
            if not (math.isfinite(value) and value >= 0) or (row.name in ("speckle", "curve") and value > 1):
                raise InputError(
                    f"{row.name}: {value!r} came; a finite number from 0, for speckle and curve to 1, is asked"
                )

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Changed images ``(B, C, *spatial)``, float32, of about the same range; all draws are made on the CPU."""
        return torch.stack([self._one(image.float(), generator) for image in images])

    def _one(self, image: Tensor, generator: torch.Generator) -> Tensor:
        low, high = image.min(), image.max()
        span = torch.where(high > low, high - low, 1.0)
        shape = tuple(image.shape[1:])
        gamma, bias, noise, speckle = torch.rand(4, generator=generator).tolist()
        if self.curve:
            image = low + span * _curved((image - low) / span, self.curve, generator)
        if self.gamma:
            image = low + span * ((image - low) / span).pow(math.exp(self.gamma * (2 * gamma - 1)))
        if self.bias:
            smooth = _smooth(shape, generator)
            gain = torch.exp(bias * self.bias * smooth / smooth.abs().max().clamp_min(1e-6))
            image = low + (image - low) * gain.to(image.device)
        if self.speckle:
            grain = rayleigh(shape, [SPECKLE_VOXELS] * len(shape), generator) / RAYLEIGH_MEAN
            image = low + (image - low) * torch.lerp(torch.ones(()), grain, speckle * self.speckle).to(image.device)
        if self.noise:
            grain = torch.randn(image.shape, generator=generator).to(image.device)
            image = image + noise * self.noise * span * grain
        return image


def _curved(image: Tensor, most: float, generator: torch.Generator) -> Tensor:
    """An image in [0, 1] through a random curve, which stays there."""
    strength, *moves = torch.rand(PIECES + 1, generator=generator).tolist()
    rises = [strength * most * (2 * move - 1) for move in moves]
    ends = torch.tensor([0.0, *(min(max((k + 1) / PIECES + rise, 0.0), 1.0) for k, rise in enumerate(rises))])
    at = (image * PIECES).clamp(0, PIECES)
    first = at.long().clamp_max(PIECES - 1)
    ends = ends.to(image.device)
    return torch.lerp(ends[first], ends[first + 1], at - first)


def _smooth(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """A random field ``shape`` that is linear between three knots along each axis."""
    knots = torch.randn(1, 1, *[KNOTS] * len(shape), generator=generator)
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(shape)]
    return torch.nn.functional.interpolate(knots, shape, mode=mode, align_corners=True)[0, 0]
