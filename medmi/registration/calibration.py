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
    -3.9945,
    MappingProxyType(
        {
            "spread": -0.9421,
            "middle_fall": 0.9711,
            "fine_fall": 0.2816,
            "relative_fall": 0.0997,
            "lead": 0.4737,
            "held": 0.3784,
            "search": -0.4764,
            "restart": -0.5821,
        }
    ),
)
ERROR = Reading(
    -0.2883,
    MappingProxyType(
        {
            "spread": 0.1809,
            "relative_fall": -0.5811,
            "lead": -0.1455,
            "held": -0.0208,
            "search": 0.1078,
            "restart": 0.8351,
        }
    ),
)
