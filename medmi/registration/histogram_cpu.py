"""Compiled loops over the joint histogram of sampled points: filling it, and how a function of it changes with each point.

C channels, B poses, N points, in this order.
"""

from __future__ import annotations

import numpy as np

from medmi.spatial.compiled import compiled, vectorised

Array = np.ndarray
BLOCK = 256
ZERO = np.float32(0)
# Probabilities under this are none.
TINY = 1e-12


@compiled
def histogram(
    values: Array, weights: Array, places: Array, counts: Array, fixed_positions: Array, low: Array, scale: Array,
    tables: Array,
) -> None:  # fmt: skip
    """Joint counts with linear windows, ``tables (C, B, bins, bins)``: rows fixed, columns moving.

    Args:
        values: moving values ``(C, B, N)``.
        weights: ``(B, N)``.
        places: which of the fixed positions go with them, ``(B, N)`` uint32.
        counts: how many of the N are filled, ``(B,)``.
        fixed_positions: fixed bin positions ``(C, N)`` in [0, bins - 1].
        low, scale: ``(C,)``: the moving bin position is ``(value - low) * scale``, clamped to [0, bins - 1].
    """
    bins = tables.shape[-1]
    right, below, across = np.uint32(1), np.uint32(bins), np.uint32(bins + 1)
    cells, shares, rows = np.empty(BLOCK, np.uint32), np.empty((4, BLOCK), np.float32), np.empty(BLOCK, np.float32)
    tables[:] = 0.0
    flat = tables.reshape(tables.shape[0], tables.shape[1], bins * bins)
    for c in range(len(values)):
        for b in range(values.shape[1]):
            table = flat[c, b]
            for start in range(0, counts[b], BLOCK):
                block = slice(start, min(start + BLOCK, counts[b]))
                gather(fixed_positions[c], places[b, block], rows)
                _shares(
                    values[c, b, block], weights[b, block], rows, low[c], scale[c], bins,
                    cells, shares[0], shares[1], shares[2], shares[3],
                )  # fmt: skip
                for n in range(block.stop - start):
                    at = cells[n]
                    table[at] += shares[0, n]
                    table[at + right] += shares[1, n]
                    table[at + below] += shares[2, n]
                    table[at + across] += shares[3, n]


@vectorised
def gather(row: Array, places: Array, found: Array) -> None:
    """The entries of a row at some places."""
    for n in range(len(places)):
        found[n] = row[places[n]]


@vectorised
def _shares(
    values: Array, weights: Array, positions: Array, low: float, scale: float, bins: int,
    cells: Array, first: Array, right: Array, below: Array, across: Array,
) -> None:  # fmt: skip
    """The entry of the table that each point falls behind, and its shares of that entry and the three beside it."""
    last, top = np.int32(bins - 2), np.float32(bins - 1)
    for n in range(len(values)):
        g = (values[n] - low) * scale
        g = g if g > ZERO else ZERO
        g = g if g < top else top
        i, j = np.int32(positions[n]), np.int32(g)
        i, j = i if i < last else last, j if j < last else last
        f, g = (positions[n] - np.float32(i)) * weights[n], g - np.float32(j)
        right[n], across[n] = (weights[n] - f) * g, f * g
        first[n], below[n] = weights[n] - f - right[n], f - across[n]
        cells[n] = np.uint32(i * np.int32(bins) + j)


@compiled
def mutual_information(tables: Array, logs: Array, values: Array) -> None:
    """Mutual information ``values (K,)`` in nat of joint probabilities ``tables (K, bins, bins)``.

    ``MI = sum p log p - sum r log r - sum c log c`` with the sums r over rows and c over columns (Cover & Thomas 2006, Eq. 2.45). Of the
    ``logs`` of the tables it makes the derivative by each entry, up to a constant.
    """
    bins = tables.shape[-1]
    rows, columns = np.empty(bins), np.empty(bins)
    for k in range(len(tables)):
        table, log, total = tables[k], logs[k], 0.0
        columns[:] = 0.0
        for i in range(bins):
            rows[i] = 0.0
            for j in range(bins):
                rows[i] += table[i, j]
                columns[j] += table[i, j]
                total += table[i, j] * log[i, j]
        for sums in (rows, columns):
            for i in range(bins):
                one = np.log(max(sums[i], TINY))
                total -= sums[i] * one
                sums[i] = one
        values[k] = total
        for i in range(bins):
            for j in range(bins):
                log[i, j] -= rows[i] + columns[j]


