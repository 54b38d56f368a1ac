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
    -3.142,
    MappingProxyType(
        {
            "spread": -0.471,
            "fine_fall": 0.9959,
            "relative_fall": 0.3926,
            "lead": 0.409,
            "edge_fall": 11.5773,
            "edge_lead": 0.7965,
            "view": 0.543,
            "held": 0.8529,
            "search": -0.3134,
            "restart": -0.4319,
        }
    ),
)
ERROR = Reading(
    0.8561,
    MappingProxyType(
        {
            "spread": 0.2111,
            "relative_fall": -0.4298,
            "lead": -0.1307,
            "edge_fall": -3.9137,
            "edge_lead": -0.6165,
            "held": -0.4166,
            "search": 0.1094,
            "restart": 0.4204,
        }
    ),
)
