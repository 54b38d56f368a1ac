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
    -2.378,
    MappingProxyType(
        {
            "spread": -0.5649,
            "fine_fall": 1.0814,
            "relative_fall": 0.4208,
            "lead": 0.4169,
            "edge_fall": 10.27,
            "edge_lead": 0.6634,
            "view": 0.6704,
            "search": -0.1677,
            "restart": -0.4674,
        }
    ),
)
ERROR = Reading(
    0.7614,
    MappingProxyType(
        {
            "spread": 0.2702,
            "fine_fall": -0.0086,
            "relative_fall": -0.4374,
            "lead": -0.0917,
            "edge_fall": -3.7608,
            "edge_lead": -0.8156,
            "held": -0.3815,
            "search": 0.163,
            "restart": 0.2995,
        }
    ),
)
