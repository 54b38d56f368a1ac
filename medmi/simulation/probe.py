"""The ultrasound probe: where its beams run, and the way between a beam's coordinates and the world.

Words: *beam coordinates* are ``(r, a)`` in 2D and ``(r, a, e)`` in 3D: the distance in mm from the virtual apex
behind the probe's face, and the angles in rad between a beam's projections and the central beam, in the image plane
and in elevation. All beams together are the *fan*.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from medmi.grid import Grid
from medmi.validation import InputError


@dataclass(frozen=True)
class Probe:
    """A curved probe that looks at the middle of an image from its edge.

    Args:
        direction: of the central beam in world axes, any length; None looks from anterior to posterior.
        opening_deg: full angle of the fan in the image plane.
        elevation_deg: full angle across the image plane, for 3D.
        radius_mm: of the probe's face about the virtual apex.
        depth_mm: how far beams reach from the face; None to the image's far side.
        attenuation_db_per_cm: loss of an echo from a centimetre deeper in soft tissue, both ways, left after the
            scanner's own compensation.
        cell_mm: full width at half maximum of the resolution cell, along and across the beams.

    Raises:
        InputError: an angle is not between 1 and 170 degrees, a length or the attenuation is out of range, or the
        direction is zero.
    """

    direction: tuple[float, ...] | None = None
    opening_deg: float = 75.0
    elevation_deg: float = 65.0
    radius_mm: float = 40.0
    depth_mm: float | None = None
    attenuation_db_per_cm: float = 0.6
    cell_mm: float = 2.0

    def __post_init__(self) -> None:
        for name in ("opening_deg", "elevation_deg"):
            if not 1 <= getattr(self, name) <= 170:
                raise InputError(f"Probe: {name} is {getattr(self, name)}; 1 to 170 degrees are asked")
        for name in ("radius_mm", "depth_mm", "cell_mm"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"Probe: {name} is {value}; a length above 0 mm is asked")
        if not (math.isfinite(self.attenuation_db_per_cm) and self.attenuation_db_per_cm >= 0):
            raise InputError(f"Probe: attenuation_db_per_cm is {self.attenuation_db_per_cm}; a number from 0 is asked")
        if self.direction is not None and not 0 < math.hypot(*self.direction) < math.inf:
            raise InputError(f"Probe: direction is {self.direction}; a finite vector other than zero is asked")


@dataclass(frozen=True)
class Fan:
    """A probe placed at an image: apex ``(d,)``, axes ``(d, d)`` with the central beam in the first row, and ranges.

    ``low`` and ``high`` are the ends of the beam coordinates, ``(d,)``: mm, then rad.
    """

    apex: torch.Tensor
    axes: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor

    @classmethod
    def of(cls, probe: Probe, grid: Grid) -> Fan:
        """The fan whose face touches the box of the grid where the central beam through its middle comes in."""
        dims = grid.spatial_dims
        if probe.direction is not None and len(probe.direction) != dims:
            raise InputError(f"Probe: direction has {len(probe.direction)} components; the image is {dims}D")
        axes = beam_axes(torch.tensor(probe.direction or (0.0, -1.0, 0.0)[:dims], dtype=torch.float64))
        reach = float(((grid.corners - grid.centre) @ axes[0]).max())
        apex = grid.centre - axes[0] * (reach + probe.radius_mm)
        half = [math.radians(a) / 2 for a in (probe.opening_deg, probe.elevation_deg)][: dims - 1]
        depth = 2 * reach if probe.depth_mm is None else probe.depth_mm
        low = torch.tensor([probe.radius_mm, *(-a for a in half)], dtype=torch.float64)
        return cls(apex, axes, low, torch.tensor([probe.radius_mm + depth, *half], dtype=torch.float64))

    def to_beam(self, points: torch.Tensor) -> torch.Tensor:
        """World points ``(..., d)`` to beam coordinates ``(..., d)``."""
        along, *across = ((points - self.apex.to(points)) @ self.axes.to(points).mT).unbind(-1)
        radius = torch.stack((along, *across), -1).norm(dim=-1)
        return torch.stack((radius, *(torch.atan2(a, along) for a in across)), -1)

    def to_world(self, beam: torch.Tensor) -> torch.Tensor:
        """Beam coordinates ``(..., d)`` to world points ``(..., d)``."""
        slopes = torch.tan(beam[..., 1:])
        ray = torch.nn.functional.normalize(torch.cat((torch.ones_like(beam[..., :1]), slopes), -1), dim=-1)
        return self.apex.to(beam) + beam[..., :1] * (ray @ self.axes.to(beam))

    def contains(self, beam: torch.Tensor) -> torch.Tensor:
        """Which beam coordinates ``(..., d)`` the fan holds, bool ``(...)``."""
        return ((beam >= self.low.to(beam)) & (beam <= self.high.to(beam))).all(-1)

    def samples(self, spacing: float) -> tuple[int, ...]:
        """Samples along each beam coordinate that lie ``spacing`` mm apart, at mid depth for the angles."""
        middle = float(self.low[0] + self.high[0]) / 2
        lengths = (self.high - self.low) * torch.tensor([1.0, *[middle] * (len(self.low) - 1)], dtype=torch.float64)
        return tuple(max(2, round(float(length) / spacing) + 1) for length in lengths)


def beam_axes(direction: torch.Tensor) -> torch.Tensor:
    """Orthonormal rows: the direction, the image plane's other axis, elevation; ``(d, d)`` float64."""
    first = direction / direction.norm()
    if len(first) == 2:
        return torch.stack((first, torch.stack((-first[1], first[0]))))
    # Across the beam the image plane follows the world axis that the beam runs along least.
    other = torch.eye(3, dtype=torch.float64)[int(first.abs().argmin())]
    second = torch.nn.functional.normalize(other - (other @ first) * first, dim=0)
    return torch.stack((first, second, torch.linalg.cross(first, second)))


def fan_mask(grid: Grid, probe: Probe | None = None) -> torch.Tensor:
    """Which voxels of a grid a probe sees, bool ``(*shape)``: use it as the mask of a simulated image.

    >>> fan_mask(Grid((20, 30), torch.eye(3, dtype=torch.float64))).shape
    torch.Size([20, 30])
    """
    fan = Fan.of(probe or Probe(), grid)
    return fan.contains(fan.to_beam(grid.points()))