@compiled
def look_up(
    values: Array, weights: Array, places: Array, edges: Array, counts: Array, fixed_positions: Array, low: Array,
    scale: Array, slopes: Array, by_value: Array, by_weight: Array,
) -> None:  # fmt: skip
    """How a function of the tables changes with each point.

    Args:
        values, weights, places, fixed_positions, low, scale: as in :func:`histogram`.
        edges: which of the points are asked for the derivative by their weight, ``(B, N)`` uint32.
        counts: how many points and how many edges are filled, ``(2, B)``.
        slopes: ``(C, B, bins, bins)`` float32, the derivative by each entry of the tables.
        by_value, by_weight: filled with the derivatives by the moving values ``(C, B, N)`` and by the weights of the edges ``(B, N)``.
    """
    channels, poses, bins = slopes.shape[0], slopes.shape[1], slopes.shape[2]
    cells, steps = np.empty(BLOCK, np.uint32), np.empty(bins * bins, np.float32)
    rows, upper, lower = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    by_weight[:] = ZERO
    for b in range(poses):
        count, edge = counts[0, b], counts[1, b]
        for c in range(channels):
            slope = slopes[c, b].ravel()
            steps[:-1] = slope[1:] - slope[:-1]
            for start in range(0, count, BLOCK):
                block = slice(start, min(start + BLOCK, count))
                row = values[c, b, block]
                gather(fixed_positions[c], places[b, block], rows)
                _cells(row, rows, low[c], scale[c], bins, cells)
                for n in range(len(row)):
                    upper[n], lower[n] = steps[cells[n]], steps[cells[n] + np.uint32(bins)]
                _by_value(row, weights[b, block], rows, low[c], scale[c], bins, upper, lower, by_value[c, b, block])
            _by_weight(
                values[c, b], places[b], edges[b, :edge], fixed_positions[c], low[c], scale[c], bins, slope,
                by_weight[b, :edge],
            )  # fmt: skip


@vectorised
def _cells(values: Array, positions: Array, low: float, scale: float, bins: int, cells: Array) -> None:
    """The entry of the table that each point falls behind."""
    last, top = np.int32(bins - 2), np.float32(bins - 1)
    for n in range(len(values)):
        g = (values[n] - low) * scale
        g = g if g > ZERO else ZERO
        g = g if g < top else top
        i, j = np.int32(positions[n]), np.int32(g)
        i, j = i if i < last else last, j if j < last else last
        cells[n] = np.uint32(i * np.int32(bins) + j)


@vectorised
def _by_value(
    values: Array, weights: Array, positions: Array, low: float, scale: float, bins: int, upper: Array, lower: Array,
    out: Array,
) -> None:  # fmt: skip
    """Steps along two rows of the table are mixed between the rows; 0 where the value is clamped."""
    last, top = np.int32(bins - 2), np.float32(bins - 1)
    for n in range(len(values)):
        at = (values[n] - low) * scale
        i = np.int32(positions[n])
        i = i if i < last else last
        step = upper[n] + (positions[n] - np.float32(i)) * (lower[n] - upper[n])
        out[n] = step * scale * weights[n] if (at >= ZERO) & (at <= top) else ZERO


@vectorised
def _by_weight(
    values: Array, places: Array, edges: Array, positions: Array, low: float, scale: float, bins: int, slopes: Array,
    out: Array,
) -> None:  # fmt: skip
    """Bilinear values of the table at the edges, added."""
    last, top = np.int32(bins - 2), np.float32(bins - 1)
    for n in range(len(edges)):
        g = (values[edges[n]] - low) * scale
        g = g if g > ZERO else ZERO
        g = g if g < top else top
        position = positions[places[edges[n]]]
        i, j = np.int32(position), np.int32(g)
        i, j = i if i < last else last, j if j < last else last
        f, g = position - np.float32(i), g - np.float32(j)
        here = np.uint32(i * np.int32(bins) + j)
        upper, lower = slopes[here], slopes[here + np.uint32(bins)]
        left = upper + f * (lower - upper)
        upper, lower = slopes[here + np.uint32(1)], slopes[here + np.uint32(bins + 1)]
        out[n] += left + g * (upper + f * (lower - upper) - left)
