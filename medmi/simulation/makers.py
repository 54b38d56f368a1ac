"""Makers of aligned training pairs: stored ones, ultrasound simulated anew from each fixed image, or some whose place is unknown.

Words: a *maker* gives one aligned pair ``{"fixed", "moving"}``, each ``(1, *source)``, for each generator it is called
with, so that draw number n of a training can be made again alone. A *cover* is 1 where an image shows something and 0
where its edge voxels or zeros go on beyond it. A pair is *known* where its images really are aligned; a pair that says
nothing of it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from monai.data import MetaTensor
from torch import Tensor

from medmi.grid import Grid
from medmi.simulation.augmentation import Augmentation
from medmi.simulation.probe import Probe, fan_mask
from medmi.simulation.sources import Source, block_means
from medmi.simulation.ultrasound import simulate_ultrasound
from medmi.validation import InputError

__all__ = ["PairMaker", "PartlyKnownPairs", "StoredPairs", "UltrasoundPairs"]

PairMaker = Callable[[torch.Generator], Mapping[str, Tensor]]

OPENINGS_DEG = (60.0, 110.0)


@dataclass(frozen=True)
class StoredPairs:
    """Draws one of some sources that hold both images.

    Args:
        sources: with their moving images.
        pool: both images are averaged over blocks of so many voxels along each axis.
        augmentation: changes both images, each its own way; None: as they are.

    Raises:
        InputError: no sources, or one without its moving image.
    """

    sources: Sequence[Source]
    pool: int = 1
    augmentation: Augmentation | None = None

    def __post_init__(self) -> None:
        check_sources(self.sources, self.pool)
        for source in self.sources:
            source.pair()

    def __call__(self, generator: torch.Generator) -> dict[str, Tensor]:
        fixed, moving = (block_means(image, self.pool) for image in drawn(self.sources, generator).pair())
        return augmented(fixed, moving, self.augmentation, generator)


@dataclass(frozen=True)
class UltrasoundPairs:
    """Draws a fixed image, and simulates ultrasound of a random part of it by a random probe.

    The part's place within the image, the probe's direction and its opening are new each time, so that the outline of
    the ultrasound says little of where the fixed image's own edges are: the pose must be read from the anatomy.

    Args:
        sources: fixed images, of MR or CT.
        grid: the source grid.
        probe: whose other settings hold for all draws.
        tissue: as for :func:`medmi.simulation.simulate_ultrasound`; sources are scaled, which suits ``mr``.
        crop: the most that is cut off each side of the image's box, a share of its length under one half.
        pool: both images are averaged over blocks of so many voxels along each axis after the simulation, which needs
            a finer grid than networks see: on theirs alone every voxel would hold one speckle.
        augmentation: changes both images, each its own way; None: as they are.
        covers: whether pairs also hold ``fixed_cover``, the image's box, and ``moving_cover``, the fan within its part.

    Raises:
        InputError: no sources, or a share out of range.
    """

    sources: Sequence[Source]
    grid: Grid
    probe: Probe = field(default_factory=Probe)
    tissue: str = "mr"
    crop: float = 0.15
    pool: int = 1
    augmentation: Augmentation | None = None
    covers: bool = False

    def __post_init__(self) -> None:
        check_sources(self.sources, self.pool)
        if not 0 <= self.crop < 0.5:
            raise InputError(f"crop: {self.crop!r} came; a share from 0 to under 0.5 is asked")

    def __call__(self, generator: torch.Generator) -> dict[str, Tensor]:
        source = drawn(self.sources, generator)
        part = self._part(source, generator)
        affine = self.grid.affine.clone()
        affine[:-1, -1] = self.grid.index_to_world(torch.tensor([cut.start for cut in part], dtype=torch.float64))
        seed = int(torch.randint(2**31, (), generator=generator))
        image = MetaTensor(source.fixed[part][None], affine=affine)
        moving, probe = torch.zeros_like(source.fixed), self._probe(generator)
        moving[part] = simulate_ultrasound(image, seed, probe, self.tissue).as_tensor()[0]
        fixed, moving = (block_means(image, self.pool) for image in (source.fixed, moving))
        pair = augmented(fixed, moving, self.augmentation, generator)
        return pair | self._covers(source, part, fan_mask(Grid.of(image), probe)) if self.covers else pair

    def _covers(self, source: Source, part: tuple[slice, ...], fan: Tensor) -> dict[str, Tensor]:
        box, seen = torch.zeros_like(source.fixed), torch.zeros_like(source.fixed)
        box[tuple(slice(low, high) for low, high in zip(source.low, source.high))] = 1
        seen[part] = fan.to(seen)
        wholly = [(block_means(cover, self.pool) == 1).float()[None] for cover in (box, seen)]
        return {"fixed_cover": wholly[0], "moving_cover": wholly[1]}

    def _part(self, source: Source, generator: torch.Generator) -> tuple[slice, ...]:
        cuts = torch.rand(len(source.low), 2, generator=generator) * self.crop
        sides = zip(source.low, source.high, cuts.tolist())
        return tuple(
            slice(low + math.floor(a * (high - low)), high - math.floor(b * (high - low)))
            for low, high, (a, b) in sides
        )

    def _probe(self, generator: torch.Generator) -> Probe:
        angle, opening = torch.rand(2, generator=generator).tolist()
        low, high = OPENINGS_DEG
        turn = 2 * math.pi * angle
        direction = (math.cos(turn), math.sin(turn), 0.0)[: self.grid.spatial_dims]
        return replace(self.probe, direction=direction, opening_deg=low + (high - low) * opening)


@dataclass(frozen=True)
class PartlyKnownPairs:
    """Draws from one of two makers, and says by ``known`` ``()`` whether it is the first: 1 there, else 0.

    Args:
        known: of pairs whose images are aligned.
        unknown: of pairs of which nobody knows how they lie to each other.
        share: of draws that are known.

    Raises:
        InputError: a share that is not above 0 and up to 1.
    """

    known: PairMaker
    unknown: PairMaker
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InputError(f"share: {self.share!r} came; a share above 0 and up to 1 is asked")

    def __call__(self, generator: torch.Generator) -> dict[str, Tensor]:
        known = torch.rand((), generator=generator) < self.share
        return {**(self.known if known else self.unknown)(generator), "known": known.float()}


def check_sources(sources: Sequence[Source], pool: int) -> None:
    """Raise unless there are some, whose voxels make whole blocks."""
    if not sources:
        raise InputError("sources: none came; at least one is asked")
    shape = tuple(sources[0].fixed.shape)
    if pool < 1 or any(size % pool for size in shape):
        raise InputError(f"pool: {pool!r} came; a divisor of the sources' {shape} is asked")


def drawn(sources: Sequence[Source], generator: torch.Generator) -> Source:
    """One of the sources."""
    return sources[int(torch.randint(len(sources), (), generator=generator))]


def augmented(
    fixed: Tensor, moving: Tensor, augmentation: Augmentation | None, generator: torch.Generator
) -> dict[str, Tensor]:
    """A pair ``(1, *source)`` each, changed."""
    both = torch.stack([fixed, moving])[:, None]
    if augmentation is not None:
        both = augmentation(both, generator)
    return {"fixed": both[0], "moving": both[1]}
