"""Windows: how one value spreads over the bins of a histogram.

Words: *bins* have centres at the integers 0 ... n - 1; a *cell* is the interval between two neighbouring centres,
named by the lower one; the *fraction* f in [0, 1] is a value's place in its cell; a *tap* is a bin that receives
weight, counted from the cell. Every window is a partition of unity: the weights of the taps sum to one for every f. A
tap beyond the first or last bin gives its weight to that bin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch

Terms = tuple[torch.Tensor | float, ...]


@dataclass(frozen=True)
class Window:
    """One row of the table: tap ``s`` of a value with fraction f has the weight ``sum_a taps[s, a] basis_a(f)``.

    Attributes:
        first: the first tap, counted from the value's cell.
        taps: coefficients ``(taps, basis)``, float64.
        basis: the basis functions at f; a plain number stands for a constant one.
        slope: their derivatives by f, in the same order.
    """

    first: int
    taps: torch.Tensor
    basis: Callable[[torch.Tensor], Terms]
    slope: Callable[[torch.Tensor], Terms]

    def weights(self, fraction: torch.Tensor) -> torch.Tensor:
        """Weights of all taps, ``(taps, *fraction.shape)``; the plain form of what the joint histogram sums.

        >>> WINDOWS["linear"].weights(torch.tensor([0.0, 0.25])).tolist()
        [[1.0, 0.75], [0.0, 0.25]]
        """
        basis = torch.stack([fraction * 0 + term for term in self.basis(fraction)])
        return torch.tensordot(self.taps.to(fraction), basis, dims=1)


def _powers(degree: int) -> Callable[[torch.Tensor], Terms]:
    """1, f, f^2, ... up to the degree."""

    def basis(f: torch.Tensor) -> Terms:
        powers = [f]
        for _ in range(degree - 1):
            powers.append(powers[-1] * f)
        return (1.0, *powers)

    return basis


def _power_slopes(degree: int) -> Callable[[torch.Tensor], Terms]:
    """0, 1, 2 f, 3 f^2, ... up to the degree."""
    slopes: tuple[Callable[[torch.Tensor], torch.Tensor | float], ...] = (
        lambda f: 0.0,
        lambda f: 1.0,
        lambda f: 2 * f,
        lambda f: 3 * f * f,
    )
    return lambda f: tuple(slope(f) for slope in slopes[: degree + 1])


GAUSSIAN_TAPS = range(-2, 4)
GAUSSIAN_PRECISION = 4.0  # 1 / sigma^2 for sigma = half a bin


def _gaussian(f: torch.Tensor) -> Terms:
    """Gaussian weights of sigma = half a bin, normalised over six taps: what lies beyond is under 2e-8 of the peak.

    ``exp(-(f - s)^2 / 2 sigma^2)`` is ``q^s exp(-s^2 / 2 sigma^2)`` with ``q = exp(f / sigma^2)``, up to a factor
    that normalising removes.
    """
    q = torch.pow(math.exp(GAUSSIAN_PRECISION), f)
    power = torch.ones_like(f)
    weights = []
    for tap in GAUSSIAN_TAPS:
        weights.append(power * math.exp(-0.5 * GAUSSIAN_PRECISION * tap * tap))
        power = power * q
    scale = 1 / sum(weights[1:], weights[0])
    return tuple(weight.mul_(scale) for weight in weights)


def _gaussian_slopes(f: torch.Tensor) -> Terms:
    """Derivatives of the normalised weights: ``w_s' = w_s (s - sum_t w_t t) / sigma^2``."""
    weights = _gaussian(f)
    mean = sum((weight * tap for weight, tap in zip(weights, GAUSSIAN_TAPS)), torch.zeros_like(f))
    return tuple(GAUSSIAN_PRECISION * weight * (tap - mean) for weight, tap in zip(weights, GAUSSIAN_TAPS))


def _coefficients(*rows: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


WINDOWS: Mapping[str, Window] = MappingProxyType(
    {
        "linear": Window(0, _coefficients((1, -1), (0, 1)), _powers(1), _power_slopes(1)),
        "bspline": Window(
            -1,
            _coefficients((1, -3, 3, -1), (4, 0, -6, 3), (1, 3, 3, -3), (0, 0, 0, 1)) / 6,
            _powers(3),
            _power_slopes(3),
        ),
        "gaussian": Window(
            GAUSSIAN_TAPS[0], torch.eye(len(GAUSSIAN_TAPS), dtype=torch.float64), _gaussian, _gaussian_slopes
        ),
    }
)
