"""What all similarity losses share: checks, precision under autocast, and reduction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from monai.utils import LossReduction
from torch.nn.modules.loss import _Loss

from medmi.information.blocks import working
from medmi.validation import InputError, check_pair, choose

REDUCTIONS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = MappingProxyType(
    {"mean": torch.mean, "sum": torch.sum, "none": lambda values: values}
)


def reduce(values: torch.Tensor, reduction: str) -> torch.Tensor:
    """Losses ``(B, C)`` of each sample and channel to what ``reduction`` asks: mean, sum, or all as they are."""
    return choose(reduction, REDUCTIONS, "reduction")(values)


class SimilarityLoss(_Loss, ABC):
    """A loss between two images on one grid, lower where they are more alike.

    ``loss(pred, target, mask=None)`` takes ``(B, C, *spatial)`` images with one or more spatial axes. Samples and
    channels are kept apart: none changes the value of another. The result is float64 for float64 images and float32
    otherwise, under autocast too.

    Args:
        reduction: ``"mean"`` over samples and channels, ``"sum"`` of them, or ``"none"``: one value for each, ``(B,
            C)``.
    """

    def __init__(self, reduction: LossReduction | str = LossReduction.MEAN) -> None:
        choose(reduction, REDUCTIONS, "reduction")
        super().__init__(reduction=str(reduction))

    def forward(self, pred: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """The reduced loss.

        Args:
            pred: ``(B, C, *spatial)``; gradients reach it and target.
            target: of the same shape.
            mask: ``(B, 1 or C, *spatial)``; only voxels where it is not zero count, and the others may hold anything.

        Raises:
            InputError: shapes disagree, fewer than two voxels count in a channel, or one that counts is NaN or
                infinite.
        """
        check_pair(type(self).__name__, pred, target, mask)
        pred, target = pred.as_subclass(torch.Tensor), target.as_subclass(torch.Tensor)
        wide = torch.promote_types(torch.promote_types(pred.dtype, target.dtype), torch.float32)
        with torch.autocast(pred.device.type, enabled=False):
            values = self.per_channel(pred, target, mask)
        return reduce(values.to(wide), self.reduction)

    @abstractmethod
    def per_channel(self, pred: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Losses ``(B, C)`` of plain tensors of equal shape, outside autocast."""


class DenseLoss(SimilarityLoss):
    """A loss that compares voxels or neighbourhoods: its images are checked, widened and cleared outside the mask."""

    def per_channel(self, pred: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Losses ``(B, C)`` from images that are zero outside the mask."""
        precision = torch.promote_types(working(pred.dtype), working(target.dtype))
        inside = torch.ones_like(pred, dtype=torch.bool) if mask is None else (mask != 0).expand_as(pred)
        few = (inside.flatten(2).sum(2) < 2).nonzero().tolist()
        if few:
            name = "pred" if mask is None else "mask"
            raise InputError(
                f"{name}: fewer than two voxels count in sample {few[0][0]}, channel {few[0][1]} of {tuple(pred.shape)}"
            )
        images = []
        for name, image in (("pred", pred), ("target", target)):
            image = torch.where(inside, image.to(precision), 0.0)
            if not bool(torch.isfinite(image).all()):
                raise InputError(f"{name}: NaN or infinite values where voxels count; mask them out or replace them")
            images.append(image)
        return self.measure(images[0], images[1], inside.to(precision))

    @abstractmethod
    def measure(self, pred: torch.Tensor, target: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """Losses ``(B, C)`` of images in float32 or float64; ``inside`` is one where voxels count and zero elsewhere,
        as the images are.
        """
