"""Compiled loops over sampled points: interpolation with its gradient, what counts at the rim, and the way back to a pose.

Everything is lifted to 3D (a 2D image has one slice) and to homogeneous 4x4 matrices, so that one loop serves 2D and 3D, linear
and projective maps. C channels, B poses, N points, in this order: the points come last and in blocks that stay in the nearest cache, so
that all but the look-up of voxels runs on whole vectors. Each pose is summed by one thread in one order, so that the bits of a
result do not depend on the number of threads. The loops write out what a short vector would hold, because neither calls nor
small arrays are free inside them.

A point has a *weight*: 1 inside the moving image, falling to 0 within a voxel beyond its outermost voxels, so that what a pose gains or
loses at the rim has a derivative too; 0 where a mask, interpolated, is under a half.
"""

from __future__ import annotations

import numpy as np

from medmi.spatial.compiled import compiled, vectorised

Array = np.ndarray
BLOCK = 256
ZERO, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)


def paired(volume: Array) -> Array:
    """Each voxel of ``(..., X, Y, Z)`` with the next along the last axis: two float32 in the place of one float64, ``(..., X, Y, Z)``.

    One look-up brings both. The last of a line, which no cell begins at, and a slice's only one go with any.
    """
    flat = volume.astype(np.float32, copy=False).ravel()
    pairs = np.empty((flat.size, 2), np.float32)
    pairs[:, 0] = flat
    pairs[:-1, 1], pairs[-1, 1] = (flat[1:], flat[-1]) if volume.shape[-1] > 1 else (flat[:-1], flat[-1])
    return pairs.view(np.float64).reshape(volume.shape)


@compiled
def sample(pairs: Array, mask: Array, matrices: Array, points: Array, values: Array, gradients: Array) -> None:
    """Trilinear values and index gradients of a volume, :func:`paired` ``(C, X, Y, Z)``, where ``matrices (B, 4, 4)`` send ``points
    (3, N)``.

    Fills values ``(C + 1, B, N)`` and gradients ``(C + 1, B, 3, N)``, of which the last row is the weight; its gradient leaves out the
    mask's. Beyond the lattice the value is that of its rim. Empty ``gradients`` or ``mask``, paired ``(X, Y, Z)``, are passed over.
    """
    channels, nx, ny, nz = pairs.shape
    voxels, counts = pairs.reshape(channels, nx * ny * nz), mask.ravel()
    cells, fractions = np.empty(BLOCK, np.uint32), np.empty((3, BLOCK), np.float32)
    rims, corners = np.empty((3, BLOCK), np.float32), np.empty((4, BLOCK))
    seen = np.empty(BLOCK, np.float32)
    for b in range(matrices.shape[0]):
        matrix = matrices[b].astype(np.float32)
        for start in range(0, points.shape[1], BLOCK):
            block = slice(start, min(start + BLOCK, points.shape[1]))
            x, y, z, weights = points[0, block], points[1, block], points[2, block], values[channels, b, block]
            cells_of(
                pairs.shape, matrix, x, y, z, cells, fractions[0], fractions[1], fractions[2], rims[0], rims[1], rims[2]
            )  # fmt: skip
            for c in range(channels):
                corners_of(voxels[c], pairs.shape, cells, corners, len(x))
                values_of(corners, fractions, values[c, b, block])
                if gradients.size > 0:
                    rows = gradients[c, b]
                    gradients_of(corners, fractions, rims, rows[0, block], rows[1, block], rows[2, block])
            weights_of(rims, weights)
            if gradients.size > 0:
                rows = gradients[channels, b]
                weight_gradients_of(rims, rows[0, block], rows[1, block], rows[2, block])
            if mask.size > 0:
                corners_of(counts, pairs.shape, cells, corners, len(x))
                values_of(corners, fractions, seen[: len(x)])
                weights *= seen[: len(x)] >= HALF


