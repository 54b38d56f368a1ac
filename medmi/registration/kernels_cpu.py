"""Compiled loops over sampled points: interpolation with its gradient, what counts at the rim, and the way back to a pose.

Everything is lifted to 3D (a 2D image has one slice) and to homogeneous 4x4 matrices, so that one loop serves 2D and 3D, linear
and projective maps. C channels, B poses, N points, in this order: the points come last and in blocks that stay in the nearest cache, so
that all but the look-up of voxels runs on whole vectors. Each pose is summed by one thread in one order, so that the bits of a
result do not depend on the number of threads.

A point has a *weight*: 1 inside the moving image, falling to 0 within a voxel beyond its outermost voxels, so that what a pose gains or
loses at the rim has a derivative too; 0 where a mask, interpolated, is under a half.
"""

from __future__ import annotations

import numpy as np

from medmi.native import loops

Array = np.ndarray


def paired(volume: Array, threads: int = 1) -> Array:
    """Each voxel of ``(..., X, Y, Z)`` with the next along the last axis: two float32 in the place of one float64, ``(..., X, Y, Z)``.

    One look-up brings both. The last of a line, which no cell begins at, and a slice's only one go with any.
    """
    pairs = np.empty(volume.shape)
    loops.pair_up(np.ascontiguousarray(volume, np.float32), volume.shape[-1] > 1, pairs, threads)
    return pairs


def sample(pairs: Array, mask: Array, matrices: Array, points: Array, values: Array, gradients: Array) -> None:
    """Trilinear values and index gradients of a volume, :func:`paired` ``(C, X, Y, Z)``, where ``matrices (B, 4, 4)`` send ``points
    (3, N)``.

    Fills values ``(C + 1, B, N)`` and gradients ``(C + 1, B, 3, N)``, of which the last row is the weight; its gradient leaves out the
    mask's. Beyond the lattice the value is that of its rim. Empty ``gradients`` or ``mask``, paired ``(X, Y, Z)``, are passed over.
    """
    loops.sample(pairs, mask, matrices, points, values, gradients)


def settle_rim(values: Array, weights: Array, rim: Array) -> Array:
    """The weight that is left and how much is missing over a background rim, ``(2, B)``.

    The rim is background where all ``values (C, B, N)`` are under ``rim (C,)``. Elsewhere a weight under 1 becomes 0, in place:
    values beyond the lattice are nobody's, but background goes on.
    """
    out = np.empty((2, len(weights)))
    loops.settle_rim(values, weights, rim, out)
    return out


def project(derivatives: Array, gradients: Array, matrices: Array, points: Array, out: Array) -> None:
    """Chain rule to the matrices: ``out (B, 4, 4)`` from dS/dvalue ``(C, B, N)`` and the index gradients of :func:`sample`.

    Row r, column s of ``out`` is dS/d matrices[b, r, s]; the last row carries the projective part. Blocks are summed in float32, their
    sums in float64.
    """
    loops.project(derivatives, gradients, matrices, points, out)
