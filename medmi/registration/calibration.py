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
    -1.1727,
    MappingProxyType(
        {
            "spread": -0.0894,
            "fine_fall": 0.6654,
            "relative_fall": 0.7136,
            "lead": 0.6894,
            "edge_fall": 11.4814,
            "edge_lead": 0.2073,
            "view": 0.8756,
            "search": -0.0585,
            "restart": -0.6206,
        }
    ),
)
ERROR = Reading(
    0.6558,
    MappingProxyType(
        {
            "spread": 0.2571,
            "relative_fall": -0.5374,
            "lead": -0.0776,
            "edge_fall": -3.5668,
            "edge_lead": -0.8307,
            "held": -0.6598,
            "search": 0.1376,
            "restart": 0.3124,
        }
    ),
)
