"""An easy registration task without an answer at the rim: crossed bars on an empty ground, in two contrasts."""

from __future__ import annotations

import math

import torch

from medmi.grid import Grid

BARS, WIDTH_MM, REACH_MM = 3, 7.0, 40.0


class Bars:
    """A maker of aligned pairs: bars of random place, direction and length; each has a brightness of its own in moving.

    The ground is 0 in both images wherever a pose may look, so that padding tells nothing.
    """

    def __init__(self, grid: Grid) -> None:
        self.points = grid.points()

    def __call__(self, generator: torch.Generator) -> dict[str, torch.Tensor]:
        numbers = torch.rand(BARS, 5, generator=generator, dtype=torch.float64)
        fixed, moving = torch.zeros(self.points.shape[:-1]), torch.zeros(self.points.shape[:-1])
        for x, y, angle, length, brightness in numbers.tolist():
            middle = REACH_MM * (torch.tensor([x, y], dtype=torch.float64) - 0.5)
            direction = torch.tensor([math.cos(math.pi * angle), math.sin(math.pi * angle)], dtype=torch.float64)
            away = self.points - middle
            along = (away @ direction).abs() - (15 + 20 * length)
            across = (away @ torch.stack([-direction[1], direction[0]])).abs() - WIDTH_MM / 2
            bar = torch.sigmoid(-torch.maximum(along, across)).float()
            fixed, moving = torch.maximum(fixed, bar), torch.maximum(moving, bar * (0.4 + 0.6 * brightness))
        return {"fixed": fixed[None], "moving": moving[None]}
