"""Compiled loops over the joint histogram of sampled points: filling it, what it tells, and how that changes with each point.

C channels, B poses, N points, in this order.
"""

from __future__ import annotations

import numpy as np

from medmi.native import loops
from medmi.registration.kept_cpu import Kept, LookUp

Array = np.ndarray
Informed = tuple[Array, Array | None, Array | None]
NONE = np.empty(0, np.float32)
# Probabilities under this are none.
TINY = 1e-12
# Poses that take turns, and points of a turn.
GROUP, TURN = 8, 4096


def compand(values: Array, low: float, high: float, curve: Array, heights: Array, threads: int = 1) -> None:
    """Heights of a curve at ``values``: it is given at equal steps from ``low`` to ``high`` and straight between them.

    All arrays are float32; values beyond either end are there, and what is no number is at the low one.
    """
    loops.compand(values, low, high, curve, heights, threads)


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
    cells = np.empty((bins * bins + bins + 1, 4))
    loops.histogram(values, weights, places, counts, fixed_positions, low, scale, cells, tables)


def inform_tables(tables: Array, normalised: bool) -> tuple[Array, Array]:
    """Mutual information ``(K,)`` in nat of joint probabilities ``tables (K, bins, bins)``, and its derivative by each, up to a constant.

    ``MI = sum p log p - sum r log r - sum c log c`` with the sums r over rows and c over columns (Cover & Thomas 2006, Eq. 2.45);
    normalised, ``(H(r) + H(c)) / H(p)``, from 1 to 2 (Studholme 1999, Eq. 6).
    """
    values, slopes, margins = np.empty(len(tables)), np.empty_like(tables), np.empty(2 * tables.shape[-1])
    loops.inform_tables(tables, normalised, values, slopes, margins)
    return values, slopes


def inform_points(
    kept: Kept, windows: tuple[Array, Array, Array], bins: int, normalised: bool, derivative: bool
) -> Informed:
    """:func:`inform_tables` of the kept points' joint histograms over the overlap, summed over channels.

    Args:
        kept: the points at B poses.
        windows: as ``fixed_positions``, ``low`` and ``scale`` of :func:`histogram`.
        bins: along each axis.
        normalised: whether the information is.
        derivative: whether it is asked.

    Returns:
        ``(B,)``, and the derivatives by the moving values ``(C, B, N)`` and by the weights of the edges ``(B, N)``, or None.
    """
    value, by_value, by_weight = np.empty(len(kept.weights)), NONE, NONE
    if derivative:
        by_value, by_weight = np.empty_like(kept.values), np.empty_like(kept.weights)
    # For each thread a table, its slopes, margins and cells; slopes once more, and their steps.
    threads = min(kept.threads, len(value))
    room = np.empty((threads, 6 * bins + 7, bins))
    slopes, steps = np.empty((threads, bins, bins), np.float32), np.empty((threads, bins, bins, 2), np.float32)
    loops.inform_points(
        kept.values, kept.weights, kept.places, kept.edges, kept.counts, *windows, normalised, room, slopes, steps,
        value, by_value, by_weight, threads,
    )  # fmt: skip
    return (value, by_value, by_weight) if derivative else (value, None, None)


def inform_poses(
    look_up: LookUp, windows: tuple[Array, Array, Array], bins: int, normalised: bool
) -> tuple[Array, Array]:
    """What :func:`inform_points` tells of the points that are kept, ``(B,)``, and their ``sums (2, B)``, to the last bit.

    The points are forgotten as soon as they are in the histograms, so that all that is held of them stays in the processor's cache.
    """
    channels, threads = len(look_up.pairs), max(1, min(look_up.threads, len(look_up.matrices)))
    cells = np.empty((threads, GROUP, channels, bins * bins + bins + 1, 4))
    room, values = np.empty((threads, 2 * bins + 2, bins)), np.empty((threads, channels, TURN), np.float32)
    weights, places = np.empty((threads, TURN), np.float32), np.empty((threads, TURN), np.uint32)
    found = np.empty((len(look_up.matrices), 3))
    loops.inform_poses(
        look_up.pairs, look_up.mask, look_up.rim, look_up.matrices, look_up.points, *windows, normalised, cells, room,
        values, weights, places, found, threads,
    )  # fmt: skip
    return found[:, 2], found[:, :2].T
