"""The curvature of a rough value around a pose, from differences of its slopes; every pair of slopes makes it better known.

Two slopes at ``+d`` and ``-d`` from one place differ by ``g(-d) - g(+d) = 2 H d``, where H is minus the Hessian of the value smoothed over
such distances. H is the least-squares fit to all pairs so far, wherever their places were: what stochastic approximation learns on its way
beside where to go (Spall 2000, IEEE Trans. Autom. Control 45, Eq. 2.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray
# Curvatures under this share of the largest are taken as noise.
LEAST_CURVATURE = 0.05
# Where the value is flat altogether.
TINY = 1e-30
# The inverse is taken anew when there are so many times as many pairs as when it was taken last.
GROWN = 1.1


@dataclass
class Curvature:
    """What is known of minus the Hessian.

    Attributes:
        squares, products: of offsets with each other and with the differences that they made, summed over all pairs, ``(t, t)``.
        pairs: how many they were.
        inverse: of minus the Hessian, positive, ``(t, t)`` in mm squared per unit of the value.
        inverted: of how many pairs.
    """

    squares: Array
    products: Array
    pairs: int
    inverse: Array
    inverted: int

    @classmethod
    def of(cls, offsets: Array, ahead: Array, behind: Array) -> Curvature:
        """From slopes ``(M, t)`` at plus and at minus each of ``M >= t`` offsets ``(M, t)``."""
        squares, products = 2 * offsets.T @ offsets, offsets.T @ (behind - ahead)
        return cls(squares, products, len(offsets), inverse_of(squares, products), len(offsets))

    def learn(self, offset: Array, ahead: Array, behind: Array) -> None:
        """Add a pair: slopes ``(t,)`` at plus and at minus an offset ``(t,)``."""
        self.squares += 2 * np.outer(offset, offset)
        self.products += np.outer(offset, behind - ahead)
        self.pairs += 1
        if self.pairs >= GROWN * self.inverted:
            self.inverse, self.inverted = inverse_of(self.squares, self.products), self.pairs


def inverse_of(squares: Array, products: Array) -> Array:
    """The inverse of the symmetric H that solves ``squares H = products`` best, with no curvature under the least."""
    hessian = np.linalg.solve(squares, products)
    values, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
    values = np.maximum(values, max(np.abs(values).max() * LEAST_CURVATURE, TINY))
    return np.ascontiguousarray((vectors / values) @ vectors.T)
