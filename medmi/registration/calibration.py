"""What the measurements of a registration are worth: frozen coefficients, fitted by ``examples/benchmarks/confidence.py``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Reading:
    """A linear predictor: ``intercept + sum_name weights[name] measurement[name]``."""

    intercept: float
    weights: Mapping[str, float]


# Log-odds that the mean error over the foreground is under the limit.
CONFIDENCE = Reading(
    -4.6749,
    MappingProxyType(
        {
            "spread": -0.8731,
            "middle_fall": 1.2453,
            "fine_fall": 0.995,
            "relative_fall": 0.0437,
            "lead": 0.3189,
            "search": -0.3386,
            "restart": -0.4727,
        }
    ),
)
ERROR = Reading(
    0.5426,
    MappingProxyType(
        {
            "spread": 0.1641,
            "fine_fall": -0.3587,
            "relative_fall": -0.4267,
            "lead": -0.0821,
            "held": -0.0173,
            "search": 0.0403,
            "restart": 0.7988,
        }
    ),
)
