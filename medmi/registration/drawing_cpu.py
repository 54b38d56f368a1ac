"""Compiled loops that draw points of an image: chances by steepness, voxels by their chances, a place within each voxel."""

from __future__ import annotations

import numpy as np

from medmi.spatial.compiled import compiled, vectorised

Array = np.ndarray
ZERO, ONE, HALF, UNIT = np.float32(0), np.float32(1), np.float32(0.5), np.float32(2.0**-24)
# The golden ratio's, and how many chances a strip has: one for its height, three for the place within the voxel.
WEYL, DRAWS = np.uint32(0x9E3779B9), 4


@compiled
def pick(
    cumulative: Array, spans: Array, strips: int, stream: int, voxels: Array, numbers: Array, counts: Array
) -> None:
    """Draw voxels by their chances into K sets, each spread over the whole image like all of them together.

    The total of ``cumulative (X Y Z,)`` is cut into equal strips of which every one gives a voxel, at a height within it that its number
    and the stream tell; K neighbours go to K different sets. Only what falls within ``spans (rows, 2)`` is drawn, which changes nothing
    in what is.

    Args:
        cumulative: chances summed along memory.
        spans: of every row the first voxel and the one after the last; rows are equal parts of memory.
        strips: how many the total is cut into, all sets together.
        stream: tells unlike draws apart.
        voxels, numbers: filled with places in memory and with the numbers of the strips, ``(K, N)``.
        counts: filled with how many of the N each set holds, ``(K,)``.
    """
    sets, length, height = len(voxels), len(cumulative) // len(spans), cumulative[-1] / strips
    counts[:] = 0
    for row in range(len(spans)):
        begin, end = row * length + spans[row, 0], row * length + spans[row, 1]
        if begin == end:
            continue
        low, high, at = cumulative[begin - 1] if begin > 0 else 0.0, cumulative[end - 1], begin
        n, stop = int(low / height), min(int(high / height) + 1, strips)
        k = _set_of(n, sets)
        while n < stop:
            place = (n + chance(np.uint32(n * DRAWS), stream)) * height
            if low <= place and (place < high or end == len(cumulative)):
                while at < end - 1 and cumulative[at] <= place:
                    at += 1
                voxels[k, counts[k]], numbers[k, counts[k]] = at, n
                counts[k] += 1
            n, k = n + 1, k + 1 if k + 1 < sets else 0
            if n % sets == 0:
                k = _set_of(n, sets)


@compiled
def share_within(cumulative: Array, spans: Array) -> float:
    """The share of the total of ``cumulative (X Y Z,)`` that lies within ``spans (rows, 2)``."""
    length, seen = len(cumulative) // len(spans), 0.0
    for row in range(len(spans)):
        begin, end = row * length + spans[row, 0], row * length + spans[row, 1]
        if begin < end:
            seen += cumulative[end - 1] - (cumulative[begin - 1] if begin > 0 else 0.0)
    return seen / cumulative[-1]


@compiled
def _set_of(strip: int, sets: int) -> int:
    """Which of the K sets a strip gives to; the first of K neighbours goes to one set, then to another, so that no set keeps step with the
    rows of the image."""
    return ((strip // sets * 2654435761 >> 7) + strip) % sets


@vectorised
def chance(number: int, stream: int) -> np.float32:
    """A number in [0, 1) for each ``number`` of a stream, all uint32: the finaliser of MurmurHash3 (Appleby 2011) of a Weyl sequence."""
    h = np.uint32(np.uint32(number * WEYL) + stream)
    h = np.uint32((h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B))
    h = np.uint32((h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35))
    return np.float32((h ^ (h >> np.uint32(16))) >> np.uint32(8)) * UNIT


@vectorised
def scatter(voxels: Array, numbers: Array, stream: int, shape: tuple[int, int, int], index: Array) -> None:
    """A point in each of the ``voxels (N,)``, where its number and the stream place it, kept on the lattice: ``index (3, N)``."""
    ny, nz = np.uint32(shape[1]), np.uint32(shape[2])
    tx, ty, tz = np.float32(shape[0] - 1), np.float32(shape[1] - 1), np.float32(shape[2] - 1)
    for n in range(len(voxels)):
        # Half a voxel keeps the rounded product on the right side.
        line = np.uint32((voxels[n] + 0.5) * (1.0 / nz))
        i = np.uint32((line + 0.5) * (1.0 / ny))
        first = np.uint32(numbers[n] * np.uint32(DRAWS))
        u, v, w = (
            chance(np.uint32(first + np.uint32(1)), stream),
            chance(np.uint32(first + np.uint32(2)), stream),
            chance(np.uint32(first + np.uint32(3)), stream),
        )
        index[0, n] = min(max(np.float32(i) + u - HALF, ZERO), tx)
        index[1, n] = min(max(np.float32(line - i * ny) + v - HALF, ZERO), ty)
        index[2, n] = min(max(np.float32(voxels[n] - line * nz) + w - HALF, ZERO), tz)


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
def accumulate(steepness: Array, cap: float, foreground: float, mask: Array, cumulative: Array) -> None:
    """Running sum of the chances ``(X Y Z,)``: a share ``foreground`` by capped steepness, the rest evenly over the mask, if any."""
    steep = _capped_sum(steepness, cap)
    kept = mask.sum() if mask.size > 0 else len(steepness)
    by_steepness = foreground / steep if steep > 0 else 0.0
    evenly = (1 - foreground if steep > 0 else 1.0) / kept
    total = 0.0
    for n in range(len(steepness)):
        counts = evenly if mask.size == 0 or mask[n] else 0.0
        total += min(steepness[n], cap) * by_steepness + counts
        cumulative[n] = total


@vectorised
def _capped_sum(steepness: Array, cap: float) -> float:
    total = 0.0
    for n in range(len(steepness)):
        total += min(steepness[n], cap)
    return total
