"""Compiled loops that look points up at each pose and keep those that count, and the way back from their derivatives to the pose.

A point is *kept* at a pose if some of its weight is left (see :mod:`medmi.registration.kernels_cpu` for weights and blocks); the kept are
packed to the front, so that nothing is spent on the rest. Those with a weight under 1 are *edges*: the derivative by the weight is
asked of them alone. Where no gradients are asked points of weight 0 may be among the kept, and no edges are told. C channels, B poses, N
points, in this order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medmi.native import loops

Array = np.ndarray


@dataclass(frozen=True)
class LookUp:
    """Points at B poses, and the volume that they are looked up in.

    Attributes:
        pairs: :func:`medmi.registration.kernels_cpu.paired` ``(C, X, Y, Z)``.
        mask: paired ``(X, Y, Z)``; an empty one counts everywhere.
        rim: ``(C,)``. The *rim* of the volume is background where all values are under it. A weight under 1 is left only there: values
            beyond the lattice are nobody's, but background goes on.
        matrices: ``(B, 4, 4)``, from the points to the volume's index.
        points: ``(3, N)``.
        threads: how many share out the poses; the results do not depend on it.
    """

    pairs: Array
    mask: Array
    rim: Array
    matrices: Array
    points: Array
    threads: int = 1


@dataclass(frozen=True)
class Kept:
    """What is kept of the points at B poses; rows are filled as far as ``counts`` tells.

    Attributes:
        values: moving values ``(C, B, N)`` float32.
        weights: ``(B, N)`` float32.
        places: which of the points they are, ``(B, N)`` uint32.
        edges: which of the kept have a weight under 1, ``(B, N)`` uint32.
        counts: how many are kept and how many of them are edges, ``(2, B)``.
        sums: the weight that is left and how much is missing over a background rim, ``(2, B)`` float64.
        gradients: index gradients ``(C, B, 3, N)`` of the values, or empty.
        edge_gradients: ``(B, 3, N)`` of the edges' weights, or empty.
        threads: how many share out the poses; the results do not depend on it.
    """

    values: Array
    weights: Array
    places: Array
    edges: Array
    counts: Array
    sums: Array
    gradients: Array
    edge_gradients: Array
    threads: int = 1


def keep(look_up: LookUp, gradient: bool) -> Kept:
    """What is kept of the points, with gradients or without."""
    channels, batch, count = len(look_up.pairs), len(look_up.matrices), look_up.points.shape[1]
    kept = Kept(
        values=np.empty((channels, batch, count), np.float32),
        weights=np.empty((batch, count), np.float32),
        places=np.empty((batch, count), np.uint32),
        edges=np.empty((batch, count), np.uint32),
        counts=np.empty((2, batch), np.int64),
        sums=np.empty((2, batch)),
        gradients=np.empty((channels, batch, 3, count) if gradient else (0, 0, 0, 0), np.float32),
        edge_gradients=np.empty((batch, 3, count) if gradient else (0, 0, 0), np.float32),
        threads=look_up.threads,
    )
    loops.keep(
        look_up.pairs, look_up.mask, look_up.rim, look_up.matrices, look_up.points, kept.values, kept.weights, kept.places,
        kept.edges, kept.counts, kept.sums, kept.gradients, kept.edge_gradients, look_up.threads,
    )  # fmt: skip
    return kept


def pull_back(kept: Kept, by_value: Array, by_weight: Array, factors: Array, matrices: Array, points: Array) -> Array:
    """Chain rule from derivatives of the similarity to those of the value by the matrices, ``(B, 4, 4)`` float64.

    Args:
        kept: at the poses, with gradients.
        by_value: ``(C, B, N)``.
        by_weight: of the edges, ``(B, N)``.
        factors: ``(2, B)`` float32: all derivatives are scaled by the first; by the weight comes the second.
        matrices: ``(B, 4, 4)``.
        points: ``(3, N)``.
    """
    out = np.empty((len(matrices), 4, 4))
    loops.pull_back(
        by_value, by_weight, factors, kept.places, kept.edges, kept.counts, kept.gradients, kept.edge_gradients,
        matrices, points, out, kept.threads,
    )  # fmt: skip
    return out
