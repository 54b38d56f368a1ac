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
    -2.7988,
    MappingProxyType(
        {
            "spread": -0.5824,
            "middle_fall": 0.5069,
            "fine_fall": 0.1553,
            "lead": 0.5966,
            "search": -0.5896,
            "restart": -0.5126,
        }
    ),
)
ERROR = Reading(
    0.4416,
    MappingProxyType(
        {
            "spread": 0.151,
            "relative_fall": -0.3626,
            "lead": -0.243,
            "search": 0.1633,
            "restart": 0.7398,
        }
    ),
)
