"""Compiled loops over sampled points: interpolation with its gradient, joint histograms, and their way back to a pose.

Everything is lifted to 3D (a 2D image has one slice) and to homogeneous 4x4 matrices, so that one loop serves 2D and 3D, linear
and projective maps. Poses come in batches: B poses, C channels, N points, the points last and in blocks that stay in the nearest
cache, so that all but the look-up of voxels runs on whole vectors. Each pose is summed by one thread in one order, so that the bits
of a result do not depend on the number of threads. The loops write out what a short vector would hold, because neither calls
nor small arrays are free inside them.
"""

from __future__ import annotations

import numpy as np

from medmi.spatial.compiled import compiled, vectorised

Array = np.ndarray
BLOCK = 256
ZERO, ONE, HALF = np.float32(0), np.float32(1), np.float32(0.5)


@compiled
def sample(
    volume: Array, mask: Array, matrices: Array, points: Array, values: Array, gradients: Array, inside: Array
) -> None:
    """Trilinear values and index gradients of ``volume (C, X, Y, Z)`` where ``matrices (B, 4, 4)`` send ``points (3, N)``.

    Fills values ``(B, C, N)``, gradients ``(B, C, 3, N)`` and inside ``(B, N)``; outside the lattice, or where the nearest voxel of
    ``mask (X, Y, Z)`` is zero, all three are 0. Empty ``gradients`` or ``mask`` are passed over.
    """
    channels, nx, ny, nz = volume.shape
    voxels = volume.reshape(channels, nx * ny * nz)
    cells, fractions = np.empty(BLOCK, np.uint32), np.empty((3, BLOCK), np.float32)
    corners = np.empty((8, BLOCK), np.float32)
    for b in range(matrices.shape[0]):
        matrix = matrices[b].astype(np.float32)
        for start in range(0, points.shape[1], BLOCK):
            block = slice(start, min(start + BLOCK, points.shape[1]))
            x, y, z, kept = points[0, block], points[1, block], points[2, block], inside[b, block]
            _cells(volume.shape, matrix, x, y, z, cells, fractions[0], fractions[1], fractions[2], kept)
            if mask.size > 0:
                _mask(mask.ravel(), mask.shape, cells, fractions, kept)
            for c in range(channels):
                _corners(voxels[c], volume.shape, cells, corners, len(kept))
                _values(corners, fractions, kept, values[b, c, block])
                if gradients.size > 0:
                    rows = gradients[b, c]
                    _gradients(corners, fractions, kept, rows[0, block], rows[1, block], rows[2, block])


@vectorised
def _cells(
    shape: tuple[int, int, int, int], m: Array, xs: Array, ys: Array, zs: Array,
    cells: Array, fu: Array, fv: Array, fw: Array, inside: Array,
) -> None:  # fmt: skip
    """The cell of the lattice that each point falls in, clamped to it: its first voxel, the fractions on from there."""
    nx, ny, nz = np.int32(shape[1]), np.int32(shape[2]), np.int32(shape[3])
    lx, ly, lz = np.float32(nx - 1), np.float32(ny - 1), np.float32(nz - 1)
    tx, ty, tz = (
        max(nx - np.int32(2), np.int32(0)),
        max(ny - np.int32(2), np.int32(0)),
        max(nz - np.int32(2), np.int32(0)),
    )
    for n in range(len(inside)):
        x, y, z = xs[n], ys[n], zs[n]
        h = m[3, 0] * x + m[3, 1] * y + m[3, 2] * z + m[3, 3]
        u = (m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]) / h
        v = (m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]) / h
        w = (m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]) / h
        inside[n] = (u >= ZERO) & (v >= ZERO) & (w >= ZERO) & (u <= lx) & (v <= ly) & (w <= lz)
        # NaN compares false and ends at 0.
        u, v, w = u if u > ZERO else ZERO, v if v > ZERO else ZERO, w if w > ZERO else ZERO
        u, v, w = u if u < lx else lx, v if v < ly else ly, w if w < lz else lz
        i, j, k = np.int32(u), np.int32(v), np.int32(w)
        i, j, k = i if i < tx else tx, j if j < ty else ty, k if k < tz else tz
        fu[n], fv[n], fw[n] = u - np.float32(i), v - np.float32(j), w - np.float32(k)
        cells[n] = np.uint32((i * ny + j) * nz + k)


