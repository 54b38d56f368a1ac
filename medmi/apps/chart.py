"""A line chart as plain numbers for an SVG: similarity over evaluations, a line for each level."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 480, 230
LEFT, RIGHT, TOP, BOTTOM = 62, 470, 12, 196
COLOURS = ("#8fa3b5", "#4f8fb3", "#0f7a9c", "#e0682a", "#8a3a7a")
TICKS = 4


@dataclass(frozen=True)
class Tick:
    """A horizontal line and its label."""

    y: float
    label: str


@dataclass(frozen=True)
class Line:
    """One level: the points of its polyline, and the middle of its stretch."""

    name: str
    points: str
    colour: str
    x: float


@dataclass(frozen=True)
class Chart:
    """All that the template draws."""

    ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = RIGHT


def chart(history: Sequence[tuple[int, float]]) -> Chart | None:
    """The chart of ``(level, similarity)`` pairs in order; None where fewer than two are finite."""
    kept = [(i, level, value) for i, (level, value) in enumerate(history) if math.isfinite(value)]
    if len(kept) < 2:
        return None
    values = [value for _, _, value in kept]
    low, high = min(values), max(values)
    span = (high - low) or max(abs(high), 1.0)
    last = max(len(history) - 1, 1)
    lines = []
    for k, (level, group) in enumerate(itertools.groupby(kept, key=lambda row: row[1])):
        points = [(LEFT + (RIGHT - LEFT) * i / last, BOTTOM - (BOTTOM - TOP) * (v - low) / span) for i, _, v in group]
        middle = (points[0][0] + points[-1][0]) / 2
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        lines.append(Line(f"level {level + 1}", path, COLOURS[k % len(COLOURS)], round(middle, 1)))
    steps = [low + span * i / TICKS for i in range(TICKS + 1)]
    ticks = tuple(Tick(round(BOTTOM - (BOTTOM - TOP) * i / TICKS, 1), f"{value:.3g}") for i, value in enumerate(steps))
    return Chart(ticks, tuple(lines))
