"""What every spatial transform does: map fixed world points to moving world points, invert, compose, leave for SimpleITK."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from medmi.grid import Grid
from medmi.validation import InputError

if TYPE_CHECKING:
    import SimpleITK as sitk


class SpatialTransform(nn.Module, ABC):
    """A map T from fixed world points to moving world points, RAS+ mm (the resampling direction, as in ITK).

    Attributes:
        sampled_in_itk: whether ITK can hold it only as a displacement field, exact at the voxel centres of one grid.
    """

    sampled_in_itk: bool = False

    @property
    @abstractmethod
    def spatial_dims(self) -> int:
        """2 or 3."""

    @abstractmethod
    def points(self, x: torch.Tensor) -> torch.Tensor:
        """Moving world points ``(..., d)`` of fixed world points ``(..., d)``, in mm."""

    @abstractmethod
    def inverse(self) -> SpatialTransform:
        """The map from moving to fixed world points."""

    @abstractmethod
    def to_sitk(self, grid: Grid | None = None) -> sitk.Transform:
        """The same map for SimpleITK (LPS mm). ``grid`` is asked for only by maps that ITK can hold as a sampled field alone."""

    @abstractmethod
    def folded(self, other: SpatialTransform) -> SpatialTransform | None:
        """``self(other(x))`` as one transform of a closed kind, or None where only a chain can hold it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same as :meth:`points`."""
        return self.points(x)

    def compose(self, other: SpatialTransform) -> SpatialTransform:
        """The transform with ``compose(other)(x) = self(other(x))``."""
        return chain([self, other])


class Chain(SpatialTransform):
    """Transforms applied from the last to the first: ``Chain([a, b])(x) = a(b(x))``, the order of SimpleITK's composites."""

    def __init__(self, parts: Iterable[SpatialTransform]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        if not self.parts:
            raise InputError("Chain: no transform was given; at least one is asked")
        sizes = {p.spatial_dims for p in self}
        if len(sizes) > 1:
            raise InputError(f"Chain: 2D and 3D transforms cannot be chained, got {[p.spatial_dims for p in self]}")

    def __iter__(self) -> Iterator[SpatialTransform]:
        return iter(cast("Iterable[SpatialTransform]", self.parts))

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return next(iter(self)).spatial_dims

    def points(self, x: torch.Tensor) -> torch.Tensor:
        """Moving world points of fixed world points ``(..., d)``."""
        for part in reversed(list(self)):
            x = part.points(x)
        return x

    def inverse(self) -> SpatialTransform:
        """The inverses in the opposite order."""
        return Chain([part.inverse() for part in reversed(list(self))])

    def to_sitk(self, grid: Grid | None = None) -> sitk.Transform:
        """A ``sitk.CompositeTransform`` of the parts.

        ``grid`` holds the fixed points alone, so a part that needs it and is not applied first is sampled together with all
        that is applied before it.
        """
        import SimpleITK as sitk

        from medmi.spatial.field import DisplacementFieldTransform  # which builds on this module

        parts = list(flattened(self))
        sampled = next((k for k, part in enumerate(parts[:-1]) if part.sampled_in_itk), None)
        if sampled is not None and grid is not None:
            parts[sampled:] = [DisplacementFieldTransform.sampled(Chain(parts[sampled:]), grid)]
        return sitk.CompositeTransform([part.to_sitk(grid) for part in parts])

    def folded(self, other: SpatialTransform) -> SpatialTransform | None:
        """None: a chain is flattened by :func:`chain`, not folded."""
        return None


def flattened(transforms: Iterable[SpatialTransform]) -> Iterator[SpatialTransform]:
    """The transforms with the parts of chains, however deep, in their place."""
    for transform in transforms:
        if isinstance(transform, Chain):
            yield from flattened(transform)
        else:
            yield transform


def chain(transforms: Iterable[SpatialTransform]) -> SpatialTransform:
    """``chain([a, b, c])(x) = a(b(c(x)))``, nested chains flattened and neighbours folded into one where that is exact."""
    kept: list[SpatialTransform] = []
    for part in flattened(transforms):
        one = kept[-1].folded(part) if kept and kept[-1].spatial_dims == part.spatial_dims else None
        if one is None:
            kept.append(part)
        else:
            kept[-1] = one
    return kept[0] if len(kept) == 1 else Chain(kept)
