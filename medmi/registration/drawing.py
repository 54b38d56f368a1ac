"""Points drawn from a fixed level: how many, where, and what they stand for; the loops are in :mod:`medmi.registration.drawing_cpu`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from medmi.registration import drawing_cpu
from medmi.registration.levels import Array, Volume, percentiles
from medmi.registration.workers import shared_out

CAP_VOXELS = 10_000
# Share of points that go by steepness.
FOREGROUND = 0.4
# More points take longer than they tell.
MOST_SURPLUS = 10.0
# What the moving image sees is next to nothing under this share of the chances.
LEAST_SHARE = 1e-3


@dataclass(frozen=True)
class Drawn:
    """Points of a fixed level.

    Attributes:
        index: ``(3, N)`` float32, in voxels.
        heights: ``(C, N)`` float32, the values of the companded image, from 0 to 1.
        to_world: ``(4, 4)`` index to world.
        look_up: tells ``values``, which not every term needs.
        share: of the chances of all voxels, that of those it was drawn from.
    """

    index: Array
    heights: Array
    to_world: Array
    look_up: Callable[[], Array]
    share: float = 1.0

    @cached_property
    def values(self) -> Array:
        """``(C, N)`` float32, of the image as it is."""
        return self.look_up()

    @property
    def points(self) -> Array:
        """``(3, N)`` world mm, float64."""
        return self.to_world[:3, :3] @ self.index.astype(np.float64) + self.to_world[:3, 3:]

    def centred(self, centre: Array) -> Array:
        """``(3, N)`` float32, world mm minus the centre."""
        rest = (self.to_world[:3, 3] - centre).astype(np.float32)
        return self.to_world[:3, :3].astype(np.float32) @ self.index + rest[:, None]


def draw(volume: Volume, count: int, rng: np.random.Generator, foreground: float = FOREGROUND) -> Drawn:
    """Draw points of a fixed level: stratified along memory, jittered within a voxel.

    A share ``foreground`` of them goes by gradient magnitude, capped at its own 80th percentile; the rest is spread evenly, so that flat
    regions keep theirs.
    """
    cumulative = chances(volume, foreground)
    return draw_sets(volume, cumulative, (1, count), int(rng.integers(2**32)), everywhere(volume))[0]


def draw_sets(
    volume: Volume, cumulative: Array, size: tuple[int, int], stream: int, spans: Array, threads: int = 1
) -> list[Drawn]:
    """Sets of points by :func:`chances`, stratified over all of them together too, of which those within spans are kept.

    Args:
        volume: what is drawn from.
        cumulative: its chances.
        size: how many sets, and how many points each would have of the whole volume.
        stream: from 0 to 2^32 - 1; the same one draws the same points, whatever the spans.
        spans: as of :func:`everywhere` or :func:`in_view`; of a part that some set has no point of, everything is drawn.
        threads: how many share the work; the results do not depend on it.
    """
    rows = spans.reshape(-1, 2)
    share = drawing_cpu.share_within(cumulative, rows)
    picked = _picked(cumulative, rows, size, stream, threads)
    if not all(len(voxels) for voxels, _ in picked):
        return draw_sets(volume, cumulative, size, stream, everywhere(volume), threads)

    def placed(some: tuple[Array, Array]) -> Drawn:
        index = np.empty((3, len(some[0])), np.float32)
        drawing_cpu.scatter(*some, stream, volume.voxels.shape[1:], index)
        heights = drawing_cpu.interpolate(volume.companded, index)
        return Drawn(index, heights, volume.to_world, partial(drawing_cpu.interpolate, volume.voxels, index), share)

    return shared_out(placed, picked, threads)


def _picked(
    cumulative: Array, rows: Array, size: tuple[int, int], stream: int, threads: int
) -> list[tuple[Array, Array]]:
    """Places in memory and numbers of the strips of each set, ``(N,)``; the threads pick from blocks of rows."""
    sets, count = size
    blocks = np.array_split(np.arange(len(rows)), min(threads, len(rows)))

    def pick(block: Array) -> list[tuple[Array, Array]]:
        own = np.zeros_like(rows)
        own[block] = rows[block]
        # Every stretch gives each set at most three points more than its part.
        stretches = int((own[:, 1] > own[:, 0]).sum())
        room = round(count * drawing_cpu.share_within(cumulative, own)) + 3 * stretches
        voxels, numbers = np.empty((2, sets, room), np.uint32)
        counts = np.empty(sets, np.int64)
        drawing_cpu.pick(cumulative, own, sets * count, stream, voxels, numbers, counts)
        return [(v[:n], m[:n]) for v, m, n in zip(voxels, numbers, counts)]

    parts = zip(*shared_out(pick, blocks, threads))
    return [(np.concatenate([v for v, _ in part]), np.concatenate([m for _, m in part])) for part in parts]


def surplus_of_points(fixed: Volume, moving: Volume) -> float:
    """How many times as large the fixed image is as the moving one, masks counted, from 1 to ``MOST_SURPLUS``.

    Every pose sees that part of the points, perhaps too few for a histogram: so many more are drawn while poses are far apart.
    """
    return min(max(1.0, fixed.extent / moving.extent), MOST_SURPLUS)


def chances(volume: Volume, foreground: float) -> Array:
    """Cumulative chance of each voxel to be drawn, ``(X Y Z,)`` float64, in the order of memory."""
    steepness = volume.steepness.ravel()
    seen = steepness[:: max(1, len(steepness) // CAP_VOXELS)]
    seen = seen[seen > 0]
    cap = float(percentiles(seen[None], [80])[0, 0]) if len(seen) else np.inf
    cumulative = np.empty(len(steepness))
    drawing_cpu.accumulate(steepness, cap, foreground, volume.mask.ravel(), cumulative, volume.threads)
    return cumulative


def everywhere(volume: Volume) -> Array:
    """Spans ``(1, 2)`` of all voxels: one row, from first to last."""
    return np.array([[0, volume.voxels[0].size]])


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


def surplus_of_spans(cumulative: Array, spans: Array) -> float:
    """How many times as many points all chances must give for those within spans to be as many as asked, roughly.

    Rounded to a power of the root of two: whoever sees about the same part draws the same points. Of next to nothing there is nothing to
    draw, however many.
    """
    share = drawing_cpu.share_within(cumulative, spans.reshape(-1, 2))
    return float(2 ** (np.round(-2 * np.log2(share)) / 2)) if share > LEAST_SHARE else 1.0