@compiled
def _mask(mask: Array, shape: tuple[int, int, int], cells: Array, fractions: Array, inside: Array) -> None:
    """Clears ``inside`` where the nearest voxel is not in the mask."""
    ny, nz = shape[1], shape[2]
    for n in range(len(inside)):
        at = cells[n] + (fractions[0, n] >= HALF) * ny * nz + (fractions[1, n] >= HALF) * nz + (fractions[2, n] >= HALF)
        inside[n] = inside[n] and mask[at] != 0


@compiled
def _corners(voxels: Array, shape: tuple[int, int, int, int], cells: Array, corners: Array, count: int) -> None:
    """The eight voxels around each point, ``corners (8, BLOCK)``: the first axis slowest."""
    sx = np.uint32(shape[2] * shape[3] if shape[1] > 1 else 0)
    sy = np.uint32(shape[3] if shape[2] > 1 else 0)
    sz = np.uint32(1 if shape[3] > 1 else 0)
    for n in range(count):
        at = cells[n]
        corners[0, n], corners[1, n] = voxels[at], voxels[at + sz]
        corners[2, n], corners[3, n] = voxels[at + sy], voxels[at + sy + sz]
        at += sx
        corners[4, n], corners[5, n] = voxels[at], voxels[at + sz]
        corners[6, n], corners[7, n] = voxels[at + sy], voxels[at + sy + sz]


@vectorised
def _values(c: Array, fractions: Array, inside: Array, values: Array) -> None:
    for n in range(len(inside)):
        fu, fv, fw = fractions[0, n], fractions[1, n], fractions[2, n]
        v00, v01 = c[0, n] + fw * (c[1, n] - c[0, n]), c[2, n] + fw * (c[3, n] - c[2, n])
        v10, v11 = c[4, n] + fw * (c[5, n] - c[4, n]), c[6, n] + fw * (c[7, n] - c[6, n])
        v0, v1 = v00 + fv * (v01 - v00), v10 + fv * (v11 - v10)
        values[n] = v0 + fu * (v1 - v0) if inside[n] else ZERO


@vectorised
def _gradients(c: Array, fractions: Array, inside: Array, gx: Array, gy: Array, gz: Array) -> None:
    for n in range(len(inside)):
        fu, fv, fw = fractions[0, n], fractions[1, n], fractions[2, n]
        d00, d01, d10, d11 = c[1, n] - c[0, n], c[3, n] - c[2, n], c[5, n] - c[4, n], c[7, n] - c[6, n]
        v00, v01, v10, v11 = c[0, n] + fw * d00, c[2, n] + fw * d01, c[4, n] + fw * d10, c[6, n] + fw * d11
        d0, d1 = d00 + fv * (d01 - d00), d10 + fv * (d11 - d10)
        along_x = v10 + fv * (v11 - v10) - (v00 + fv * (v01 - v00))
        along_y = v01 - v00 + fu * (v11 - v10 - (v01 - v00))
        gx[n] = along_x if inside[n] else ZERO
        gy[n] = along_y if inside[n] else ZERO
        gz[n] = d0 + fu * (d1 - d0) if inside[n] else ZERO


@vectorised
def counted(inside: Array) -> Array:
    """How many of ``inside (B, N)`` are, ``(B,)``."""
    out = np.zeros(len(inside), np.int64)
    for b in range(len(inside)):
        total = np.int32(0)
        for n in range(inside.shape[1]):
            total += np.int32(inside[b, n])
        out[b] = total
    return out


@vectorised
def project(derivatives: Array, gradients: Array, matrices: Array, points: Array, out: Array) -> None:
    """Chain rule to the matrices: ``out (B, 4, 4)`` from dS/dvalue ``(B, C, N)`` and the index gradients of :func:`sample`.

    Row r, column s of ``out`` is dS/d matrices[b, r, s]; the last row carries the projective part. Blocks are summed in float32, their
    sums in float64.
    """
    for b in range(len(derivatives)):
        m = matrices[b].astype(np.float32)
        out[b] = 0.0
        for c in range(derivatives.shape[1]):
            for start in range(0, points.shape[1], BLOCK):
                block = slice(start, min(start + BLOCK, points.shape[1]))
                g = gradients[b, c]
                _project_block(
                    derivatives[b, c, block], g[0, block], g[1, block], g[2, block], m,
                    points[0, block], points[1, block], points[2, block], out[b],
                )  # fmt: skip


