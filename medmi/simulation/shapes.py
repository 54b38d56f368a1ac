"""Signed distances to the surfaces that anatomy is made of, for points kept as three coordinate tensors.

Words: a *distance* is in mm, negative inside, exact to first order near its surface. *Points* are ``(x, y, z)``,
three tensors of one shape, world mm; so every function is elementwise and its values do not depend on how many points
come in one call.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch

Points = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
Triple = tuple[float, float, float]
Box = tuple[tuple[float, float], ...]
FAR_MM = 1e3


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid: centre and semi-axes in mm, turned by the rotation vector ``turn`` in degrees."""

    centre: Triple
    radii: Triple
    turn: Triple = (0.0, 0.0, 0.0)

    def distance(self, points: Points) -> torch.Tensor:
        """``k (k - 1) / |q / r|``, q the point in the unit ball's coordinates and k = |q|: the level over its slope.

        >>> ball = Ellipsoid((1.0, 0.0, 0.0), (2.0, 2.0, 2.0))
        >>> zero = torch.zeros(2)
        >>> ball.distance((torch.tensor([3.0, 5.0]), zero, zero)).tolist()
        [0.0, 2.0]
        """
        x, y, z = (p - c for p, c in zip(points, self.centre, strict=True))
        local = [dot(row, (x, y, z)) for row in turn_matrix(self.turn)] if any(self.turn) else [x, y, z]
        level, slope = torch.zeros_like(x), torch.full_like(x, 1e-12)
        for axis, radius in zip(local, self.radii, strict=True):
            square = (axis / radius).square_()
            level.add_(square)
            slope.add_(square, alpha=radius**-2)
        k = level.sqrt_()
        return (k - 1).mul_(k).div_(slope.sqrt_())

    def beyond(self, box: Box, margin: float) -> bool:
        """Whether :meth:`distance` surely exceeds ``margin`` mm all over an axis-aligned box."""
        gap = 0.0
        for axis, (low, high) in enumerate(box):
            half = math.hypot(
                *(row[axis] * radius for row, radius in zip(turn_matrix(self.turn), self.radii, strict=True))
            )
            gap += max(low - self.centre[axis] - half, self.centre[axis] - half - high, 0.0) ** 2
        return math.sqrt(gap) * min(self.radii) / max(self.radii) > margin


@dataclass(frozen=True)
class Waves:
    """A smooth field of space: ``sum_i a_i cos(k_i . x + phi_i)``, k in rad / mm."""

    vectors: tuple[Triple, ...]
    phases: tuple[float, ...]
    amplitudes: tuple[float, ...]

    @classmethod
    def random(cls, count: int, wavelengths: tuple[float, float], generator: torch.Generator) -> Waves:
        """``count`` waves of unit total power in random directions, wavelengths uniform in mm between the two given."""
        u = torch.rand((count, 2), generator=generator, dtype=torch.float64)
        direction = torch.randn((count, 3), generator=generator, dtype=torch.float64)
        length = wavelengths[0] + (wavelengths[1] - wavelengths[0]) * u[:, :1]
        k = 2 * math.pi * direction / direction.norm(dim=1, keepdim=True) / length
        rows = [(float(a), float(b), float(c)) for a, b, c in k.tolist()]
        return cls(tuple(rows), tuple((2 * math.pi * u[:, 1]).tolist()), (math.sqrt(2 / count),) * count)

    def value(self, points: Points) -> torch.Tensor:
        """The field at the points."""
        total = torch.zeros_like(points[0])
        for k, phase, amplitude in zip(self.vectors, self.phases, self.amplitudes, strict=True):
            total.add_(torch.cos_(dot(k, points).add_(phase)), alpha=amplitude)
        return total

    def sheet_distance(self, points: Points) -> torch.Tensor:
        """Distance in mm, unsigned, to where the field is zero: |g| / |grad g|, bounded where the slope vanishes."""
        value = torch.zeros_like(points[0])
        slope = [torch.zeros_like(points[0]) for _ in range(3)]
        for k, phase, amplitude in zip(self.vectors, self.phases, self.amplitudes, strict=True):
            angle = dot(k, points).add_(phase)
            value.add_(torch.cos(angle), alpha=amplitude)
            sine = angle.sin_()
            for total, component in zip(slope, k, strict=True):
                total.add_(sine, alpha=-amplitude * component)
        typical = sum(a * a * sum(c * c for c in k) for a, k in zip(self.amplitudes, self.vectors, strict=True)) / 2
        square = slope[0].square_() + slope[1].square_() + slope[2].square_()
        return value.abs_() / square.add_(0.15 * typical).sqrt_()


def union(shapes: tuple[Ellipsoid, ...], points: Points, blend: float, box: Box, margin: float) -> torch.Tensor:
    """Distance to the smooth union of ellipsoids, exact up to ``margin`` mm and larger than that elsewhere.

    Those that lie too far from ``box``, which holds the points, to be felt within the margin are left out.
    """
    total: torch.Tensor | None = None
    for shape in shapes:
        if not shape.beyond(box, margin + blend):
            distance = shape.distance(points)
            total = distance if total is None else smooth_union(total, distance, blend)
    return torch.full_like(points[0], FAR_MM) if total is None else total


def smooth_union(first: torch.Tensor, second: torch.Tensor, blend: float) -> torch.Tensor:
    """The nearer of two surfaces, their crease rounded over ``blend`` mm; the minimum where they differ by more."""
    overlap = (blend - (first - second).abs()).clamp_min_(0)
    return torch.minimum(first, second) - overlap.square_() / (4 * blend)


def dot(vector: Triple, points: Points) -> torch.Tensor:
    """Scalar product with every point, elementwise so that its bits do not depend on the number of threads."""
    return (points[0] * vector[0]).add_(points[1], alpha=vector[1]).add_(points[2], alpha=vector[2])


@functools.lru_cache(maxsize=256)
def turn_matrix(turn: Triple) -> tuple[Triple, ...]:
    """Rows: the axes turned by a rotation vector in degrees, in world coordinates."""
    a, b, c = (math.radians(t) for t in turn)
    skew = torch.tensor([[0.0, -c, b], [c, 0.0, -a], [-b, a, 0.0]], dtype=torch.float64)
    return tuple((row[0], row[1], row[2]) for row in torch.linalg.matrix_exp(skew).mT.tolist())
