"""Registered and unregistered training pairs, made from aligned images by random motions in world mm.

Words: *aligned* images show one anatomy at one place of the world; a *motion* P of a transform family maps world points
to world points; the *unregistered* pair is (F, M o P), whose truth T is the inverse of P; the *registered* pair is
(F, (M o R) o R^-1) with a motion R of its own: resampled twice, by the same means and with the same zeros from outside
the grid as the generator's output (F, (M o P) o T) is. A registered pair that was not resampled alike is told from a
perfect fake by its sharpness and its rim alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from medmi.grid import Grid
from medmi.spatial.generators import generators
from medmi.spatial.linear import linear_matrix
from medmi.validation import InputError

__all__ = ["Extent", "Motions", "TrainingPairs", "random_motions"]

Resampling = Callable[[Tensor, Tensor], Tensor]
"""From images ``(B, C, *spatial)`` and matrices ``(B, d + 1, d + 1)`` to images on the fixed grid."""

PERSPECTIVE_MM = 80.0


@dataclass(frozen=True)
class Extent:
    """The largest motions: of each kind the length is uniform from 0 to the largest, the direction isotropic.

    Attributes:
        degrees: of the rotation about the grid's centre.
        mm: of the translation.
        strain: of log-scale, stretches and shears together; a perspective changes the scale by as much over 80 mm.

    Raises:
        InputError: a negative or non-finite number.
    """

    degrees: float = 15.0
    mm: float = 20.0
    strain: float = 0.1

    def __post_init__(self) -> None:
        for name in ("degrees", "mm", "strain"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"{name}: {value!r} came; a finite number from 0 is asked")

    def sizes(self) -> dict[str, float]:
        """The largest parameters of each kind, in mm, rad, 1 and 1/mm."""
        kinds = {"mm": self.mm, "degrees": math.radians(self.degrees), "strain": self.strain}
        return {**kinds, "perspective": self.strain / PERSPECTIVE_MM}


@dataclass(frozen=True)
class Motions:
    """World matrices ``(B, d + 1, d + 1)``, float64: motions and their inverses."""

    there: Tensor
    back: Tensor


def random_motions(count: int, family: str, grid: Grid, extent: Extent, generator: torch.Generator) -> Motions:
    """Motions of a family about the grid's centre.

    Args:
        count: how many, B.
        family: a name of :data:`medmi.spatial.FAMILIES`.
        grid: whose centre the motions keep, but for their translation.
        extent: the largest motions.
        generator: on the CPU.

    Raises:
        InputError: unknown family, or one that does not exist in this dimension.

    >>> grid = Grid((8, 8), torch.eye(3))
    >>> motions = random_motions(2, "rigid", grid, Extent(10, 5), torch.Generator().manual_seed(0))
    >>> torch.allclose(motions.there @ motions.back, torch.eye(3, dtype=torch.float64))
    True
    """
    basis = generators(family, grid.spatial_dims)
    sizes = extent.sizes()
    kinds = [_kind(matrix) for matrix in basis]
    parameters = torch.zeros(count, len(basis), dtype=torch.float64)
    for kind in dict.fromkeys(kinds):
        members = [index for index, other in enumerate(kinds) if other == kind]
        direction = torch.randn(count, len(members), generator=generator, dtype=torch.float64)
        length = sizes[kind] * torch.rand(count, 1, generator=generator, dtype=torch.float64)
        parameters[:, members] = torch.nn.functional.normalize(direction, dim=1) * length
    there, back = (linear_matrix(sign * parameters, family, grid.spatial_dims, grid.centre) for sign in (1, -1))
    return Motions(there, back)


def _kind(generator: Tensor) -> str:
    """Which field of an extent bounds a generator's parameter."""
    if generator[:-1, -1].any():
        return "mm"
    if generator[-1, :-1].any():
        return "perspective"
    return "degrees" if torch.equal(generator, -generator.mT) else "strain"


@dataclass(frozen=True)
class TrainingPairs:
    """Makes unregistered and registered pairs from aligned images ``(B, C, *spatial)``.

    Args:
        grid: the fixed grid, on which every pair lies.
        resample: moves images that lie on the fixed grid; the same spatial transformer as the generator's, such as
            ``SpatialTransformer(grid, grid)``.
        first: moves the aligned moving images, where these lie on a grid of their own. None: ``resample``. Give a
            wider grid where there is one: otherwise the rim of zeros that a motion brings in tells it to the
            generator, which then learns the rim and not the anatomy, and errs on its own output.
        transform: family of the motions.
        extent: the largest motions.

    >>> grid = Grid((4, 4), torch.eye(3))
    >>> pairs = TrainingPairs(grid, resample=lambda images, matrices: images + 1)
    >>> image, generator = torch.zeros(1, 1, 4, 4), torch.Generator().manual_seed(0)
    >>> moving, truth = pairs.unregistered(image, generator)
    >>> float(moving.max()), float(pairs.registered(image, generator).max())
    (1.0, 2.0)
    """

    grid: Grid
    resample: Resampling
    first: Resampling | None = None
    transform: str = "rigid"
    extent: Extent = field(default_factory=Extent)

    def unregistered(self, moving: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Moving images out of place ``(B, C, *grid)``, and the true T ``(B, d + 1, d + 1)`` that puts them back."""
        motions = self._motions(moving, generator)
        return (self.first or self.resample)(moving, motions.there), motions.back

    def registered(self, moving: Tensor, generator: torch.Generator) -> Tensor:
        """Moving images in place ``(B, C, *grid)``, by a random motion and its inverse."""
        motions = self._motions(moving, generator)
        return self.resample((self.first or self.resample)(moving, motions.there), motions.back)

    def _motions(self, moving: Tensor, generator: torch.Generator) -> Motions:
        if moving.ndim != self.grid.spatial_dims + 2:
            d = self.grid.spatial_dims
            raise InputError(f"moving: shape {tuple(moving.shape)} came; (B, C, *spatial) in {d}D is asked by the grid")
        motions = random_motions(len(moving), self.transform, self.grid, self.extent, generator)
        return Motions(motions.there.to(moving.device), motions.back.to(moving.device))
