"""Compiled loops over sampled points: interpolation with its gradient, joint histograms, and their way back to a pose.

Everything is lifted to 3D (a 2D image has one slice) and to homogeneous 4x4 matrices, so that one loop serves 2D and 3D, linear
and projective maps. Poses come in batches: B poses, N points, C channels. Each pose is summed by one thread in one order, so
that the bits of a result do not depend on the number of threads. The loops are long, and write out what a short vector would
hold, because neither calls nor small arrays are free inside them.
"""

from __future__ import annotations

import numpy as np

from medmi.spatial.compiled import compiled

Array = np.ndarray


@compiled
def sample(
    volume: Array, mask: Array, matrices: Array, points: Array, values: Array, gradients: Array, inside: Array
) -> None:
    """Trilinear values and index gradients of ``volume (C, X, Y, Z)`` where ``matrices (B, 4, 4)`` send ``points (N, 3)``.

    Fills values ``(B, N, C)``, gradients ``(B, N, C, 3)`` and inside ``(B, N)``; outside the lattice, or where the nearest voxel of
    ``mask (X, Y, Z)`` is zero, all three are 0. Empty ``gradients`` or ``mask`` are passed over.
    """
    channels, nx, ny, nz = volume.shape
    want_gradients = gradients.size > 0
    masked = mask.size > 0
    flat = volume.reshape(channels, nx * ny * nz)
    for b in range(matrices.shape[0]):
        m = matrices[b].astype(np.float32)
        for n in range(points.shape[0]):
            x, y, z = points[n, 0], points[n, 1], points[n, 2]
            u = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]
            v = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]
            w = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
            h = m[3, 0] * x + m[3, 1] * y + m[3, 2] * z + m[3, 3]
            if h != np.float32(1.0):
                u, v, w = u / h, v / h, w / h
            within = (u >= 0.0) and (v >= 0.0) and (w >= 0.0) and (u <= nx - 1) and (v <= ny - 1) and (w <= nz - 1)
            if within and masked:
                within = mask[int(u + 0.5), int(v + 0.5), int(w + 0.5)] != 0
            inside[b, n] = within
            if not within:
                for c in range(channels):
                    values[b, n, c] = 0.0
                    if want_gradients:
                        gradients[b, n, c, 0] = 0.0
                        gradients[b, n, c, 1] = 0.0
                        gradients[b, n, c, 2] = 0.0
                continue
            i, j, k = int(u), int(v), int(w)
            fu, fv, fw = u - np.float32(i), v - np.float32(j), w - np.float32(k)
            # At the last voxel of an axis the upper neighbour is the voxel itself.
            si = ny * nz if i < nx - 1 else 0
            sj = nz if j < ny - 1 else 0
            sk = 1 if k < nz - 1 else 0
            at = (i * ny + j) * nz + k
            for c in range(channels):
                line = flat[c]
                v000, v001 = line[at], line[at + sk]
                v010, v011 = line[at + sj], line[at + sj + sk]
                v100, v101 = line[at + si], line[at + si + sk]
                v110, v111 = line[at + si + sj], line[at + si + sj + sk]
                v00 = v000 + fw * (v001 - v000)
                v01 = v010 + fw * (v011 - v010)
                v10 = v100 + fw * (v101 - v100)
                v11 = v110 + fw * (v111 - v110)
                v0 = v00 + fv * (v01 - v00)
                v1 = v10 + fv * (v11 - v10)
                values[b, n, c] = v0 + fu * (v1 - v0)
                if want_gradients:
                    d00, d01, d10, d11 = v001 - v000, v011 - v010, v101 - v100, v111 - v110
                    d0 = d00 + fv * (d01 - d00)
                    d1 = d10 + fv * (d11 - d10)
                    gradients[b, n, c, 0] = v1 - v0
                    gradients[b, n, c, 1] = (v01 - v00) + fu * ((v11 - v10) - (v01 - v00))
                    gradients[b, n, c, 2] = d0 + fu * (d1 - d0)


