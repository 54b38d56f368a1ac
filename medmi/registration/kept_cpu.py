"""Compiled loops that look points up at each pose and keep those that count, and the way back from their derivatives to the pose.

A point is *kept* at a pose if some of its weight is left (see :mod:`medmi.registration.kernels_cpu` for weights and blocks); the kept are
packed to the front, so that nothing is spent on the rest. Those with a weight under 1 are *edges*: the derivative by the weight is
asked of them alone. C channels, B poses, N points, in this order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medmi.registration.kernels_cpu import (
    BLOCK,
    HALF,
    ONE,
    ZERO,
    background_of,
    block_projected,
    cells_of,
    corners_of,
    gradients_of,
    settled_of,
    values_of,
    weight_gradients_of,
    weights_of,
)
from medmi.spatial.compiled import compiled, vectorised

Array = np.ndarray


@dataclass(frozen=True)
class Kept:
    """What is kept of the points at B poses; rows are filled as far as ``counts`` tells.

    Attributes:
        values: moving values ``(C, B, N)`` float32.
        weights: ``(B, N)`` float32.
        places: which of the points they are, ``(B, N)`` uint32.
        edges: which of the kept have a weight under 1, ``(B, N)`` uint32.
        counts: how many are kept and how many of them are edges, ``(2, B)``.
        sums: the weight that is left and how much is missing over a background rim, ``(2, B)`` float64.
        gradients: index gradients ``(C, B, 3, N)`` of the values, or empty.
        edge_gradients: ``(B, 3, N)`` of the edges' weights, or empty.
    """

    values: Array
    weights: Array
    places: Array
    edges: Array
    counts: Array
    sums: Array
    gradients: Array
    edge_gradients: Array


def keep(pairs: Array, mask: Array, rim: Array, matrices: Array, points: Array, gradient: bool) -> Kept:
    """Look up a volume, :func:`medmi.registration.kernels_cpu.paired` ``(C, X, Y, Z)``, where ``matrices (B, 4, 4)`` send ``points
    (3, N)``.

    The *rim* is background where all values are under ``rim (C,)``. A weight under 1 is left only there: values beyond the lattice are
    nobody's, but background goes on. An empty ``mask``, paired ``(X, Y, Z)``, counts everywhere.
    """
    channels, batch, count = len(pairs), len(matrices), points.shape[1]
    kept = Kept(
        values=np.empty((channels, batch, count), np.float32),
        weights=np.empty((batch, count), np.float32),
        places=np.empty((batch, count), np.uint32),
        edges=np.empty((batch, count), np.uint32),
        counts=np.empty((2, batch), np.int64),
        sums=np.empty((2, batch)),
        gradients=np.empty((channels, batch, 3, count) if gradient else (0, 0, 0, 0), np.float32),
        edge_gradients=np.empty((batch, 3, count) if gradient else (0, 0, 0), np.float32),
    )
    _keep(
        pairs, mask, rim, matrices, points, kept.values, kept.weights, kept.places, kept.edges, kept.counts,
        kept.sums, kept.gradients, kept.edge_gradients,
    )  # fmt: skip
    return kept


@compiled
def _keep(
    pairs: Array, mask: Array, rim: Array, matrices: Array, points: Array, values: Array, weights: Array,
    places: Array, edges: Array, counts: Array, sums: Array, gradients: Array, edge_gradients: Array,
) -> None:  # fmt: skip
    channels, nx, ny, nz = pairs.shape
    voxels, inside = pairs.reshape(channels, nx * ny * nz), mask.ravel()
    cells, order = np.empty(BLOCK, np.uint32), np.empty(BLOCK, np.uint32)
    fractions, rims = np.empty((3, BLOCK), np.float32), np.empty((3, BLOCK), np.float32)
    corners, found = np.empty((channels, 4, BLOCK)), np.empty((channels, BLOCK), np.float32)
    weight, background, slope = (
        np.empty(BLOCK, np.float32),
        np.empty(BLOCK, np.float32),
        np.empty((3, BLOCK), np.float32),
    )
    for b in range(len(matrices)):
        matrix = matrices[b].astype(np.float32)
        kept = edge = 0
        sums[:, b] = 0.0
        for start in range(0, points.shape[1], BLOCK):
            block = slice(start, min(start + BLOCK, points.shape[1]))
            x, y, z = points[0, block], points[1, block], points[2, block]
            size = len(x)
            cells_of(
                pairs.shape, matrix, x, y, z, cells, fractions[0], fractions[1], fractions[2], rims[0], rims[1], rims[2]
            )  # fmt: skip
            weights_of(rims, weight[:size])
            if mask.size > 0:
                corners_of(inside, pairs.shape, cells, corners[0], size)
                values_of(corners[0], fractions, found[0])
                _cut(found[0], weight)
            for c in range(channels):
                corners_of(voxels[c], pairs.shape, cells, corners[c], size)
                values_of(corners[c], fractions, found[c])
            background_of(found, rim, background)
            left, missing = settled_of(weight[:size], background)
            sums[0, b] += left
            sums[1, b] += missing
            if left == 0:
                continue
            # Most blocks lie inside as a whole: there is nothing to pack.
            whole = left == size
            some = size if whole else _order(weight, order, size)
            end = kept + some
            for c in range(channels):
                _pack(found[c], order, whole, values[c, b, kept:end])
            for c in range(len(gradients)):
                row = gradients[c, b]
                gx, gy, gz = row[0, kept:end], row[1, kept:end], row[2, kept:end]
                if whole:
                    gradients_of(corners[c], fractions, rims, gx, gy, gz)
                else:
                    gradients_of(corners[c], fractions, rims, slope[0], slope[1], slope[2])
                    _pack(slope[0], order, whole, gx)
                    _pack(slope[1], order, whole, gy)
                    _pack(slope[2], order, whole, gz)
            _pack(weight, order, whole, weights[b, kept:end])
            _place(order, start, whole, places[b, kept:end])
            if left != some:
                edge = _edges(weight, rims, order, some, kept, edges[b], edge, edge_gradients, b)
            kept = end
        counts[0, b], counts[1, b] = kept, edge


@vectorised
def _cut(seen: Array, weights: Array) -> None:
    """Nothing is left where the mask, interpolated, is under a half."""
    for n in range(len(weights)):
        weights[n] = weights[n] if seen[n] >= HALF else ZERO


@compiled
def _order(weights: Array, order: Array, size: int) -> int:
    """Which points of a block have weight, and how many."""
    k = 0
    for n in range(size):
        order[k] = n
        k += weights[n] > ZERO
    return k


@vectorised
def _pack(row: Array, order: Array, whole: bool, packed: Array) -> None:
    if whole:
        for k in range(len(packed)):
            packed[k] = row[k]
    else:
        for k in range(len(packed)):
            packed[k] = row[order[k]]


@vectorised
def _place(order: Array, start: int, whole: bool, places: Array) -> None:
    first = np.uint32(start)
    for k in range(len(places)):
        places[k] = first + (np.uint32(k) if whole else order[k])


@compiled
def _edges(
    weights: Array, rims: Array, order: Array, count: int, kept: int, edges: Array, edge: int, gradients: Array, b: int
) -> int:  # fmt: skip
    """Add the edges of a block, with the gradients of their weights; how many there are so far."""
    for k in range(count):
        n = order[k]
        if weights[n] < ONE:
            edges[edge] = kept + k
            if gradients.size > 0:
                row = gradients[b, :, edge : edge + 1]
                weight_gradients_of(rims[:, n : n + 1], row[0], row[1], row[2])
            edge += 1
    return edge


def pull_back(kept: Kept, by_value: Array, by_weight: Array, factors: Array, matrices: Array, points: Array) -> Array:
    """Chain rule from derivatives of the similarity to those of the value by the matrices, ``(B, 4, 4)`` float64.

    Args:
        kept: at the poses, with gradients.
        by_value: ``(C, B, N)``.
        by_weight: of the edges, ``(B, N)``.
        factors: ``(2, B)`` float32: all derivatives are scaled by the first; by the weight comes the second.
        matrices: ``(B, 4, 4)``.
        points: ``(3, N)``.
    """
    out = np.zeros((len(matrices), 4, 4))
    _pull_back(
        by_value, by_weight, factors, kept.places, kept.edges, kept.counts, kept.gradients, kept.edge_gradients,
        matrices, points, out,
    )  # fmt: skip
    return out


@compiled
def _pull_back(
    by_value: Array, by_weight: Array, factors: Array, places: Array, edges: Array, counts: Array, gradients: Array,
    edge_gradients: Array, matrices: Array, points: Array, out: Array,
) -> None:  # fmt: skip
    at, spots, slopes = np.empty((3, BLOCK), np.float32), np.empty(BLOCK, np.uint32), np.empty(BLOCK, np.float32)
    for b in range(len(matrices)):
        m, g = matrices[b].astype(np.float32), edge_gradients[b]
        for start in range(0, counts[0, b], BLOCK):
            block = slice(start, min(start + BLOCK, counts[0, b]))
            _gather(points, places[b, block], at)
            for c in range(len(by_value)):
                row = gradients[c, b]
                block_projected(
                    by_value[c, b, block], row[0, block], row[1, block], row[2, block], m, at[0], at[1], at[2], out[b]
                )  # fmt: skip
        out[b] *= factors[0, b]
        for start in range(0, counts[1, b], BLOCK):
            block = slice(start, min(start + BLOCK, counts[1, b]))
            size = block.stop - start
            for n in range(size):
                spots[n] = places[b, edges[b, start + n]]
                slopes[n] = by_weight[b, start + n] * factors[0, b] + factors[1, b]
            _gather(points, spots[:size], at)
            block_projected(
                slopes[:size], g[0, block], g[1, block], g[2, block], m, at[0], at[1], at[2], out[b]
            )  # fmt: skip


@vectorised
def _gather(points: Array, places: Array, at: Array) -> None:
    for n in range(len(places)):
        at[0, n], at[1, n], at[2, n] = points[0, places[n]], points[1, places[n]], points[2, places[n]]
