"""Points that all count at every pose, as the similarity terms take them."""

from __future__ import annotations

import numpy as np

from medmi.registration.kept_cpu import Kept


def kept_of(moved: np.ndarray, weights: np.ndarray) -> Kept:
    """Moving values ``(C, B, N)`` and weights ``(B, N)``; the derivative by the weight is asked of all points."""
    batch, count = weights.shape
    everyone = np.tile(np.arange(count, dtype=np.uint32), (batch, 1))
    none = np.empty((0, 0, 0), np.float32)
    return Kept(
        values=np.ascontiguousarray(moved),
        weights=np.ascontiguousarray(weights),
        places=everyone,
        edges=everyone,
        counts=np.full((2, batch), count),
        sums=np.zeros((2, batch)),
        gradients=none[None],
        edge_gradients=none,
    )
