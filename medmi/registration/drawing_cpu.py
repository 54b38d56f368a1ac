"""Compiled loops that draw points of an image: chances by steepness, voxels by their chances, a place within each voxel."""

from __future__ import annotations

import numpy as np

from medmi.spatial.compiled import compiled, vectorised

Array = np.ndarray
ZERO, ONE, HALF = np.float32(0), np.float32(1), np.float32(0.5)


@compiled
def pick(cumulative: Array, uniform: Array, columns: tuple[int, int], voxels: Array) -> None:
    """Draw voxels by their chances, in K sets of N, each spread over the whole image like all of them together.

    The total of ``cumulative (X Y Z,)`` is cut into K N equal strips of which every one gives a voxel, at the height that ``uniform
    (K N,)`` in [0, 1) tells; K neighbours go to K different sets. Fills the columns of ``voxels (K, N)``, places in memory, from the first
    of ``columns`` up to the last.
    """
    sets, count = voxels.shape
    height, end = cumulative[-1] / (sets * count), len(cumulative) - 1
    at = np.searchsorted(cumulative, columns[0] * sets * height)
    for s in range(columns[0], columns[1]):
        # Which of the K comes first differs from strip to strip, so that no set keeps step with the rows of the image.
        row = (s * 2654435761 >> 7) % sets
        for n in range(s * sets, (s + 1) * sets):
            while at < end and cumulative[at] <= (n + uniform[n]) * height:
                at += 1
            voxels[row, s] = at
            row = row + 1 if row + 1 < sets else 0


@vectorised
def scatter(voxels: Array, uniform: Array, shape: tuple[int, int, int], index: Array) -> None:
    """A point in each of the ``voxels (N,)``, where ``uniform (3, N)`` in [0, 1) places it, kept on the lattice: ``index (3, N)``."""
    ny, nz = np.uint32(shape[1]), np.uint32(shape[2])
    tx, ty, tz = np.float32(shape[0] - 1), np.float32(shape[1] - 1), np.float32(shape[2] - 1)
    for n in range(len(voxels)):
        # Half a voxel keeps the rounded product on the right side.
        line = np.uint32((voxels[n] + 0.5) * (1.0 / nz))
        i = np.uint32((line + 0.5) * (1.0 / ny))
        index[0, n] = min(max(np.float32(i) + uniform[0, n] - HALF, ZERO), tx)
        index[1, n] = min(max(np.float32(line - i * ny) + uniform[1, n] - HALF, ZERO), ty)
        index[2, n] = min(max(np.float32(voxels[n] - line * nz) + uniform[2, n] - HALF, ZERO), tz)


@compiled
def interpolate(volume: Array, index: Array, values: Array) -> None:
    """Trilinear ``values (C, N)`` of ``volume (C, X, Y, Z)`` at ``index (3, N)`` on its lattice."""
    channels, nx, ny, nz = volume.shape
    sx, sy, sz = np.uint64(ny * nz if nx > 1 else 0), np.uint64(nz if ny > 1 else 0), np.uint64(1 if nz > 1 else 0)
    voxels = volume.reshape(channels, nx * ny * nz)
    for n in range(index.shape[1]):
        i, j, k = int(index[0, n]), int(index[1, n]), int(index[2, n])
        i, j, k = min(i, max(nx - 2, 0)), min(j, max(ny - 2, 0)), min(k, max(nz - 2, 0))
        u, v, w = index[0, n] - np.float32(i), index[1, n] - np.float32(j), index[2, n] - np.float32(k)
        first = np.uint64((i * ny + j) * nz + k)
        for c in range(channels):
            row, at = voxels[c], first
            a, b = row[at] + w * (row[at + sz] - row[at]), row[at + sy] + w * (row[at + sy + sz] - row[at + sy])
            near, at = a + v * (b - a), at + sx
            a, b = row[at] + w * (row[at + sz] - row[at]), row[at + sy] + w * (row[at + sy + sz] - row[at + sy])
            values[c, n] = near + u * (a + v * (b - a) - near)


