"""Compiled loops that draw points of an image: chances by steepness, voxels by their chances, a place within each voxel."""

from __future__ import annotations

import numpy as np

from medmi.native import loops

Array = np.ndarray
# Voxels that are summed in one go.
STRETCH = 65536


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
    loops.pick(cumulative, spans, strips, stream, voxels, numbers, counts)


def share_within(cumulative: Array, spans: Array) -> float:
    """The share of the total of ``cumulative (X Y Z,)`` that lies within ``spans (rows, 2)``."""
    share = np.empty(1)
    loops.share_within(cumulative, spans, share)
    return float(share[0])


def chances(numbers: Array, stream: int) -> Array:
    """A number in [0, 1) for each of the ``numbers (N,)`` of a stream, all uint32.

    The finaliser of MurmurHash3 (Appleby 2011) of a Weyl sequence.
    """
    out = np.empty(len(numbers), np.float32)
    loops.chance(numbers, stream, out)
    return out


def scatter(voxels: Array, numbers: Array, stream: int, shape: tuple[int, int, int], index: Array) -> None:
    """A point in each of the ``voxels (N,)``, where its number and the stream place it, kept on the lattice: ``index (3, N)``."""
    loops.scatter(voxels, numbers, stream, *shape, index)


def interpolate(volume: Array, index: Array) -> Array:
    """Trilinear values ``(C, N)`` of ``volume (C, X, Y, Z)`` at ``index (3, N)`` on its lattice."""
    values = np.empty((len(volume), index.shape[1]), np.float32)
    loops.interpolate(volume, index, values)
    return values


def steepen(channel: Array, steepness: Array, threads: int = 1) -> None:
    """Add to ``steepness (X, Y, Z)`` the steps from each voxel of a channel to its neighbours along all axes."""
    loops.steepen(channel, steepness, threads)


def see(matrix: Array, low: Array, high: Array, shape: tuple[int, int, int], spans: Array) -> None:
    """Of each row along the last axis, the voxels that ``matrix (4, 4)`` sends between ``low (3,)`` and ``high (3,)``.

    Fills ``spans (X, Y, 2)`` with the first of them and the one after the last; what is seen of a row is one stretch, since every bound is
    linear in the index once multiplied by the perspective row.
    """
    loops.see(matrix, low, high, spans, shape[2])


def accumulate(
    steepness: Array, cap: float, foreground: float, mask: Array, cumulative: Array, threads: int = 1
) -> None:
    """Running sum of the chances ``(X Y Z,)``: a share ``foreground`` by capped steepness, the rest evenly over the mask, if any.

    It is summed stretch by stretch, so that the bits do not depend on the threads.
    """
    sums = np.empty(len(steepness) // STRETCH + 3)
    loops.accumulate(steepness, cap, foreground, mask, cumulative, sums, threads)