@vectorised
def cells_of(
    shape: tuple[int, int, int, int], m: Array, xs: Array, ys: Array, zs: Array,
    cells: Array, fu: Array, fv: Array, fw: Array, ru: Array, rv: Array, rw: Array,
) -> None:  # fmt: skip
    """The cell of the lattice that each point falls in, clamped to it: its first voxel, and the fractions on from there.

    The rims tell how far beyond the lattice the point lies along each axis, in voxels: negative before it, positive behind it.
    """
    nx, ny, nz = np.int32(shape[1]), np.int32(shape[2]), np.int32(shape[3])
    lx, ly, lz = np.float32(nx - 1), np.float32(ny - 1), np.float32(nz - 1)
    tx, ty, tz = (
        max(nx - np.int32(2), np.int32(0)),
        max(ny - np.int32(2), np.int32(0)),
        max(nz - np.int32(2), np.int32(0)),
    )
    for n in range(len(xs)):
        x, y, z = xs[n], ys[n], zs[n]
        h = ONE / (m[3, 0] * x + m[3, 1] * y + m[3, 2] * z + m[3, 3])
        u = (m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]) * h
        v = (m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]) * h
        w = (m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]) * h
        # NaN compares false and ends at 0, a long way off.
        cu, cv, cw = u if u > ZERO else ZERO, v if v > ZERO else ZERO, w if w > ZERO else ZERO
        cu, cv, cw = cu if cu < lx else lx, cv if cv < ly else ly, cw if cw < lz else lz
        ru[n], rv[n], rw[n] = u - cu, v - cv, w - cw
        i, j, k = np.int32(cu), np.int32(cv), np.int32(cw)
        i, j, k = i if i < tx else tx, j if j < ty else ty, k if k < tz else tz
        fu[n], fv[n], fw[n] = cu - np.float32(i), cv - np.float32(j), cw - np.float32(k)
        cells[n] = np.uint32((i * ny + j) * nz + k)


@vectorised
def weights_of(rims: Array, weights: Array) -> None:
    for n in range(len(weights)):
        a, b, c = ONE - abs(rims[0, n]), ONE - abs(rims[1, n]), ONE - abs(rims[2, n])
        a, b, c = a if a > ZERO else ZERO, b if b > ZERO else ZERO, c if c > ZERO else ZERO
        weights[n] = a * b * c


@vectorised
def weight_gradients_of(rims: Array, gx: Array, gy: Array, gz: Array) -> None:
    for n in range(len(gx)):
        u, v, w = rims[0, n], rims[1, n], rims[2, n]
        a, b, c = ONE - abs(u), ONE - abs(v), ONE - abs(w)
        inside = (a > ZERO) & (b > ZERO) & (c > ZERO)
        du, dv, dw = ZERO if u == ZERO else b * c, ZERO if v == ZERO else a * c, ZERO if w == ZERO else a * b
        du, dv, dw = -du if u > ZERO else du, -dv if v > ZERO else dv, -dw if w > ZERO else dw
        gx[n], gy[n], gz[n] = du if inside else ZERO, dv if inside else ZERO, dw if inside else ZERO


@compiled
def corners_of(pairs: Array, shape: tuple[int, int, int, int], cells: Array, corners: Array, count: int) -> None:
    """The eight voxels around each point as four pairs along the last axis, ``corners (4, BLOCK)``: the first axis slowest."""
    sx = np.uint32(shape[2] * shape[3] if shape[1] > 1 else 0)
    sy = np.uint32(shape[3] if shape[2] > 1 else 0)
    for n in range(count):
        at = cells[n]
        corners[0, n], corners[1, n] = pairs[at], pairs[at + sy]
        at += sx
        corners[2, n], corners[3, n] = pairs[at], pairs[at + sy]


@vectorised
def values_of(corners: Array, fractions: Array, values: Array) -> None:
    c = corners.view(np.float32)
    for n in range(len(values)):
        fu, fv, fw = fractions[0, n], fractions[1, n], fractions[2, n]
        v00, v01 = (
            c[0, 2 * n] + fw * (c[0, 2 * n + 1] - c[0, 2 * n]),
            c[1, 2 * n] + fw * (c[1, 2 * n + 1] - c[1, 2 * n]),
        )
        v10, v11 = (
            c[2, 2 * n] + fw * (c[2, 2 * n + 1] - c[2, 2 * n]),
            c[3, 2 * n] + fw * (c[3, 2 * n + 1] - c[3, 2 * n]),
        )
        v0, v1 = v00 + fv * (v01 - v00), v10 + fv * (v11 - v10)
        values[n] = v0 + fu * (v1 - v0)


