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
    -3.6507,
    MappingProxyType(
        {
            "spread": -0.9384,
            "middle_fall": 0.938,
            "fine_fall": 0.8236,
            "relative_fall": 0.1489,
            "lead": 0.3567,
            "view": 0.4093,
            "search": -0.2877,
            "restart": -0.5212,
        }
    ),
)
ERROR = Reading(
    0.5558,
    MappingProxyType(
        {
            "spread": 0.1414,
            "fine_fall": -0.3398,
            "relative_fall": -0.4256,
            "lead": -0.0955,
            "held": -0.0083,
            "search": 0.0393,
            "restart": 0.8263,
        }
    ),
)
