"""What every spatial transform does: map fixed world points to moving world points, invert, compose, leave for SimpleITK."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import SimpleITK as sitk
import torch
from torch import nn

from medmi.grid import Grid
from medmi.validation import InputError


class SpatialTransform(nn.Module, ABC):
    """A map T from fixed world points to moving world points, RAS+ mm (the resampling direction, as in ITK)."""

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

    def __iter__(self):  # noqa: ANN204
        return iter(self.parts)

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
        """A ``sitk.CompositeTransform`` of the parts."""
        composite = sitk.CompositeTransform(self.spatial_dims)
        for part in self:
            composite.AddTransform(part.to_sitk(grid))
        return composite

    def folded(self, other: SpatialTransform) -> SpatialTransform | None:
        """None: a chain is flattened by :func:`chain`, not folded."""
        return None


def chain(transforms: Iterable[SpatialTransform]) -> SpatialTransform:
    """``chain([a, b, c])(x) = a(b(c(x)))``, nested chains flattened and neighbours folded into one where that is exact."""
    flat = [p for t in transforms for p in (t if isinstance(t, Chain) else [t])]
    kept: list[SpatialTransform] = []
    for part in flat:
        one = kept[-1].folded(part) if kept and kept[-1].spatial_dims == part.spatial_dims else None
        if one is None:
            kept.append(part)
        else:
            kept[-1] = one
    return kept[0] if len(kept) == 1 else Chain(kept)
