"""Otsu's threshold, which tells foreground from background."""

from __future__ import annotations

import numpy as np

Array = np.ndarray
HISTOGRAM_BINS = 128


def otsu_threshold(values: Array) -> float:
    """Otsu's threshold of ``values (N,)``: the bin edge that separates two classes farthest apart (1979, Eq. 18).

    >>> 0.2 < otsu_threshold(np.array([0.0, 0.1, 0.2, 0.9, 1.0])) < 0.9
    True
    """
    counts, edges = np.histogram(values, HISTOGRAM_BINS)
    middle = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1].astype(np.float64)
    above = counts.sum() - below
    sums = np.cumsum(counts * middle)
    between = below * above * (sums[:-1] / np.maximum(below, 1) - (sums[-1] - sums[:-1]) / np.maximum(above, 1)) ** 2
    return float(edges[1:-1][int(np.argmax(between))])
