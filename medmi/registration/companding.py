"""Companding: the curve by which fixed values become rows of the joint histogram, denser where the foreground has its values.

Equal bins over the range of a CT spend most of them on the steps from air to fat and from muscle to bone, and leave two or three to
all soft tissue. Here half of the curve's rise is the value itself and half the share of the foreground below it, as in equalising a
histogram, so that no bin is wider than two equal ones: smooth flanks need theirs. The moving image keeps equal bins: a curve would
bend the derivative by its values too.
"""

from __future__ import annotations

import numpy as np

from medmi.registration.otsu import otsu_threshold

Array = np.ndarray
# The curve is straight between so many equal steps of the range.
KNOTS = 64
# Share of its rise that goes by the foreground.
BY_FOREGROUND = 0.5


def companding(shares: Array) -> Array:
    """The curve ``(KNOTS + 1,)`` from 0 to 1 for values ``(N,)`` as shares of the range; those beyond it count as its ends.

    The foreground are the values above Otsu's threshold.

    >>> companding(np.array([0.0, 0.0, 0.0, 1.0]))[[0, 32, 64]]
    array([0.  , 0.25, 1.  ])
    """
    shares, equal = np.clip(shares, 0, 1), np.linspace(0, 1, KNOTS + 1)
    counts, _ = np.histogram(shares[shares > otsu_threshold(shares)], KNOTS, (0, 1))
    return (1 - BY_FOREGROUND) * equal + BY_FOREGROUND * np.append(0, np.cumsum(counts) / counts.sum())
