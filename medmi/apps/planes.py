"""Planes through a volume as a reader of images expects them: patient axes, radiological sides, square pixels.

Words: a plane is *axial*, *coronal* or *sagittal* in the world (RAS mm), whatever the voxel axes are; the patient's
right is on the viewer's left and superior, or anterior in axial planes, is up. The *view* is the part of the world
that holds the fixed image's foreground.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from medmi.grid import Grid

MARGIN_MM_SHARE = 0.04
MOST_PIXELS = 460
SURVEY_VOXELS = 200_000
FOREGROUND_SHARE = 0.12
WINDOW_QUANTILES = (0.01, 0.995)


@dataclass(frozen=True)
class Plane:
    """World axes that fall from left to right and rise from bottom to top; ``ends``: left, right, top, bottom."""

    name: str
    across: int
    up: int
    ends: str


AXIAL = Plane("axial", across=0, up=1, ends="RLAP")
CORONAL = Plane("coronal", across=0, up=2, ends="RLSI")
SAGITTAL = Plane("sagittal", across=1, up=2, ends="APSI")
PLANES: dict[int, tuple[Plane, ...]] = {2: (AXIAL,), 3: (AXIAL, CORONAL, SAGITTAL)}


@dataclass(frozen=True)
class View:
    """A box of the world, the point all planes pass through, and the size of a square pixel, in mm."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    centre: tuple[float, ...]
    pixel: float

    def size(self, plane: Plane) -> tuple[int, int]:
        """Rows and columns of the plane's pictures."""
        rows, columns = (max(2, round((self.high[a] - self.low[a]) / self.pixel)) for a in (plane.up, plane.across))
        return rows, columns

    def points(self, plane: Plane) -> torch.Tensor:
        """World points of the plane's pixels, ``(rows, columns, d)``, the first row at the top."""
        rows, columns = self.size(plane)
        points = torch.tensor(self.centre, dtype=torch.float64).repeat(rows, columns, 1)
        up = torch.arange(rows - 0.5, 0, -1, dtype=torch.float64) * self.pixel + self.low[plane.up]
        across = torch.arange(columns, dtype=torch.float64).add(0.5) * self.pixel + self.low[plane.across]
        points[..., plane.up] = up[:, None]
        points[..., plane.across] = across.flip(0)
        return points


def view_of(image: torch.Tensor, grid: Grid) -> View:
    """The view of an image's foreground, found on every n-th voxel.

    Args:
        image: one channel, ``(*spatial)``.
        grid: its grid.
    """
    values, step = survey(image)
    low, high = window(image)
    index = (values > low + FOREGROUND_SHARE * (high - low)).nonzero().double() * step
    points = grid.index_to_world(index) if len(index) > 1 else grid.corners
    ends = torch.quantile(points, torch.tensor([0.001, 0.999], dtype=torch.float64), dim=0)
    margin = MARGIN_MM_SHARE * float((ends[1] - ends[0]).max()) + float(grid.spacing.max())
    lowest = torch.maximum(ends[0] - margin, grid.corners.amin(0) - grid.spacing.min() / 2)
    highest = torch.minimum(ends[1] + margin, grid.corners.amax(0) + grid.spacing.min() / 2)
    pixel = max(float(grid.spacing.min()), float((highest - lowest).max()) / MOST_PIXELS)
    return View(tuple(lowest.tolist()), tuple(highest.tolist()), tuple(points.median(0).values.tolist()), pixel)


def survey(image: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Every n-th voxel along each axis, some 200,000 in all, and n."""
    step = max(1, round((image.numel() / SURVEY_VOXELS) ** (1 / image.ndim)))
    return image[tuple(slice(None, None, step) for _ in range(image.ndim))], step


def window(image: torch.Tensor) -> tuple[float, float]:
    """Darkest and brightest value to show, by percentiles of the values other than the padding 0."""
    values, _ = survey(image)
    kept = values[values != 0].double()
    if kept.numel() == 0:
        return 0.0, 1.0
    low, high = torch.quantile(kept, torch.tensor(WINDOW_QUANTILES, dtype=torch.float64)).tolist()
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def sample(image: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
    """Linear interpolation of one channel ``(*spatial)`` at unit coordinates ``(rows, columns, d)``; 0 outside."""
    lifted = unit.float().reshape(1, *[1] * (image.ndim - 2), *unit.shape)
    found = torch.nn.functional.grid_sample(image.float()[None, None], lifted, align_corners=True)
    return found.reshape(unit.shape[:2])
