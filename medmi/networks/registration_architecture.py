"""Architectures: registration networks as plain data, so that a file can say how to build the one it holds.

Words: a *design* is a row of :data:`DESIGNS`: the published layers or the modern variant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from medmi.grid import Grid
from medmi.networks.registration import PairGenerator, PairScorer, RegistrationDiscriminator, RegistrationGenerator
from medmi.networks.registration_modern import ModernRegistrationDiscriminator, ModernRegistrationGenerator
from medmi.simulation.sources import centred_grid
from medmi.spatial.generators import generators
from medmi.validation import InputError, choose

__all__ = ["DESIGNS", "Architecture"]

SOURCE_SCALE = 1.5


@dataclass(frozen=True)
class Architecture:
    """Everything that decides a network's shape and what it sees.

    Attributes:
        spatial_dims: 2 or 3.
        image_size: voxels along each axis of the network's grid.
        spacing_mm: between them.
        transform: family of the transform.
        design: ``published`` or ``modern``.
        channels: of the published layers; of the modern design's last stage, whose earlier ones have half each.
        stages: of the modern design, after its stem.
        instance_norm: in the published generator; the modern one always has it, discriminators never.
        pool: images are prepared on voxels so many times finer and averaged over blocks.

    Raises:
        InputError: a name or number that cannot be.
    """

    spatial_dims: int = 2
    image_size: int = 64
    spacing_mm: float = 2.0
    transform: str = "rigid"
    design: str = "modern"
    channels: int = 128
    stages: int = 3
    instance_norm: bool = True
    pool: int = 2

    def __post_init__(self) -> None:
        choose(self.design, DESIGNS, "design")
        if self.spatial_dims not in (2, 3):
            raise InputError(f"spatial_dims: {self.spatial_dims!r} came; 2 or 3 is asked")
        generators(self.transform, self.spatial_dims)
        for name, least in (("image_size", 8), ("channels", 1), ("stages", 1), ("pool", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name}: {getattr(self, name)!r} came; at least {least} is asked")
        if self.image_size % 4:
            raise InputError(f"image_size: {self.image_size!r} came; a multiple of 4 is asked")
        if not 0 < self.spacing_mm < 1000:
            raise InputError(f"spacing_mm: {self.spacing_mm!r} came; a length above 0 mm is asked")

    @property
    def grid(self) -> Grid:
        """The network's grid, with the world's origin in its middle."""
        return centred_grid((self.image_size,) * self.spatial_dims, self.spacing_mm)

    @property
    def source_grid(self) -> Grid:
        """Where sources lie: the same voxels over half as far again."""
        return centred_grid((self.source_size,) * self.spatial_dims, self.spacing_mm)

    @property
    def fine_grid(self) -> Grid:
        """Where images are prepared: ``pool`` voxels for each of the source grid's, along each axis."""
        return centred_grid((self.source_size * self.pool,) * self.spatial_dims, self.spacing_mm / self.pool)

    @property
    def source_size(self) -> int:
        """Voxels along each axis of the source grid."""
        return round(SOURCE_SCALE * self.image_size)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the modern design's stem and stages."""
        return tuple(max(1, self.channels >> (self.stages - stage)) for stage in range(self.stages + 1))

    def generator(self) -> PairGenerator:
        """A new generator."""
        return DESIGNS[self.design].generator(self)

    def discriminator(self, sigmoid: bool = False) -> PairScorer:
        """A new discriminator of the same design."""
        return DESIGNS[self.design].discriminator(self, sigmoid)


@dataclass(frozen=True)
class Design:
    """How a design's networks are built."""

    generator: Callable[[Architecture], PairGenerator]
    discriminator: Callable[[Architecture, bool], PairScorer]


DESIGNS: Mapping[str, Design] = MappingProxyType(
    {
        "published": Design(
            lambda a: RegistrationGenerator(a.spatial_dims, a.image_size, a.transform, a.channels, a.instance_norm),
            lambda a, sigmoid: RegistrationDiscriminator(a.spatial_dims, a.image_size, a.channels, sigmoid),
        ),
        "modern": Design(
            lambda a: ModernRegistrationGenerator(a.spatial_dims, a.image_size, a.transform, a.widths),
            lambda a, sigmoid: ModernRegistrationDiscriminator(a.spatial_dims, a.image_size, a.widths, sigmoid=sigmoid),
        ),
    }
)
"""Designs by name."""
