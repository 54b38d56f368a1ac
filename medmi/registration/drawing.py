"""Points drawn from a fixed level: how many, where, and what they stand for; the loops are in :mod:`medmi.registration.drawing_cpu`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from medmi.registration import drawing_cpu
from medmi.registration.levels import Array, Volume
from medmi.registration.workers import shared_out

CAP_VOXELS = 10_000
NO_SPANS = np.zeros((0, 2), np.int64)


@dataclass(frozen=True)
class Drawn:
    """Points of a fixed level.

    Attributes:
        index: ``(3, N)`` float32, in voxels.
        values: ``(C, N)`` float32.
        to_world: ``(4, 4)`` index to world.
        share: of the chances of all voxels, that of those it was drawn from.
    """

    index: Array
    values: Array
    to_world: Array
    share: float = 1.0

    @property
    def points(self) -> Array:
        """``(3, N)`` world mm, float64."""
        return self.to_world[:3, :3] @ self.index.astype(np.float64) + self.to_world[:3, 3:]

    def centred(self, centre: Array) -> Array:
        """``(3, N)`` float32, world mm minus the centre."""
        rest = (self.to_world[:3, 3] - centre).astype(np.float32)
        return self.to_world[:3, :3].astype(np.float32) @ self.index + rest[:, None]


# Share of points that go by steepness.
FOREGROUND = 0.4
# More points take longer than they tell.
MOST_SURPLUS = 10.0


def draw(volume: Volume, count: int, rng: np.random.Generator, foreground: float = FOREGROUND) -> Drawn:
    """Draw points of a fixed level: stratified along memory, jittered within a voxel.

    A share ``foreground`` of them goes by gradient magnitude, capped at its own 80th percentile; the rest is spread evenly, so that flat
    regions keep theirs.
    """
    return draw_sets(volume, chances(volume, foreground), (1, count), rng)[0]


def draw_sets(
    volume: Volume, cumulative: Array, size: tuple[int, int], rng: np.random.Generator, threads: int = 1
) -> list[Drawn]:
    """Sets of points, ``size = (how many sets, points of each)``, by :func:`chances`; stratified over all of them together too."""
    voxels, (sets, count) = np.empty(size, np.uint32), size
    uniform = rng.random(sets * count, np.float32)
    ends = np.linspace(0, count, threads + 1).astype(int)
    shared_out(lambda part: drawing_cpu.pick(cumulative, uniform, part, voxels), list(pairwise(ends)), threads)
    places = rng.random((sets, 3, count), np.float32)

    def placed(k: int) -> Drawn:
        index, values = np.empty((3, count), np.float32), np.empty((len(volume.voxels), count), np.float32)
        drawing_cpu.scatter(voxels[k], places[k], volume.voxels.shape[1:], index)
        drawing_cpu.interpolate(volume.voxels, index, values)
        return Drawn(index, values, volume.to_world, min(1.0, float(cumulative[-1])))

    return shared_out(placed, range(sets), threads)


def surplus_of_points(fixed: Volume, moving: Volume) -> float:
    """How many times as large the fixed image is as the moving one, masks counted, from 1 to ``MOST_SURPLUS``.

    Every pose sees that part of the points, perhaps too few for a histogram: so many more are drawn while poses are far apart.
    """
    return min(max(1.0, fixed.extent / moving.extent), MOST_SURPLUS)


def chances(volume: Volume, foreground: float, spans: Array = NO_SPANS) -> Array:
    """Cumulative chance of each voxel to be drawn, ``(X Y Z,)`` float64, in the order of memory; see :func:`in_view` for spans."""
    steepness = volume.steepness.ravel()
    seen = steepness[:: max(1, len(steepness) // CAP_VOXELS)]
    seen = seen[seen > 0]
    cap = float(np.percentile(seen, 80)) if len(seen) else np.inf
    cumulative = np.empty(len(steepness))
    drawing_cpu.accumulate(steepness, cap, foreground, volume.mask.ravel(), spans.reshape(-1, 2), cumulative)
    return cumulative


def in_view(fixed: Volume, moving: Volume, pose: Array, centre: Array, margin: float) -> Array:
    """Which fixed voxels the moving image sees at a pose, or within ``margin`` mm of its rim.

    Spans ``(X, Y, 2)`` int64: of each row along the last axis the first voxel and the one after the last.
    """
    to_centred = fixed.to_world.copy()
    to_centred[:3, 3] -= centre
    more = margin / np.linalg.norm(moving.to_world[:3, :3], axis=0)
    shape = np.array(moving.voxels.shape[1:])
    spans = np.empty((*fixed.voxels.shape[1:3], 2), np.int64)
    matrix = np.linalg.inv(moving.to_world) @ pose @ to_centred
    drawing_cpu.see(matrix, -more, shape - 1 + more, fixed.voxels.shape[1:], spans)
    return spans