@vectorised
def _project_block(
    d: Array, gx: Array, gy: Array, gz: Array, m: Array, xs: Array, ys: Array, zs: Array, out: Array
) -> None:
    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = c0 = c1 = c2 = c3 = e0 = e1 = e2 = e3 = ZERO
    for n in range(len(d)):
        x, y, z = xs[n], ys[n], zs[n]
        h = ONE / (m[3, 0] * x + m[3, 1] * y + m[3, 2] * z + m[3, 3])
        u = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]
        v = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]
        w = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
        g0, g1, g2 = d[n] * gx[n] * h, d[n] * gy[n] * h, d[n] * gz[n] * h
        g3 = -(g0 * u + g1 * v + g2 * w) * h
        a0, a1, a2, a3 = a0 + g0 * x, a1 + g0 * y, a2 + g0 * z, a3 + g0
        b0, b1, b2, b3 = b0 + g1 * x, b1 + g1 * y, b2 + g1 * z, b3 + g1
        c0, c1, c2, c3 = c0 + g2 * x, c1 + g2 * y, c2 + g2 * z, c3 + g2
        e0, e1, e2, e3 = e0 + g3 * x, e1 + g3 * y, e2 + g3 * z, e3 + g3
    out += np.array(((a0, a1, a2, a3), (b0, b1, b2, b3), (c0, c1, c2, c3), (e0, e1, e2, e3)))


@compiled
def histogram(values: Array, inside: Array, fixed_positions: Array, low: Array, scale: Array, tables: Array) -> None:
    """Joint counts with linear windows, ``tables (B, C, bins, bins)``: rows fixed, columns moving.

    Args:
        values: moving values ``(B, C, N)``.
        inside: ``(B, N)``.
        fixed_positions: fixed bin positions ``(C, N)`` in [0, bins - 1].
        low, scale: ``(C,)``: the moving bin position is ``(value - low) * scale``, clamped to [0, bins - 1].
    """
    bins = tables.shape[-1]
    last, top = np.int32(bins - 2), np.float32(bins - 1)
    tables[:] = 0.0
    flat = tables.reshape(tables.shape[0], tables.shape[1], bins * bins)
    for b in range(values.shape[0]):
        for c in range(values.shape[1]):
            table, row, positions = flat[b, c], values[b, c], fixed_positions[c]
            for n in range(len(row)):
                if not inside[b, n]:
                    continue
                g = min(max((row[n] - low[c]) * scale[c], ZERO), top)
                i, j = min(np.int32(positions[n]), last), min(np.int32(g), last)
                f, g = positions[n] - np.float32(i), g - np.float32(j)
                at = np.uint32(i * bins + j)
                below, both = (ONE - f) * g, f * g
                table[at] += ONE - f - below
                table[at + np.uint32(1)] += below
                table[at + np.uint32(bins)] += f - both
                table[at + np.uint32(bins + 1)] += both


@vectorised
def histogram_derivative(
    values: Array, inside: Array, fixed_positions: Array, low: Array, scale: Array, slopes: Array, derivatives: Array
) -> None:
    """dS/dvalue ``(B, C, N)`` from ``slopes (B, C, bins, bins - 1)`` float32, the differences of dS/dtable between moving bins."""
    bins = slopes.shape[-2]
    flat = slopes.reshape(slopes.shape[0], slopes.shape[1], bins * (bins - 1))
    for b in range(values.shape[0]):
        for c in range(values.shape[1]):
            _derivative_row(
                values[b, c], inside[b], fixed_positions[c], low[c], scale[c], bins, flat[b, c], derivatives[b, c]
            )


@vectorised
def _derivative_row(
    values: Array,
    inside: Array,
    positions: Array,
    low: float,
    scale: float,
    bins: int,
    slopes: Array,
    derivatives: Array,
) -> None:
    last, top = np.int32(bins - 2), np.float32(bins - 1)
    for n in range(len(values)):
        at = (values[n] - low) * scale
        counts = (at >= ZERO) & (at <= top) & (inside[n] != 0)
        at = at if counts else ZERO
        i, j = np.int32(positions[n]), np.int32(at)
        i, j = i if i < last else last, j if j < last else last
        f = positions[n] - np.float32(i)
        here = np.uint32(i * np.int32(bins - 1) + j)
        upper, lower = slopes[here], slopes[here + np.uint32(bins - 1)]
        derivatives[n] = (upper + f * (lower - upper)) * scale if counts else ZERO
