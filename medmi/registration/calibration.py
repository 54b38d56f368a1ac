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
    -2.6296,
    MappingProxyType(
        {
            "spread": -0.1437,
            "fine_fall": 0.9946,
            "relative_fall": 0.483,
            "lead": 0.5842,
            "edge_fall": 12.4007,
            "edge_lead": 0.377,
            "view": 1.1247,
            "held": 0.5207,
            "search": -0.1006,
            "restart": -0.5816,
        }
    ),
)
ERROR = Reading(
    0.7318,
    MappingProxyType(
        {
            "spread": 0.2111,
            "relative_fall": -0.4215,
            "lead": -0.0978,
            "edge_fall": -2.6709,
            "edge_lead": -0.5915,
            "view": -0.03,
            "held": -0.3955,
            "search": 0.1268,
            "restart": 0.548,
        }
    ),
)
