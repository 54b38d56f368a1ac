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
    -2.2824,
    MappingProxyType(
        {
            "spread": -0.6303,
            "fine_fall": 1.216,
            "relative_fall": 0.4862,
            "lead": 0.4899,
            "edge_fall": 7.0593,
            "edge_lead": 0.4293,
            "view": 0.6164,
            "search": -0.0994,
            "restart": -0.4616,
        }
    ),
)
ERROR = Reading(
    1.0317,
    MappingProxyType(
        {
            "spread": 0.2772,
            "fine_fall": -0.0687,
            "relative_fall": -0.4081,
            "lead": -0.1045,
            "edge_fall": -4.1779,
            "edge_lead": -0.7342,
            "held": -0.4898,
            "search": 0.1166,
            "restart": 0.3055,
        }
    ),
)
