"""Joint histograms the slow way: a weight for every sample and bin, outer products, plain sums in float64."""

from __future__ import annotations

import numpy as np


def hat_weights(positions: np.ndarray, bins: int) -> np.ndarray:
    """Linear windows ``(N, bins)`` of bin positions ``(N,)``, clamped to the outermost bin centres."""
    clamped = np.clip(positions.astype(np.float64), 0, bins - 1)
    return np.maximum(1 - np.abs(clamped[:, None] - np.arange(bins)), 0)


def joint_counts(fixed: np.ndarray, moving: np.ndarray, weights: np.ndarray, bins: int) -> np.ndarray:
    """``(bins, bins)`` weighted sums over samples of the outer products of both windows: rows fixed, columns moving.

    Samples that are kept or not may be given as ``weights`` of True and False.
    """
    rows, columns = hat_weights(fixed, bins), hat_weights(moving, bins)
    return (weights[:, None, None] * rows[:, :, None] * columns[:, None, :]).sum(0)


def entropy(p: np.ndarray) -> float:
    """Shannon's, in nat; empty cells count nothing."""
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def mutual_information(table: np.ndarray) -> float:
    """``H(x) + H(y) - H(x, y)`` of counts, in nat."""
    p = table / table.sum()
    return entropy(p.sum(1)) + entropy(p.sum(0)) - entropy(p.ravel())
