"""Compiled loops over the joint histogram of sampled points: filling it, and how a function of it changes with each point.

C channels, B poses, N points, in this order.
"""

from __future__ import annotations

import numpy as np

from medmi.spatial.compiled import compiled, vectorised

Array = np.ndarray
BLOCK = 256
ZERO = np.float32(0)


@compiled
def histogram(values: Array, weights: Array, fixed_positions: Array, low: Array, scale: Array, tables: Array) -> None:
    """Joint counts with linear windows, ``tables (C, B, bins, bins)``: rows fixed, columns moving.

    Args:
        values: moving values ``(C, B, N)``.
        weights: ``(B, N)``.
        fixed_positions: fixed bin positions ``(C, N)`` in [0, bins - 1].
        low, scale: ``(C,)``: the moving bin position is ``(value - low) * scale``, clamped to [0, bins - 1].
    """
    bins = tables.shape[-1]
    cells, shares = np.empty(BLOCK, np.uint32), np.empty((4, BLOCK), np.float32)
    tables[:] = 0.0
    flat = tables.reshape(tables.shape[0], tables.shape[1], bins * bins)
    for c in range(values.shape[0]):
        for b in range(values.shape[1]):
            table = flat[c, b]
            for start in range(0, values.shape[2], BLOCK):
                block = slice(start, min(start + BLOCK, values.shape[2]))
                row, positions = values[c, b, block], fixed_positions[c, block]
                _shares(
                    row, weights[b, block], positions, low[c], scale[c], bins,
                    cells, shares[0], shares[1], shares[2], shares[3],
                )  # fmt: skip
                for n in range(len(row)):
                    at = cells[n]
                    table[at] += shares[0, n]
                    table[at + np.uint32(1)] += shares[1, n]
                    table[at + np.uint32(bins)] += shares[2, n]
                    table[at + np.uint32(bins + 1)] += shares[3, n]


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


@vectorised
def look_up(
    values: Array, weights: Array, fixed_positions: Array, low: Array, scale: Array, slopes: Array, out: Array
) -> None:
    """How a function of the tables changes with each point: ``out (C + 1, B, N)`` by the moving values and, last, by the weight.

    Args:
        values, weights, fixed_positions, low, scale: as in :func:`histogram`.
        slopes: ``(C, B, bins, bins)`` float32, the derivative by each entry of the tables.
    """
    channels, poses, bins = slopes.shape[0], slopes.shape[1], slopes.shape[2]
    flat = slopes.reshape(channels, poses, bins * bins)
    out[channels] = 0.0
    for c in range(channels):
        for b in range(poses):
            _look_up_row(
                values[c, b],
                weights[b],
                fixed_positions[c],
                low[c],
                scale[c],
                bins,
                flat[c, b],
                out[c, b],
                out[channels, b],
            )


@vectorised
def _look_up_row(
    values: Array, weights: Array, positions: Array, low: float, scale: float, bins: int, slopes: Array,
    by_value: Array, by_weight: Array,
) -> None:  # fmt: skip
    last, top = np.int32(bins - 2), np.float32(bins - 1)
    for n in range(len(values)):
        at = (values[n] - low) * scale
        clamped = at if at > ZERO else ZERO
        clamped = clamped if clamped < top else top
        i, j = np.int32(positions[n]), np.int32(clamped)
        i, j = i if i < last else last, j if j < last else last
        f, g = positions[n] - np.float32(i), clamped - np.float32(j)
        here = np.uint32(i * np.int32(bins) + j)
        upper, lower = slopes[here], slopes[here + np.uint32(bins)]
        left = upper + f * (lower - upper)
        upper, lower = slopes[here + np.uint32(1)], slopes[here + np.uint32(bins + 1)]
        step = upper + f * (lower - upper) - left
        by_value[n] = step * scale * weights[n] if clamped == at else ZERO
        by_weight[n] += left + g * step