@vectorised
def steepen(channel: Array, low: float, high: float, steepness: Array) -> None:
    """Add to ``steepness (X, Y, Z)`` the steps from each voxel to its neighbours along all axes, as shares of the range."""
    nx, ny, nz = channel.shape
    scale = ONE / (high - low)
    for i in range(nx):
        a, b = max(i - 1, 0), min(i + 1, nx - 1)
        for j in range(ny):
            c, d = max(j - 1, 0), min(j + 1, ny - 1)
            rows = (channel[a, j], channel[b, j], channel[i, c], channel[i, d])
            here, out = channel[i, j], steepness[i, j]
            for k in range(nz):
                value = min(max(here[k], low), high)
                total = abs(min(max(rows[0][k], low), high) - value) + abs(min(max(rows[1][k], low), high) - value)
                total += abs(min(max(rows[2][k], low), high) - value) + abs(min(max(rows[3][k], low), high) - value)
                out[k] += total * scale
            for k in range(nz - 1):
                step = abs(min(max(here[k + 1], low), high) - min(max(here[k], low), high)) * scale
                out[k] += step
                out[k + 1] += step


@compiled
def see(matrix: Array, low: Array, high: Array, shape: tuple[int, int, int], spans: Array) -> None:
    """Of each row along the last axis, the voxels that ``matrix (4, 4)`` sends between ``low (3,)`` and ``high (3,)``.

    Fills ``spans (X, Y, 2)`` with the first of them and the one after the last; what is seen of a row is one stretch, since every bound is
    linear in the index once multiplied by the perspective row.
    """
    for i in range(shape[0]):
        for j in range(shape[1]):
            here = matrix[:, 0] * i + matrix[:, 1] * j + matrix[:, 3]
            ends = (0.0, shape[2] - 1.0)
            for axis in range(3):
                ends = _cut(here[axis] - low[axis] * here[3], matrix[axis, 2] - low[axis] * matrix[3, 2], ends)
                ends = _cut(high[axis] * here[3] - here[axis], high[axis] * matrix[3, 2] - matrix[axis, 2], ends)
            spans[i, j, 0] = np.ceil(ends[0])
            spans[i, j, 1] = max(np.floor(ends[1]) + 1, spans[i, j, 0])


@compiled
def _cut(start: float, slope: float, ends: tuple[float, float]) -> tuple[float, float]:
    """The part of a stretch where ``start + slope k`` is not negative; of one that has no such part, an empty one within it."""
    if slope == 0:
        return ends if start >= 0 else (ends[0], ends[0] - 1)
    at = -start / slope
    if slope > 0:
        first = at if at > ends[0] else ends[0]
        return first if first < ends[1] + 1 else ends[1] + 1, ends[1]
    last = at if at < ends[1] else ends[1]
    return ends[0], last if last > ends[0] - 1 else ends[0] - 1


@compiled
def accumulate(steepness: Array, cap: float, foreground: float, mask: Array, spans: Array, cumulative: Array) -> None:
    """Running sum of the chances ``(X Y Z,)``: a share ``foreground`` by capped steepness, the rest evenly over the mask, if any.

    Outside ``spans (rows, 2)``, if any, nothing is added: where all is inside, the sum ends at 1.
    """
    steep = _capped_sum(steepness, cap)
    kept = mask.sum() if mask.size > 0 else len(steepness)
    by_steepness = foreground / steep if steep > 0 else 0.0
    evenly = (1 - foreground if steep > 0 else 1.0) / kept
    total, rows = 0.0, max(1, len(spans))
    length = len(steepness) // rows
    for row in range(rows):
        first, last = (spans[row, 0], spans[row, 1]) if len(spans) else (0, length)
        begin = row * length
        cumulative[begin : begin + first] = total
        for n in range(begin + first, begin + last):
            counts = evenly if mask.size == 0 or mask[n] else 0.0
            total += min(steepness[n], cap) * by_steepness + counts
            cumulative[n] = total
        cumulative[begin + last : begin + length] = total


@vectorised
def _capped_sum(steepness: Array, cap: float) -> float:
    total = 0.0
    for n in range(len(steepness)):
        total += min(steepness[n], cap)
    return total