@vectorised
def gradients_of(corners: Array, fractions: Array, rims: Array, gx: Array, gy: Array, gz: Array) -> None:
    c = corners.view(np.float32)
    for n in range(len(gx)):
        fu, fv, fw = fractions[0, n], fractions[1, n], fractions[2, n]
        c00, c01, c10, c11 = c[0, 2 * n], c[1, 2 * n], c[2, 2 * n], c[3, 2 * n]
        d00, d01, d10, d11 = c[0, 2 * n + 1] - c00, c[1, 2 * n + 1] - c01, c[2, 2 * n + 1] - c10, c[3, 2 * n + 1] - c11
        v00, v01, v10, v11 = c00 + fw * d00, c01 + fw * d01, c10 + fw * d10, c11 + fw * d11
        d0, d1 = d00 + fv * (d01 - d00), d10 + fv * (d11 - d10)
        along_x = v10 + fv * (v11 - v10) - (v00 + fv * (v01 - v00))
        along_y = v01 - v00 + fu * (v11 - v10 - (v01 - v00))
        # Beyond the lattice nothing changes along that axis.
        gx[n] = along_x if rims[0, n] == ZERO else ZERO
        gy[n] = along_y if rims[1, n] == ZERO else ZERO
        gz[n] = d0 + fu * (d1 - d0) if rims[2, n] == ZERO else ZERO


@vectorised
def settle_rim(values: Array, weights: Array, rim: Array) -> Array:
    """The weight that is left and how much is missing over a background rim, ``(2, B)``.

    The rim is background where all ``values (C, B, N)`` are under ``rim (C,)``. Elsewhere a weight under 1 becomes 0, in place:
    values beyond the lattice are nobody's, but background goes on.
    """
    out, background = np.zeros((2, len(weights))), np.empty(weights.shape[1], np.float32)
    for b in range(len(weights)):
        background_of(values[:, b], rim, background)
        out[0, b], out[1, b] = settled_of(weights[b], background)
    return out


@vectorised
def background_of(values: Array, rim: Array, background: Array) -> None:
    """1 where all ``values (C, N)`` are under the rim, else 0."""
    background[:] = ONE
    for c in range(len(values)):
        row = values[c]
        for n in range(len(background)):
            background[n] = background[n] if row[n] < rim[c] else ZERO


@vectorised
def settled_of(weights: Array, background: Array) -> tuple[np.float32, np.float32]:
    """The weight that is left of points at one pose, settled in place, and what is missing."""
    left, missing = ZERO, ZERO
    for n in range(len(weights)):
        missing += (ONE - weights[n]) * background[n]
        weights[n] = weights[n] if weights[n] == ONE else weights[n] * background[n]
        left += weights[n]
    return left, missing


@vectorised
def project(derivatives: Array, gradients: Array, matrices: Array, points: Array, out: Array) -> None:
    """Chain rule to the matrices: ``out (B, 4, 4)`` from dS/dvalue ``(C, B, N)`` and the index gradients of :func:`sample`.

    Row r, column s of ``out`` is dS/d matrices[b, r, s]; the last row carries the projective part. Blocks are summed in float32, their
    sums in float64.
    """
    out[:] = 0.0
    for b in range(derivatives.shape[1]):
        m = matrices[b].astype(np.float32)
        for c in range(len(derivatives)):
            for start in range(0, points.shape[1], BLOCK):
                block = slice(start, min(start + BLOCK, points.shape[1]))
                g = gradients[c, b]
                block_projected(
                    derivatives[c, b, block], g[0, block], g[1, block], g[2, block], m,
                    points[0, block], points[1, block], points[2, block], out[b],
                )  # fmt: skip


@vectorised
def block_projected(
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