@compiled
def pick(cumulative: Array, heights: Array, jitter: Array, shape: tuple[int, int, int], index: Array) -> None:
    """The voxel at which ``cumulative (X Y Z,)`` first exceeds each of the ascending ``heights (N,)``, plus its jitter ``(N, 3)``.

    Fills ``index (N, 3)``, kept on the lattice.
    """
    nx, ny, nz = shape
    last = len(cumulative) - 1
    at = 0
    for n in range(len(heights)):
        while at < last and cumulative[at] <= heights[n]:
            at += 1
        index[n, 0] = min(max(at // (ny * nz) + jitter[n, 0], 0.0), nx - 1.0)
        index[n, 1] = min(max(at // nz % ny + jitter[n, 1], 0.0), ny - 1.0)
        index[n, 2] = min(max(at % nz + jitter[n, 2], 0.0), nz - 1.0)


@compiled
def project(derivatives: Array, gradients: Array, inside: Array, matrices: Array, points: Array, out: Array) -> None:
    """Chain rule to the matrices: ``out (B, 4, 4)`` from dS/dvalue ``(B, N, C)`` and the index gradients of :func:`sample`.

    Row r, column s of ``out`` is dS/d matrices[b, r, s]; the last row carries the projective part.
    """
    batch, count, channels = derivatives.shape
    for b in range(batch):
        m = matrices[b]
        for i in range(4):
            for j in range(4):
                out[b, i, j] = 0.0
        for n in range(count):
            if not inside[b, n]:
                continue
            g0, g1, g2 = 0.0, 0.0, 0.0
            for c in range(channels):
                d = np.float64(derivatives[b, n, c])
                g0 += d * gradients[b, n, c, 0]
                g1 += d * gradients[b, n, c, 1]
                g2 += d * gradients[b, n, c, 2]
            x, y, z = np.float64(points[n, 0]), np.float64(points[n, 1]), np.float64(points[n, 2])
            h = m[3, 0] * x + m[3, 1] * y + m[3, 2] * z + m[3, 3]
            g3 = 0.0
            if h != 1.0:
                u = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]
                v = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]
                w = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
                g0, g1, g2 = g0 / h, g1 / h, g2 / h
                g3 = -(g0 * u + g1 * v + g2 * w) / h
            out[b, 0, 0] += g0 * x
            out[b, 0, 1] += g0 * y
            out[b, 0, 2] += g0 * z
            out[b, 0, 3] += g0
            out[b, 1, 0] += g1 * x
            out[b, 1, 1] += g1 * y
            out[b, 1, 2] += g1 * z
            out[b, 1, 3] += g1
            out[b, 2, 0] += g2 * x
            out[b, 2, 1] += g2 * y
            out[b, 2, 2] += g2 * z
            out[b, 2, 3] += g2
            if g3 != 0.0:
                out[b, 3, 0] += g3 * x
                out[b, 3, 1] += g3 * y
                out[b, 3, 2] += g3 * z
                out[b, 3, 3] += g3


@compiled
def histogram(values: Array, inside: Array, fixed_positions: Array, low: Array, scale: Array, tables: Array) -> None:
    """Joint counts with linear windows, ``tables (B, C, bins, bins)``: rows fixed, columns moving.

    Args:
        values: moving values ``(B, N, C)``.
        inside: ``(B, N)``.
        fixed_positions: fixed bin positions ``(N, C)`` in [0, bins - 1].
        low, scale: ``(C,)``: the moving bin position is ``(value - low) * scale``, clamped to [0, bins - 1].
    """
    batch, count, channels = values.shape
    bins = tables.shape[-1]
    for b in range(batch):
        for c in range(channels):
            for i in range(bins):
                for j in range(bins):
                    tables[b, c, i, j] = 0.0
            for n in range(count):
                if not inside[b, n]:
                    continue
                f = fixed_positions[n, c]
                i = min(int(f), bins - 2)
                f -= i
                g = min(max((values[b, n, c] - low[c]) * scale[c], np.float32(0.0)), np.float32(bins - 1))
                j = min(int(g), bins - 2)
                g -= j
                tables[b, c, i, j] += (1 - f) * (1 - g)
                tables[b, c, i, j + 1] += (1 - f) * g
                tables[b, c, i + 1, j] += f * (1 - g)
                tables[b, c, i + 1, j + 1] += f * g


@compiled
def histogram_derivative(
    values: Array, inside: Array, fixed_positions: Array, low: Array, scale: Array, slopes: Array, derivatives: Array
) -> None:
    """dS/dvalue ``(B, N, C)`` from ``slopes (B, C, bins, bins - 1)``, the differences of dS/dtable between moving bins."""
    batch, count, channels = values.shape
    bins = slopes.shape[-2]
    for b in range(batch):
        for n in range(count):
            for c in range(channels):
                position = (values[b, n, c] - low[c]) * scale[c]
                if not inside[b, n] or position < 0 or position > bins - 1:
                    derivatives[b, n, c] = 0.0
                    continue
                f = fixed_positions[n, c]
                i = min(int(f), bins - 2)
                f -= i
                j = min(int(position), bins - 2)
                derivatives[b, n, c] = ((1 - f) * slopes[b, c, i, j] + f * slopes[b, c, i + 1, j]) * scale[c]
