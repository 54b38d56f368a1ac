"""Registered and unregistered training pairs, seen at random poses of aligned images.

Words: *aligned* images, fixed and moving, show one anatomy at one place of the world on one *source* grid; a *view* V
maps the world of the network's grid to the source's; a *motion* P of a transform family maps world points to world
points. The *unregistered* pair is (F o V, M o V P), whose truth T is the inverse of P; a network that finds T' makes
the fake (F o V, M o V P T'). The *registered* pair is (F o V, M o V) with a view of its own. Every image is resampled
once, from the source at the composed pose and with the edge voxels going on outside: a registered pair that was not
resampled alike is told from a perfect fake by its sharpness and its rim alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from medmi.grid import Grid
from medmi.simulation.views import WHOLE, Share, Views
from medmi.spatial.generators import generators
from medmi.spatial.linear import linear_matrix
from medmi.spatial.replicate import resample_replicated
from medmi.validation import InputError

__all__ = ["Extent", "Motions", "Poses", "TrainingPairs", "random_motions"]

PERSPECTIVE_MM = 80.0
# Rounding of interpolation weights.
WHOLLY = 0.999


@dataclass(frozen=True)
class Extent:
    """The largest motions: the parameters of each kind are uniform within the ball of this radius.

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
        share = torch.rand(count, 1, generator=generator, dtype=torch.float64).pow(1 / len(members))
        parameters[:, members] = torch.nn.functional.normalize(direction, dim=1) * sizes[kind] * share
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
class Poses:
    """World matrices ``(B, d + 1, d + 1)``, float64: views V, starts V P, and truths T with V P T = V."""

    view: Tensor
    start: Tensor
    truth: Tensor


@dataclass(frozen=True)
class TrainingPairs:
    """Draws poses, and shows aligned sources at them.

    Args:
        grid: the network's grid, on which every pair lies.
        source_grid: where the aligned images lie.
        transform: family of the motions.
        extent: the largest motions.
        views: how pairs look at their source.

    >>> grid = Grid((4, 4), torch.eye(3))
    >>> pairs, generator = TrainingPairs(grid, grid), torch.Generator().manual_seed(0)
    >>> source = torch.ones(2, 1, 4, 4)
    >>> poses = pairs.poses(source, generator)
    >>> torch.allclose(poses.start @ poses.truth, poses.view), pairs.shown(source, poses.start).shape
    (True, torch.Size([2, 1, 4, 4]))
    """

    grid: Grid
    source_grid: Grid
    transform: str = "rigid"
    extent: Extent = field(default_factory=Extent)
    views: Views = field(default_factory=Views)

    def poses(self, fixed: Tensor, generator: torch.Generator, share: Share = WHOLE) -> Poses:
        """Views of aligned fixed images ``(B, C, *source)`` and motions before them."""
        view = self.views.drawn(fixed, self.source_grid, self.grid, generator, share)
        motions = random_motions(share.total(len(fixed)), self.transform, self.grid, self.extent, generator)
        return Poses(view, view @ share.kept(motions.there), share.kept(motions.back))

    def shown(self, source: Tensor, poses: Tensor) -> Tensor:
        """Sources ``(B, C, *source)`` at poses ``(B, d + 1, d + 1)`` on the network's grid."""
        return resample_replicated(source, self.source_grid, poses, self.grid)

    def covered(self, cover: Tensor, poses: Tensor) -> Tensor:
        """Covers ``(B, 1, *source)`` at poses: 1 where a voxel of the network's grid sees covered ones alone, else 0.

        The source grid's rim counts as not covered, since its values go on outside.
        """
        rimmed = cover.clone()
        for axis in range(2, cover.ndim):
            rimmed.index_fill_(axis, torch.tensor([0, cover.shape[axis] - 1]), 0.0)
        return (self.shown(rimmed, poses) > WHOLLY).to(cover)
