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
    -3.802,
    MappingProxyType(
        {
            "spread": -0.7294,
            "middle_fall": 1.3699,
            "fine_fall": 0.7576,
            "lead": 0.2067,
            "search": -0.0695,
            "restart": -0.7987,
        }
    ),
)
ERROR = Reading(
    0.2745,
    MappingProxyType(
        {
            "spread": 0.2181,
            "middle_fall": -0.1972,
            "fine_fall": -0.0393,
            "relative_fall": -0.4526,
            "lead": -0.065,
            "held": -0.2186,
            "search": 0.0906,
            "restart": 0.769,
        }
    ),
)
