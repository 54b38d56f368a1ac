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
    -4.9175,
    MappingProxyType(
        {
            "spread": -0.7397,
            "middle_fall": 1.0891,
            "fine_fall": 1.0175,
            "relative_fall": 0.2971,
            "lead": 0.2666,
            "view": 0.2947,
            "held": 1.4901,
            "search": -0.01,
            "restart": -0.7311,
        }
    ),
)
ERROR = Reading(
    0.5811,
    MappingProxyType(
        {
            "spread": 0.0529,
            "fine_fall": -0.1781,
            "relative_fall": -0.5328,
            "lead": -0.1306,
            "held": -0.4572,
            "search": 0.0228,
            "restart": 0.8326,
        }
    ),
)
